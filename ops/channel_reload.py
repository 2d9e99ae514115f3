"""Reading the channels again while messages flow: by SIGHUP or `qiao channels reload`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import psycopg
from psycopg_pool import PoolTimeout

from fhir_store import code_overlays
from fhir_store.cancellation import end_if_cancelled
from fhir_store.notices import notify
from fhir_store.store import Pool
from mappings.engine.rows import Fault, FaultyMaps
from ops.ack_destinations import AckLines
from ops.bell import Bell
from ops.channel_lines import ChannelLines
from ops.channels import ChannelBook
from ops.logs import log
from ops.repeating import alongside
from ops.worker_loop import kind_of, place_of

TOPIC, CODES = "channels", "codes"
_HEARD_SECONDS = 0.2


class Reloads(Protocol):
    """What can be told to read its channels again."""

    @property
    def reload(self) -> Callable[[], Awaitable[Sequence[Fault]]]:
        """Read them; return what is wrong."""


_under_way: set[asyncio.Future[Sequence[Fault]]] = set()


def reload_soon(hub: Reloads) -> None:
    """Read the channels again, from a signal's handler."""
    task = asyncio.ensure_future(hub.reload())
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


@dataclass(slots=True, kw_only=True)
class Reloading:
    """Keeps the channels of one process as the files and the resolved codes say.

    `lines` is None where the process does not listen for messages, `acks` where it delivers
    nothing. What changed is told on two
    topics: a resolved code must not bring files into force that somebody is still writing.
    """

    book: ChannelBook
    pool: Pool
    lines: ChannelLines | None = None
    acks: AckLines | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Know the resolved codes, and hear of changes until the block ends."""
        await self.refresh_codes()
        topics = ((TOPIC, self.reload), (CODES, self.refresh_codes))
        async with contextlib.AsyncExitStack() as stack:
            for topic, work in topics:
                bell = Bell(self.pool, topic)
                await bell.start()
                stack.push_async_callback(bell.stop)
                await stack.enter_async_context(alongside(_hear(bell, work)))
            yield

    def ports(self) -> Mapping[str, int]:
        """Return the port of each channel of this process."""
        return self.lines.ports if self.lines is not None else {}

    async def reload(self) -> Sequence[Fault]:
        """Read channels and maps again; where anything is wrong all stays as it was."""
        async with self._turn:
            before = self.book.in_force()
            try:
                reading = await self.book.read_beside()
                self.book.take(reading)
                if self.lines is not None:
                    await self.lines.agree(reading.profiles)
                if self.acks is not None:
                    await self.acks.agree()
            except FaultyMaps as faulty:
                self.book.take(before)
                for fault in faulty.faults:
                    log.error("channels stay as they were", fault=str(fault))
                return faulty.faults
            except Exception:
                self.book.take(before)
                raise
        log.info("channels read", channels=sorted(reading.profiles))
        return ()

    async def refresh_codes(self) -> None:
        """Lay what people have resolved over the channels' codes."""
        async with self.pool.connection() as connection:
            self.book.overlay(await code_overlays.read(connection))

    async def tell_codes(self) -> None:
        """Let every process know what was resolved; on return most of them do.

        A message that is replayed before its process has heard is held again and stays in sight.
        """
        await self.refresh_codes()
        await notify(self.pool, f"qiao_{CODES}")
        await asyncio.sleep(_HEARD_SECONDS)


async def _hear(bell: Bell, work: Callable[[], Awaitable[object]]) -> None:
    """Work whenever some process says that something changed."""
    with bell.hearing() as rung:
        while True:
            await rung.wait()
            rung.clear()
            try:
                await work()
            except (psycopg.Error, PoolTimeout):
                log.warning("what changed is read when it is next announced")
            except Exception as failure:  # noqa: BLE001 - whoever stops hearing misses what follows
                reason = kind_of(failure)
                log.error("channels stay as they were", fault=reason, at=place_of(failure))
            end_if_cancelled()
