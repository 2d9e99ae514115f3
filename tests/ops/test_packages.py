"""Packages over HTTP: published once, offered to whom they suit, counted, and pinned."""

import asyncio
from typing import Any

import httpx
import pytest
from contracting import APPROVE, SIGNING, WORLD, application, asked, world

from fhir_store.custom_parameters import build_step, register_written
from fhir_store.store import Store, make_pool

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def item(code: str) -> dict[str, Any]:
    return {
        "resourceType": "ActivityDefinition",
        "id": code,
        "url": f"urn:item:{code}",
        "version": "1",
        "status": "active",
        "title": code,
        "code": {"coding": [{"code": code}]},
    }


def draft(id_: str, version: str, **more: Any) -> dict[str, Any]:
    return {
        **WORLD[-1],
        "id": id_,
        "url": "urn:package:elderly",
        "version": version,
        "title": "老年人包",
        "status": "draft",
        "action": [{"definitionCanonical": "urn:item:bp|1"}],
        "useContext": [
            {
                "code": {
                    "system": "http://terminology.hl7.org/CodeSystem/usage-context-type",
                    "code": "focus",
                },
                "valueCodeableConcept": {"coding": [{"code": "elderly"}]},
            }
        ],
        **more,
    }


async def statuses(client: httpx.AsyncClient, *ids: str) -> list[str]:
    found = [(await client.get(f"/PlanDefinition/{id_}")).json()["status"] for id_ in ids]
    return [str(one) for one in found]


async def test_a_version_is_published_once_and_takes_the_place_of_the_last(
    database_url: str,
) -> None:
    async with world(database_url) as client:
        await client.put("/ActivityDefinition/bp", json=item("bp"))
        for id_, version in (("e1", "1"), ("e2", "2"), ("e2-again", "2")):
            made = await client.put(f"/PlanDefinition/{id_}", json=draft(id_, version))
            assert made.status_code == 201, made.text
        first = await client.post("/PlanDefinition/e1/$publish-package", json=asked())
        assert first.json()["status"] == "active", first.text
        answers = await asyncio.gather(
            client.post("/PlanDefinition/e2/$publish-package", json=asked()),
            client.post("/PlanDefinition/e2-again/$publish-package", json=asked()),
        )
        assert sorted(one.status_code for one in answers) == [200, 409]
        found = await statuses(client, "e1", "e2", "e2-again")
        assert (found[0], sorted(found[1:])) == ("retired", ["active", "draft"])
        again = await client.post("/PlanDefinition/e1/$publish-package", json=asked())
        assert again.status_code == 422
        broken = draft("e3", "3", action=[{"definitionCanonical": "urn:item:none"}])
        await client.put("/PlanDefinition/e3", json=broken)
        refused = await client.post("/PlanDefinition/e3/$publish-package", json=asked())
        assert refused.status_code == 422
        assert "urn:item:none" in refused.json()["issue"][0]["details"]["text"]
        assert (await client.post("/PlanDefinition/no/$retire-package", json=asked())).is_error


async def test_a_resident_is_offered_what_suits_and_signs_a_pinned_version(
    database_url: str,
) -> None:
    async with world(database_url) as client:
        await client.put("/ActivityDefinition/bp", json=item("bp"))
        await client.put("/PlanDefinition/e1", json=draft("e1", "1"))
        await client.post("/PlanDefinition/e1/$publish-package", json=asked())

        async def offered(patient: str) -> list[str]:
            address = f"/PlanDefinition/$applicable-packages?patient=Patient/{patient}"
            answer = await client.get(address)
            assert answer.status_code == 200, answer.text
            return [
                part["resource"]["id"]
                for part in answer.json()["parameter"]
                if part["name"] == "package"
            ]

        assert await offered("p1") == ["basic", "e1"]
        await client.put(
            "/Patient/young", json={**WORLD[1], "id": "young", "birthDate": "1999-01-01"}
        )
        assert await offered("young") == ["basic"]
        nobody = await client.get("/PlanDefinition/$applicable-packages?patient=Patient/none")
        assert nobody.status_code == 400
        wish = application("c1")
        for part in wish["parameter"]:
            if part["name"] == "package":
                part["part"][0]["valueReference"]["reference"] = "PlanDefinition/e1"
        made = await client.post("/Contract/$submit-application", json=wish)
        pinned = made.json()["term"][0]["identifier"]["value"]
        assert pinned == "urn:package:elderly|1"
        await client.post("/Contract/c1/$review", json=APPROVE)
        retired = await client.post("/PlanDefinition/e1/$retire-package", json=asked())
        assert retired.json()["status"] == "retired"
        refused = await client.post("/Contract/c1/$sign", json=SIGNING)
        assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "package-not-valid"


async def test_the_detail_counts_who_has_signed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fhir_store.custom_parameters.SETTLE", 0.0)
    plan = {**WORLD[-1], "action": [{"definitionCanonical": "urn:item:bp|1"}]}
    async with world(database_url, plan) as client, make_pool(database_url, size=2) as pool:
        await client.put("/ActivityDefinition/bp", json=item("bp"))
        await client.post("/Contract/$submit-application", json=application("c1"))
        await client.post("/Contract/$submit-application", json=application("c2"))
        await client.post("/Contract/c1/$review", json=APPROVE)
        await client.post("/Contract/c1/$sign", json=SIGNING)
        store = Store(pool)
        async with asyncio.timeout(60), pool.connection() as connection:
            while True:
                await register_written(connection)
                await store.parameters.refresh(connection)
                known = {state.parameter.code: state.percent for state in store.parameters.states()}
                if known.get("package") == 100:
                    break
                if not await build_step(connection):
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(30):
            while True:
                answer = await client.get("/PlanDefinition/basic/$package-detail")
                if answer.status_code == 200 and counted(answer) == (1, 1, 0):
                    break
                await asyncio.sleep(0.5)
        parts = {part["name"]: part for part in answer.json()["parameter"]}
        assert parts["items"]["valueInteger"] == 1
        assert parts["item"]["resource"]["id"] == "bp"


def counted(answer: httpx.Response) -> tuple[int, ...]:
    parts = {part["name"]: part for part in answer.json()["parameter"]}
    return tuple(one["valueInteger"] for one in parts["contracts"]["part"])
