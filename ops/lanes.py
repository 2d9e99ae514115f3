"""The workers of the inbox: take a lane, translate its next entries, write them in one commit.

Fast path: all entries of a batch in one go. If that fails, the batch is rolled back to its
savepoint and done again half by half, so that exactly the poison is found and parked.
"""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

import psycopg
from msgspec import Struct

from conformance.problem import (
    EditConflict,
    Issue,
    Problem,
    TooCostly,
    Unavailable,
    VersionConflict,
)
from fhir_store import lanes
from fhir_store.inbox import LANES
from fhir_store.lanes import Entry, Finished
from fhir_store.store import Store
from fhir_store.transaction import Transaction
from ops.bell import Bell
from ops.logs import log
from ops.metrics import Metrics
from ops.worker_loop import WorkerLoop, jitter, kind_of, place_of

MOST_ATTEMPTS = 12
"""Tries of a transient failure before a person is asked; with the waits below about an hour."""
MOST_DEATHS = 30
"""Times an entry may have been under way when its worker died before it is parked.

So many, because a process that is being killed for other reasons dies with the same first entry
under way each time.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A reading that a person must complete first (an unknown code)."""

    issues: Sequence[Issue]


MOST_LANES = 4
"""Lanes that one batch takes: four workers find lanes of their own among the sixteen."""


class Ended(Struct, frozen=True, kw_only=True):
    """An entry that will not move by itself any more, and why."""

    entry: Entry
    state: str
    issues: Sequence[Issue] = ()


R = TypeVar("R")


class Work(Protocol[R]):
    """What is done with entries: read each alone, then write them together."""

    def read(self, entry: Entry) -> R | Held:
        """Understand one entry, without the database; raises where it never can be."""
        ...

    async def write(
        self, transaction: Transaction, readings: Sequence[tuple[Entry, R]]
    ) -> list[Finished]:
        """Write all readings, in order, through the caller's transaction."""
        ...

    async def tell(self, transaction: Transaction, ended: Sequence[Ended]) -> None:
        """Keep what senders are to be told of entries that end in this transaction."""
        ...


