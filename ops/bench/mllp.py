"""MLLP frames a second through our listener, no store behind it, against a bare socket echo."""

import asyncio
import concurrent.futures
import functools
import multiprocessing
import statistics
import threading
import time
from typing import Any, cast

import uvloop

from adapters.port import Received
from adapters.transport.mllp_framing import to_frame
from adapters.transport.mllp_limits import MllpLimits
from adapters.transport.mllp_server import MllpServer

SECONDS = 2.0
ROUNDS = 3
BYTES = 1_000  # an ADT with a dozen segments
ACK = to_frame(b"MSH|^~\\&|HIS|H|Q|Q|20260102||ACK|1|P|2.5.1\rMSA|AA|id-7\r")
MESSAGE = to_frame(b"MSH|^~\\&|Q|Q|HIS|H|20260102||ADT^A01|id-7|P|2.5.1\r".ljust(BYTES, b"x"))


class _Echo(asyncio.Protocol):
    """The raw limit: whatever was read, write an ACK once the message's bytes are in."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._owed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._owed += len(data)
        while self._owed >= len(MESSAGE) and self._transport is not None:
            self._owed -= len(MESSAGE)
            self._transport.write(ACK)


async def _keep(_received: Received) -> bytes:
    return ACK[1:-2]


async def _serve_echo(ready: "concurrent.futures.Future[int]", stop: threading.Event) -> None:
    server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0)
    ready.set_result(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(stop.wait)
    server.close()


async def _serve_mllp(ready: "concurrent.futures.Future[int]", stop: threading.Event) -> None:
    limits = MllpLimits(connections_per_peer=100)
    server = MllpServer(channel="bench", accept=_keep, limits=limits)
    await server.start("127.0.0.1", 0)
    ready.set_result(server.port)
    await asyncio.to_thread(stop.wait)
    await server.stop(grace_seconds=1)


async def _send(port: int, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.monotonic() < until:
        writer.write(MESSAGE)
        await reader.readexactly(len(ACK))
        count += 1
    writer.close()
    return count


async def _drive(port: int, connections: int) -> float:
    until = time.monotonic() + SECONDS
    counts = await asyncio.gather(*(_send(port, until) for _ in range(connections)))
    return sum(counts) / SECONDS


def drive(port: int, connections: int) -> float:
    """Send from a process of its own, one message in flight on each connection."""
    return uvloop.run(_drive(port, connections))


async def _measure(serve: Any, connections: int, pool: concurrent.futures.Executor) -> float:
    ready: concurrent.futures.Future[int] = concurrent.futures.Future()
    stop = threading.Event()
    thread = threading.Thread(target=lambda: uvloop.run(serve(ready, stop)))
    thread.start()
    port = await asyncio.wrap_future(ready)
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, functools.partial(drive, port, connections))
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)


async def run() -> dict[str, Any]:
    """Return messages a second at 1 and 16 connections, bare and ours; medians of rounds."""
    figures: dict[str, Any] = {"message_bytes": BYTES, "rounds": ROUNDS}
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, int)
        for connections in (1, 16):
            raw, ours = [], []
            for _ in range(ROUNDS):
                raw.append(await _measure(_serve_echo, connections, pool))
                ours.append(await _measure(_serve_mllp, connections, pool))
            bare, kept = statistics.median(raw), statistics.median(ours)
            figures[f"connections_{connections}"] = {
                "raw_per_second": round(bare),
                "per_second": round(kept),
                "ratio": round(kept / bare, 2),
            }
    return figures
