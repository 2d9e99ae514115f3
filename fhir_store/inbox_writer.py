"""The group commit of the inbox: messages that come while a commit runs share the next one."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from conformance.problem import Unavailable
from fhir_store.inbox import Kept, NewEntry, away, keep, prepare
from fhir_store.prepared import PreparedConnection

Connection = AsyncConnection[Any]
Identity = tuple[str, str, str, str]


class InboxWriter:
    """Keeps messages of all connections; those that come while a commit runs share the next one.

    `writers` commits may run at a time, each on a connection of its own. `on_kept` is called
    after each commit that brought something new.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        *,
        on_kept: Callable[[], None] = lambda: None,
        writers: int = 2,
        batch: int = 200,
    ) -> None:
        self._pool = pool
        self._on_kept = on_kept
        self._idle = writers
        self._batch = batch
        self._free: list[PreparedConnection] = []
        self._pending: deque[tuple[NewEntry, asyncio.Future[Kept]]] = deque()
        self._in_commit: set[Identity] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def keep(self, entry: NewEntry) -> Kept:
        """Return once the message is committed; raises `Unavailable` where it could not be."""
        future: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, future))
        await self._commit()
        return await future

    async def close(self) -> None:
        """Finish what is under way and give the connections back."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._free:
            await self._give_back(self._free.pop())

    async def _commit(self) -> None:
        """Commit one batch if a writer is idle; what comes meanwhile is left to a task."""
        batch = self._take() if self._idle else []
        if not batch:
            return
        self._idle -= 1
        identities = {_identity(entry) for entry, _ in batch}
        try:
            kept = await self._write([entry for entry, _ in batch])
        except asyncio.CancelledError:
            _fail(batch, Unavailable(away("inbox-stopped")))
            raise
        except (psycopg.Error, PoolTimeout, Unavailable, OSError):
            _fail(batch, Unavailable(away("inbox-away")))
        else:
            for (_, future), one in zip(batch, kept, strict=True):
                if future.done():
                    continue
                if isinstance(one, Kept):
                    future.set_result(one)
                else:
                    future.set_exception(one)
            if any(isinstance(one, Kept) and not one.is_resend for one in kept):
                self._on_kept()
        finally:
            self._idle += 1
            self._in_commit -= identities
            if self._pending:
                task = asyncio.get_running_loop().create_task(self._commit())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _take(self) -> list[tuple[NewEntry, asyncio.Future[Kept]]]:
        """Take the next batch; a control id that is already in a commit waits for its end."""
        batch: list[tuple[NewEntry, asyncio.Future[Kept]]] = []
        later: list[tuple[NewEntry, asyncio.Future[Kept]]] = []
        while self._pending and len(batch) < self._batch:
            waiting = self._pending.popleft()
            identity = _identity(waiting[0])
            if identity in self._in_commit:
                later.append(waiting)
            else:
                self._in_commit.add(identity)
                batch.append(waiting)
        self._pending.extendleft(reversed(later))
        return batch

    async def _write(self, entries: list[NewEntry]) -> list[Kept | Exception]:
        prepared = await self._connection()
        try:
            kept = await self._keep_each(prepared, entries)
        except BaseException:
            await self._give_back(prepared)  # it is in doubt
            raise
        self._free.append(prepared)
        return kept

    async def _connection(self) -> PreparedConnection:
        while self._free:
            prepared = self._free.pop()
            if not prepared.is_lost:
                return prepared
            await self._give_back(prepared)
        connection = await self._pool.getconn()
        try:
            return await prepare(connection)
        except BaseException:
            await connection.close()
            await self._pool.putconn(connection)
            raise

    async def _give_back(self, prepared: PreparedConnection) -> None:
        """Close a connection, so that the pool makes a new one: this one knows our statements."""
        await prepared.close()
        await self._pool.putconn(prepared.connection)

    async def _keep_each(
        self, prepared: PreparedConnection, entries: list[NewEntry]
    ) -> list[Kept | Exception]:
        """Keep all in one commit, or one by one where the database refuses one of them."""
        try:
            return list(await keep(prepared, entries))
        except psycopg.DataError as refused:
            if len(entries) == 1:
                return [refused]
        return [one for entry in entries for one in await self._keep_each(prepared, [entry])]


def _identity(entry: NewEntry) -> Identity:
    return (entry.channel, entry.sender, entry.facility, entry.control_id)


def _fail(batch: list[tuple[NewEntry, asyncio.Future[Kept]]], problem: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(problem)
