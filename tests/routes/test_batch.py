"""Batch and transaction over HTTP."""

import base64
import json
import pathlib
from collections import Counter
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}


def entry(method: str, url: str, resource: Any = None, **more: Any) -> dict[str, Any]:
    request = {"method": method, "url": url}
    request |= {name: more.pop(name) for name in list(more) if name.startswith("if")}
    made: dict[str, Any] = {**more, "request": request}
    return made if resource is None else {**made, "resource": resource}


def bundle(kind: str, *entries: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def patient(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **more}


async def test_a_transaction_links_its_entries_and_answers_in_their_order(serve: Any) -> None:
    uuid = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "a"},
        "subject": {"reference": uuid},
    }
    async with serve() as client:
        sent = bundle(
            "transaction",
            entry("GET", "Patient/p9"),
            entry("POST", "Observation", observation),
            entry("PUT", "Patient/p9", patient(id="p9")),
            entry("POST", "Patient", patient(active=True), fullUrl=uuid),
            entry("DELETE", "Patient/never"),
        )
        answer = await client.post("", json=sent, headers=JSON)
        assert answer.status_code == 200, answer.text
        response = answer.json()
        assert response["type"] == "transaction-response"
        statuses = [item["response"]["status"][:3] for item in response["entry"]]
        assert statuses == ["200", "201", "201", "201", "204"]
        assert response["entry"][0]["resource"]["id"] == "p9"
        assert "resource" not in response["entry"][1]
        where = response["entry"][1]["response"]["location"].split("/_history")[0]
        read = (await client.get(where)).json()
        made = response["entry"][3]["response"]["location"].split("/")
        assert read["subject"]["reference"] == f"Patient/{made[-3]}"


async def test_a_transaction_happens_whole_or_not_at_all(serve: Any) -> None:
    async with serve() as client:
        good = entry("PUT", "Patient/p1", patient(id="p1"))
        for bad in (
            entry("PUT", "Patient/p2", patient(id="p2", gender="unclear")),
            entry("PUT", "Patient/p2", patient(id="p2"), ifMatch='W/"7"'),
            entry("PUT", "Patient/p1", patient(id="p1", active=True)),
            entry("POST", "Observation", patient()),
            entry("PATCH", "Patient/p2", patient()),
        ):
            answer = await client.post("", json=bundle("transaction", good, bad), headers=JSON)
            assert 400 <= answer.status_code < 500
            assert answer.json()["resourceType"] == "OperationOutcome"
        assert (await client.get("/Patient/p1")).status_code == 404


async def test_the_entries_of_a_batch_stand_each_for_itself(serve: Any) -> None:
    async with serve() as client:
        sent = bundle(
            "batch",
            entry("PUT", "Patient/p1", patient(id="p1")),
            entry("PUT", "Patient/p2", patient(id="p2", gender="unclear")),
            entry("GET", "Patient/never"),
            entry("GET", "metadata?_elements=fhirVersion"),
            entry("POST", "Patient", patient(), ifNoneExist="identifier=a|b"),
            {"resource": patient()},
            entry("BREW", "Patient"),
            entry("POST", "", bundle("batch")),
        )
        answer = await client.post("", json=sent, headers=JSON)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["type"] == "batch-response"
        statuses = [item["response"]["status"][:3] for item in found["entry"]]
        assert statuses == ["201", "400", "404", "200", "201", "400", "400", "400"]
        assert found["entry"][3]["resource"]["fhirVersion"] == "4.0.1"
        assert found["entry"][1]["response"]["outcome"]["issue"][0]["expression"]


