"""Bulk `$export` over a real socket: system, Patient and Group, files, cancel, restart, rights."""

import asyncio
import json
import pathlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from ops.settings import Settings
from ops.wiring import running_hub

ASYNC = {"prefer": "respond-async"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def client_of(
    database_url: str, home: pathlib.Path, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    chosen = Settings(**{"auth": "off", "http_port": 0, "mllp_port": 0, "home": home, **settings})
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=60) as client,
    ):
        yield client


@pytest.fixture
def stand_still(database_url: str) -> Callable[[], AbstractContextManager[Any]]:
    """A function for `with`: nobody can search until the block ends."""

    @contextmanager
    def locked() -> Iterator[None]:
        with psycopg.connect(database_url) as connection:
            connection.execute("LOCK TABLE resource IN ACCESS EXCLUSIVE MODE")
            yield

    return locked


def patient(id_: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id_, "active": True}


def observation(id_: str, subject: str, code: str = "8480-6") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": subject},
    }


WORLD = [
    *(patient(f"p{n}") for n in range(5)),
    *(observation(f"o{n}-{m}", f"Patient/p{n}") for n in range(5) for m in range(300)),
    observation("weight", "Patient/p1", "29463-7"),
    {"resourceType": "Device", "id": "d1"},
    # A patient who is only its focus does not own it.
    {**observation("of-device", "Device/d1"), "focus": [{"reference": "Patient/p1"}]},
    {
        "resourceType": "Group",
        "id": "g1",
        "type": "person",
        "actual": True,
        "member": [
            {"entity": {"reference": "Patient/p0"}},
            {"entity": {"reference": "Patient/p1"}},
            {"entity": {"reference": "Patient/p2"}, "inactive": True},
        ],
    },
]


async def load(client: httpx.AsyncClient, resources: list[dict[str, Any]]) -> None:
    body = "\n".join(json.dumps(one) for one in resources).encode()
    headers = {"content-type": "application/fhir+ndjson"}
    answer = await client.post("/$import", content=body, headers=headers)
    counts = {p["name"]: p.get("valueInteger") for p in answer.json()["parameter"]}
    assert counts["written"] == len(resources), answer.text


