"""Search at two sizes: the time of each query shape, how it grows, writes beside it, mixed loads.

QIAO_BENCH_DATABASE_URL names a server to make databases on (an embedded one otherwise),
QIAO_BENCH_PATIENTS the sizes ("1000,30000" patients of ten resources each), QIAO_BENCH_SHAPES some
shapes by name, with a semicolon between them: then nothing else is measured.
"""

import asyncio
import contextlib
import itertools
import os
import random
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg

from fhir_store.operations import Create, Update, WriteContext
from fhir_store.search.query import parse_query
from fhir_store.store import Pool, Store, make_pool
from ops.bench.grounds.http_load import Sender
from ops.bench.grounds.search_load import loaded
from ops.bench.grounds.search_shapes import Shape, shapes
from ops.bench.grounds.search_world import world
from ops.bench.http import figure, in_turns, keys_and_token, ratio, request_bytes
from ops.embedded_postgres import temporary

_ROUNDS = 40
_MIXED_SECONDS = 6.0
_CLIENTS = 16
_FEWER = 8  # 16 that ask again as soon as they are answered wait 16 / rate on average
_PAGE = 20
_PACES = (300, 600, 900, 1200, 1500)  # searches a second that come over HTTP, up to the aim
_RAW = b"SELECT tid, fid, ver, lu, body FROM resource WHERE rid = ANY(%s)"
Step = Callable[[], Awaitable[int]]  # gives how many resources were shown or written


async def run() -> dict[str, Any]:
    """Return the time of each shape at each size, its growth, and the mixed loads with the limit.

    A time is the 10th percentile, which other work on the machine disturbs least; the sizes take
    turns search by search.
    """
    sizes = [int(n) for n in os.environ.get("QIAO_BENCH_PATIENTS", "1000,30000").split(",")]
    figures: dict[str, Any] = {"sizes": sizes}
    async with contextlib.AsyncExitStack() as stack:
        given = os.environ.get("QIAO_BENCH_DATABASE_URL")
        server = given or stack.enter_context(temporary("qiao-bench-", durable=False))
        urls, stores = [], []
        for patients in sizes:
            url, rate = await stack.enter_async_context(loaded(server, patients))
            figures[f"resources per second loaded at {patients}"] = round(rate)
            urls.append(url)
            stores.append(Store(await stack.enter_async_context(make_pool(url, size=8))))
        chosen = os.environ.get("QIAO_BENCH_SHAPES")
        searches = _searches(sizes, stores)
        if chosen:
            wanted = {name: searches[name] for name in chosen.split(";")}
            return {**figures, "shapes": await _compare(wanted)}
        figures["shapes"] = await _compare(searches)
        for patients, store, url in zip(sizes, stores, urls, strict=True):
            figures[f"mixed at {patients}"] = await _mixed(store, patients)
            figures[f"raw at {patients}"] = await _raw(store.pool, patients)
            figures[f"HTTP at {patients}"] = await asyncio.to_thread(_over_http, url, patients)
        figures["writes"] = await _compare(_writes(sizes, stores))  # last: they change the world
    for kind in ("shapes", "writes"):
        grown = {n: row["growth"] for n, row in figures[kind].items() if row["growth"] > 1.5}
        figures[f"{kind} that grow more than 1.5"] = grown
    return figures


def _searches(sizes: list[int], stores: list[Store]) -> dict[str, list[Step]]:
    """Return, by shape, a step that searches once in each store."""
    found: dict[str, list[Step]] = {}
    for patients, store in zip(sizes, stores, strict=True):
        for name, make in shapes(patients).items():
            found.setdefault(name, []).append(_search(store, make))
    return found


def _search(store: Store, make: Shape) -> Step:
    chance = random.Random(1)  # noqa: S311 synthetic queries

    async def step() -> int:
        type_, pairs = make(chance)
        page = await store.search(parse_query(type_, pairs))
        return len(page.matches) + len(page.included)

    return step


def _writes(sizes: list[int], stores: list[Store]) -> dict[str, list[Step]]:
    """Return steps that create and update one resource in a commit of its own."""
    found: dict[str, list[Step]] = {}
    for patients, store in zip(sizes, stores, strict=True):
        for kind in ("Observation", "Patient"):
            examples = [one for one in world(300, seed=11) if one["resourceType"] == kind]
            found.setdefault(f"create {kind}", []).append(_create(store, examples))
            found.setdefault(f"update {kind}", []).append(_update(store, examples, patients))
    return found


def _create(store: Store, examples: list[dict[str, Any]]) -> Step:
    turn = itertools.cycle(examples)

    async def step() -> int:
        resource = {key: value for key, value in next(turn).items() if key != "id"}
        await store.write([Create(resource=resource)], context=_context())
        return 1

    return step


