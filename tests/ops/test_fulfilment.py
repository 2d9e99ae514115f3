"""What a team has to do and has done, over HTTP: worklist, completion with proof, counts."""

import asyncio
import datetime
from contextlib import asynccontextmanager

import httpx
import pytest
from days import today

from care.fulfilment.items import SERVICE_ITEM
from care.periods import LOCAL
from conformance.cphc import BASE
from ops.settings import Settings
from ops.wiring import running_hub

DAY = datetime.timedelta(days=1)
HASH = "c" * 64
EXTENSION = f"{BASE}/StructureDefinition/cphc-"


def activity(name, quota, *proofs):
    rules = [{"url": f"{EXTENSION}evidence-rule", "valueCode": proof} for proof in proofs]
    return {
        "resourceType": "ActivityDefinition",
        "id": name,
        "url": f"{BASE}/ActivityDefinition/{name}",
        "status": "active",
        "title": name,
        "code": {"coding": [{"system": SERVICE_ITEM, "code": name, "display": f"服务 {name}"}]},
        "extension": [{"url": f"{EXTENSION}service-quota", "valueInteger": quota}, *rules],
    }


def patient(id_):
    return {
        "resourceType": "Patient",
        "id": id_,
        "name": [{"text": id_}],
        "birthDate": "1960-05-01",
        "identifier": [{"system": "urn:oid:2.16.156.10011.1.3", "value": f"99900119600501{id_}"}],
    }


WORLD = [
    *(patient(f"p{n}") for n in (1, 2)),
    {
        "resourceType": "Practitioner",
        "id": "d1",
        "active": True,
        "qualification": [{"code": {"text": "全科医师"}}],
    },
    {
        "resourceType": "CareTeam",
        "id": "t1",
        "status": "active",
        "participant": [{"member": {"reference": "Practitioner/d1"}}],
    },
    activity("bp", 4),
    activity("visit", 2, "photo", "location", "signature", "id-card"),
    {
        "resourceType": "PlanDefinition",
        "id": "basic",
        "url": f"{BASE}/PlanDefinition/basic",
        "version": "1",
        "status": "active",
        "title": "基础包",
        "action": [
            {"definitionCanonical": f"{BASE}/ActivityDefinition/{n}"} for n in ("bp", "visit")
        ],
    },
    {
        "resourceType": "ConceptMap",
        "id": "his",
        "status": "active",
        "group": [
            {
                "source": "urn:his",
                "target": SERVICE_ITEM,
                "element": [
                    {"code": "HTN", "target": [{"code": "bp", "equivalence": "equivalent"}]}
                ],
            }
        ],
    },
]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@asynccontextmanager
async def world(database_url):
    chosen = Settings(auth="off", http_port=0, mllp_port=0, doctor_review="recorded")
    roles = frozenset({"http", "worker"})
    async with (
        running_hub(chosen, database_url, roles=roles) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=30) as client,
    ):
        for resource in WORLD:
            made = await client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
            assert made.status_code == 201, made.text
        yield client


def asked(**named):
    parts = []
    for name, value in named.items():
        if isinstance(value, dict):
            parts.append({"name": name, "valueSignature": value})
        elif "/" in value:
            parts.append({"name": name, "valueReference": {"reference": value}})
        else:
            parts.append({"name": name, "valueString": value})
    return {"resourceType": "Parameters", "parameter": parts}


def signature(who):
    return {
        "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
        "when": datetime.datetime.now(LOCAL).isoformat(),
        "who": {"reference": who},
    }


async def signed(client, contract_id="c1", resident="Patient/p1"):
    application = asked(
        contractId=contract_id,
        resident=resident,
        team="CareTeam/t1",
        start=str(today()),
        end=str(today() + 364 * DAY),
        agreementHash=HASH,
    )
    package = {"name": "definition", "valueReference": {"reference": "PlanDefinition/basic"}}
    application["parameter"].append({"name": "package", "part": [package]})
    made = await client.post("/Contract/$submit-application", json=application)
    assert made.status_code == 201, made.text
    await client.post(f"/Contract/{contract_id}/$review", json=asked(verdict="approve"))
    answer = await client.post(
        f"/Contract/{contract_id}/$sign",
        json=asked(
            residentParty=resident,
            doctorParty="Practitioner/d1",
            residentSignature=signature(resident),
            doctorSignature=signature("Practitioner/d1"),
            agreementHash=HASH,
        ),
    )
    assert answer.json()["status"] == "executed", answer.text