class LaneWorkers(Generic[R]):
    """Works the inbox off with `workers` tasks; as many processes as wished may do the same.

    A batch has up to `batch` entries (of large messages fewer), of several lanes where few wait in
    each. After a start the
    first `careful` entries of each lane are counted before they are worked on, so that one that
    kills its process is found and parked.
    """

    def __init__(
        self,
        store: Store,
        work: Work[R],
        *,
        bell: Bell,
        metrics: Metrics,
        workers: int = 2,
        batch: int = 250,
        careful: int = 50,
        poll_seconds: float = 1.0,
        on_written: Bell | None = None,
        on_ended: Bell | None = None,
    ) -> None:
        self._store = store
        self._work = work
        self._metrics = metrics
        self._workers = workers
        self._batch = batch
        self._width = MOST_LANES
        self._on_written = on_written
        self._on_ended = on_ended
        self._careful = dict.fromkeys(range(LANES), careful)
        self._loop = WorkerLoop(bell, poll_seconds=poll_seconds, queue="inbox")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to work."""
        loop = asyncio.get_running_loop()
        self._loop.start()
        self._tasks = [
            loop.create_task(self._run(number * LANES // self._workers), name=f"lanes-{number}")
            for number in range(self._workers)
        ]

    async def stop(self) -> None:
        """Finish the batches under way and take no more."""
        self._loop.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _run(self, lane: int) -> None:
        idle = 0

        async def step(_: asyncio.Event) -> bool:
            nonlocal lane, idle
            worked = await self.run_once(lane)
            lane = (worked[0] if worked else lane) + 1
            # Where every lane has only entries that must wait, looking again at once is no use.
            idle = 0 if worked is None or worked[1] else idle + 1
            return worked is not None and idle <= LANES

        await self._loop.run(step)

    async def run_once(self, lane: int) -> tuple[int, int] | None:
        """Work one batch of the first free lanes from `lane` on: the last lane, how much was done.

        None where no lane has anything to do.
        """
        async with self._store.begin() as transaction:
            connection = transaction.connection
            taken = await lanes.take_batch(
                connection,
                prefer=lanes.lanes_from(lane % LANES),
                limit=self._batch,
                most_lanes=self._width,
            )
            if taken is None:
                return None
            numbers, plan = taken
            self._widen(len(plan.run) + len(plan.waiting))
            run = await self._carefully(plan.run)
            batch = _Batch(behind=dict(plan.waiting))
            await self._work_off(transaction, run, batch)
            await lanes.set_behind(connection, batch.behind)
        self._note(batch)
        return numbers[-1], len(run) + len(plan.waiting)

    def _widen(self, found: int) -> None:
        """Take more lanes at a time while few entries wait, so that a commit is worth its cost."""
        if found >= self._batch:
            self._width = max(1, self._width // 2)
        elif found < self._batch // 2:
            self._width = min(MOST_LANES, self._width * 2)

    async def _carefully(self, run: list[Entry]) -> list[Entry]:
        """Count, in a commit of its own, the attempt at what may end this process.

        After a start, whatever killed the last process lies among the first entries of a lane.
        Entries that were counted and not finished are taken one by one: one of them is guilty.
        """
        if run and run[0].state == "claimed":
            counted = run = run[:1]
        else:
            run = list(itertools.takewhile(lambda one: one.state != "claimed", run))
            counted = []
            for entry in run:
                if self._careful[entry.lane] > 0:
                    self._careful[entry.lane] -= 1
                    counted.append(entry)
        if counted:
            async with self._store.pool.connection() as connection:
                await lanes.note_attempts(connection, counted)
        return run

    async def _work_off(
        self, transaction: Transaction, run: Sequence[Entry], batch: "_Batch"
    ) -> None:
        readings: list[tuple[Entry, R]] = []
        for entry in run:
            if batch.stands_behind(entry):
                continue
            if entry.state == "claimed" and entry.attempts >= MOST_DEATHS:
                await self._park(transaction, entry, (_deadly(entry),), batch)
                continue
            try:
                reading = self._work.read(entry)
            except Exception as failure:  # noqa: BLE001 - whatever it is, it must park its key only
                await self._park(transaction, entry, _issues_of(failure, entry), batch)
                continue
            if isinstance(reading, Held):
                await self._park(transaction, entry, reading.issues, batch, state="held")
                continue
            readings.append((entry, reading))
            if len(readings) % 10 == 0:
                await asyncio.sleep(0)  # frames are to be answered meanwhile
        await self._settle(transaction, readings, batch)

    async def _settle(
        self, transaction: Transaction, readings: Sequence[tuple[Entry, R]], batch: "_Batch"
    ) -> None:
        """Write all together; where that fails each half alone, until the guilty one is found."""
        readings = [one for one in readings if not batch.stands_behind(one[0])]
        if not readings:
            return
        try:
            async with transaction.savepoint():
                finished = await self._write(transaction, readings)
        except Exception as failure:
            if transaction.connection.broken:
                raise
            if len(readings) == 1:
                await self._stop(transaction, readings[0][0], failure, batch)
                return
            log.info("batch is done in halves", size=len(readings), reason=kind_of(failure))
            middle = len(readings) // 2
            for half in (readings[:middle], readings[middle:]):
                await self._settle(transaction, half, batch)
        else:
            batch.finished += finished

    async def _write(
        self, transaction: Transaction, readings: Sequence[tuple[Entry, R]]
    ) -> list[Finished]:
        finished = await self._work.write(transaction, readings)
        await lanes.finish(transaction.connection, finished)
        ended = [Ended(entry=one.entry, state=one.state, issues=one.issues) for one in finished]
        await self._work.tell(transaction, ended)
        return finished

    async def _stop(
        self, transaction: Transaction, entry: Entry, failure: Exception, batch: "_Batch"
    ) -> None:
        issues = _issues_of(failure, entry)
        if not _is_transient(failure) or entry.attempts + 1 >= MOST_ATTEMPTS:
            await self._park(transaction, entry, issues, batch)
            return
        wait = min(600.0, 0.2 * 2**entry.attempts) * jitter()
        await lanes.back_off(transaction.connection, entry, issues, timedelta(seconds=wait))
        batch.stop(entry, "backed-off")
        log.warning(
            "entry backs off",
            trace_id=entry.trace_id,
            entry=entry.id,
            channel=entry.channel,
            reason=issues[0].key,
            seconds=round(wait, 1),
        )

    async def _park(
        self,
        transaction: Transaction,
        entry: Entry,
        issues: Sequence[Issue],
        batch: "_Batch",
        state: str = "parked",
    ) -> None:
        await lanes.park(transaction.connection, entry, issues, state=state)
        await self._work.tell(transaction, [Ended(entry=entry, state=state, issues=issues)])
        batch.stop(entry, state)
        log.warning(
            f"entry {state}",
            trace_id=entry.trace_id,
            entry=entry.id,
            channel=entry.channel,
            trigger=entry.event,
            reason=issues[0].key,
            place=issues[0].expression,
        )

    def _note(self, batch: "_Batch") -> None:
        for one in batch.finished:
            self._metrics.worked(one.entry.channel, one.state)
            log.info(
                f"entry {one.state}",
                trace_id=one.entry.trace_id,
                entry=one.entry.id,
                channel=one.entry.channel,
                trigger=one.entry.event,
                written=list(one.written),
            )
        for entry, outcome in batch.stopped:
            self._metrics.worked(entry.channel, outcome)
        if batch.finished and self._on_written is not None:
            self._on_written.ring()
        if (batch.finished or batch.stopped) and self._on_ended is not None:
            self._on_ended.ring()


@dataclass(slots=True, kw_only=True)
class _Batch:
    """What became of one batch so far, and which keys have been stopped in it."""

    behind: dict[int, int]
    finished: list[Finished] = field(default_factory=list)
    stopped: list[tuple[Entry, str]] = field(default_factory=list)
    _stops: dict[str, int] = field(default_factory=dict)

    def stop(self, entry: Entry, outcome: str) -> None:
        """Let later entries of its keys wait for this one."""
        self.stopped.append((entry, outcome))
        self._stop_keys(entry, entry.id)

    def stands_behind(self, entry: Entry) -> bool:
        """Whether a key of the entry was stopped before it; then it waits there.

        An entry is stopped when it is read, too: those before it are still to be written then.
        """
        found = [self._stops[key] for key in entry.keys if key in self._stops]
        first = min(found, default=entry.id)
        if first >= entry.id:
            return False
        self.behind[entry.id] = first
        self._stop_keys(entry, first)
        return True

    def _stop_keys(self, entry: Entry, at: int) -> None:
        for key in entry.keys:
            self._stops[key] = min(at, self._stops.get(key, at))


def _is_transient(failure: Exception) -> bool:
    """Whether the same entry may succeed by itself a little later."""
    if isinstance(failure, psycopg.Error):
        return isinstance(failure, psycopg.OperationalError)
    return isinstance(failure, EditConflict | VersionConflict | Unavailable | TooCostly | OSError)


def _issues_of(failure: Exception, entry: Entry) -> Sequence[Issue]:
    if isinstance(failure, Problem) and failure.issues:
        return failure.issues
    # The text of an unforeseen failure may hold a patient's value: its kind must do.
    log.error(
        "unforeseen failure",
        trace_id=entry.trace_id,
        entry=entry.id,
        kind=kind_of(failure),
        at=place_of(failure),
    )
    return (
        Issue(
            code="exception",
            key="unforeseen",
            text_en=f"The hub failed on this message ({kind_of(failure)} at {place_of(failure)})",
            text_zh=f"平台处理本报文时出错（{kind_of(failure)}，{place_of(failure)}）",
            fix_en="Report it with the trace id; replay the entry when it is mended.",
            fix_zh="请附追踪号上报；修复后重放本条目。",
        ),
    )


def _deadly(entry: Entry) -> Issue:
    return Issue(
        code="exception",
        key="worker-died",
        text_en=f"The hub ended {entry.attempts} times while it worked on this message",
        text_zh=f"平台在处理本报文时异常终止 {entry.attempts} 次",
        fix_en="Look for the cause in the system log (memory?), then replay or skip the entry.",
        fix_zh="请在系统日志中查找原因（内存不足？），然后重放或跳过本条目。",
    )