def _update(store: Store, examples: list[dict[str, Any]], patients: int) -> Step:
    """Give a patient of the district, or one of his observations, another content."""
    turn, chance = itertools.cycle(examples), random.Random(2)  # noqa: S311 synthetic

    async def step() -> int:
        resource = next(turn)
        number = chance.randrange(patients)
        id_ = f"p{number}" if resource["resourceType"] == "Patient" else f"o{number}-1"
        await store.write([Update(resource={**resource, "id": id_})], context=_context())
        return 1

    return step


def _context() -> WriteContext:
    return WriteContext(actor="bench", at=datetime.now(UTC), trace_id="bench", deliveries=False)


async def _compare(steps: dict[str, list[Step]]) -> dict[str, dict[str, Any]]:
    """Return milliseconds and resources shown at each size, and the growth."""
    found = {}
    for name, own in steps.items():
        times: list[list[float]] = [[] for _ in own]
        counts = [0] * len(own)
        for _ in range(_ROUNDS + 8):
            for number, step in enumerate(own):
                begin = time.perf_counter()
                counts[number] += await step()
                times[number].append(time.perf_counter() - begin)
        low = [sorted(one[8:])[_ROUNDS // 10] for one in times]
        found[name] = {
            "ms": [round(one * 1000, 2) for one in low],
            "resources": [round(count / (_ROUNDS + 8), 1) for count in counts],
            "growth": round(low[-1] / low[0], 2),
        }
    return found


async def _mixed(store: Store, patients: int) -> dict[str, float]:
    """Ask all shapes in turn from several clients at once."""
    makers = list(shapes(patients).values())
    waits: list[float] = []
    end = time.perf_counter() + _MIXED_SECONDS

    async def client(number: int) -> None:
        chance = random.Random(number)  # noqa: S311 synthetic queries
        while time.perf_counter() < end:
            type_, pairs = chance.choice(makers)(chance)
            begin = time.perf_counter()
            await store.search(parse_query(type_, pairs))
            waits.append(time.perf_counter() - begin)

    used = time.process_time()
    await asyncio.gather(*(client(number) for number in range(_CLIENTS)))
    used = time.process_time() - used
    waits.sort()
    return {
        "Python CPU ms a search": round(used / len(waits) * 1000, 2),
        "requests per second": round(len(waits) / _MIXED_SECONDS),
        "p50 ms": round(waits[len(waits) // 2] * 1000, 2),
        "p99 ms": round(waits[int(len(waits) * 0.99)] * 1000, 2),
    }


async def _raw(pool: Pool, patients: int) -> dict[str, float]:
    """Select 20 bodies by primary key from as many clients: what no search can beat here."""
    done = 0
    end = time.perf_counter() + 3.0

    async def client(number: int) -> None:
        nonlocal done
        chance = random.Random(number)  # noqa: S311 synthetic queries
        while time.perf_counter() < end:
            start = chance.randrange(patients * 9)
            async with pool.connection() as connection:
                cursor = await connection.execute(_RAW, (list(range(start, start + 20)),))
                await cursor.fetchall()
            done += 1

    await asyncio.gather(*(client(number) for number in range(_CLIENTS)))
    return {"requests per second": round(done / 3.0)}


def _over_http(url: str, patients: int) -> dict[str, Any]:
    """Ask all shapes in turn over HTTP with authorization and audit on, and the limit alike.

    The limit is a bare Starlette that selects as many bodies as a page holds and joins them.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS bench_body AS SELECT 'page/' || r.rid / 20 AS id,"
            " string_agg(r.body, ',') AS body FROM resource r GROUP BY r.rid / 20"
        )
        connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS bench_body_id ON bench_body (id)")
        connection.execute("VACUUM ANALYZE bench_body")
    keys, token = keys_and_token()
    loads = {"ours": _requests(patients, token), "bare": _pages(patients, token)}
    ours, bare = in_turns(url, loads, keys, paces=_PACES)
    fewer = figure(url, keys, "ours", loads["ours"], connections=_FEWER)
    return {
        **ours,
        "raw_starlette_page": bare,
        "ratio": ratio(ours, bare),
        f"with {_FEWER} clients": fewer,
    }


def _requests(patients: int, token: str) -> Sender:
    makers = list(shapes(patients).values())

    def requests(seed: int) -> Iterator[bytes]:
        chance = random.Random(seed)  # noqa: S311 synthetic queries
        while True:
            type_, pairs = chance.choice(makers)(chance)
            query = [*pairs, ("_count", str(_PAGE))]  # as many as the limit selects
            path = f"{type_}?{urllib.parse.urlencode(query)}"
            yield request_bytes("GET", path, token)

    return requests


def _pages(patients: int, token: str) -> Sender:
    def requests(seed: int) -> Iterator[bytes]:
        chance = random.Random(seed)  # noqa: S311 synthetic queries
        while True:
            yield request_bytes("GET", f"page/{chance.randrange(patients * 10 // 20)}", token)

    return requests