async def worklist(client, **parameters):
    answer = await client.get("/Task/$due-worklist", params={"team": "CareTeam/t1", **parameters})
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", ())]


def code_of(task):
    return task["code"]["coding"][0]["code"]


async def due(client, item, **parameters):
    return [
        one
        for one in await worklist(client, **parameters)
        if one["resourceType"] == "Task" and code_of(one) == item
    ]


async def until(condition, seconds=10):
    for _ in range(int(seconds / 0.1)):
        if await condition():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it did not happen in time")


@pytest.mark.anyio
async def test_a_contract_at_effect_promises_its_services_in_the_same_commit(database_url):
    async with world(database_url) as client:
        await signed(client)
        promised = (await client.get("/Task?based-on=Contract/c1&_count=50")).json()["entry"]
        services = [e["resource"] for e in promised if "restriction" in e["resource"]]
        assert sorted(code_of(one) for one in services) == ["bp"] * 4 + ["visit"] * 2
        contract = (await client.get("/Contract/c1/_history")).json()["entry"][0]["resource"]
        assert {one["meta"]["lastUpdated"] for one in services} == {contract["meta"]["lastUpdated"]}
        ended = asked(reason="02")
        await client.post("/Contract/c1/$terminate", json=ended)
        again = (await client.get("/Task?based-on=Contract/c1&status=cancelled")).json()
        assert len(again["entry"]) == 6


@pytest.mark.anyio
async def test_the_worklist_shows_what_is_due_with_its_resident_and_no_more(database_url):
    async with world(database_url) as client:
        await signed(client)
        await signed(client, "c2", "Patient/p2")
        found = await worklist(client)
        assert sorted(one["id"] for one in found if one["resourceType"] == "Patient") == [
            "p1", "p2",
        ]  # fmt: skip
        tasks = [one for one in found if one["resourceType"] == "Task"]
        assert sorted(code_of(one) for one in tasks) == ["bp", "bp", "visit", "visit"]
        later = await due(client, "bp", date=str(today() + 100 * DAY))
        ends = [one["restriction"]["period"]["end"] for one in later]
        assert len(later) == 4
        assert ends == sorted(ends)
        assert await worklist(client, date=str(today() - DAY)) == []
        first = await client.get(
            "/Task/$due-worklist", params={"team": "CareTeam/t1", "_count": "3"}
        )
        next_link = next(one for one in first.json()["link"] if one["relation"] == "next")
        rest = (await client.get(next_link["url"])).json()["entry"]
        assert len([one for one in rest if one["resource"]["resourceType"] == "Task"]) == 1
        for wrong in ({"team": "Patient/p1"}, {"_cursor": "x"}, {"_count": "0"}):
            asked_for = {"team": "CareTeam/t1", **wrong}
            assert (await client.get("/Task/$due-worklist", params=asked_for)).status_code == 400


PHOTO = {
    "resourceType": "DocumentReference",
    "id": "photo1",
    "status": "current",
    "content": [{"attachment": {"contentType": "image/jpeg", "data": "AAAA"}}],
}


