"""`$import` over a real socket: NDJSON and Bundles, counts, and each refused line."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ops.settings import Settings
from ops.wiring import running_hub

NDJSON = {"content-type": "application/fhir+ndjson"}
JSON = {"content-type": "application/fhir+json"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def client_of(database_url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    chosen = Settings(**{"auth": "off", "http_port": 0, "mllp_port": 0, **settings})
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=30) as client,
    ):
        yield client


def values(answer: httpx.Response) -> dict[str, int]:
    assert answer.status_code == 200, answer.text
    return {p["name"]: p["valueInteger"] for p in answer.json()["parameter"] if "valueInteger" in p}


def basic(id_: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Basic", "id": id_, "code": {"text": "a"}, **more}


@pytest.mark.anyio
async def test_lines_go_in_and_bad_ones_are_told_by_number(database_url: str) -> None:
    lines = [json.dumps(basic(f"b{n}")) for n in range(600)]
    lines[3] = "{not json"
    lines[400] = json.dumps(basic("x", created="yesterday"))
    lines.insert(5, "")
    body = "\n".join(lines).encode()
    async with client_of(database_url) as client:
        answer = await client.post("/$import", content=body, headers=NDJSON)
        assert values(answer) == {"resources": 600, "written": 598, "refused": 2}
        errors = [p["part"] for p in answer.json()["parameter"] if p["name"] == "error"]
        assert [part[0]["valueInteger"] for part in errors] == [4, 402]
        assert all(part[1]["resource"]["issue"][0]["diagnostics"] for part in errors)
        total = await client.get("/Basic?code:text=a&_total=accurate&_count=0")
        assert total.json()["total"] == 598
        kept = (await client.get("/Basic/b599")).json()
        assert kept["meta"]["source"].startswith("urn:qiao:import:")
        again = await client.post("/$import", content=body, headers=NDJSON)
        assert values(again)["written"] == 0


@pytest.mark.anyio
async def test_every_refused_line_is_named_however_many_there_are(database_url: str) -> None:
    bad = {3, *range(5, 400), 500}
    lines = ["{not json" if n in bad else json.dumps(basic(f"m{n}")) for n in range(1, 501)]
    async with client_of(database_url) as client:
        answer = await client.post("/$import", content="\n".join(lines).encode(), headers=NDJSON)
        assert values(answer) == {"resources": 500, "written": 103, "refused": 397}
        told = answer.json()["parameter"]
        assert [p["valueString"] for p in told if p["name"] == "refused-lines"] == ["3,5-399,500"]
        assert sum(p["name"] == "error" for p in told) == 200


@pytest.mark.anyio
async def test_a_bundle_goes_in_whole_or_not_at_all(database_url: str) -> None:
    def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
        entries = [{"resource": one} for one in resources]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}

    async with client_of(database_url) as client:
        good = await client.post("/$import", json=bundle(basic("a"), basic("b")), headers=JSON)
        assert values(good) == {"resources": 2, "written": 2, "refused": 0}
        bad = bundle(basic("c"), basic("d", created="yesterday"))
        refused = await client.post("/$import", json=bad, headers=JSON)
        assert refused.status_code == 400
        assert refused.json()["resourceType"] == "OperationOutcome"
        assert (await client.get("/Basic/c")).status_code == 404


@pytest.mark.anyio
async def test_other_bodies_and_strangers_are_refused(database_url: str) -> None:
    async with client_of(database_url) as client:
        for body in ({"resourceType": "Parameters"}, basic("a"), {"entry": 1}):
            answer = await client.post("/$import", json=body, headers=JSON)
            assert answer.status_code == 400, body
        broken = {"resourceType": "Bundle", "type": "batch", "entry": {"a": 1}}
        assert (await client.post("/$import", json=broken, headers=JSON)).status_code == 400
        assert (await client.get("/$import")).status_code == 405
        metadata = (await client.get("/metadata")).json()
        assert "import" in {one["name"] for one in metadata["rest"][0]["operation"]}
    async with client_of(database_url, auth="on") as client:
        answer = await client.post("/$import", content=b"{}", headers=NDJSON)
        assert answer.status_code == 401
