"""A year's service Tasks for 10,000 contracts, and the due worklist of a team of 2,000 residents.

The raw limit of generating is inserting the same bodies into a bare table with one key, batch by
batch; that of the worklist is one statement that reads the same rows by their numbers.
"""

import datetime
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from care.fulfilment.schedule import tasks_for
from conformance.cphc import BASE
from conformance.resource_json import dump, parse
from fhir_store.arrays import Texts
from fhir_store.operations import Create, WriteContext
from fhir_store.store import Store, make_pool
from ops.bench.grounds.database import fresh_database
from ops.settings import Settings
from ops.wiring import running_hub

CONTRACTS = 10_000
RESIDENTS_PER_TEAM = 2_000
BATCH = 50  # contracts in one commit
ASKS = 40
START = datetime.datetime(2026, 1, 1, 1, tzinfo=datetime.UTC)
DAY = "2026-05-15"
QUOTAS = {"bp": 4, "glucose": 4, "checkup": 1, "education": 6, "tcm": 1}


async def run() -> dict[str, Any]:
    """Return seconds and Tasks a second of generating, milliseconds of the worklist."""
    with fresh_database() as url:
        async with make_pool(url, statement_seconds=60) as pool:
            store = Store(pool)
            generated = await _generate(store)
            raw = await _raw(store)
            async with pool.connection() as connection:
                await connection.execute("VACUUM ANALYZE")
        return {
            "contracts": CONTRACTS,
            "generate": {**generated, "raw": raw, "ratio": round(generated["tasks_s"] / raw, 2)},
            "worklist": await _worklist(url),
        }


def _package() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    quota = f"{BASE}/StructureDefinition/cphc-service-quota"
    activities = [
        {
            "resourceType": "ActivityDefinition",
            "url": f"{BASE}/ActivityDefinition/{name}",
            "version": "2026",
            "title": name,
            "code": {"coding": [{"system": f"{BASE}/CodeSystem/cphc-service-item", "code": name}]},
            "extension": [{"url": quota, "valueInteger": count}],
        }
        for name, count in QUOTAS.items()
    ]
    return {"action": [{"definitionCanonical": one["url"]} for one in activities]}, activities


def _batches() -> Iterator[list[dict[str, Any]]]:
    plan, activities = _package()
    for first in range(0, CONTRACTS, BATCH):
        yield [
            task
            for number in range(first, first + BATCH)
            for task in tasks_for(
                {
                    "resourceType": "Contract",
                    "id": f"c{number}",
                    "applies": {"start": "2026-01-01", "end": "2026-12-31"},
                    "subject": [{"reference": f"Patient/p{number}"}],
                    "term": [{"action": [{"performer": {"reference": _team(number)}}]}],
                },
                "PlanDefinition/elderly",
                plan,
                activities,
                now=START,
            )
        ]


def _team(number: int) -> str:
    return f"CareTeam/t{number // RESIDENTS_PER_TEAM}"


async def _generate(store: Store) -> dict[str, Any]:
    context = WriteContext(actor="bench", at=START)
    count, begin = 0, time.perf_counter()
    for tasks in _batches():
        creates = [Create(resource=parse(dump(task)), id=task["id"]) for task in tasks]
        await store.write(creates, context=context)
        count += len(creates)
    seconds = time.perf_counter() - begin
    residents = [
        Create(resource={"resourceType": "Patient", "name": [{"text": f"居民{n}"}]}, id=f"p{n}")
        for n in range(RESIDENTS_PER_TEAM)
    ]
    await store.write(residents, context=context)
    return {"tasks": count, "seconds": round(seconds, 1), "tasks_s": round(count / seconds)}


async def _raw(store: Store) -> int:
    batches = [[dump(task).decode() for task in tasks] for tasks in list(_batches())[:40]]
    count = sum(map(len, batches))
    async with store.pool.connection() as connection:
        await connection.execute("CREATE TABLE bare (id text PRIMARY KEY, body text)")
        begin = time.perf_counter()
        for bodies in batches:
            ids = Texts(str(uuid.uuid4()) for _ in bodies)
            await connection.execute(
                "INSERT INTO bare SELECT * FROM unnest(%b::text[], %b::text[])",
                (ids, Texts(bodies)),
            )
        seconds = time.perf_counter() - begin
        await connection.execute("DROP TABLE bare")
    return round(count / seconds)


async def _worklist(url: str) -> dict[str, Any]:
    settings = Settings(auth="off", http_port=0, mllp_port=0, database_url=None)
    asked = {"team": "CareTeam/t0", "date": DAY, "_count": "50"}
    async with (
        running_hub(settings, url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir") as client,
    ):
        times, entries = [], 0
        for _ in range(ASKS):
            begin = time.perf_counter()
            answer = await client.get("/Task/$due-worklist", params=asked)
            times.append(time.perf_counter() - begin)
            entries = len(answer.raise_for_status().json()["entry"])
        raw = []
        async with hub.store.pool.connection() as connection:
            for _ in range(ASKS):
                begin = time.perf_counter()
                cursor = await connection.execute(
                    "SELECT body FROM resource WHERE tid = (SELECT tid FROM rtype WHERE"
                    " name = 'Task') ORDER BY rid LIMIT 100"
                )
                await cursor.fetchall()
                raw.append(time.perf_counter() - begin)
    return {
        "residents": RESIDENTS_PER_TEAM,
        "entries": entries,
        "median_ms": _milliseconds(times, 50),
        "p95_ms": _milliseconds(times, 95),
        "raw_ms": _milliseconds(raw, 50),
        "ratio": round(statistics.median(raw) / statistics.median(times), 2),
    }


def _milliseconds(times: Sequence[float], percent: int) -> float:
    return round(statistics.quantiles(times, n=100)[percent - 1] * 1000, 2)