async def finished(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """Ask for an export and return its manifest."""
    begun = await client.get(path, headers=ASYNC)
    assert begun.status_code == 202, begun.text
    while True:
        status = await client.get(begun.headers["content-location"])
        if status.status_code != 202:
            break
        assert status.headers["x-progress"]
        await asyncio.sleep(0.05)
    assert status.status_code == 200, status.text
    assert status.headers["content-type"] == "application/json"
    manifest: dict[str, Any] = status.json()
    assert (await client.delete(begun.headers["content-location"])).status_code == 202
    return manifest


async def exported(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """Return the resources of an export."""
    begun = await client.get(path, headers=ASYNC)
    assert begun.status_code == 202, begun.text
    location = begun.headers["content-location"]
    while (status := await client.get(location)).status_code == 202:
        await asyncio.sleep(0.05)
    assert status.status_code == 200, status.text
    found: list[dict[str, Any]] = []
    for output in status.json()["output"]:
        file = await client.get(output["url"])
        assert file.headers["content-type"] == "application/fhir+ndjson"
        resources = [json.loads(line) for line in file.text.splitlines()]
        assert len(resources) == output["count"]
        assert {one["resourceType"] for one in resources} == {output["type"]}
        found += resources
    assert (await client.delete(location)).status_code == 202
    assert (await client.get(location)).status_code == 404
    return found


def ids_of(resources: list[dict[str, Any]], type_: str) -> set[str]:
    ids = [one["id"] for one in resources if one["resourceType"] == type_]
    assert len(ids) == len(set(ids))
    return set(ids)


@pytest.mark.anyio
async def test_every_resource_of_the_system_comes_once_as_it_is(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with client_of(database_url, tmp_path) as client:
        await load(client, WORLD)
        types = sorted({one["resourceType"] for one in WORLD})
        found = await exported(client, f"/$export?_type={','.join(types)}")
        assert Counter(one["resourceType"] for one in found) == Counter(
            one["resourceType"] for one in WORLD
        )
        for one in found[:20]:
            kept = await client.get(f"/{one['resourceType']}/{one['id']}")
            assert kept.json() == one
        whole = await exported(client, "/$export")
        assert ids_of(whole, "Observation") == ids_of(WORLD, "Observation")
        assert ids_of(whole, "CodeSystem")
        assert not list((tmp_path / "exports").iterdir())


@pytest.mark.anyio
async def test_patients_and_groups_bring_their_compartments_only(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with client_of(database_url, tmp_path) as client:
        await load(client, WORLD)
        of_patients = await exported(client, "/Patient/$export")
        assert ids_of(of_patients, "Patient") == {f"p{n}" for n in range(5)}
        assert ids_of(of_patients, "Observation") == ids_of(WORLD, "Observation") - {"of-device"}
        assert not ids_of(of_patients, "Device")
        assert not ids_of(of_patients, "CodeSystem")
        of_group = await exported(client, "/Group/g1/$export")
        assert ids_of(of_group, "Patient") == {"p0", "p1"}
        assert {one["subject"]["reference"] for one in of_group if "subject" in one} == {
            "Patient/p0",
            "Patient/p1",
        }
        assert len(ids_of(of_group, "Observation")) == 601
        assert (await client.get("/Group/none/$export", headers=ASYNC)).status_code == 404


@pytest.mark.anyio
async def test_since_and_filters_narrow(database_url: str, tmp_path: pathlib.Path) -> None:
    async with client_of(database_url, tmp_path) as client:
        await load(client, WORLD)
        both = "_typeFilter=Observation%3Fcode%3D29463-7,Observation%3Fsubject%3DPatient/p1"
        found = await exported(client, f"/$export?_type=Observation&{both}")
        assert len(ids_of(found, "Observation")) == 301
        # The moment of an export lies two seconds back, so that no open write is missed.
        await asyncio.sleep(2.5)
        manifest = await finished(client, "/$export?_type=Patient")
        assert manifest["request"].endswith("/fhir/$export?_type=Patient")
        assert manifest["requiresAccessToken"] is False
        assert manifest["error"] == []
        await load(client, [patient("new")])
        since = manifest["transactionTime"].replace("+", "%2B")
        later = await exported(client, f"/$export?_type=Patient,Observation&_since={since}")
        assert [one["id"] for one in later] == ["new"]


@pytest.mark.anyio
async def test_wrong_wishes_are_refused_with_the_fix(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with client_of(database_url, tmp_path) as client:
        plain = await client.get("/$export")
        assert plain.status_code == 400
        assert "Prefer: respond-async" in plain.json()["issue"][0]["diagnostics"]
        for query in (
            "_type=Patients",
            "_since=yesterday",
            "_outputFormat=parquet",
            "_elements=id",
            "includeAssociatedData=x",
            "_typeFilter=Patient",
            "_type=Patient&_typeFilter=Observation%3Fcode%3Da",
            "_type=Patient&_typeFilter=Patient%3Fno-such%3Da",
            "_type=Patient&_typeFilter=Patient%3F_include%3DPatient:link",
            "_type=Patient&_typeFilter=Patient%3F_sort%3Dname",
            "_type=Patient&_typeFilter=Patient%3F_count%3D1",
        ):
            answer = await client.get(f"/$export?{query}", headers=ASYNC)
            assert answer.status_code == 400, (query, answer.text)
            assert answer.json()["issue"][0]["diagnostics"], query
        outside = await client.get("/Patient/$export?_type=CodeSystem", headers=ASYNC)
        assert outside.status_code == 400
        lenient = {"prefer": "respond-async, handling=lenient"}
        begun = await client.get("/$export?_type=Device&includeAssociatedData=x", headers=lenient)
        assert begun.status_code == 202
        assert (await client.head("/$export", headers=ASYNC)).status_code == 405
        root = str(client.base_url).removesuffix("/fhir/")
        for path in ("/exports/x", f"/exports/{'0' * 32}", f"/exports/{'0' * 32}/job.json"):
            answer = await client.get(root + path)
            assert answer.status_code == 404
            assert answer.json()["resourceType"] == "OperationOutcome"
        job = begun.headers["content-location"]
        for name in ("job.json", "lock", "..%2Fjob.json"):
            assert (await client.get(f"{job}/{name}")).status_code == 404
        metadata = (await client.get("/metadata")).json()["rest"][0]
        promised = {one["definition"].rpartition("/")[2] for one in metadata["operation"]}
        for resource in metadata["resource"]:
            for one in resource.get("operation", ()):
                promised.add(one["definition"].rpartition("/")[2])
        assert {"export", "patient-export", "group-export"} <= promised


@pytest.mark.anyio
async def test_a_job_that_was_interrupted_has_failed_after_a_restart(
    database_url: str, tmp_path: pathlib.Path, stand_still: Any
) -> None:
    with ExitStack() as until_stopped:
        async with client_of(database_url, tmp_path) as client:
            until_stopped.enter_context(stand_still())
            begun = await client.get("/$export", headers=ASYNC)
            running = await client.get(begun.headers["content-location"])
            assert running.status_code == 202
            path = begun.headers["content-location"].partition("/exports/")[2]
    async with client_of(database_url, tmp_path) as client:
        root = str(client.base_url).removesuffix("/fhir/")
        status = await client.get(f"{root}/exports/{path}")
        assert status.status_code == 500
        issue = status.json()["issue"][0]
        assert issue["details"]["coding"][0]["code"] == "export-interrupted"
        assert (await client.delete(f"{root}/exports/{path}")).status_code == 202
        assert not list((tmp_path / "exports").iterdir())


@pytest.mark.anyio
async def test_no_more_exports_run_than_may(
    database_url: str, tmp_path: pathlib.Path, stand_still: Any
) -> None:
    async with client_of(database_url, tmp_path) as client:
        with stand_still():
            answers = [await client.get("/$export", headers=ASYNC) for _ in range(3)]
            assert [one.status_code for one in answers] == [202, 202, 429]
            assert answers[2].headers["retry-after"]
            for one in answers[:2]:
                assert (await client.delete(one.headers["content-location"])).status_code == 202
        assert await exported(client, "/$export?_type=CodeSystem")
