"""`Contract/$sign` over HTTP, and a night of the calendar among a million contracts.

Signing is one commit: contract, work Task, the package's 17 service Tasks, Provenance with both
signature images, claim, audit and a delivery in the outbox; raw is the same bodies inserted into a
bare table with one key and one commit, over as many connections. Of the million contracts those
that are not due are rows and claims without search rows (nothing looks for them by search); each of
the 5,000 due ones has four open services. Finding what ends in 30, 7 and 0 days is part of the
night.
"""

import asyncio
import datetime
import itertools
import json
import statistics
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from care.contract import application, signing
from care.contract.application import Application
from care.contract.evidence import Signing
from care.contract.steps import SERVICE
from care.contract.surroundings import Surroundings
from care.effects import Decision, Put, Resource
from care.fulfilment.schedule import tasks_for
from care.package.content import PRICE, price_of
from care.periods import day_of, end_of, start_of
from conformance.cphc.service_packages import service_packages
from conformance.resource_json import dump, parse
from fhir_store.arrays import Texts
from fhir_store.claims import ending_between
from fhir_store.digests import lock_number
from fhir_store.keys import resource_key
from fhir_store.operations import Operation, Update, WriteContext
from fhir_store.resource_types import TYPE_IDS
from fhir_store.store import Pool, Store, make_pool
from ops.bench.grounds.database import fresh_database
from ops.bench.http import CONNECTIONS, ROUNDS, Sender, figure, keys_and_token, request_bytes
from ops.flow_contracts import ContractCalendar
from ops.laws import lawful_store
from routes.operations.contract_writing import Following, operations_of

PER_CONNECTION = 150  # contracts that one connection can sign in one round
MILLION = 1_000_000
DUE = 5_000
OPEN_SERVICES = 4
SECONDS = 4.0
HASH = "a" * 64
IMAGE = "iVBORw0KGgo" + "A" * 4_001  # 3 kB, as a pen leaves it
TEAM = {
    "resourceType": "CareTeam",
    "id": "team",
    "status": "active",
    "participant": [{"member": {"reference": "Practitioner/doctor"}}],
}
DOCTOR = {
    "resourceType": "Practitioner",
    "id": "doctor",
    "qualification": [{"code": {"text": "全科医师"}}],
}


async def run() -> dict[str, Any]:
    """Return signings a second with the raw limit, and the seconds of a night by its parts."""
    keys, token = keys_and_token()
    loop = asyncio.get_running_loop()
    with fresh_database() as url:
        bodies = await _fill(url)
        raw = await _raw(url, bodies)
        sent = await loop.run_in_executor(
            None, lambda: figure(url, keys, "contracts", _signings(token))
        )
    with fresh_database() as url:
        night = await _night(url)
    ratio = round(sent["per_second"] / raw, 2)
    return {
        "sign": {**sent, "resources": len(bodies), "raw_commits": round(raw), "ratio": ratio},
        "night": night,
    }