async def test_patches_travel_in_bundles_as_binary_or_parameters(serve: Any) -> None:
    change = json.dumps([{"op": "add", "path": "/active", "value": True}]).encode()
    binary = {
        "resourceType": "Binary",
        "contentType": "application/json-patch+json",
        "data": base64.b64encode(change).decode(),
    }
    part = [
        {"name": "type", "valueCode": "add"},
        {"name": "path", "valueString": "Patient"},
        {"name": "name", "valueString": "gender"},
        {"name": "value", "valueCode": "female"},
    ]
    parameters = {
        "resourceType": "Parameters",
        "parameter": [{"name": "operation", "part": part}],
    }
    async with serve() as client:
        for kind in ("batch", "transaction"):
            path = f"Patient/{kind}"
            await client.put(f"/{path}", json=patient(id=kind), headers=JSON)
            for resource in (binary, parameters):
                sent = bundle(kind, entry("PATCH", path, resource))
                answer = await client.post("", json=sent, headers=JSON)
                assert answer.json()["entry"][0]["response"]["status"] == "200 OK", answer.text
            read = (await client.get(f"/{path}")).json()
            assert (read["active"], read["gender"]) == (True, "female")


async def test_bundles_that_are_none_or_too_long_are_refused(serve: Any) -> None:
    many = [entry("DELETE", f"Patient/{number}") for number in range(10_001)]
    async with serve() as client:
        for body, status in (
            (bundle("batch", *many), 413),
            (bundle("transaction", *many), 413),
            (bundle("collection"), 400),
            (patient(), 400),
            ({"resourceType": "Bundle", "type": "batch", "entry": {}}, 400),
        ):
            answer = await client.post("", json=body, headers=JSON)
            assert answer.status_code == status
            assert answer.json()["resourceType"] == "OperationOutcome"


async def test_a_transaction_under_an_idempotency_key_happens_once(serve: Any) -> None:
    async with serve() as client:
        headers = {**JSON, "idempotency-key": "b1"}
        sent = bundle("transaction", entry("POST", "Patient", patient(active=True)))
        first = await client.post("", json=sent, headers=headers)
        again = await client.post("", json=sent, headers=headers)
        assert first.content == again.content
        assert len((await client.get("/Patient/_history")).json()["entry"]) == 1


async def test_synthetic_records_load_read_back_and_count_right(
    serve: Any, shared_data: pathlib.Path
) -> None:
    folder = shared_data / "synthea-r4"
    first = sorted(folder.glob("practitioner*.json"))
    files = [*first, *sorted(set(folder.glob("*.json")) - set(first))]
    assert len(files) == 13
    expected: dict[str, Any] = {}
    async with serve() as client:
        for file in files:
            sent = file.read_text()
            answer = await client.post("", content=sent.encode(), headers=JSON)
            assert answer.status_code == 200, answer.text[:500]
            expected |= _as_written(sent, answer.json())
        found: dict[str, Any] = {}
        url: str | None = "/_history?_count=500"
        while url:
            page = json.loads((await client.get(url)).text, parse_float=str)
            for item in page.get("entry", []):
                resource = item["resource"]
                found[f"{resource['resourceType']}/{resource['id']}"] = _without_version(resource)
            url = {link["relation"]: link["url"] for link in page["link"]}.get("next")
    assert Counter(one.partition("/")[0] for one in found) == Counter(
        one.partition("/")[0] for one in expected
    )
    assert found == expected


def _as_written(sent: str, answer: Any) -> dict[str, Any]:
    """What the server must hold: the resources under their new ids, naming each other by them."""
    entries = json.loads(sent)["entry"]
    places = [
        one["response"]["location"].partition("/fhir/")[2].partition("/_history")[0]
        for one in answer["entry"]
    ]
    for one, place in zip(entries, places, strict=True):
        if "fullUrl" in one:
            sent = sent.replace(f'"{one["fullUrl"]}"', f'"{place}"')
    written = {}
    for one, place in zip(json.loads(sent, parse_float=str)["entry"], places, strict=True):
        written[place] = _without_version({**one["resource"], "id": place.partition("/")[2]})
    return written


def _without_version(resource: dict[str, Any]) -> dict[str, Any]:
    meta = {
        name: value
        for name, value in resource.get("meta", {}).items()
        if name not in {"versionId", "lastUpdated"}
    }
    return {name: one for name, one in resource.items() if name != "meta"} | {"meta": meta}
