"""A write is judged by R4's constraints and by the profiles that the resource claims."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from fhir_store.store import Store, make_pool
from routes.definitions import Definitions

pytestmark = pytest.mark.anyio

URL = "http://example.com/StructureDefinition/named"
PROFILE: dict[str, Any] = {
    "resourceType": "StructureDefinition", "url": URL, "name": "Named", "status": "active",
    "kind": "resource", "abstract": False, "type": "Patient", "derivation": "constraint",
    "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
    "differential": {"element": [{"id": "Patient.name", "path": "Patient.name", "min": 1}]},
}  # fmt: skip
CLAIM: dict[str, Any] = {"resourceType": "Patient", "meta": {"profile": [URL]}}
Judging = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def judging(serve: Any, database_url: str) -> Judging:
    """A function for `async with`: a client of a hub that knows profiles, by a policy."""

    @contextlib.asynccontextmanager
    async def opened(claimed: str = "enforce") -> AsyncIterator[httpx.AsyncClient]:
        async with make_pool(database_url, size=2) as pool:
            definitions = Definitions(Store(pool), claimed=claimed)
            choices = {
                "check_profiles": definitions.check_profiles,
                "refresh_definitions": definitions.refresh,
                "reread_definitions": definitions.reread,
                "fhirpath_ports": definitions.fhirpath_ports,
            }
            async with serve(**choices) as client:
                yield client

    return opened


def keys_of(answer: httpx.Response) -> list[str]:
    return [issue["details"]["coding"][0]["code"] for issue in answer.json()["issue"]]


async def test_a_broken_constraint_is_refused_and_told(judging: Judging) -> None:
    async with judging() as client:
        bad = {"resourceType": "Patient", "contact": [{"gender": "male"}]}
        answer = await client.post("/Patient", json=bad)
        assert answer.status_code == 400
        assert keys_of(answer) == ["pat-1"]
        assert answer.json()["issue"][0]["expression"] == ["Patient.contact[0]"]
        bad["contact"][0]["name"] = {"text": "x"}
        assert (await client.post("/Patient", json=bad)).status_code == 201


async def test_a_stored_profile_that_is_claimed_is_enforced(judging: Judging) -> None:
    async with judging() as client:
        assert (await client.post("/Patient", json=CLAIM)).status_code == 201, "not known yet"
        assert (await client.post("/StructureDefinition", json=PROFILE)).status_code == 201
        await asyncio.sleep(1.1)  # definitions are looked at once a second
        answer = await client.post("/Patient", json=CLAIM)
        assert answer.status_code == 400
        assert keys_of(answer) == ["min"]
        good = {**CLAIM, "name": [{"text": "x"}]}
        created = await client.post("/Patient", json=good)
        assert created.status_code == 201
        patch = [{"op": "remove", "path": "/name"}]
        refused = await client.patch(
            f"/Patient/{created.json()['id']}",
            json=patch,
            headers={"Content-Type": "application/json-patch+json"},
        )
        assert refused.status_code == 400
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": CLAIM, "request": {"method": "POST", "url": "Patient"}}]}  # fmt: skip
        assert (await client.post("/", json=bundle)).status_code == 400


async def test_by_policy_a_claim_is_only_told_or_ignored(judging: Judging) -> None:
    for policy in ("warn", "off"):
        async with judging(policy) as client:
            await client.post("/StructureDefinition", json=PROFILE)
            await asyncio.sleep(1.1)
            assert (await client.post("/Patient", json=CLAIM)).status_code == 201
            judged = await client.post("/Patient/$validate", json=CLAIM)
            assert ("min" in keys_of(judged)) is (policy == "warn")


async def test_validate_judges_by_a_named_profile(judging: Judging) -> None:
    async with judging("off") as client:
        await client.post("/StructureDefinition", json=PROFILE)
        await asyncio.sleep(1.1)
        body = {"resourceType": "Patient"}
        answer = await client.post("/Patient/$validate", params={"profile": URL}, json=body)
        assert answer.status_code == 200
        assert "min" in keys_of(answer)
        unknown = {"profile": "urn:nowhere"}
        answer = await client.post("/Patient/$validate", params=unknown, json=body)
        assert "profile-missing" in keys_of(answer)


async def test_validate_knows_a_profile_stored_a_moment_ago(
    judging: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routes.definitions.LOOK_SECONDS", 3600.0)
    async with judging("off") as client:
        body, named = {"resourceType": "Patient"}, {"profile": URL}
        before = await client.post("/Patient/$validate", params=named, json=body)
        assert "profile-missing" in keys_of(before)
        await client.post("/StructureDefinition", json=PROFILE)
        answer = await client.post("/Patient/$validate", params=named, json=body)
        assert keys_of(answer) == ["min"]


async def test_without_looking_again_it_would_not_be_known(
    judging: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_later(_self: Definitions) -> None:
        """Leave it to the next look."""

    monkeypatch.setattr("routes.definitions.LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(Definitions, "reread", look_later)
    async with judging("off") as client:
        body, named = {"resourceType": "Patient"}, {"profile": URL}
        await client.post("/Patient/$validate", params=named, json=body)
        await client.post("/StructureDefinition", json=PROFILE)
        answer = await client.post("/Patient/$validate", params=named, json=body)
        assert "profile-missing" in keys_of(answer)


async def test_fhirpath_takes_the_items_of_a_slice_by_a_stored_profile(
    judging: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routes.definitions.LOOK_SECONDS", 0.0)
    path = "Patient.identifier"
    slicing = {"discriminator": [{"type": "value", "path": "system"}], "rules": "open"}
    elements = [
        {"id": path, "path": path, "slicing": slicing},
        {"id": f"{path}:card", "path": path, "sliceName": "card"},
        {"id": f"{path}:card.system", "path": f"{path}.system", "fixedUri": "urn:card"},
    ]
    url = "http://example.com/StructureDefinition/sliced"
    sliced = {**PROFILE, "url": url, "name": "Sliced", "differential": {"element": elements}}
    identifiers = [{"system": "urn:card", "value": "1"}, {"system": "urn:other", "value": "2"}]
    patient = {"resourceType": "Patient", "identifier": identifiers}

    def asked(expression: str) -> dict[str, Any]:
        parts = [
            {"name": "expression", "valueString": expression},
            {"name": "resource", "resource": patient},
        ]
        return {"resourceType": "Parameters", "parameter": parts}

    async with judging() as client:
        expression = f"identifier.slice('{url}', 'card').value"
        unknown = await client.post("/$fhirpath", json=asked(expression))
        assert unknown.status_code == 400
        assert "Load the StructureDefinition" in unknown.text
        stored = await client.post("/StructureDefinition", json=sliced)
        assert stored.status_code == 201, stored.text
        answer = await client.post("/$fhirpath", json=asked(expression))
        assert answer.status_code == 200, answer.text
        (result,) = answer.json()["parameter"]
        assert result["part"] == [{"name": "string", "valueString": "1"}]
        conforms = await client.post("/$fhirpath", json=asked(f"conformsTo('{url}')"))
        assert conforms.json()["parameter"][0]["part"][0]["valueBoolean"] is True


async def test_without_definitions_slice_says_what_it_needs(serve: Any) -> None:
    parts = [
        {"name": "expression", "valueString": "name.slice('http://example.com/x', 'y')"},
        {"name": "resource", "resource": {"resourceType": "Patient", "name": [{"text": "x"}]}},
    ]
    async with serve() as client:
        body = {"resourceType": "Parameters", "parameter": parts}
        answer = await client.post("/$fhirpath", json=body)
        assert answer.status_code in {400, 422, 501}
        assert "slice" in answer.text
