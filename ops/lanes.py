"""The workers of the inbox: take a lane, translate its next entries, write them in one commit.

Fast path: all entries of a batch in one go. If that fails, the batch is rolled back to its
savepoint and done again one by one, so that exactly the poison is found and parked.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

import psycopg

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


class LaneWorkers(Generic[R]):
    """Works the inbox off with `workers` tasks; as many processes as wished may do the same.

    The first `careful` entries of each lane are taken singly, so that one that kills its process
    is found and parked.
    """

    def __init__(
        self,
        store: Store,
        work: Work[R],
        *,
        bell: Bell,
        metrics: Metrics,
        workers: int = 2,
        batch: int = 50,
        careful: int = 10,
        poll_seconds: float = 1.0,
        on_written: Bell | None = None,
    ) -> None:
        self._store = store
        self._work = work
        self._bell = bell
        self._metrics = metrics
        self._workers = workers
        self._batch = batch
        self._poll_seconds = poll_seconds
        self._on_written = on_written
        self._careful = dict.fromkeys(range(LANES), careful)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Begin to work."""
        loop = asyncio.get_running_loop()
        self._stopping = False
        self._tasks = [
            loop.create_task(self._run(number * LANES // self._workers), name=f"lanes-{number}")
            for number in range(self._workers)
        ]

    async def stop(self) -> None:
        """Finish the batches under way and take no more."""
        self._stopping = True
        self._bell.ring()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _run(self, lane: int) -> None:
        failures = 0
        idle = 0
        with self._bell.hearing() as rung:
            while not self._stopping:
                rung.clear()
                try:
                    worked = await self.run_once(lane)
                except Exception as away:  # noqa: BLE001 - a worker that ends would stop its lanes
                    failures += 1
                    if failures == 1:
                        log.warning(
                            "inbox cannot be worked on", reason=_kind(away), at=_place_of(away)
                        )
                    await _wait(rung, min(5.0, 0.1 * 2 ** min(failures, 6)) * _jitter())
                    continue
                if failures:
                    log.warning("inbox is worked on again", after_failures=failures)
                    failures = 0
                if worked is None or (not worked[1] and (idle := idle + 1) > LANES):
                    idle = 0
                    await _wait(rung, self._poll_seconds)
                elif worked[1]:
                    idle = 0
                lane = (worked[0] if worked else lane) + 1

    async def run_once(self, lane: int) -> tuple[int, int] | None:
        """Work one batch of the first free lane from `lane` on: its number and how much was done.

        None where no lane has anything to do.
        """
        async with self._store.begin() as transaction:
            connection = transaction.connection
            limit = self._batch
            taken = await lanes.take_batch(
                connection, prefer=lanes.lanes_from(lane % LANES), limit=limit
            )
            if taken is None:
                return None
            lane, plan = taken
            run = plan.run
            if run and self._careful[lane] > 0:
                run = await self._begin_carefully(lane, run[0])
            batch = _Batch(behind=dict(plan.waiting))
            await self._work_off(transaction, run, batch)
            await lanes.set_behind(connection, batch.behind)
        self._note(batch)
        return lane, len(run) + len(plan.waiting)

    async def _begin_carefully(self, lane: int, entry: Entry) -> list[Entry]:
        """After a start, count each first attempt in a commit of its own.

        Whatever killed the last process may lie among the first entries of the lane.
        """
        self._careful[lane] -= 1
        async with self._store.pool.connection() as connection:
            await lanes.note_attempt(connection, entry)
        return [entry]

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
        if not readings:
            return
        try:
            async with transaction.savepoint():
                finished = await self._work.write(transaction, readings)
                await lanes.finish(transaction.connection, finished)
        except Exception as failure:
            if transaction.connection.broken:
                raise
            log.info("batch is done one by one", size=len(readings), reason=_kind(failure))
            await self._one_by_one(transaction, readings, batch)
        else:
            batch.finished += finished

    async def _one_by_one(
        self, transaction: Transaction, readings: Sequence[tuple[Entry, R]], batch: "_Batch"
    ) -> None:
        for entry, reading in readings:
            if batch.stands_behind(entry):
                continue
            try:
                async with transaction.savepoint():
                    finished = await self._work.write(transaction, [(entry, reading)])
                    await lanes.finish(transaction.connection, finished)
            except Exception as failure:
                if transaction.connection.broken:
                    raise
                await self._stop(transaction, entry, failure, batch)
            else:
                batch.finished += finished

    async def _stop(
        self, transaction: Transaction, entry: Entry, failure: Exception, batch: "_Batch"
    ) -> None:
        issues = _issues_of(failure, entry)
        if not _is_transient(failure) or entry.attempts + 1 >= MOST_ATTEMPTS:
            await self._park(transaction, entry, issues, batch)
            return
        wait = min(600.0, 0.2 * 2**entry.attempts) * _jitter()
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
        for key in entry.keys:
            self._stops.setdefault(key, entry.id)

    def stands_behind(self, entry: Entry) -> bool:
        """Whether a key of the entry was stopped before it; then it waits there."""
        found = [self._stops[key] for key in entry.keys if key in self._stops]
        if not found:
            return False
        self.behind[entry.id] = min(found)
        for key in entry.keys:
            self._stops.setdefault(key, min(found))
        return True


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
        kind=_kind(failure),
        at=_place_of(failure),
    )
    return (
        Issue(
            code="exception",
            key="unforeseen",
            text_en=f"The hub failed on this message ({_kind(failure)} at {_place_of(failure)})",
            text_zh=f"平台处理本报文时出错（{_kind(failure)}，{_place_of(failure)}）",
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


def _kind(failure: Exception) -> str:
    return type(failure).__name__


def _place_of(failure: Exception) -> str:
    """Return file and line of the innermost frame, without any value."""
    trace = failure.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    name = trace.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
    return f"{name}:{trace.tb_lineno}"


def _jitter() -> float:
    return random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, guards nothing


async def _wait(rung: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(rung.wait(), seconds)
