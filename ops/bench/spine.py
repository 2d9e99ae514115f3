"""MLLP with commit before ACK, and ADT to resources, against bare asyncio + psycopg.

Server, sender and PostgreSQL are three processes (plus backends) on one machine. "Raw" answers a
fixed ACK after one insert and one commit for each message, of the same rows, without grouping.
"""

import asyncio
import contextlib
import multiprocessing
import pathlib
import selectors
import socket
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any, cast

import psycopg
import uvloop

from adapters.transport.mllp_server import MllpServer
from fhir_store.inbox_writer import InboxWriter
from fhir_store.store import Store, make_pool
from mappings.engine.library import load
from ops.bell import Bell
from ops.bench.grounds.database import fresh_database
from ops.bench.grounds.processor_time import database_processes, seconds_of
from ops.channel import Channel
from ops.flow_inbound import InboundFlow
from ops.flow_translation import Reading, Translation, translator_of
from ops.garbage import collect_less_often
from ops.lanes import LaneWorkers
from ops.logs import configure_logs
from ops.metrics import Metrics
from ops.province_choice import choose_province

CHANNEL = Channel(name="his")
FRAME = b"\x0b%s\x1c\r"
ROUNDS = 7
"""A round of one connection takes half a second, and a disk that is busy then makes it two."""
WARM_UP = 1600


def adt(number: int) -> bytes:
    """Return one ADT^A01 of a patient of its own, 0.6 kB, UTF-8 with Chinese names."""
    return (
        f"MSH|^~\\&|HIS|H1|QIAO|HUB|20260101080000+0800||ADT^A01^ADT_A01|B{number}|P|2.5.1"
        "||||||UNICODE UTF-8\r"
        f"EVN|A01|20260101080000+0800\r"
        f"PID|1||{number:08}^^^H1^MR~99900119900101{number % 10000:04}^^^CN^NNCHN||张^三丰"
        f"||19900101|M|||测试路{number % 100}号^^深圳^广东^518000^CHN||13800000000|||M\r"
        f"PV1|1|I|W{number % 20}^R{number % 5}^1|||||D{number % 50}^李^医生|||||||||||"
        f"V{number:08}^^^H1^VN|||||||||||||||||||||||||20260101080000+0800\r"
    ).encode()


async def run() -> dict[str, Any]:
    """Return messages per second at 1 and 16 connections, raw and ours, and end to end."""
    return await asyncio.to_thread(_measure)


def _measure() -> dict[str, Any]:
    figures: dict[str, Any] = {"unit": "messages/s", "rounds": ROUNDS}
    with fresh_database() as url:
        for connections, count in ((1, 1000), (16, 6000)):
            rounds = []
            for _ in range(ROUNDS):  # by turns: another load on the machine meets both alike
                bare = _serve_and_send(_raw, url, connections, count)
                rounds.append((*bare, *_serve_and_send(_inbox, url, connections, count)))
            raw, raw_time, ours, our_time = map(statistics.median, zip(*rounds, strict=True))
            ratios = sorted(round(ours / raw, 2) for raw, _, ours, _ in rounds)
            figures[f"mllp_{connections}"] = {
                "raw": round(raw),
                "hub": round(ours),
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "raw_processor_us": round(raw_time),
                "hub_processor_us": round(our_time),
            }
    for name, serve, workers in (
        ("end_to_end", _hub, ()),
        ("end_to_end_one_worker", _listener, (_worker,)),
        ("end_to_end_listening_apart", _listener, (_worker_of_two, _worker_of_two)),
    ):
        with fresh_database() as url:
            figures[name] = _end_to_end(serve, url, 6000, workers=workers)
    return figures


def _serve_and_send(
    serve: Callable[..., Any], url: str, connections: int, count: int
) -> tuple[float, float]:
    """Return messages per second, and the server's microseconds of processor time for each."""
    _empty(url)
    server = _Process(serve, url)
    with server as port:
        before = seconds_of({server.pid})
        began, acked = _send(port, connections, count)
        spent = seconds_of({server.pid}) - before
    return count / (acked - began), spent / count * 1e6