@pytest.mark.anyio
async def test_a_service_is_completed_with_the_proof_its_item_asks_and_refused_without(
    database_url,
):
    async with world(database_url) as client:
        await signed(client)
        await client.put("/DocumentReference/photo1", json=PHOTO)
        (task,) = await due(client, "visit")
        address = f"/Task/{task['id']}/$complete-service"
        given = {
            "idCard": "99900119600501p1",
            "photo": "DocumentReference/photo1",
            "location": "22.53,113.93 GCJ-02",
            "signature": signature("Patient/p1"),
        }
        for missing in given:
            refused = await client.post(
                address, json=asked(**{k: v for k, v in given.items() if k != missing})
            )
            assert refused.status_code == 422
            issue = refused.json()["issue"][0]
            assert issue["details"]["coding"][0]["code"] == "evidence-missing"
            assert missing in issue["diagnostics"]
        other = await client.post(address, json=asked(**{**given, "idCard": "999001p2"}))
        assert other.json()["issue"][0]["details"]["coding"][0]["code"] == "evidence-of-another"
        tomorrow = (datetime.datetime.now(LOCAL) + DAY).isoformat()
        early = await client.post(address, json=asked(**given, performed=tomorrow))
        assert early.json()["issue"][0]["details"]["coding"][0]["code"] == "service-time"
        assert (await client.get(f"/Task/{task['id']}")).json()["meta"]["versionId"] == "1"

        done = await client.post(address, json=asked(**given))
        assert done.status_code == 200, done.text
        assert done.json()["businessStatus"]["coding"][0]["code"] == "done"
        proof = (await client.get(f"/Provenance?target=Task/{task['id']}")).json()["entry"]
        assert proof[0]["resource"]["signature"][0]["who"] == {"reference": "Patient/p1"}
        assert await due(client, "visit") == []
        again = await client.post(address, json=asked(**given))
        assert again.json()["issue"][0]["details"]["coding"][0]["code"] == "task-not-open"


def visit(id_):
    return {
        "resourceType": "Encounter",
        "id": id_,
        "status": "finished",
        "class": {"code": "AMB"},
        "type": [{"coding": [{"system": "urn:his", "code": "HTN"}]}],
        "subject": {"reference": "Patient/p1"},
        "period": {"start": datetime.datetime.now(LOCAL).isoformat()},
    }


@pytest.mark.anyio
async def test_a_visit_over_rest_completes_its_service_and_deleting_it_reopens(database_url):
    async with world(database_url) as client:
        await signed(client)
        await client.put("/Encounter/e1", json=visit("e1"))

        async def is_done():
            return await due(client, "bp") == []

        async def is_open():
            return len(await due(client, "bp")) == 1

        await until(is_done)
        await client.delete("/Encounter/e1")
        await until(is_open)


@pytest.mark.anyio
async def test_a_record_serves_for_one_service_only_and_only_its_own_resident(database_url):
    async with world(database_url) as client:
        await signed(client)
        await signed(client, "c2", "Patient/p2")
        await client.put("/Encounter/e1", json={**visit("e1"), "type": [{"text": "家访"}]})
        tasks = {one["for"]["reference"]: one for one in await due(client, "bp")}
        own = f"/Task/{tasks['Patient/p1']['id']}/$complete-service"
        other = f"/Task/{tasks['Patient/p2']['id']}/$complete-service"
        assert (await client.post(other, json=asked(source="Encounter/e1"))).status_code == 400
        assert (await client.post(own, json=asked(source="Encounter/e1"))).status_code == 200
        later = await due(client, "bp", date=str(today() + 100 * DAY))
        mine = next(one for one in later if one["for"]["reference"] == "Patient/p1")
        early = await client.post(
            f"/Task/{mine['id']}/$complete-service", json=asked(source="Encounter/e1")
        )
        assert early.json()["issue"][0]["details"]["coding"][0]["code"] == "service-too-early"


@pytest.mark.anyio
async def test_counts_say_what_was_promised_done_and_is_overdue(database_url):
    async with world(database_url) as client:
        await signed(client)
        (task,) = await due(client, "bp")
        await client.post(f"/Task/{task['id']}/$complete-service", json=asked(note="好"))
        span = {"start": str(today()), "end": str(today() + 364 * DAY), "step": "year"}
        answer = await client.get("/Task/$service-counts", params={"team": "CareTeam/t1", **span})
        assert answer.status_code == 200, answer.text
        sums: dict[str, list[int]] = {}
        for count in answer.json()["parameter"]:
            parts = {part["name"]: part for part in count["part"]}
            code = parts["item"]["valueCoding"]["code"]
            numbers = [parts[n]["valueInteger"] for n in ("promised", "done", "open", "overdue")]
            sums[code] = [a + b for a, b in zip(sums.get(code, [0] * 4), numbers, strict=True)]
        assert sums == {"bp": [4, 1, 3, 0], "visit": [2, 0, 2, 0]}
