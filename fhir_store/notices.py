"""PostgreSQL's LISTEN and NOTIFY, which carry no content here: only that it is time to look."""

from collections.abc import AsyncGenerator
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg_pool import AsyncConnectionPool

Pool = AsyncConnectionPool[AsyncConnection[Any]]


async def notify(pool: Pool, topic: str) -> None:
    """Wake whoever listens to the topic."""
    async with pool.connection() as connection:
        await announce(connection, topic)


async def announce(connection: AsyncConnection[Any], topic: str) -> None:
    """Wake whoever listens to the topic when this transaction commits."""
    await connection.execute("select pg_notify(%s, '')", (topic,))


async def listen(database_url: str, topic: str) -> AsyncGenerator[None, None]:
    """Yield at each notice; holds a connection of its own until the loop is left."""
    async with await AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(topic)))
        yield None
        async for _ in connection.notifies():
            yield None