def _package() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the basic package, published at 60 yuan, and its items."""
    shipped = list(service_packages())
    plan = next(one for one in shipped if one["id"] == "cphc-package-basic")
    price = {"url": PRICE, "valueMoney": {"value": Decimal("60.00"), "currency": "CNY"}}
    plan = {**plan, "status": "active", "extension": [*plan["extension"], price]}
    return plan, [one for one in shipped if one["resourceType"] == "ActivityDefinition"]


def _around(resident: Resource, plan: Resource, now: datetime.datetime) -> Surroundings:
    return Surroundings(
        now=now,
        actor="Practitioner/doctor",
        resident=resident,
        packages={f"PlanDefinition/{plan['id']}": plan},
        team=TEAM,
        qualified=frozenset({"Practitioner/doctor"}),
        prices={f"PlanDefinition/{plan['id']}": price_of(plan)},
        new_id=lambda: str(uuid.uuid4()),
    )


def _patient(name: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": name,
        "name": [{"text": "王秀英"}],
        "birthDate": "1960-05-01",
    }


def _wish(name: str, plan: Resource, start: datetime.date, end: datetime.date) -> Application:
    return Application(
        contract_id=name,
        number=name,
        resident=f"Patient/{name}",
        team="CareTeam/team",
        packages={f"PlanDefinition/{plan['id']}": price_of(plan)},
        start=start,
        end=end,
        agreement_hash=HASH,
    )


def _signature(who: str, now: datetime.datetime) -> dict[str, Any]:
    code = {"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}
    return {"type": [code], "when": now.isoformat(), "who": {"reference": who}, "data": IMAGE}


def _signed(name: str, now: datetime.datetime) -> Signing:
    parties = {"resident": f"Patient/{name}", "doctor": "Practitioner/doctor"}
    return Signing(
        resident=parties["resident"],
        doctor=parties["doctor"],
        signatures={side: _signature(who, now) for side, who in parties.items()},
        agreement_hash=HASH,
    )


def _approved(name: str, plan: Resource, now: datetime.datetime) -> list[Resource]:
    """Return a resident and a contract that waits for its signatures, with its Tasks."""
    patient = _patient(name)
    around = _around(patient, plan, now)
    day = day_of(now)
    wish = _wish(name, plan, day, day + datetime.timedelta(days=364))
    applied = application.submit(around, wish)
    approved = application.review(around, applied.contract, "approve")
    puts = [one.resource for one in approved.effects if isinstance(one, Put)]
    return [patient, *puts]


def _names() -> Iterator[str]:
    for number in range(ROUNDS + 1):
        for connection in range(CONNECTIONS):
            for one in range(PER_CONNECTION):
                yield f"c{number}-{connection}-{one}"


async def _fill(url: str) -> list[bytes]:
    """Write everything that is to be signed; return the bodies that one signing writes."""
    plan, items = _package()
    now = datetime.datetime.now(datetime.UTC)
    async with make_pool(url, size=2, statement_seconds=60) as pool:
        store = lawful_store(pool)
        context = WriteContext(actor="bench", at=now, deliveries=False)
        world = [TEAM, DOCTOR, plan, *items]
        await store.write([Update(resource=_read(one)) for one in world], context=context)
        names = _names()
        while some := list(itertools.islice(names, 100)):
            resources = [one for name in some for one in _approved(name, plan, now)]
            operations: list[Operation] = [Update(resource=_read(one)) for one in resources]
            await store.write(operations, context=context)
        async with pool.connection() as connection:
            await connection.execute("VACUUM ANALYZE")
    decision = _one_signing(plan, now)
    written = [one.resource for one in decision.effects if isinstance(one, Put)]
    written += tasks_for(decision.contract, f"PlanDefinition/{plan['id']}", plan, items, now=now)
    return [dump(one) for one in written]


def _one_signing(plan: Resource, now: datetime.datetime) -> Decision:
    _, contract, *_ = _approved("one", plan, now)
    return signing.sign(_around(_patient("one"), plan, now), contract, _signed("one", now))


def _read(resource: Resource) -> Any:
    return parse(dump(resource))


async def _raw(url: str, bodies: list[bytes]) -> float:
    """Return commits a second of the bodies of one signing, over as many connections."""
    insert = "INSERT INTO bench_signing (body) SELECT unnest(%(bodies)b::text[])"
    async with make_pool(url, size=CONNECTIONS) as pool:
        async with pool.connection() as connection:
            await connection.execute(
                "CREATE TABLE bench_signing (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                " body text)"
            )
        texts = Texts(one.decode() for one in bodies)

        async def commit(end: float) -> int:
            done = 0
            async with pool.connection() as connection:
                while time.perf_counter() < end:
                    await connection.execute(insert, {"bodies": texts})
                    done += 1
            return done

        rates = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            end = begin + SECONDS
            counts = await asyncio.gather(*(commit(end) for _ in range(CONNECTIONS)))
            rates.append(sum(counts) / (time.perf_counter() - begin))
    return statistics.median(rates)


def _signings(token: str) -> Sender:
    def requests(seed: int) -> Iterator[bytes]:
        number, connection = divmod(seed, 1_000)
        for one in range(PER_CONNECTION):
            name = f"c{number}-{connection}-{one}"
            body = json.dumps(_parameters(name)).encode()
            yield request_bytes("POST", f"Contract/{name}/$sign", token, body)
        raise RuntimeError("all contracts are signed: raise PER_CONNECTION")

    return requests


def _parameters(name: str) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    signed = _signed(name, now)
    parts = [
        {"name": "residentParty", "valueReference": {"reference": signed.resident}},
        {"name": "doctorParty", "valueReference": {"reference": signed.doctor}},
        {"name": "residentSignature", "valueSignature": signed.signatures["resident"]},
        {"name": "doctorSignature", "valueSignature": signed.signatures["doctor"]},
        {"name": "agreementHash", "valueString": HASH},
    ]
    return {"resourceType": "Parameters", "parameter": parts}


async def _night(url: str) -> dict[str, Any]:
    """Return the seconds of ending 5,000 contracts and of finding whom to remind."""
    today = day_of(datetime.datetime.now(datetime.UTC))
    midnight = start_of(today)
    async with make_pool(url, size=4, statement_seconds=600) as pool:
        store = lawful_store(pool)
        await _write_due(store, today)
        await _write_others(pool, today)
        async with pool.connection() as connection:
            await connection.execute("VACUUM ANALYZE")
        calendar = ContractCalendar(
            store=store, following=Following(store.searcher, tasks_for=tasks_for)
        )
        begin = time.perf_counter()
        figures = await calendar.look(midnight)
        ended = time.perf_counter()
        reminded = 0
        async with pool.connection() as connection:
            for days in (30, 7, 0):
                day = today + datetime.timedelta(days=days)
                span = (end_of(day), end_of(day) + datetime.timedelta(days=1))
                found = await ending_between(connection, SERVICE, *span, MILLION)
                reminded += len(found)
        done = time.perf_counter()
        begin_again = time.perf_counter()
        again = await calendar.look(midnight)
        idle = time.perf_counter() - begin_again
    if figures.expired != DUE or figures.failed or again.done:
        raise RuntimeError(f"{figures.expired} of {DUE} ended, {len(figures.failed)} failed")
    return {
        "contracts": MILLION,
        "due": figures.expired,
        "open_services_each": OPEN_SERVICES,
        "end_seconds": round(ended - begin, 1),
        "ended_per_second": round(figures.expired / (ended - begin)),
        "to_remind": reminded,
        "find_seconds": round(done - ended, 2),
        "all_seconds": round(done - begin, 1),
        "nothing_due_seconds": round(idle, 3),
    }


async def _write_due(store: Store, today: datetime.date) -> None:
    """Write the contracts whose last day was yesterday, with their claims and open services."""
    plan, items = _package()
    last = today - datetime.timedelta(days=1)
    first = last - datetime.timedelta(days=364)
    then = start_of(first) + datetime.timedelta(hours=10)
    context = WriteContext(actor="bench", at=then, deliveries=False)
    world = [TEAM, DOCTOR, plan, *items]
    await store.write([Update(resource=_read(one)) for one in world], context=context)
    for start in range(0, DUE, 100):
        operations: list[Operation] = []
        for number in range(start, start + 100):
            name = f"due-{number}"
            patient = _patient(name)
            around = _around(patient, plan, then)
            wish = _wish(name, plan, first, last)
            decision = signing.sign_at_once(around, wish, _signed(name, then))
            services = tasks_for(
                decision.contract, f"PlanDefinition/{plan['id']}", plan, items, now=then
            )
            effects = [Put(patient), *decision.effects, *map(Put, services[:OPEN_SERVICES])]
            operations += operations_of(effects)
        await store.write(operations, context=context)


async def _write_others(pool: Pool, today: datetime.date) -> None:
    """Copy the contracts that go on, their ends spread over a year; one shape, a million rows."""
    plan, _ = _package()
    now = start_of(today)
    contract = dict(_one_signing(plan, now).contract)
    contract["meta"] = {"versionId": "1", "lastUpdated": now.isoformat()}
    for one in contract["signer"]:
        one["signature"][0].pop("data")
    body = dump(contract).decode().replace('"one"', '"%s"').replace("Patient/one", "Patient/%s")
    tid = TYPE_IDS["Contract"]
    async with pool.connection() as connection, connection.transaction():
        cursor = connection.cursor()
        row = await (
            await connection.execute("SELECT nextval('rid_seq'), change_number()")
        ).fetchone()
        assert row is not None
        first, change = int(row[0]) + 64, int(row[1])
        columns = "rid, rkey, tid, fid, ver, lu, txid, op, del, chash, pset, body"
        async with cursor.copy(f"COPY resource ({columns}) FROM STDIN") as copy:
            for number in range(MILLION - DUE):
                name = f"on-{number}"
                key = resource_key("Contract", name)
                text = body.replace("%s", name)
                await copy.write_row(
                    (first + number, key, tid, name, 1, now, change, "u", False, 0, [], text)
                )
        await connection.execute("SELECT setval('rid_seq', %s)", [first + MILLION + 64])
        columns = "k, kind, key, period, holder"
        async with cursor.copy(f"COPY claim ({columns}) FROM STDIN") as copy:
            for number in range(MILLION - DUE):
                end = end_of(today + datetime.timedelta(days=number % 365))
                period = f"[{now - datetime.timedelta(days=30)},{end})"
                name = f"on-{number}"
                key = lock_number("claim", SERVICE, f"Patient/{name}")
                await copy.write_row((key, SERVICE, f"Patient/{name}", period, f"Contract/{name}"))
