"""Search at two sizes: the time of each query shape, how it grows, and a mixed load.

QIAO_BENCH_DATABASE_URL names a server to make databases on (an embedded one otherwise),
QIAO_BENCH_PATIENTS the sizes ("1000,30000" patients of ten resources each).
"""

import asyncio
import contextlib
import os
import pathlib
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
import psycopg

from conformance.search_parameters import type_number
from fhir_store import migrate
from fhir_store.index_rows import IndexRows, rows_of
from fhir_store.keys import resource_key
from fhir_store.search_query import parse_query
from fhir_store.store import Pool, Store, make_pool
from ops.embedded_postgres import running
from ops.search_world import CONDITIONS, FAMILIES, GIVENS, LOINC, world

Pairs = list[tuple[str, str]]
_ROUNDS = 40
_MIXED_SECONDS = 6.0
_CLIENTS = 16


def _shapes(patients: int) -> dict[str, Callable[[random.Random], tuple[str, Pairs]]]:
    """Return name → a maker of (type, parameters) with values that exist at any size."""

    def one(chance: random.Random) -> int:
        return chance.randrange(patients)

    def year(chance: random.Random) -> int:
        return chance.randint(2010, 2024)

    def shape(type_: str, *pairs: tuple[str, Any]) -> Callable[[random.Random], tuple[str, Pairs]]:
        def make(chance: random.Random) -> tuple[str, Pairs]:
            return type_, [(n, v(chance) if callable(v) else v) for n, v in pairs]

        return make

    loinc = "http://loinc.org"
    return {
        "all of a type": shape("Patient"),
        "id": shape("Patient", ("_id", lambda c: f"p{one(c)}")),
        "identifier": shape("Patient", ("identifier", lambda c: f"urn:mrn|M{one(c):07}")),
        "identifier, ten": shape(
            "Patient",
            ("identifier", lambda c: ",".join(f"urn:mrn|M{one(c):07}" for _ in range(10))),
        ),
        "no such identifier": shape("Patient", ("identifier", "urn:mrn|none")),
        "dense token": shape("Patient", ("gender", "female")),
        "dense token with system": shape("Observation", ("category", "urn:category|laboratory")),
        "code": shape("Observation", ("code", lambda c: f"{loinc}|{c.choice(LOINC)}")),
        "three codes": shape("Observation", ("code", lambda c: ",".join(c.sample(LOINC, 3)))),
        "no such code": shape("Observation", ("code", "none")),
        "code of a system": shape("Encounter", ("class", "AMB")),
        "two dense tokens": shape("Observation", ("category", "laboratory"), ("status", "final")),
        "dense and sparse token": shape(
            "Observation", ("status", "final"), ("code", lambda c: c.choice(LOINC))
        ),
        "token not": shape("Encounter", ("class:not", "AMB")),
        "token text": shape(
            "Condition", ("code:text", lambda c: f"display of {c.choice(CONDITIONS)}")
        ),
        "missing": shape("Patient", ("birthdate:missing", "false")),
        "patient's": shape("Observation", ("patient", lambda c: f"p{one(c)}")),
        "patient's code": shape(
            "Observation", ("patient", lambda c: f"Patient/p{one(c)}"), ("code", "8480-6")
        ),
        "patient's since": shape(
            "Observation", ("patient", lambda c: f"p{one(c)}"), ("date", lambda c: f"ge{year(c)}")
        ),
        "family begins": shape("Patient", ("family", lambda c: c.choice(FAMILIES))),
        "family exact": shape("Patient", ("family:exact", lambda c: c.choice(FAMILIES))),
        "name contains": shape("Patient", ("family:contains", lambda c: f"{one(c)}")),
        "pinyin": shape("Patient", ("name-pinyin", "zhangw")),
        "two names": shape(
            "Patient",
            ("family", lambda c: c.choice(FAMILIES)),
            ("given", lambda c: c.choice(GIVENS)),
        ),
        "no such name": shape("Patient", ("family", "nobody")),
        "birth date": shape("Patient", ("birthdate", lambda c: f"19{c.randint(30, 99)}-05-07")),
        "born since": shape("Patient", ("birthdate", lambda c: f"ge{c.randint(1940, 2010)}")),
        "day": shape("Observation", ("date", lambda c: f"{year(c)}-03-{c.randint(1, 28):02}")),
        "month": shape("Encounter", ("date", lambda c: f"{year(c)}-06")),
        "between": shape(
            "Observation", ("date", lambda c: f"ge{year(c)}-02"), ("date", "le2025-01")
        ),
        "quantity above": shape("Observation", ("value-quantity", "gt150")),
        "rare quantity": shape(
            "Observation", ("value-quantity", "gt400|http://unitsofmeasure.org|mm[Hg]")
        ),
        "code and value": shape("Observation", ("code-value-quantity", f"{loinc}|8480-6$gt150")),
        "code and value without system": shape(
            "Observation", ("code-value-quantity", "8480-6$ge160||mm[Hg]")
        ),
        "chain, one patient": shape(
            "Observation", ("patient.identifier", lambda c: f"urn:mrn|M{one(c):07}")
        ),
        "chain, many patients": shape("Observation", ("patient.gender", "female")),
        "chain of two": shape("Observation", ("encounter.service-provider.name", "Clinic 7")),
        "has": shape("Patient", ("_has:Condition:patient:code", lambda c: c.choice(CONDITIONS))),
        "has, dense": shape("Patient", ("_has:Observation:patient:code", "8480-6")),
        "sorted, dense": shape("Observation", ("status", "final"), ("_sort", "-date")),
        "sorted, a patient's": shape(
            "Observation", ("patient", lambda c: f"p{one(c)}"), ("_sort", "-date")
        ),
        "sorted by name": shape("Patient", ("_sort", "family")),
        "last updated": shape("Patient", ("_sort", "-_lastUpdated")),
        "include": shape(
            "Observation", ("code", lambda c: c.choice(LOINC)), ("_include", "Observation:patient")
        ),
        "revinclude": shape(
            "Patient",
            ("identifier", lambda c: f"M{one(c):07}"),
            ("_revinclude", "Observation:patient"),
        ),
    }


