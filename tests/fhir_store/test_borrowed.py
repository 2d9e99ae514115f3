"""Connections lent for reading come back whole, however the block ends."""

import asyncio

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from fhir_store.borrowed import Borrowed
from fhir_store.store import make_pool


def test_the_only_connection_serves_again_after_failures_and_departures(database_url):
    async def run():
        async with make_pool(database_url, size=1) as pool:
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with Borrowed(pool) as connection:
                    await connection.execute("SELECT 1 / 0")

            async def leave():
                async with Borrowed(pool) as connection:
                    await connection.execute("SELECT pg_sleep(4)")

            leaver = asyncio.create_task(leave())
            await asyncio.sleep(0.1)
            leaver.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaver
            async with Borrowed(pool) as connection:
                cursor = await connection.execute("SELECT 1")
                assert await cursor.fetchone() == (1,)
                assert connection.info.transaction_status == TransactionStatus.IDLE
            assert pool.get_stats()["pool_available"] == 1

    asyncio.run(run())
