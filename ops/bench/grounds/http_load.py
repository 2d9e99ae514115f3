"""The load on an HTTP server: clients that ask as soon as they are answered, or that just come."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence

import uvloop

SECONDS = 2.0
_KEPT = 0.9  # of the requests that come, answered in their time
_MOST_AT_ONCE = 64  # connections of those who come whether others wait or not

Sender = Callable[[int], Iterator[bytes]]
"""Makes the requests of one client from its number."""


async def load(
    port: int, requests: Sender, number: int, connections: int
) -> tuple[float, list[float]]:
    """Return requests a second, until the last answer is there, and the seconds of each."""
    made = [requests(number * 1_000 + one) for one in range(connections)]
    begin = time.perf_counter()
    end = begin + SECONDS
    found = await asyncio.gather(*(_drive(port, one, end) for one in made))
    times = [one for times in found for one in times]
    return len(times) / (time.perf_counter() - begin), times


def all_paced(port: int, requests: Sender, paces: Sequence[int]) -> dict[int, dict[str, float]]:
    """Return the times at each pace, up to the first that the server does not keep."""
    found: dict[int, dict[str, float]] = {}
    for pace in paces:
        found[pace] = uvloop.run(_paced(port, requests, pace))
        if found[pace]["per_second"] < _KEPT * pace:
            break
    return found


async def _paced(port: int, requests: Sender, pace: int) -> dict[str, float]:
    """Return the times of requests that arrive at random, so many a second, waiting included.

    A closed loop of clients slows down with the server; people who come do not.
    """
    chance = random.Random(pace)  # noqa: S311  nothing secret hangs on it
    due: asyncio.Queue[float | None] = asyncio.Queue()
    times: list[float] = []

    async def ask(number: int) -> None:
        made = requests(number)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while (since := await due.get()) is not None:
                await _exchange(reader, writer, next(made))
                times.append(time.perf_counter() - since)
        finally:
            writer.close()

    async with asyncio.TaskGroup() as clients:
        for number in range(_MOST_AT_ONCE):
            clients.create_task(ask(9_000 + number))
        begin = at = time.perf_counter()
        while (at := at + chance.expovariate(pace)) < begin + SECONDS:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            due.put_nowait(at)
        for _ in range(_MOST_AT_ONCE):
            due.put_nowait(None)
    times.sort()
    return {
        "per_second": round(len(times) / (time.perf_counter() - begin), 1),
        "p50_ms": round(times[len(times) // 2] * 1e3, 2),
        "p99_ms": round(times[len(times) * 99 // 100] * 1e3, 2),
    }


async def _drive(port: int, requests: Iterator[bytes], end: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    try:
        while (begin := time.perf_counter()) < end:
            await _exchange(reader, writer, next(requests))
            times.append(time.perf_counter() - begin)
    finally:
        writer.close()
    return times


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> None:
    """Send a request and read its answer, which must be a success."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if head[9:10] not in b"2":
        raise RuntimeError(head.decode())
    length = head.lower().find(b"content-length:")
    if length >= 0:
        await reader.readexactly(int(head[length + 15 : head.index(b"\r\n", length)]))