def _end_to_end(
    serve: Callable[..., Any], url: str, count: int, *, workers: Sequence[Callable[..., Any]]
) -> dict[str, Any]:
    """Send ADT over 16 connections and wait until the last one is translated.

    `serve` listens, and works the lanes too or leaves them to the processes `workers`. A first
    thousand warms them up: every lane is begun carefully, tables are loaded late.
    """
    _empty(url)
    with contextlib.ExitStack() as stack:
        processes = [_Process(one, url) for one in (serve, *workers)]
        port, *_ = [stack.enter_context(one) for one in processes]
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        _send(port, 16, WARM_UP, start=count)
        _await_translated(connection, WARM_UP)
        before = _rows_in(connection)
        groups = _groups(processes, url)
        times = {name: seconds_of(pids) for name, pids in groups.items()}
        began, acked = _send(port, 16, count)
        _await_translated(connection, WARM_UP + count)
        ended = time.perf_counter()
        spent = {name: seconds_of(pids) - times[name] for name, pids in groups.items()}
        after = _rows_in(connection)
    counts = {name: after[name] - before[name] for name in after}
    return {
        "hub": round(count / (ended - began)),
        "acked": round(count / (acked - began)),
        "processor_us": {name: round(one / count * 1e6) for name, one in spent.items()},
        **counts,
    }


def _groups(processes: Sequence["_Process"], url: str) -> dict[str, set[int]]:
    listener, *workers = (one.pid for one in processes)
    return {"listener": {listener}, "workers": set(workers), "database": database_processes(url)}


def _await_translated(connection: psycopg.Connection[Any], count: int) -> None:
    """Wait until nothing is open, by an index that holds what is; counting costs the database more.

    Counted is once, at the end, that all are translated.
    """
    deadline = time.perf_counter() + 120
    while connection.execute(_OPEN).fetchone() is not None:
        if time.perf_counter() > deadline:
            raise TimeoutError("the lanes did not come to rest")
        time.sleep(0.05)
    row = connection.execute("select count(*) from inbox where state = 'translated'").fetchone()
    if row is None or row[0] != count:
        raise AssertionError("not every message was translated")


_OPEN = (
    "select id from inbox where state in ('received', 'claimed') and waits_for is null"
    " order by lane, id limit 1"
)


def _rows_in(connection: psycopg.Connection[Any]) -> dict[str, int]:
    row = connection.execute(
        "select (select count(*) from inbox), (select count(*) from resource),"
        " (select count(*) from outbox), (select count(*) from inbox_trace)"
    ).fetchone()
    assert row is not None
    return dict(zip(("messages", "resources", "outbox_rows", "traces"), row, strict=True))


def _empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("truncate inbox, inbox_trace, outbox")


class _Process:
    """A server in a process of its own; entering gives its port."""

    def __init__(self, serve: Callable[..., Any], url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(serve.__name__, url, theirs))

    @property
    def pid(self) -> int:
        """Its number, once it has been entered."""
        assert self._process.pid is not None
        return self._process.pid

    def __enter__(self) -> int:
        self._process.start()
        return int(self._ours.recv())

    def __exit__(self, *_: object) -> None:
        self._ours.send("stop")
        self._process.join(20)


def _main(name: str, url: str, pipe: Connection) -> None:
    with pathlib.Path("/dev/null").open("wb", buffering=0) as nowhere:
        configure_logs(nowhere)
        collect_less_often()
        uvloop.run(_serve(globals()[name], url, pipe))


async def _serve(serve: Callable[..., Any], url: str, pipe: Connection) -> None:
    async with serve(url) as port:
        pipe.send(port)
        await asyncio.to_thread(pipe.recv)


@asynccontextmanager
async def _raw(url: str) -> Any:
    """Run bare asyncio: read a frame, insert and commit its row, write a fixed answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while True:
                try:
                    frame = await reader.readuntil(b"\x1c\r")
                except asyncio.IncompleteReadError:
                    break
                await connection.execute(_BARE_INSERT, _row_of(frame[1:-2]))
                writer.write(FRAME % b"MSH|^~\\&|A\rMSA|AA|1\r")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def _inbox(url: str) -> Any:
    """Run the hub's listener and inbox, without the lanes."""
    async with make_pool(url, size=8) as pool:
        writer = InboxWriter(pool)
        flow = InboundFlow(writer=writer, channels={"his": CHANNEL}, metrics=Metrics())
        async with _listening(flow.accept) as port:
            yield port
        await writer.close()


@asynccontextmanager
async def _listener(url: str) -> Any:
    """Listen and keep, as `qiao serve --roles mllp` does: workers are told, and none is here."""
    async with make_pool(url, size=8) as pool:
        bell = Bell(pool, "inbox")
        await bell.start()
        writer = InboxWriter(pool, on_kept=bell.ring)
        flow = InboundFlow(writer=writer, channels={"his": CHANNEL}, metrics=Metrics())
        async with _listening(flow.accept) as port:
            yield port
        await writer.close()
        await bell.stop()


