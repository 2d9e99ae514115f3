"""`Contract/$sign` over HTTP.

Signing is one commit: contract, work Task, the package's 17 service Tasks, Provenance with both
signature images, claim, audit and a delivery in the outbox; raw is the same bodies inserted into a
bare table with one key and one commit, over as many connections.
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
from care.contract.surroundings import Surroundings
from care.effects import Decision, Put, Resource
from care.fulfilment.schedule import tasks_for
from care.package.content import PRICE, price_of
from care.periods import day_of
from conformance.cphc.service_packages import service_packages
from conformance.resource_json import dump, parse
from fhir_store.arrays import Texts
from fhir_store.operations import Operation, Update, WriteContext
from fhir_store.store import make_pool
from ops.bench.grounds.database import fresh_database
from ops.bench.grounds.http_load import Sender
from ops.bench.http import CONNECTIONS, ROUNDS, figure, keys_and_token, request_bytes
from ops.laws import lawful_store

PER_CONNECTION = 150  # contracts that one connection can sign in one round
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
    """Return signings a second with the raw limit."""
    keys, token = keys_and_token()
    loop = asyncio.get_running_loop()
    with fresh_database() as url:
        bodies = await _fill(url)
        raw = await _raw(url, bodies)
        sent = await loop.run_in_executor(
            None, lambda: figure(url, keys, "contracts", _signings(token))
        )
    ratio = round(sent["per_second"] / raw, 2)
    return {**sent, "resources": len(bodies), "raw_commits": round(raw), "ratio": ratio}


def basic_package() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the basic package, published at 60 yuan, and its items."""
    shipped = list(service_packages())
    plan = next(one for one in shipped if one["id"] == "cphc-package-basic")
    price = {"url": PRICE, "valueMoney": {"value": Decimal("60.00"), "currency": "CNY"}}
    plan = {**plan, "status": "active", "extension": [*plan["extension"], price]}
    return plan, [one for one in shipped if one["resourceType"] == "ActivityDefinition"]


def surroundings_of(resident: Resource, plan: Resource, now: datetime.datetime) -> Surroundings:
    """Return what the rules read around a contract."""
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


def patient_named(name: str) -> dict[str, Any]:
    """Return a resident."""
    return {
        "resourceType": "Patient",
        "id": name,
        "name": [{"text": "王秀英"}],
        "birthDate": "1960-05-01",
    }


def wish_for(name: str, plan: Resource, start: datetime.date, end: datetime.date) -> Application:
    """Return the application of a resident for a package."""
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


def signed_papers(name: str, now: datetime.datetime) -> Signing:
    """Return both signatures."""
    parties = {"resident": f"Patient/{name}", "doctor": "Practitioner/doctor"}
    return Signing(
        resident=parties["resident"],
        doctor=parties["doctor"],
        signatures={side: _signature(who, now) for side, who in parties.items()},
        agreement_hash=HASH,
    )


def _approved(name: str, plan: Resource, now: datetime.datetime) -> list[Resource]:
    """Return a resident and a contract that waits for its signatures, with its Tasks."""
    patient = patient_named(name)
    around = surroundings_of(patient, plan, now)
    day = day_of(now)
    wish = wish_for(name, plan, day, day + datetime.timedelta(days=364))
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
    plan, items = basic_package()
    now = datetime.datetime.now(datetime.UTC)
    async with make_pool(url, size=2, statement_seconds=60) as pool:
        store = lawful_store(pool)
        context = WriteContext(actor="bench", at=now, deliveries=False)
        world = [TEAM, DOCTOR, plan, *items]
        await store.write([Update(resource=read_back(one)) for one in world], context=context)
        names = _names()
        while some := list(itertools.islice(names, 100)):
            resources = [one for name in some for one in _approved(name, plan, now)]
            operations: list[Operation] = [Update(resource=read_back(one)) for one in resources]
            await store.write(operations, context=context)
        async with pool.connection() as connection:
            await connection.execute("VACUUM ANALYZE")
    decision = one_signing(plan, now)
    written = [one.resource for one in decision.effects if isinstance(one, Put)]
    written += tasks_for(decision.contract, f"PlanDefinition/{plan['id']}", plan, items, now=now)
    return [dump(one) for one in written]


def one_signing(plan: Resource, now: datetime.datetime) -> Decision:
    """Return what one signing decides."""
    _, contract, *_ = _approved("one", plan, now)
    return signing.sign(
        surroundings_of(patient_named("one"), plan, now), contract, signed_papers("one", now)
    )


def read_back(resource: Resource) -> Any:
    """Return a resource as it comes from a body."""
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
    signed = signed_papers(name, now)
    parts = [
        {"name": "residentParty", "valueReference": {"reference": signed.resident}},
        {"name": "doctorParty", "valueReference": {"reference": signed.doctor}},
        {"name": "residentSignature", "valueSignature": signed.signatures["resident"]},
        {"name": "doctorSignature", "valueSignature": signed.signatures["doctor"]},
        {"name": "agreementHash", "valueString": HASH},
    ]
    return {"resourceType": "Parameters", "parameter": parts}
