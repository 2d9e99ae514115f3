"""Bulk exports as jobs: NDJSON files in a folder each, written by a task of this process.

A job is its folder: `job.json` tells of it, `lock` is held by the process that works on it. So
any process of the role can tell, and a job whose process died is seen as failed, not as running.
"""

import asyncio
import fcntl
import logging
import pathlib
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO

import msgspec

from conformance.problem import Issue, NotFound, Problem, Throttled
from fhir_store.authorization import Authorization
from fhir_store.search.query import SearchQuery
from fhir_store.snapshot import Snapshot, snapshot
from fhir_store.store import Store
from routes.statuses import unexpected

_JOB = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"[A-Za-z]{1,64}-[0-9]{1,6}\.ndjson")
_log = logging.getLogger("qiao.export")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLimits:
    """What exports may cost, each with its reason."""

    # Each holds a database connection and a snapshot until it ends. Answer: 429.
    running: int = 2
    # Files lie on disk until they are deleted or old. Answer: 429.
    kept: int = 20
    kept_seconds: float = 24 * 3600.0
    # What is in memory at once.
    page: int = 500
    # Clients like to fetch parts side by side.
    file_resources: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search whose matches belong to the export, or only those that `keeps` says yes to."""

    query: SearchQuery
    authorization: Authorization
    keeps: Callable[[bytes], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to export for whom: by type the searches, whose matches are joined."""

    owner: str
    request: str
    root: str
    requires_token: bool
    searches: Sequence[tuple[str, Sequence[Search]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One finished file: resources of one type."""

    type: str
    file: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What `job.json` says; `state` is running, done or failed, `issues` say why it failed."""

    id: str
    owner: str
    request: str
    root: str
    requires_token: bool
    started: float
    state: str = "running"
    progress: str = "waiting"
    transaction_time: str = ""
    output: tuple[Output, ...] = ()
    issues: tuple[Issue, ...] = ()


class ExportJobs:
    """The exports of a data folder; one per process."""

    def __init__(
        self, store: Store, folder: pathlib.Path, limits: ExportLimits | None = None
    ) -> None:
        self._store = store
        self._folder = folder
        self.limits = limits or ExportLimits()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, order: Order) -> Job:
        """Begin an export; raise Throttled where too many run or are kept."""
        self._make_room()
        job = Job(
            id=uuid.uuid4().hex,
            owner=order.owner,
            request=order.request,
            root=order.root,
            requires_token=order.requires_token,
            started=time.time(),
        )
        folder = self._folder / job.id
        folder.mkdir(parents=True)
        lock = (folder / "lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._save(job)
        task = asyncio.create_task(self._work(job, order, lock))
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))
        return job

    def read(self, id_: str, owner: str) -> Job:
        """Return a job of the owner; raise NotFound. One whose process died has failed."""
        job = self._load(id_)
        if job is None or job.owner != owner:
            raise NotFound(_NO_JOB)
        return job

    def path_of(self, id_: str, file: str, owner: str) -> pathlib.Path:
        """Return the path of a finished file; raise NotFound."""
        job = self.read(id_, owner)
        if not _FILE.fullmatch(file) or file not in {one.file for one in job.output}:
            raise NotFound(_NO_JOB)
        return self._folder / job.id / file

    async def cancel(self, id_: str, owner: str) -> None:
        """End a job, if it still runs, and delete its files; raise NotFound."""
        job = self.read(id_, owner)
        await self._end(job.id)
        shutil.rmtree(self._folder / job.id, ignore_errors=True)

    async def stop(self) -> None:
        """End all jobs of this process; they count as interrupted."""
        for id_ in list(self._tasks):
            await self._end(id_)

    async def _end(self, id_: str) -> None:
        task = self._tasks.get(id_)
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _make_room(self) -> None:
        kept = 0
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            job = self._load(folder.name)
            age = time.time() - (job.started if job else folder.stat().st_mtime)
            is_running = job is not None and job.state == "running"
            if not is_running and age > self.limits.kept_seconds:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                kept += 1
        if len(self._tasks) >= self.limits.running or kept >= self.limits.kept:
            raise Throttled(_TOO_MANY)

    def _load(self, id_: str) -> Job | None:
        if not _JOB.fullmatch(id_):
            return None
        try:
            job = self._parse(id_)
            if job.state != "running" or _is_held(self._folder / id_ / "lock"):
                return job
            # It may have ended between the two looks.
            job = self._parse(id_)
            if job.state == "running":
                job = replace(job, state="failed", issues=(_INTERRUPTED,))
                self._save(job)
        except FileNotFoundError:
            return None
        return job

    def _parse(self, id_: str) -> Job:
        return msgspec.json.decode((self._folder / id_ / "job.json").read_bytes(), type=Job)

    def _save(self, job: Job) -> None:
        """Write what is known of a job; FileNotFoundError where it was deleted meanwhile."""
        path = self._folder / job.id / "job.json"
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(job))
        new.replace(path)

    async def _work(self, job: Job, order: Order, lock: BinaryIO) -> None:
        """Carry an export out and tell how it ended, whatever happens."""
        with lock:
            try:
                job = await self._export(job, order)
            except FileNotFoundError:  # deleted by another process
                return
            except Problem as problem:
                job = replace(job, state="failed", issues=tuple(problem.issues))
            except Exception as error:  # noqa: BLE001  nobody else would tell the client
                # The message of an exception may hold a patient's data.
                _log.error("export %s failed: %s", job.id, type(error).__name__)
                job = replace(job, state="failed", issues=(unexpected(),))
            with suppress(FileNotFoundError):
                self._save(job)

    async def _export(self, job: Job, order: Order) -> Job:
        output: list[Output] = []
        async with snapshot(self._store.pool, self._store.searcher) as seen:
            for number, (type_, searches) in enumerate(order.searches, start=1):
                progress = f"{type_}, {number} of {len(order.searches)} types"
                job = replace(job, progress=progress, output=tuple(output))
                self._save(job)
                output += await self._export_type(seen, job, type_, searches)
        moment = _instant(seen.moment)
        return replace(job, state="done", transaction_time=moment, output=tuple(output))

    async def _export_type(
        self, store: Snapshot, job: Job, type_: str, searches: Sequence[Search]
    ) -> list[Output]:
        files = _Files(self._folder / job.id, type_, self.limits.file_resources)
        # What several searches find is written once.
        seen: set[str] | None = set() if len(searches) > 1 else None
        with files.open():
            for search in searches:
                query = replace(search.query, count=self.limits.page)
                while True:
                    page = await store.search(query, search.authorization)
                    for version in page.matches:
                        if search.keeps is not None and not search.keeps(version.body):
                            continue
                        if seen is None or version.id not in seen:
                            files.write(version.body)
                        if seen is not None:
                            seen.add(version.id)
                    if page.next is None:
                        break
                    query = replace(query, cursor=page.next)
                    # A job that was deleted from outside ends here.
                    self._save(job)
        return files.finished


