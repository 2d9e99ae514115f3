"""Statements without a cursor: what they return is committed, and a lost connection is noticed."""

import asyncio
import struct

import psycopg
import pytest

from fhir_store.prepared import PreparedConnection
from fhir_store.store import make_pool

TABLE = """create table once (n int8, constraint once_only unique (n)
           deferrable initially deferred)"""


class AtFirstResult(PreparedConnection):
    """The same, believing the first word of the server."""

    def _read(self):
        self._link.consume_input()
        while not self._link.is_busy():
            result = self._link.get_result()
            if result is None:
                return
            if not self._ended.done():
                self._results.append(result)
                self._end()


async def opened(pool, kind=PreparedConnection):
    prepared = kind(await pool.getconn())
    try:
        await prepared.prepare(b"put", "insert into once values ($1::int8) returning n")
    except BaseException:
        await left(pool, prepared)
        raise
    return prepared


async def left(pool, prepared):
    await prepared.close()
    await pool.putconn(prepared.connection)


def one(number):
    return [number.to_bytes(8, "big")]


def test_a_row_that_is_refused_at_the_commit_is_a_failure(database_url):
    async def run():
        async with make_pool(database_url, size=1) as pool:
            async with pool.connection() as connection:
                await connection.execute(TABLE)
            prepared = await opened(pool)
            result = await prepared.run(b"put", one(7))
            assert (result.ntuples, result.get_value(0, 0)) == (1, *one(7))
            with pytest.raises(psycopg.errors.UniqueViolation):
                await prepared.run(b"put", one(7))
            # The connection serves on.
            assert (await prepared.run(b"put", one(8))).ntuples == 1
            await left(pool, prepared)

    asyncio.run(run())


def test_twin_who_takes_the_first_result_for_the_end_believes_what_was_not_committed(
    database_url,
):
    async def run():
        async with make_pool(database_url, size=1) as pool:
            async with pool.connection() as connection:
                await connection.execute(TABLE)
            prepared = await opened(pool, AtFirstResult)
            await prepared.run(b"put", one(7))
            assert (await prepared.run(b"put", one(7))).ntuples == 1
            await left(pool, prepared)
            async with pool.connection() as connection:
                cursor = await connection.execute("select count(*) from once")
                assert await cursor.fetchone() == (1,)

    asyncio.run(run())


def test_a_connection_that_ends_while_nothing_is_asked_is_known_to_be_lost(database_url):
    async def run():
        async with make_pool(database_url, size=2) as pool:
            async with pool.connection() as connection:
                await connection.execute(TABLE)
                prepared = await opened(pool)
                ended = "select pg_terminate_backend(%s)"
                await connection.execute(ended, [prepared.connection.info.backend_pid])
            for _ in range(500):
                if prepared.is_lost:
                    break
                await asyncio.sleep(0.01)
            assert prepared.is_lost
            await left(pool, prepared)

    asyncio.run(run())


def test_a_connection_that_ends_during_a_statement_fails_it(database_url):
    async def run():
        async with make_pool(database_url, size=2) as pool:
            async with pool.connection() as connection:
                await connection.execute(TABLE)
                prepared = await opened(pool)
                await prepared.prepare(b"sleep", "select pg_sleep($1::float8)")
                asked = asyncio.ensure_future(prepared.run(b"sleep", [struct.pack(">d", 60)]))
                await asyncio.sleep(0)
                ended = "select pg_terminate_backend(%s)"
                await connection.execute(ended, [prepared.connection.info.backend_pid])
                with pytest.raises(psycopg.OperationalError):
                    await asked
            await left(pool, prepared)

    asyncio.run(run())
