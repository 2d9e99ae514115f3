"""Writes and reads of the store a second, against the same rows and selects without the store.

Raw limits, of the same run: for writes, the very statement and rows that the store sends, made
beforehand and sent by one connection or sixteen, each in a commit of its own; for reads, one
primary-key select per read on the same pool.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from fhir_store.changes import Changes
from fhir_store.flush import Connection, Dictionaries, flush
from fhir_store.index_rows import rows_of
from fhir_store.operations import Create, Operation, Update, WriteContext
from fhir_store.store import Pool, Store, make_pool
from fhir_store.targets import new_id
from ops.bench.grounds.database import fresh_database
from ops.demo.synthetic_records import records

SECONDS = 2.0
ROUNDS = 3
Step = Callable[[], Awaitable[int]]


class _Recorder:
    """Stands where a connection would and keeps what it is told to execute."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def execute(self, query: str, values: dict[str, Any], *, prepare: bool) -> None:
        """Keep one statement."""
        self.sent.append((query, values))


def _context() -> WriteContext:
    return WriteContext(actor="bench", at=datetime.now(UTC), trace_id="bench")


def bench_resources(seed: int, patients: int) -> list[dict[str, Any]]:
    """Return the resources of so many synthetic patients, ten each."""
    return [one for record in records(seed, patients) for one in record]


async def statements_for(
    groups: Sequence[Sequence[dict[str, Any]]], rids: "itertools.count[int]"
) -> list[tuple[str, dict[str, Any]]]:
    """Return, for each group, the statement and values by which the store would create it."""
    recorder, known = _Recorder(), Dictionaries()
    for group in groups:
        changes = Changes(rids=rids)
        changes.begin(_context())
        for resource in group:
            changes.create(resource, new_id())
        known.learn(await flush(cast(Connection, recorder), changes, known, rows_of))
    return recorder.sent


async def _rate(step: Step, clients: int) -> float:
    """Return how much the steps achieve a second when so many clients take them."""
    done = 0
    end = time.perf_counter() + SECONDS

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < end:
            achieved = await step()  # awaited first: `done` may change meanwhile
            done += achieved

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.perf_counter() - begin)


async def _compare(ours: Step, raw: Step, clients: int) -> dict[str, float]:
    """Take both in turns and return the medians and their ratio."""
    rates = [(await _rate(raw, clients), await _rate(ours, clients)) for _ in range(ROUNDS)]
    raw_rate = statistics.median(one for one, _ in rates)
    our_rate = statistics.median(one for _, one in rates)
    return {
        "raw": round(raw_rate),
        "ours": round(our_rate),
        "ratio": round(our_rate / raw_rate, 2),
    }


async def _writes(pool: Pool, store: Store, group_size: int, clients: int) -> dict[str, float]:
    """Compare creating groups of resources with sending the prepared statements."""
    resources = bench_resources(group_size * 31 + clients, 300)
    groups = [resources[n : n + group_size] for n in range(0, len(resources), group_size)]
    chosen = itertools.cycle(groups)
    rids = itertools.count(10**12 + clients * 10**10 + group_size * 10**8)
    prepared: list[tuple[str, dict[str, Any]]] = []

    async def ours() -> int:
        operations: list[Operation] = [Create(resource=one) for one in next(chosen)]
        await store.write(operations, context=_context())
        return group_size

    async def raw() -> int:
        query, values = prepared.pop()
        async with pool.connection() as connection:
            await connection.execute(cast(Any, query), values, prepare=True)
        return group_size

    rates = []
    for _ in range(ROUNDS):
        if len(prepared) < len(groups):
            prepared[:] = await statements_for(groups * _repeats(group_size, clients), rids)
        rates.append((await _rate_of_stock(raw, prepared, clients), await _rate(ours, clients)))
    raw_rate, our_rate = (statistics.median(column) for column in zip(*rates, strict=True))
    return {
        "raw": round(raw_rate),
        "ours": round(our_rate),
        "ratio": round(our_rate / raw_rate, 2),
    }


def _repeats(group_size: int, clients: int) -> int:
    """Return how often to take all groups, for at least two seconds of work."""
    return 1 if clients == 1 and group_size == 1 else 3