class _Files:
    """The files of one type, each up to so many resources; none where there is nothing."""

    def __init__(self, folder: pathlib.Path, type_: str, most: int) -> None:
        self._folder, self._type, self._most = folder, type_, most
        self._file: BinaryIO | None = None
        self._count = 0
        self.finished: list[Output] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Close what is open at the end."""
        try:
            yield
        finally:
            self._close()

    def write(self, body: bytes) -> None:
        """Write a resource, into a new file where the last is full."""
        if self._count == self._most:
            self._close()
        if self._file is None:
            self._file = (self._folder / self._name()).open("wb")
        self._file.write(body + b"\n")
        self._count += 1

    def _name(self) -> str:
        return f"{self._type}-{len(self.finished) + 1}.ndjson"

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self.finished.append(Output(type=self._type, file=self._name(), count=self._count))
            self._file, self._count = None, 0


def _is_held(path: pathlib.Path) -> bool:
    """Say whether some process holds the lock."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


_NO_JOB = Issue(
    code="not-found",
    key="export",
    text_en="There is no such export, or no such file of it.",
    text_zh="没有该导出任务，或其中没有该文件。",
    fix_en="Take the address of Content-Location; a finished export is kept for 24 hours.",
    fix_zh="请使用 Content-Location 给出的地址；已完成的导出保留 24 小时。",
    expression="http.path",
)
_TOO_MANY = Issue(
    code="throttled",
    key="exports",
    text_en="Too many exports are running or kept.",
    text_zh="正在运行或保留的导出任务过多。",
    fix_en="Wait for one to end, and DELETE the status address of those that were fetched.",
    fix_zh="请等待其中一个结束，并对已取回的任务在其状态地址执行 DELETE。",
)
_INTERRUPTED = Issue(
    code="incomplete",
    key="export-interrupted",
    text_en="The hub was stopped while it was exporting.",
    text_zh="导出过程中系统被停止。",
    fix_en="Ask for the export again.",
    fix_zh="请重新发起导出。",
)