@asynccontextmanager
async def _hub(url: str) -> Any:
    """Run the whole way: listener, inbox, lanes, maps, store, outbox rows."""
    async with make_pool(url, size=8) as pool:
        store = Store(pool, choose_destinations=choose_province)
        bell, metrics = Bell(pool, "inbox"), Metrics()
        await bell.start()
        writer = InboxWriter(pool, on_kept=bell.ring)
        channels = {"his": CHANNEL}
        flow = InboundFlow(writer=writer, channels=channels, metrics=metrics)
        work = Translation(channels=channels, translate=translator_of(load()).translate)
        workers: LaneWorkers[Reading] = LaneWorkers(store, work, bell=bell, metrics=metrics)
        await workers.start()
        async with _listening(flow.accept) as port:
            yield port
        await workers.stop()
        await writer.close()
        await bell.stop()


@asynccontextmanager
async def _worker(url: str) -> Any:
    """Run the lanes alone, as `qiao serve --roles worker` does."""
    async with _lanes(url, tasks=2):
        yield 0


@asynccontextmanager
async def _worker_of_two(url: str) -> Any:
    """Run the lanes as each of the two processes of workers of `qiao up` does."""
    async with _lanes(url, tasks=1):
        yield 0


@asynccontextmanager
async def _lanes(url: str, *, tasks: int) -> AsyncIterator[None]:
    async with make_pool(url, size=8) as pool:
        store = Store(pool, choose_destinations=choose_province)
        bell = Bell(pool, "inbox")
        await bell.start()
        work = Translation(channels={"his": CHANNEL}, translate=translator_of(load()).translate)
        workers = LaneWorkers[Reading](store, work, bell=bell, metrics=Metrics(), workers=tasks)
        await workers.start()
        yield
        await workers.stop()
        await bell.stop()


@asynccontextmanager
async def _listening(accept: Callable[..., Awaitable[bytes | None]]) -> Any:
    server = MllpServer(channel="his", accept=accept)
    await server.start("127.0.0.1", 0)
    yield server.port
    await server.stop(grace_seconds=1)


_BARE_INSERT = """
insert into inbox (channel, sender, facility, control_id, content_hash, event, order_key, lane,
                   trace_id, peer, raw, ack)
values (%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)"""


def _row_of(payload: bytes) -> tuple[Any, ...]:
    """Return the row that the hub would write, with as little work as can be."""
    head = payload.split(b"\r", 1)[0].decode().split("|")
    ack = (
        b"MSH|^~\\&|QIAO|HUB|HIS|H1|20260101080000+0000||ACK^A01^ACK|0123456789|P|2.5.1\r"
        b"MSA|AA|B1|trace=0123456789abcdef0123456789abcdef\r"
    )
    return (
        "his", head[2], head[3], head[9], b"0" * 32, "ADT^A01", f"{head[9]}^H1", 1,
        uuid.uuid4().hex, "127.0.0.1:50000", payload, ack,
    )  # fmt: skip


def _send(port: int, connections: int, count: int, start: int = 0) -> tuple[float, float]:
    """Send `count` messages, each connection waiting for each ACK; return first and last moment.

    They are of the sender's own `perf_counter`, which on Linux is that of every process: starting
    the sender and making the messages is not counted.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_sender, args=(port, connections, count, start, theirs))
    process.start()
    began, ended = ours.recv()
    process.join(10)
    return began, ended


def _sender(port: int, connections: int, count: int, start: int, pipe: Connection) -> None:
    each = count // connections
    frames = [
        [FRAME % adt(number) for number in range(start + n * each, start + (n + 1) * each)]
        for n in range(connections)
    ]
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for one in sockets:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    began = time.perf_counter()
    _send_all(dict(zip(sockets, map(iter, frames), strict=True)))
    pipe.send((began, time.perf_counter()))
    for one in sockets:
        one.close()


def _send_all(lines: dict[socket.socket, Iterator[bytes]]) -> None:
    """Keep one frame in flight on each line; one thread, so that sending costs little."""
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line, selectors.EVENT_READ)
            line.sendall(next(lines[line]))
        while lines:
            for key, _ in selector.select():
                line = cast(socket.socket, key.fileobj)
                _require_accepted(line)
                frame = next(lines[line], None)
                if frame is None:
                    selector.unregister(line)
                    del lines[line]
                else:
                    line.sendall(frame)


def _require_accepted(line: socket.socket) -> None:
    answer = line.recv(4096)
    while not answer.endswith(b"\x1c\r"):
        more = line.recv(4096)
        if not more:
            raise ConnectionError("the server closed the connection")
        answer += more
    if b"MSA|AA|" not in answer:
        raise AssertionError("a message was not accepted")