async def _rate_of_stock(step: Step, stock: list[Any], clients: int) -> float:
    """Return the rate while there is stock, for `SECONDS` at most: a disk may be slow."""
    done = 0
    end = time.perf_counter() + SECONDS

    async def client() -> None:
        nonlocal done
        while stock and time.perf_counter() < end:
            achieved = await step()  # awaited first: `done` may change meanwhile
            done += achieved

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.perf_counter() - begin)


async def _reads(pool: Pool, store: Store) -> dict[str, float]:
    resources = bench_resources(7, 30)
    written = await store.write([Create(resource=one) for one in resources], context=_context())
    names = itertools.cycle((one.version.type, one.version.id) for one in written)
    rids = itertools.cycle(await _some_rids(pool))
    select = "SELECT body FROM resource WHERE rid = %(rid)s"

    async def ours() -> int:
        for _ in range(20):
            await store.read(*next(names))
        return 20

    async def raw() -> int:
        for _ in range(20):
            async with pool.connection() as connection:
                cursor = await connection.execute(select, {"rid": next(rids)}, prepare=True)
                await cursor.fetchone()
        return 20

    return await _compare(ours, raw, 32)


async def _some_rids(pool: Pool) -> list[int]:
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT rid FROM resource ORDER BY rid DESC LIMIT 300")
        return [row[0] for row in await cursor.fetchall()]


async def _updates(store: Store, clients: int) -> float:
    """Return updates a second, each changing one element of one of 320 resources."""
    resources = [one | {"id": f"u{n}"} for n, one in enumerate(bench_resources(11, 32))]
    numbers = itertools.count()

    async def step() -> int:
        number = next(numbers)
        changed = resources[number % 320] | {"language": f"x-{number}"}
        await store.write([Update(resource=changed)], context=_context())
        return 1

    return await _rate(step, clients)


async def _lane_batches(store: Store) -> float:
    """Return messages a second when 50 of them (Patient found, Encounter new) share a commit."""
    patients = [one for one in bench_resources(13, 500) if one["resourceType"] == "Patient"]
    await store.write([Update(resource=one) for one in patients], context=_context())
    chosen = itertools.cycle(patients)
    numbers = itertools.count()

    async def step() -> int:
        batch = [next(chosen) for _ in range(50)]
        pairs = [(one["identifier"][0]["system"], one["identifier"][0]["value"]) for one in batch]
        async with store.begin() as transaction:
            found = await transaction.find_by_identifier("Patient", pairs)
            current = await transaction.read_for_update(
                [("Patient", found[pair][0]) for pair in pairs]
            )
            operations: list[Operation] = []
            for pair in pairs:
                id_ = found[pair][0]
                number = next(numbers)
                changed = {**current["Patient", id_], "language": f"x-{number % 3}"}
                visit = {
                    "resourceType": "Encounter",
                    "status": "in-progress",
                    "class": {"code": "IMP"},
                    "identifier": [{"system": "urn:visit", "value": f"v{number}"}],
                    "subject": {"reference": f"Patient/{id_}"},
                }
                operations += [Update(resource=changed), Create(resource=visit)]
            await transaction.apply(operations, context=_context())
        return 50

    return await _rate(step, 2)


async def run() -> dict[str, Any]:
    """Return resources, reads or messages a second with raw limits and ratios."""
    with fresh_database() as url:
        async with make_pool(url, size=16) as pool:
            store = Store(pool)
            await store.write(
                [Create(resource=one) for one in bench_resources(1, 30)], context=_context()
            )
            return {
                "unit": "per second; raw is the same rows or select without the store",
                "create, one client": await _writes(pool, store, 1, 1),
                "create, 16 clients": await _writes(pool, store, 1, 16),
                "bundle of 10, 4 clients": await _writes(pool, store, 10, 4),
                "bundle of 100, 2 clients": await _writes(pool, store, 100, 2),
                "read, 32 clients": await _reads(pool, store),
                "update, one client": round(await _updates(store, 1)),
                "update, 16 clients": round(await _updates(store, 16)),
                "lane batches of 50 messages": round(await _lane_batches(store)),
            }
