"""A database that is away is told with advice on every path, and comes back by itself."""

import asyncio
from typing import Any

import httpx
import psycopg
import pytest

from fhir_store import store

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}
PATIENT = {"resourceType": "Patient", "id": "p1"}
PATHS = (
    ("GET", "/Patient/p1"),
    ("GET", "/Patient/p1/_history/1"),
    ("GET", "/Patient/p1/_history"),
    ("GET", "/Patient"),
    ("GET", "/Patient?name=x&_include=Patient:organization"),
    ("GET", "/Patient/p1/$everything"),
    ("GET", "/Patient/p1/*"),
    ("GET", "/Patient/p1/$meta"),
    ("GET", "/Patient/$meta"),
    ("PUT", "/Patient/p1"),
    ("POST", "/Patient"),
    ("DELETE", "/Patient/p1"),
    ("DELETE", "/Patient?identifier=urn:x|1"),
)


async def statuses(client: httpx.AsyncClient) -> dict[str, int]:
    """Ask every path once and return the answers."""
    found = {}
    for method, path in PATHS:
        body = PATIENT if method in ("PUT", "POST") else None
        answer = await client.request(method, path, json=body, headers=JSON)
        found[f"{method} {path}"] = answer.status_code
        if answer.status_code == 503:
            assert answer.json()["issue"][0]["code"] in ("transient", "throttled")
            assert answer.headers["retry-after"]
    return found


async def test_lost_connections_are_no_faults_of_ours(serve: Any, database_url: str) -> None:
    async with serve() as client:
        await client.put("/Patient/p1", json=PATIENT, headers=JSON)
        for path in PATHS:
            await asyncio.to_thread(end_connections, database_url)
            found = (await statuses(client)).values()
            assert all(one < 500 or one == 503 for one in found), path


async def test_a_database_that_lets_nobody_in_is_not_waited_for_long(
    serve: Any, database_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "WAIT_SECONDS", 0.5)
    async with serve() as client:
        await client.put("/Patient/p1", json=PATIENT, headers=JSON)
        await asyncio.to_thread(let_in, postgres_url, database_url, is_open=False)
        try:
            refused = await asyncio.gather(
                client.get("/Patient/p1"),
                client.get("/Patient?name=x"),
                client.put("/Patient/p1", json={**PATIENT, "active": True}, headers=JSON),
            )
        finally:
            await asyncio.to_thread(let_in, postgres_url, database_url, is_open=True)
        assert {one.status_code for one in refused} <= {429, 503}, [one.text for one in refused]
        for _ in range(100):
            if (await client.get("/Patient/p1")).status_code == 200:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("it stays away")


def let_in(server: str, url: str, *, is_open: bool) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {is_open}")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )


def end_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
