"""Writers who come at the same moment share a commit, as readers share a statement.

Nobody waits for company: a lone writer is written at once, and while a commit runs, those who
arrive form the next group. A request that fails inside a group fails alone; if the database
refuses the whole group, each is written by itself.
"""

import asyncio
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from conformance.problem import EditConflict, Problem, Throttled, Unavailable
from fhir_store.door import Door
from fhir_store.failures import is_collision, translated_failures
from fhir_store.operations import WriteRequest, Written
from fhir_store.transaction import commit

Result = list[Written] | Problem
# Operations of one commit: bounds what a failure repeats and what one waits for. A request of more
# than a third of it is its own commit.
_GROUP_SIZE = 96
_SMALL = 32
_ATTEMPTS = 6


class GroupedWrites:
    """The writes of one store, grouped by the moment they arrive."""

    def __init__(
        self, pool: AsyncConnectionPool[AsyncConnection[Any]], door: Door, *, at_once: int = 2
    ) -> None:
        self._pool = pool
        self._door = door
        self._at_once = at_once
        self._waiting: list[tuple[WriteRequest, asyncio.Future[list[Written]]]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def write(self, request: WriteRequest) -> list[Written]:
        """Carry out one request; raises its Problem."""
        if len(request.operations) > _SMALL:
            return await self._write_alone(request)
        future: asyncio.Future[list[Written]] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        self._start()
        return await asyncio.shield(future)

    def _start(self) -> None:
        if self._waiting and not self._is_due and len(self._running) < self._at_once:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        task = asyncio.get_running_loop().create_task(self._write_group(self._next_group()))
        self._running.add(task)
        task.add_done_callback(self._finish)
        self._start()

    def _next_group(self) -> list[tuple[WriteRequest, asyncio.Future[list[Written]]]]:
        """Take those who waited longest, as many as one commit holds."""
        room, count = _GROUP_SIZE, 0
        for request, _ in self._waiting:
            room -= max(len(request.operations), 1)
            if room < 0:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _write_group(
        self, group: list[tuple[WriteRequest, asyncio.Future[list[Written]]]]
    ) -> None:
        results: list[Result | None]
        try:
            results = [*await self._commit([request for request, _ in group])]
        except (Unavailable, Throttled) as away:
            # The commit may have happened before the connection was lost: never write it twice.
            results = [away] * len(group)
        except Exception:  # noqa: BLE001 - whatever it was, each request finds out by itself
            results = [None] * len(group)
        for (request, future), result in zip(group, results, strict=True):
            try:
                if result is None or is_collision(result):
                    result = await self._write_alone(request)
                if isinstance(result, Problem):
                    raise result
            except BaseException as failure:  # noqa: BLE001 - the waiter must hear of it
                if not future.done():
                    future.set_exception(failure)
                    future.exception()  # nobody may be waiting any more
            else:
                if not future.done():
                    future.set_result(result)

    async def _write_alone(self, request: WriteRequest) -> list[Written]:
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(0.005 * 2**attempt)
            try:
                (result,) = await self._commit([request])
            except EditConflict as conflict:
                result = conflict
            if not is_collision(result):
                break
        if isinstance(result, Problem):
            raise result
        return result

    async def _commit(self, requests: list[WriteRequest]) -> list[Result]:
        with translated_failures():
            async with self._pool.connection() as connection:
                return await commit(connection, self._door, requests)