async def run() -> dict[str, Any]:
    """Return the time of each shape at each size, its growth, and the mixed load with its limit.

    A time is the 10th percentile, which other work on the machine disturbs least; the sizes take
    turns shape by shape.
    """
    sizes = [int(n) for n in os.environ.get("QIAO_BENCH_PATIENTS", "1000,30000").split(",")]
    figures: dict[str, Any] = {"sizes": sizes}
    times: dict[str, list[float]] = {}
    async with _server() as server, contextlib.AsyncExitStack() as stack:
        stores = []
        for patients in sizes:
            pool, rate = await stack.enter_async_context(_loaded(server, patients))
            figures[f"resources per second loaded at {patients}"] = round(rate)
            stores.append((patients, Store(pool)))
        for name in _shapes(1):
            for patients, store in stores:
                times.setdefault(name, []).append(await _time(store, _shapes(patients)[name]))
        for patients, store in stores:
            mixed, raw = await _mixed(store, patients), await _raw(store.pool, patients)
            figures[f"mixed at {patients}"] = mixed
            figures[f"raw at {patients}"] = raw
            ratio = mixed["requests per second"] / raw["requests per second"]
            figures[f"ratio at {patients}"] = round(ratio, 2)
    figures["milliseconds"] = {n: [round(t * 1000, 2) for t in ts] for n, ts in times.items()}
    growth = {name: round(ts[-1] / ts[0], 2) for name, ts in times.items()}
    figures["grows more than 1.5"] = {n: g for n, g in growth.items() if g > 1.5}
    return figures


