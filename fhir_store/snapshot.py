"""Many searches of one moment: what others write meanwhile is not seen."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection, IsolationLevel
from psycopg_pool import AsyncConnectionPool

from fhir_store.authorization import Authorization
from fhir_store.search.query import SearchQuery
from fhir_store.search.searcher import Page, Searcher

# safe_moment: whoever wrote before it has committed. lastUpdated is taken when a request comes
# in, so a write may carry a time a little before its transaction began.
SAFE_MOMENT = """
SELECT least(now(), min(xact_start)) - interval '2 seconds' FROM pg_stat_activity
 WHERE backend_xid IS NOT NULL AND datname = current_database()"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store as it was; holds all that was written up to `moment`, and perhaps some later."""

    connection: AsyncConnection[Any]
    searcher: Searcher
    moment: datetime

    async def search(self, query: SearchQuery, authorization: Authorization) -> Page:
        """Return a page of what matches and the caller may see."""
        return await self.searcher.search(self.connection, query, authorization=authorization)


@asynccontextmanager
async def snapshot(
    pool: AsyncConnectionPool[AsyncConnection[Any]], searcher: Searcher
) -> AsyncIterator[Snapshot]:
    """Keep one moment of the store for reading until the block ends."""
    async with pool.connection() as connection:
        # The key of page tokens is made with the first search, and must outlive the snapshot.
        await searcher.search(connection, SearchQuery(types=("Basic",), count=0))
        row = await (await connection.execute(SAFE_MOMENT)).fetchone()
        assert row is not None
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        try:
            async with connection.transaction():
                yield Snapshot(connection, searcher, row[0])
        finally:
            await connection.set_isolation_level(None)
