"""The CapabilityStatement promises what is there, and only that."""

import asyncio
from typing import Any

import pytest

from conformance.structure import check
from fhir_store.custom_parameters import build_step, register_written
from fhir_store.store import Store, make_pool

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}


async def test_the_statement_is_valid_and_names_every_type(serve: Any) -> None:
    async with serve() as client:
        statement = (await client.get("/metadata")).json()
        assert check(statement) == []
        rest = statement["rest"][0]
        assert len(rest["resource"]) == 146
        assert statement["implementation"]["url"] == str(client.base_url).rstrip("/")
        assert (await client.get("/metadata?mode=terminology")).status_code == 400
        assert (await client.get("/metadata?mode=normative")).status_code == 200
        unknown = "/metadata?mode=full&x=1"
        assert (await client.get(unknown)).status_code == 400
        lenient = {"prefer": "handling=lenient"}
        assert (await client.get(unknown, headers=lenient)).status_code == 200


async def test_what_is_left_out_is_told_and_refused(serve: Any) -> None:
    async with serve() as client:
        rest = (await client.get("/metadata")).json()["rest"][0]
        for name, usual, refused in (
            ("_contained", "false", "true"),
            ("_containedType", "container", "contained"),
        ):
            assert name in rest["documentation"]
            assert (await client.get(f"/Patient?{name}={usual}")).status_code == 200
            answer = await client.get(f"/Patient?{name}={refused}")
            assert answer.status_code == 400
            assert answer.json()["issue"][0]["expression"] == [f"http.{name}"]
            lenient = {"prefer": "handling=lenient"}
            answer = await client.get(f"/Patient?{name}={refused}", headers=lenient)
            assert answer.status_code == 200


async def test_every_interaction_promised_is_answered(serve: Any) -> None:
    async with serve() as client:
        rest = (await client.get("/metadata")).json()["rest"][0]
        promised = {i["code"] for r in rest["resource"] for i in r["interaction"]}
        promised |= {i["code"] for i in rest["interaction"]}
        basic = {"resourceType": "Basic", "id": "b", "code": {"text": "a"}}
        patch = [{"op": "add", "path": "/created", "value": "2020-01-01"}]
        calls = {
            "create": ("POST", "/Basic", basic, JSON),
            "update": ("PUT", "/Basic/b", basic, JSON),
            "read": ("GET", "/Basic/b", None, {}),
            "vread": ("GET", "/Basic/b/_history/1", None, {}),
            "patch": (
                "PATCH",
                "/Basic/b",
                patch,
                {"content-type": "application/json-patch+json"},
            ),
            "history-instance": ("GET", "/Basic/b/_history", None, {}),
            "history-type": ("GET", "/Basic/_history", None, {}),
            "history-system": ("GET", "/_history", None, {}),
            "search-type": ("GET", "/Basic?code:text=a", None, {}),
            "search-system": ("GET", "/?_type=Basic", None, {}),
            "batch": ("POST", "", {"resourceType": "Bundle", "type": "batch"}, JSON),
            "transaction": ("POST", "", {"resourceType": "Bundle", "type": "transaction"}, JSON),
            "delete": ("DELETE", "/Basic/b", None, {}),
        }
        assert promised <= set(calls)
        for code, (method, path, body, headers) in calls.items():
            if code in promised:
                answer = await client.request(method, path, json=body, headers=headers)
                assert answer.status_code < 300, (code, answer.text)


async def test_custom_search_parameters_stand_in_it_with_how_far_they_are(
    serve: Any, database_url: str
) -> None:
    parameter = {
        "resourceType": "SearchParameter",
        "id": "nickname",
        "url": "urn:nickname",
        "name": "Nickname",
        "status": "active",
        "description": "d",
        "code": "nickname",
        "base": ["Patient"],
        "type": "string",
        "expression": "Patient.name.where(use = 'nickname').given",
    }

    async def told(client: Any) -> list[dict[str, str]]:
        statement = (await client.get("/metadata")).json()
        assert check(statement) == []
        (patient,) = (r for r in statement["rest"][0]["resource"] if r["type"] == "Patient")
        return [p for p in patient["searchParam"] if p["name"] == "nickname"]

    async with make_pool(database_url) as pool:
        store = Store(pool)
        async with serve(store=store) as client:
            assert await told(client) == []
            await client.put("/Patient/p", json={"resourceType": "Patient", "id": "p"})
            assert (
                await client.put("/SearchParameter/nickname", json=parameter)
            ).status_code == 201
            async with pool.connection() as connection:
                while not await register_written(connection):
                    await asyncio.sleep(0.05)
                await store.parameters.refresh(connection)
                named = {"name": "nickname", "definition": "urn:nickname", "type": "string"}
                building = {**named, "documentation": "building 0 %: results may be missing"}
                assert await told(client) == [building]
                while await build_step(connection, settle=0):
                    pass
                await store.parameters.refresh(connection)
            assert await told(client) == [named]


async def test_every_operation_promised_is_answered(serve: Any) -> None:
    async with serve() as client:
        rest = (await client.get("/metadata")).json()["rest"][0]
        found = {("/", operation["name"]) for operation in rest["operation"]}
        for resource in rest["resource"]:
            for operation in resource.get("operation", ()):
                found.add((f"/{resource['type']}", operation["name"]))
        assert ("/", "fhirpath") in found
        for place, name in sorted(found):
            paths = [f"{place.rstrip('/')}/${name}"]
            if place != "/":
                paths.append(f"{place}/x/${name}")
            keys = set()
            for path in paths:
                answer = await client.post(path, json={"resourceType": "Parameters"}, headers=JSON)
                keys.add(answer.json().get("issue", [{}])[0].get("details", {}).get("text", ""))
            assert not all("no such interaction or operation" in key for key in keys), (place, name)


async def test_openapi_names_the_fhir_routes(serve: Any) -> None:
    async with serve() as client:
        root = str(client.base_url).removesuffix("/fhir/")
        document = (await client.get(f"{root}/openapi.json")).json()
        assert document["paths"]["/fhir/Patient/{id}"]["get"]["summary"] == "read"
        assert "post" in document["paths"]["/fhir/$fhirpath"]
        health = await client.get(f"{root}/health/live")
        assert health.json() == {"status": "up"}
        assert (await client.get(f"{root}/health/ready")).status_code == 200
