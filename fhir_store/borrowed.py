"""A connection of a pool for reading."""

from types import TracebackType
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool


class Borrowed:
    """Lends a connection to a block that reads, each statement by itself.

    `pool.connection()` also commits at the end, through two locks and a generator. Connections of
    `make_pool` commit by themselves, so there is nothing to commit, and for a search of half a
    millisecond that was a noticeable part; the pool looks at what it gets back either way.
    """

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool

    async def __aenter__(self) -> AsyncConnection[Any]:
        self._connection = await self._pool.getconn()
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.putconn(self._connection)
