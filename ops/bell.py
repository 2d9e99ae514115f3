"""Wakes workers when there is something to do: at once in this process, soon in the others.

A NOTIFY inside the writing commit would make all commits queue behind one lock, so it is sent
apart from it and at most ten times a second; polling covers what a lost one would miss.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import psycopg
from psycopg_pool import PoolTimeout

from fhir_store.cancellation import end_if_cancelled
from fhir_store.notices import listen, notify
from fhir_store.store import Pool
from ops.logs import log

_QUIET_SECONDS = 0.1
_RETRY_SECONDS = 1.0


class Bell:
    """One topic, `inbox` or `outbox`; `ring` says that rows have been committed."""

    def __init__(self, pool: Pool, topic: str) -> None:
        self._pool = pool
        self._database_url = str(pool.conninfo)
        self._topic = f"qiao_{topic}"
        self._waiting: set[asyncio.Event] = set()
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen to other processes and tell them."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._listen()), loop.create_task(self._tell())]

    async def stop(self) -> None:
        """Neither listen nor tell any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def ring(self) -> None:
        """Wake every worker of this process now, and those of others within a moment."""
        self._wake()
        self._told.set()

    @contextlib.contextmanager
    def hearing(self) -> Iterator[asyncio.Event]:
        """Give an event that is set at each ring, for one worker."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            yield event
        finally:
            self._waiting.discard(event)

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()

    async def _tell(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            with contextlib.suppress(psycopg.Error, PoolTimeout, OSError):
                await notify(self._pool, self._topic)
            end_if_cancelled()
            await asyncio.sleep(_QUIET_SECONDS)

    async def _listen(self) -> None:
        while True:
            try:
                async for _ in listen(self._database_url, self._topic):
                    self._wake()
            except (psycopg.Error, PoolTimeout, OSError) as away:
                log.debug("listening ended", topic=self._topic, reason=type(away).__name__)
            end_if_cancelled()
            await asyncio.sleep(_RETRY_SECONDS)
            self._wake()
