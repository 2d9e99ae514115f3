"""The message browser's filters over 1,000,000 stored messages.

Each filter is asked for its first page in turn, with the rarest and the commonest values and with
combinations that nothing fulfils. "Raw" is one entry fetched by its primary key.
"""

import datetime
import os
import random
import statistics
import time
from typing import Any

import psycopg

from fhir_store.message_browser import MessageFilter, find_messages
from ops.bench.grounds.database import fresh_database

MESSAGES = 1_000_000
ROUNDS = 5
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
EVENTS = ("ADT^A08", "ADT^A01", "ORU^R01", "ORM^O01", "SIU^S12", "MDM^T02", "VXU^V04", "ADT^A40")
CHANNELS = ("his-a", "his-b", "lis", "pacs")
STATES = ("translated", "unmapped", "held", "parked", "skipped", "received")
SPREAD = random.Random(20260101)  # noqa: S311 - spreads rows, guards nothing
RAW = b"MSH|^~\\&|HIS|H1|HUB|Q|20260101||ADT^A08|1|P|2.5\rPID|1||7^^^H1\r" + b"OBX|1|TX|||" * 20


async def run() -> dict[str, Any]:
    """Return the slowest and the median milliseconds of each filter, and of the raw look-up."""
    size = int(os.environ.get("QIAO_BENCH_MESSAGES", MESSAGES))
    with fresh_database() as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            filling = await fill(connection, size)
            raw = await _median(_by_number(connection, size) for _ in range(200))
            figures = {}
            for name, wanted in filters(size).items():
                times = [await _timed(find_messages(connection, wanted)) for _ in range(ROUNDS)]
                figures[name] = {
                    "first_ms": round(times[0], 1),
                    "median_ms": round(statistics.median(times), 1),
                    "slowest_ms": round(max(times), 1),
                    "over_raw": round(statistics.median(times) / raw, 1),
                }
    return {
        "messages": size,
        "filling_seconds": round(filling, 1),
        "raw_ms": round(raw, 3),
        "slowest_ms": max(one["slowest_ms"] for one in figures.values()),
        "filters": figures,
    }


def filters(size: int) -> dict[str, MessageFilter]:
    """Return the filters by name; `nothing` ones have no match at all."""
    middle = START + datetime.timedelta(seconds=size // 2)
    hour = datetime.timedelta(hours=1)
    return {
        "none": MessageFilter(),
        "deep page": MessageFilter(before=size // 10),
        "type": MessageFilter(event="ADT"),
        "type and trigger": MessageFilter(event="VXU^V04"),
        "channel": MessageFilter(channel="pacs"),
        "state, common": MessageFilter(state="translated"),
        "state, rare": MessageFilter(state="parked"),
        "control id": MessageFilter(control_id=f"C{size // 3}"),
        "patient": MessageFilter(numbers=("77",)),
        "patient with most messages": MessageFilter(numbers=("0",)),
        "patient, nobody": MessageFilter(numbers=("nobody",)),
        "hour": MessageFilter(since=middle, until=middle + hour),
        "since, before all": MessageFilter(until=START),
        "type in an hour": MessageFilter(event="SIU", since=middle, until=middle + hour),
        "nothing: channel and type": MessageFilter(channel="pacs", event="ADT^A40"),
        "nothing: channel, type and state": MessageFilter(
            channel="his-a", event="ADT^A08", state="skipped"
        ),
        "nothing: rare state in an hour": MessageFilter(
            state="skipped", since=middle, until=middle + hour
        ),
        "patient and type": MessageFilter(numbers=("0",), event="MDM"),
        "all at once": MessageFilter(
            channel="his-b",
            event="ADT^A01",
            state="translated",
            numbers=("0",),
            since=START,
            until=middle,
        ),
    }


async def fill(connection: psycopg.AsyncConnection[Any], size: int) -> float:
    """Copy messages into the inbox, one a second of 2026, and return the seconds it took."""
    began = time.perf_counter()
    columns = (
        "channel, sender, facility, control_id, content_hash, event, order_key, also_keys, lane, "
        "state, received_at, trace_id, peer, raw, ack"
    )
    async with connection.cursor() as cursor:
        statement = f"copy inbox ({columns}) from stdin"
        async with cursor.copy(statement) as copy:
            for number in range(size):
                await copy.write_row(_row(number))
        await cursor.execute("vacuum (analyze) inbox")
    return time.perf_counter() - began


def _row(number: int) -> tuple[Any, ...]:
    channel = CHANNELS[number % 4]
    event = SPREAD.choice(EVENTS[:3] if channel != "pacs" else ("ORM^O01", "MDM^T02"))
    if channel == "his-b":
        event = SPREAD.choice(EVENTS)
    state = "translated"
    if number % 1000 == 1:
        state = SPREAD.choice(STATES[1:4])
    elif number == 3:
        state = "skipped"
    # One patient in fifty messages; the first has twenty thousand of them.
    patient = 0 if number % 50 == 0 else number % 20_000
    return (
        channel, "HIS", "H1", f"C{number}", number.to_bytes(32, "big"), event,
        f"{patient}^H1", [f"{patient + 1}^H1"] if event == "ADT^A40" else None, number % 16, state,
        START + datetime.timedelta(seconds=number), f"{number:032x}", "127.0.0.1:1", RAW, RAW[:90],
    )  # fmt: skip


async def _by_number(connection: psycopg.AsyncConnection[Any], size: int) -> None:
    number = SPREAD.randrange(1, size)
    cursor = await connection.execute("select * from inbox where id = %s", (number,))
    await cursor.fetchall()


async def _median(calls: Any) -> float:
    return statistics.median([await _timed(call) for call in calls])


async def _timed(call: Any) -> float:
    began = time.perf_counter()
    await call
    return (time.perf_counter() - began) * 1000
