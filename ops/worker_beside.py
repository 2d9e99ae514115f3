"""The workers of `qiao up` in processes of their own: listening does not wait for translating.

They are forked before anything is connected, because that costs no second start, and each ends
when nobody holds the other end of its line: a hub that is killed takes its workers with it.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn

import uvloop

from adapters.port import Sender
from ops.channel_reload import reload_soon
from ops.logs import configure_logs, log
from ops.metrics import Metrics
from ops.ports_file import province_key
from ops.province import province_sender
from ops.repeating import alongside
from ops.settings import Settings
from ops.wiring import ROLES, running_hub
from ops.worker_loop import kind_of, place_of

LISTENING = ROLES - {"worker"}
"""What is left to the process that has workers beside it."""

_READY = b"ready\n"
_LONGEST_LINE = 2**20
_TELL_SECONDS = 5.0
_END_SECONDS = 20.0


class WorkerBeside:
    """A process of workers, as the one beside it sees it."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self._line = line
        self.has_ended = False
        self._works = False
        self._reader: asyncio.StreamReader | None = None

    @contextlib.asynccontextmanager
    async def working(self, province: str) -> AsyncIterator[None]:
        """Let it begin, with the address of a simulated province or ""; it ends with the block."""
        reader, writer = await asyncio.open_unix_connection(sock=self._line, limit=_LONGEST_LINE)
        self._reader = reader
        writer.write(province.encode() + b"\n")
        try:
            yield
        finally:
            writer.close()
            await asyncio.to_thread(self.end)

    async def is_ready(self) -> bool:
        """Wait until it works; False where it ended instead."""
        assert self._reader is not None
        self._works = await self._reader.readline() == _READY
        self.has_ended = not self._works
        return self._works

    async def heard_by(self, metrics: Metrics) -> None:
        """Take over what it counts, until it ends."""
        assert self._reader is not None
        while line := await self._reader.readline():
            metrics.hear(line, self.pid)
        self.has_ended = True

    def reload(self) -> None:
        """Let it read the channels again; one that has not begun reads them then."""
        if not self._works:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGHUP)

    def end(self) -> None:
        """Let go of the line and wait for the end; one that does not come in time is killed."""
        self._line.close()
        deadline = time.monotonic() + _END_SECONDS
        while self.pid:
            ended, _ = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.pid = 0
            elif time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                deadline += _END_SECONDS
            else:
                time.sleep(0.02)


@contextlib.contextmanager
def workers_beside(settings: Settings, database_url: str) -> Iterator[list[WorkerBeside]]:
    """Fork the processes of the workers; each begins when it is told to; all end with the block.

    The tasks of `QIAO_LANE_WORKERS` are shared among them. To be called before there is an event
    loop, a thread or a connection.
    """
    count = settings.worker_processes
    tasks = max(1, settings.lane_workers // count)
    shared = settings.model_copy(update={"lane_workers": tasks})
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_worker_beside(shared, database_url)) for _ in range(count)]


@contextlib.contextmanager
def _worker_beside(settings: Settings, database_url: str) -> Iterator[WorkerBeside]:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        _be_worker(settings, database_url, theirs)
    theirs.close()
    worker = WorkerBeside(pid, ours)
    try:
        yield worker
    finally:
        worker.end()


def _be_worker(settings: Settings, database_url: str, line: socket.socket) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the other one decides
        # The lock of the embedded server among them: it says who stops the server.
        os.closerange(3, line.fileno())
        os.closerange(line.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        with (settings.home / "hub.log").open("ab", buffering=0) as stream:
            configure_logs(stream)
            try:
                uvloop.run(_work(settings, database_url, line))
                code = 0
            except Exception as failure:  # noqa: BLE001 - its text may hold a value
                log.error("workers ended", reason=kind_of(failure), at=place_of(failure))
    finally:
        os._exit(code)  # what is open here belongs to the process that was forked


async def _work(settings: Settings, database_url: str, line: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=line, limit=_LONGEST_LINE)
    told = await reader.readline()
    if not told:
        return
    province: Sender | None = None
    if endpoint := told.decode().strip():
        province = province_sender(settings, endpoint, province_key(settings.home))
    roles = frozenset({"worker"})
    async with running_hub(settings, database_url, roles=roles, province=province) as hub:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        loop.add_signal_handler(signal.SIGHUP, reload_soon, hub)
        writer.write(_READY)
        async with alongside(_tell(hub.metrics, writer), _wait_for_end(reader, ended)):
            await ended.wait()


async def _tell(metrics: Metrics, writer: asyncio.StreamWriter) -> None:
    while True:
        await asyncio.sleep(_TELL_SECONDS)
        writer.write(metrics.told() + b"\n")


async def _wait_for_end(reader: asyncio.StreamReader, ended: asyncio.Event) -> None:
    # Whoever is told something after the other has died sees a broken line, not its end.
    with contextlib.suppress(OSError):
        await reader.read()
    ended.set()
