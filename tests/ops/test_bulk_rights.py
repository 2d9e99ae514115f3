"""Who may export and import what: rights in the files, and jobs that are nobody else's."""

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from fhir_store.audit import Access
from fhir_store.store import Store, make_pool
from ops.http_server import serving
from routes.app import create_app
from routes.authorize import Authorizer
from routes.bearer import ANYBODY, Caller
from routes.export_files import export_router
from routes.export_jobs import ExportJobs, ExportLimits
from routes.hub import Hub
from routes.limits import Limits
from routes.operations.bulk_import import import_operation
from routes.operations.export import export_operations
from routes.scopes import parse_scopes

ASYNC = {"prefer": "respond-async"}
NDJSON = {"content-type": "application/fhir+ndjson"}
SCOPES = {
    "all": "system/*.cruds",
    "patients": "system/Patient.rs",
    "finals": "system/Patient.rs system/Observation.rs?status=final",
    "own": "patient/*.cruds",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def database_url(fresh_database_url: str) -> str:
    """Without the package: what is written here is counted."""
    return fresh_database_url


async def identify(authorization: str | None) -> Caller:
    if authorization is None:
        return ANYBODY
    name = authorization.removeprefix("Bearer ")
    return Caller(
        subject=name,
        client="app",
        scopes=parse_scopes(SCOPES[name]),
        patient="p1" if name == "own" else None,
    )


@asynccontextmanager
async def client_of(
    database_url: str,
    folder: pathlib.Path,
    limits: ExportLimits | None = None,
    notes: list[Access] | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    async with make_pool(database_url, size=8) as pool:
        store = Store(pool)
        hub = Hub(
            store=store,
            identify=identify,
            authorize=Authorizer(store).authorize,
            note=(lambda _access: None) if notes is None else notes.append,
        )
        jobs = ExportJobs(store, folder, limits)
        app = create_app(hub, operations=(import_operation(), *export_operations(jobs)))
        app.api.include_router(export_router(hub, jobs))
        async with (
            serving(app, host="127.0.0.1", port=0, limits=Limits()) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/fhir", timeout=30) as client,
        ):
            yield client
        await jobs.stop()


def patient(id_: str) -> dict[str, object]:
    return {"resourceType": "Patient", "id": id_}


def observation(id_: str, owner: str, status: str) -> dict[str, object]:
    subject = {"reference": f"Patient/{owner}"}
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": status,
        "code": {"text": "a"},
        "subject": subject,
    }


WORLD = [
    patient("p1"),
    patient("p2"),
    observation("o1", "p1", "final"),
    observation("o2", "p1", "preliminary"),
    observation("o3", "p2", "final"),
    {"resourceType": "Group", "id": "g1", "type": "person", "actual": True,
     "member": [{"entity": {"reference": "Patient/p1"}}, {"entity": {"reference": "Patient/p2"}}]},
]  # fmt: skip


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def load(client: httpx.AsyncClient) -> None:
    body = "\n".join(json.dumps(one) for one in WORLD)
    assert (await client.post("/$import", content=body, headers=NDJSON)).status_code == 200


async def manifest_of(client: httpx.AsyncClient, path: str, name: str) -> tuple[str, list[str]]:
    """Return the status address and the addresses of the files."""
    begun = await client.get(path, headers={**ASYNC, **bearer(name)})
    assert begun.status_code == 202, begun.text
    location = begun.headers["content-location"]
    while (status := await client.get(location, headers=bearer(name))).status_code == 202:
        await asyncio.sleep(0.05)
    assert status.status_code == 200, status.text
    assert status.json()["requiresAccessToken"] is True
    return location, [one["url"] for one in status.json()["output"]]


async def ids(client: httpx.AsyncClient, path: str, name: str) -> set[str]:
    location, urls = await manifest_of(client, path, name)
    files = [await client.get(url, headers=bearer(name)) for url in urls]
    found = {json.loads(line)["id"] for file in files for line in file.text.splitlines()}
    assert (await client.delete(location, headers=bearer(name))).status_code == 202
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/$export", "/Patient/$export"])
async def test_what_a_caller_may_not_see_is_not_in_the_files(
    path: str, database_url: str, tmp_path: pathlib.Path
) -> None:
    async with client_of(database_url, tmp_path) as client:
        await load(client)
        whole = {"p1", "p2", "o1", "o2", "o3", "g1"}
        assert await ids(client, path, "all") == whole
        assert await ids(client, path, "patients") == {"p1", "p2"}
        assert await ids(client, path, "finals") == {"p1", "p2", "o1", "o3"}
        assert await ids(client, path, "own") & whole <= {"p1", "o1", "o2", "g1"}
        named = await client.get(
            f"{path}?_type=Observation", headers={**ASYNC, **bearer("patients")}
        )
        assert named.status_code == 403


@pytest.mark.anyio
async def test_a_group_brings_what_the_caller_may_see_of_it(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with client_of(database_url, tmp_path) as client:
        await load(client)
        path = "/Group/g1/$export?_type=Patient,Observation"
        assert await ids(client, path, "all") == {"p1", "p2", "o1", "o2", "o3"}
        assert await ids(client, path, "own") == {"p1", "o1", "o2"}
        hidden = await client.get("/Group/g1/$export", headers={**ASYNC, **bearer("patients")})
        assert hidden.status_code == 403


@pytest.mark.anyio
async def test_an_export_answers_only_who_asked_for_it(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    notes: list[Access] = []
    async with client_of(database_url, tmp_path, notes=notes) as client:
        await load(client)
        location, urls = await manifest_of(client, "/$export?_type=Patient", "all")
        for other in (bearer("patients"), {}):
            assert (await client.get(location, headers=other)).status_code == 404
            assert (await client.get(urls[0], headers=other)).status_code == 404
            assert (await client.delete(location, headers=other)).status_code == 404
        assert (await client.get(urls[0], headers=bearer("all"))).status_code == 200
    told = [(n.actor, n.action, n.outcome) for n in notes if n.action.startswith("$export")]
    assert told[0] == ("all", "$export", 0)
    assert told[-1] == ("all", "$export-get", 0)
    assert told.count(("patients", "$export-get", 4)) == 2
    assert ("anybody", "$export-delete", 4) in told


@pytest.mark.anyio
async def test_files_are_cut_and_old_exports_go(database_url: str, tmp_path: pathlib.Path) -> None:
    limits = ExportLimits(page=1, file_resources=2, kept=2, kept_seconds=3600)
    async with client_of(database_url, tmp_path, limits) as client:
        await load(client)
        _, urls = await manifest_of(client, "/$export?_type=Observation", "all")
        assert [url.rpartition("/")[2] for url in urls] == [
            "Observation-1.ndjson",
            "Observation-2.ndjson",
        ]
        await manifest_of(client, "/$export?_type=Observation", "all")
        full = await client.get("/$export", headers={**ASYNC, **bearer("all")})
        assert full.status_code == 429
    async with client_of(database_url, tmp_path, ExportLimits(kept=2, kept_seconds=0)) as client:
        begun = await client.get("/$export", headers={**ASYNC, **bearer("all")})
        assert begun.status_code == 202
        assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.anyio
async def test_an_import_needs_free_hands_for_each_type(
    database_url: str, tmp_path: pathlib.Path
) -> None:
    async with client_of(database_url, tmp_path) as client:
        line = json.dumps(patient("p1"))
        for name in ("patients", "own"):
            headers = {**NDJSON, **bearer(name)}
            answer = await client.post("/$import", content=line, headers=headers)
            (error,) = (p for p in answer.json()["parameter"] if p["name"] == "error")
            assert error["part"][1]["resource"]["issue"][0]["code"] == "forbidden"
            bundle = {
                "resourceType": "Bundle",
                "type": "collection",
                "entry": [{"resource": patient("p1")}],
            }
            whole = await client.post("/$import", json=bundle, headers=bearer(name))
            assert whole.status_code == 403
        assert (await client.get("/Patient/p1", headers=bearer("all"))).status_code == 404
        await client.post("/$import", content=line, headers={**NDJSON, **bearer("all")})
        assert (await client.get("/Patient/p1", headers=bearer("all"))).status_code == 200