async def _time(store: Store, make: Callable[[random.Random], tuple[str, Pairs]]) -> float:
    chance = random.Random(1)  # noqa: S311 synthetic queries
    times = []
    for _ in range(_ROUNDS + 8):
        type_, pairs = make(chance)
        begin = time.perf_counter()
        await store.search(parse_query(type_, pairs))
        times.append(time.perf_counter() - begin)
    return sorted(times[8:])[_ROUNDS // 10]


async def _mixed(store: Store, patients: int) -> dict[str, float]:
    """Ask all shapes in turn from several clients at once."""
    shapes = list(_shapes(patients).values())
    waits: list[float] = []
    end = time.perf_counter() + _MIXED_SECONDS

    async def client(number: int) -> None:
        chance = random.Random(number)  # noqa: S311 synthetic queries
        while time.perf_counter() < end:
            type_, pairs = chance.choice(shapes)(chance)
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
    statement = b"SELECT tid, fid, ver, lu, body FROM resource WHERE rid = ANY(%s)"

    async def client(number: int) -> None:
        nonlocal done
        chance = random.Random(number)  # noqa: S311 synthetic queries
        while time.perf_counter() < end:
            start = chance.randrange(patients * 9)
            async with pool.connection() as connection:
                cursor = await connection.execute(statement, (list(range(start, start + 20)),))
                await cursor.fetchall()
            done += 1

    await asyncio.gather(*(client(number) for number in range(_CLIENTS)))
    return {"requests per second": round(done / 3.0)}


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    given = os.environ.get("QIAO_BENCH_DATABASE_URL")
    if given:
        yield given
        return
    home = pathlib.Path(tempfile.mkdtemp(prefix="qiao-bench-"))
    home.chmod(0o711)
    try:
        with running(home, durable=False) as server:
            yield server.url
    finally:
        shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def _loaded(server: str, patients: int) -> AsyncIterator[tuple[Pool, float]]:
    """Make a database of so many patients for a block; gives its pool and the loading rate."""
    name = f"qiao_bench_{uuid.uuid4().hex[:8]}"
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as admin:
        await admin.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            await asyncio.to_thread(migrate.upgrade, url)
            rate = await _load(url, patients)
            async with make_pool(url, size=8) as pool:
                yield pool, rate
        finally:
            await admin.execute(f'DROP DATABASE "{name}" WITH (force)'.encode())


_COPIES = {
    "resource": "rid, rkey, tid, fid, ver, lu, op, chash, pset, body",
    "ix_token": "h, sid, rid",
    "ix_ref": "tgt, pid, rid",
    "ix_date": "h, lo, hi, rid",
    "ix_num": "h, lo, hi, rid",
    "ix_str": "h, v, x, g, rid",
}


async def _load(url: str, patients: int) -> float:
    """Copy the world into the tables; returns resources per second."""
    begin, count = time.perf_counter(), 0
    codes: dict[tuple[int, int, str], str] = {}
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        batch: list[tuple[int, dict[str, Any]]] = []
        for rid, resource in enumerate(world(patients), start=1):
            batch.append((rid, resource))
            count += 1
            if len(batch) == 5000:
                await _copy(connection, batch, codes)
                batch = []
        await _copy(connection, batch, codes)
        rows = [(*place, display) for place, display in codes.items()]
        await _copy_rows(connection, "code_dict", "pid, sid, code, display", rows)
        await connection.execute("VACUUM ANALYZE")
    return count / (time.perf_counter() - begin)


async def _copy(
    connection: psycopg.AsyncConnection[Any],
    batch: list[tuple[int, dict[str, Any]]],
    codes: dict[tuple[int, int, str], str],
) -> None:
    tables: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _COPIES}
    for rid, resource in batch:
        rows: IndexRows = rows_of(resource)
        type_, id_ = resource["resourceType"], resource["id"]
        pset = "{" + ",".join(map(str, rows.present)) + "}"
        body = orjson.dumps(resource).decode()
        moment = "2026-01-01T00:00:00Z"
        key = resource_key(type_, id_)
        values = (rid, key, type_number(type_), id_, 1, moment, "u", 0, pset, body)
        tables["resource"].append(values)
        tables["ix_token"].extend((*row, rid) for row in rows.tokens)
        tables["ix_ref"].extend((*row, rid) for row in rows.references)
        tables["ix_date"].extend((*row, rid) for row in rows.dates)
        tables["ix_num"].extend((*row, rid) for row in rows.numbers)
        tables["ix_str"].extend((*row, rid) for row in rows.strings)
        codes.update(((pid, sid, code), display) for pid, sid, code, display in rows.codes)
    for name, columns in _COPIES.items():
        await _copy_rows(connection, name, columns, tables[name])


async def _copy_rows(
    connection: psycopg.AsyncConnection[Any],
    table: str,
    columns: str,
    rows: Iterable[tuple[Any, ...]],
) -> None:
    statement = f"COPY {table} ({columns}) FROM STDIN".encode()
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            await copy.write_row(row)
