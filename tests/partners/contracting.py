"""A district as a family-doctor team meets it: over HTTP, with whatever a step must be given."""

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from days import next_year, today

from ops.settings import Settings
from ops.wiring import running_hub

HASH = "c" * 64
IMAGE = "iVBORw0KGgo="


def signature(who: str) -> dict[str, Any]:
    return {
        "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "who": {"reference": who},
        "data": IMAGE,
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


@asynccontextmanager
async def world(
    database_url: str, *instead: dict[str, Any], **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a hub with the world in it; `instead` stand for the resources of the same address."""
    others = {(one["resourceType"], one["id"]): one for one in instead}
    chosen = Settings(auth="off", http_port=0, mllp_port=0, doctor_review="recorded", **settings)
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=30) as client,
    ):
        for known in WORLD:
            resource = others.get((known["resourceType"], known["id"]), known)
            made = await client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
            assert made.status_code == 201, made.text
        yield client


def asked(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(parts)}


def application(
    contract_id: str, price: float = 60.00, resident: str = "p1", *more: dict[str, Any]
) -> dict[str, Any]:
    return asked(
        {"name": "contractId", "valueString": contract_id},
        {"name": "resident", "valueReference": {"reference": f"Patient/{resident}"}},
        {"name": "team", "valueReference": {"reference": "CareTeam/t1"}},
        {
            "name": "package",
            "part": [
                {"name": "definition", "valueReference": {"reference": "PlanDefinition/basic"}},
                {"name": "price", "valueDecimal": price},
            ],
        },
        {"name": "start", "valueDate": today().isoformat()},
        {"name": "end", "valueDate": next_year().isoformat()},
        {"name": "agreementHash", "valueString": HASH},
        *more,
    )


def other_packages() -> dict[str, Any]:
    """Return the parameters of an amendment: of an application the package and the digest."""
    parts = application("x")["parameter"]
    return asked(*(one for one in parts if one["name"] in ("package", "agreementHash")))


def signing(
    resident: str = "Patient/p1", *more: dict[str, Any], doctor: str = "Practitioner/d1"
) -> dict[str, Any]:
    return asked(
        {"name": "residentParty", "valueReference": {"reference": resident}},
        {"name": "doctorParty", "valueReference": {"reference": doctor}},
        {"name": "residentSignature", "valueSignature": signature(resident)},
        {"name": "doctorSignature", "valueSignature": signature(doctor)},
        {"name": "agreementHash", "valueString": HASH},
        *more,
    )


SIGNING = signing()
APPROVE = asked({"name": "verdict", "valueCode": "approve"})


async def to_be_signed(client: httpx.AsyncClient, contract_id: str) -> None:
    made = await client.post("/Contract/$submit-application", json=application(contract_id))
    assert made.status_code == 201, made.text
    reviewed = await client.post(f"/Contract/{contract_id}/$review", json=APPROVE)
    assert reviewed.json()["status"] == "executable"
