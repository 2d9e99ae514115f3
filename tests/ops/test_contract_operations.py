"""A family signs: the steps of a contract over HTTP, conflicts and repeats included."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ops.settings import Settings
from ops.wiring import running_hub

HASH = "c" * 64
SIGNATURE = {
    "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
    "when": "2026-03-02T10:00:00+08:00",
    "who": {"reference": "Patient/p1"},
}
WORLD: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "o1", "name": "桥南社区卫生服务中心"},
    {
        "resourceType": "Patient",
        "id": "p1",
        "name": [{"text": "王秀英"}],
        "birthDate": "1960-05-01",
    },
    {
        "resourceType": "Practitioner",
        "id": "d1",
        "active": True,
        "name": [{"text": "李医生"}],
        "qualification": [{"code": {"text": "全科医师"}}],
    },
    {
        "resourceType": "CareTeam",
        "id": "t1",
        "status": "active",
        "participant": [{"member": {"reference": "Practitioner/d1"}}],
    },
    {
        "resourceType": "PlanDefinition",
        "id": "basic",
        "status": "active",
        "extension": [
            {
                "url": "https://fhir.qiao.example/cphc/StructureDefinition/cphc-package-price",
                "valueMoney": {"value": 60.00, "currency": "CNY"},
            }
        ],
        "title": "基础包",
    },
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def world(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    chosen = Settings(auth="off", http_port=0, mllp_port=0)
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=30) as client,
    ):
        for resource in WORLD:
            made = await client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
            assert made.status_code == 201, made.text
        yield client


def asked(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(parts)}


def application(contract_id: str, price: float = 60.00) -> dict[str, Any]:
    return asked(
        {"name": "contractId", "valueString": contract_id},
        {"name": "resident", "valueReference": {"reference": "Patient/p1"}},
        {"name": "team", "valueReference": {"reference": "CareTeam/t1"}},
        {
            "name": "package",
            "part": [
                {"name": "definition", "valueReference": {"reference": "PlanDefinition/basic"}},
                {"name": "price", "valueDecimal": price},
            ],
        },
        {"name": "start", "valueDate": "2026-01-01"},
        {"name": "end", "valueDate": "2027-12-31"},
        {"name": "agreementHash", "valueString": HASH},
    )


SIGNING = asked(
    {"name": "residentParty", "valueReference": {"reference": "Patient/p1"}},
    {"name": "doctorParty", "valueReference": {"reference": "Practitioner/d1"}},
    {"name": "residentSignature", "valueSignature": SIGNATURE},
    {"name": "doctorSignature", "valueSignature": SIGNATURE},
    {"name": "agreementHash", "valueString": HASH},
)
APPROVE = asked({"name": "verdict", "valueCode": "approve"})


async def to_be_signed(client: httpx.AsyncClient, contract_id: str) -> None:
    made = await client.post("/Contract/$submit-application", json=application(contract_id))
    assert made.status_code == 201, made.text
    reviewed = await client.post(f"/Contract/{contract_id}/$review", json=APPROVE)
    assert reviewed.json()["status"] == "executable"


@pytest.mark.anyio
async def test_a_family_applies_is_reviewed_and_signs(database_url: str) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        signed = await client.post("/Contract/c1/$sign", json=SIGNING)
        assert signed.status_code == 200, signed.text
        assert signed.json()["status"] == "executed"
        assert [s["party"]["reference"] for s in signed.json()["signer"]] == [
            "Patient/p1", "Practitioner/d1",
        ]  # fmt: skip
        versions = (await client.get("/Contract/c1/_history")).json()
        assert [e["resource"]["status"] for e in versions["entry"]] == [
            "executed", "executable", "offered",
        ]  # fmt: skip
        tasks = (await client.get("/Task?focus=Contract/c1")).json()
        assert sorted(e["resource"]["status"] for e in tasks["entry"]) == [
            "completed", "requested", "requested",
        ]  # fmt: skip
        signings = (await client.get("/Provenance?target=Contract/c1")).json()
        evidence = [e["resource"] for e in signings["entry"] if "signature" in e["resource"]]
        assert len(evidence) == 1


@pytest.mark.anyio
async def test_of_two_contracts_signed_at_once_exactly_one_wins(database_url: str) -> None:
    async with world(database_url) as client:
        names = [f"c{n}" for n in range(6)]
        for name in names:
            await to_be_signed(client, name)
        answers = await asyncio.gather(
            *(client.post(f"/Contract/{name}/$sign", json=SIGNING) for name in names)
        )
        codes = sorted(answer.status_code for answer in answers)
        assert codes.count(200) == 1, [a.text for a in answers]
        assert all(code in (200, 409, 412, 422) for code in codes)
        for name, answer in zip(names, answers, strict=True):
            contract = (await client.get(f"/Contract/{name}")).json()
            is_winner = answer.status_code == 200
            assert contract["status"] == ("executed" if is_winner else "executable")
            tasks = (await client.get(f"/Task?focus=Contract/{name}")).json()["entry"]
            assert len(tasks) == (3 if is_winner else 2), "nothing is half-written"


@pytest.mark.anyio
async def test_after_an_early_end_the_resident_may_sign_again(database_url: str) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        await client.post("/Contract/c1/$sign", json=SIGNING)
        await to_be_signed(client, "c2")
        taken = await client.post("/Contract/c2/$sign", json=SIGNING)
        assert taken.status_code in (409, 412, 422)
        reason = asked({"name": "reason", "valueCode": "05"})
        ended = await client.post("/Contract/c1/$terminate", json=reason)
        assert ended.json()["status"] == "cancelled"
        signed = await client.post("/Contract/c2/$sign", json=SIGNING)
        assert signed.json()["status"] == "executed"


@pytest.mark.anyio
async def test_a_repeat_from_a_device_that_was_offline_changes_nothing(database_url: str) -> None:
    async with world(database_url) as client:
        await to_be_signed(client, "c1")
        key = {"Idempotency-Key": "tablet-7-0001"}
        first = await client.post("/Contract/c1/$sign", json=SIGNING, headers=key)
        again = await client.post("/Contract/c1/$sign", json=SIGNING, headers=key)
        assert (first.status_code, first.content) == (again.status_code, again.content)
        unkeyed = await client.post("/Contract/c1/$sign", json=SIGNING)
        assert unkeyed.status_code == 422
        assert "Possible now" in unkeyed.json()["issue"][0]["diagnostics"]


@pytest.mark.anyio
async def test_a_wrong_price_and_missing_words_are_refused_with_advice(database_url: str) -> None:
    async with world(database_url) as client:
        cheap = await client.post("/Contract/$submit-application", json=application("c1", 1.00))
        assert cheap.status_code == 422
        assert cheap.json()["issue"][0]["details"]["coding"][0]["code"] == "contract-price"
        empty = await client.post("/Contract/$submit-application", json=asked())
        assert empty.status_code == 400
        unknown = await client.post("/Contract/none/$sign", json=SIGNING)
        assert unknown.status_code == 404
