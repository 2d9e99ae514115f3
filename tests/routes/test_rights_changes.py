"""Rights that are remembered end with the commit that ends them, whichever process made it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest

from conformance.problem import Unavailable
from fhir_store.operations import Update, WriteContext
from fhir_store.rights_changes import prune_rights_changes
from fhir_store.store import Pool, Store, make_pool
from routes import authorize
from routes.bearer import Caller
from routes.care_relations import AFFILIATION_RIGHTS
from routes.scopes import parse_scopes

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def remembered_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but a change end what is remembered."""
    monkeypatch.setattr(authorize, "_SECONDS", 600.0)


ADMIN = {"authorization": "Bearer admin"}
DOCTOR = {"authorization": "Bearer doctor"}
MEMBER = {"member": {"reference": "Practitioner/d1"}}
OTHER = {"member": {"reference": "Practitioner/d2"}}


def team(*participants: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "id": "t1",
        "status": "active",
        "subject": {"reference": "Patient/p1"},
        "participant": list(participants),
    }


def role(*, is_active: bool) -> dict[str, Any]:
    return {
        "resourceType": "PractitionerRole",
        "id": "r1",
        "active": is_active,
        "practitioner": {"reference": "Practitioner/d1"},
        "organization": {"reference": "Organization/o1"},
    }


PATIENTS = (
    {"resourceType": "Organization", "id": "o1", "name": "Clinic"},
    {"resourceType": "Patient", "id": "p1"},
    {"resourceType": "Patient", "id": "p2"}
    | {"managingOrganization": {"reference": "Organization/o1"}},
    {"resourceType": "Observation", "id": "a", "status": "final", "code": {"text": "x"}}
    | {"subject": {"reference": "Patient/p1"}},
)


async def identify(authorization: str | None) -> Caller:
    if authorization == DOCTOR["authorization"]:
        scopes = parse_scopes("user/*.cruds")
        return Caller(subject="d1", scopes=scopes, fhir_user="Practitioner/d1")
    return Caller(subject="admin", scopes=parse_scopes("system/*.cruds"))


@asynccontextmanager
async def two_processes(
    serve: Any,
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Give clients of two hubs, each with a store and remembered rights of its own."""
    async with serve(identify=identify) as ours, serve(identify=identify) as others:
        for one in (*PATIENTS, team(MEMBER), role(is_active=True)):
            await put(ours, one)
        yield ours, others


async def put(client: httpx.AsyncClient, resource: dict[str, Any]) -> None:
    path = f"/{resource['resourceType']}/{resource['id']}"
    answer = await client.put(path, json=resource, headers=ADMIN)
    assert answer.status_code in (200, 201), answer.text


async def seen(client: httpx.AsyncClient) -> list[str]:
    answer = await client.get("/Patient", headers=DOCTOR)
    assert answer.status_code == 200, answer.text
    return sorted(one["resource"]["id"] for one in answer.json().get("entry", ()))


PATHS = ("/Patient/p1", "/Patient/p1/_history", "/Patient/p1/_history/1", "/Observation/a")


async def statuses(client: httpx.AsyncClient) -> set[int]:
    return {(await client.get(path, headers=DOCTOR)).status_code for path in PATHS}


async def test_the_end_of_a_right_is_known_to_the_next_request_of_every_process(
    serve: Any,
) -> None:
    async with two_processes(serve) as (ours, others):
        for _ in range(5):
            for client in (ours, others):
                assert await seen(client) == ["p1", "p2"]
                assert await statuses(client) == {200}
            await put(ours, team(OTHER))
            for client in (others, ours):
                assert await seen(client) == ["p2"]
                assert await statuses(client) == {404}
            await put(others, role(is_active=False))
            assert await seen(ours) == await seen(others) == []
            await put(ours, team(MEMBER))
            await put(ours, role(is_active=True))


async def test_an_alliance_opens_residents_from_its_commit_to_its_end(serve: Any) -> None:
    bond = {
        "resourceType": "OrganizationAffiliation",
        "id": "a1",
        "active": True,
        "organization": {"reference": "Organization/lead"},
        "participatingOrganization": {"reference": "Organization/o1"},
    }
    code = {"system": AFFILIATION_RIGHTS, "code": "residents"}
    granted = {**bond, "code": [{"coding": [code]}]}
    resident = {"resourceType": "Patient", "id": "p3"}
    async with two_processes(serve) as (ours, others):
        await put(ours, {"resourceType": "Organization", "id": "lead", "name": "Hospital"})
        below = {"resourceType": "Organization", "id": "below", "name": "Ward"}
        await put(ours, {**below, "partOf": {"reference": "Organization/lead"}})
        place = {"managingOrganization": {"reference": "Organization/below"}}
        await put(ours, {**resident, **place})
        for one, found in (
            (bond, ["p1", "p2"]),  # a register entry without the right opens nothing
            (granted, ["p1", "p2", "p3"]),
            ({**granted, "active": False}, ["p1", "p2"]),
        ):
            await put(ours, one)
            assert await seen(others) == await seen(ours) == found


@pytest.mark.parametrize(
    "path",
    [
        "/Patient?_summary=count",
        "/Observation?patient.active:missing=true&_total=accurate",
        "/Patient?_has:Observation:patient:status=final",
        "/Observation?_include=Observation:patient",
        "/Patient/p1/Observation",
        "/Patient/_history",
        "/_history",
    ],
)
async def test_no_path_shows_what_a_team_no_longer_gives(serve: Any, path: str) -> None:
    async with two_processes(serve) as (ours, others):
        before = (await others.get(path, headers=DOCTOR)).json()
        await put(ours, team(OTHER))
        after = (await others.get(path, headers=DOCTOR)).json()
        assert before != after
        assert "p1" not in str(after.get("entry"))
        assert "Observation/a" not in str(after)


async def test_without_the_generation_an_ended_right_is_still_remembered(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*_: object) -> None:
        return None

    monkeypatch.setattr(authorize, "grounds_of", unknown)
    async with two_processes(serve) as (ours, others):
        assert await seen(others) == ["p1", "p2"]
        await put(ours, team(OTHER))
        assert await seen(others) == ["p1", "p2"]


async def test_who_changes_what_own_rights_hang_on_is_not_in_the_way_of_himself(
    serve: Any,
) -> None:
    async with two_processes(serve) as (ours, _):
        changed = {**team(MEMBER, OTHER), "name": "both"}
        answer = await ours.put("/CareTeam/t1", json=changed, headers=DOCTOR)
        assert answer.status_code == 200, answer.text
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {"resource": team(MEMBER), "request": {"method": "PUT", "url": "CareTeam/t1"}},
                {"request": {"method": "GET", "url": "Patient/p1"}},
            ],
        }
        answer = await ours.post("/", json=bundle, headers=DOCTOR)
        assert answer.status_code == 200, answer.text
        found = [one["response"]["status"] for one in answer.json()["entry"]]
        assert found == ["200 OK", "200 OK"]


async def generation(pool: Pool) -> int:
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT rights_generation()")
        return int((await cursor.fetchall())[0][0])


async def test_new_relatives_move_nobodys_rights(serve: Any, database_url: str) -> None:
    """Each admission brings some; the clinicians' requests would never come to an end."""
    relative = {"resourceType": "RelatedPerson", "patient": {"reference": "Patient/p1"}}
    async with two_processes(serve) as (ours, _), make_pool(database_url, size=1) as pool:
        before = await generation(pool)
        for id_ in ("k1", "k2"):
            await put(ours, {**relative, "id": id_})
        assert await generation(pool) == before
        await put(ours, {**relative, "id": "k1", "active": False})
        assert await generation(pool) != before


async def test_changes_that_everybody_has_seen_go_and_take_no_right_with_them(
    serve: Any, database_url: str
) -> None:
    async with two_processes(serve) as (ours, others):
        assert await seen(others) == ["p1", "p2"]
        async with make_pool(database_url, size=1) as pool, pool.connection() as connection:

            async def aged(minutes: int) -> int:
                await connection.execute(
                    "UPDATE rights_change SET at = at - %s * interval '1 minute'", (minutes,)
                )
                await prune_rights_changes(connection)
                cursor = await connection.execute("SELECT count(*)::int4 FROM rights_change")
                return int((await cursor.fetchall())[0][0])

            assert await aged(1) > 0
            assert await aged(2) == 0
        assert await seen(others) == ["p1", "p2"]
        await put(ours, team(OTHER))
        assert await seen(others) == ["p2"]


async def test_work_is_done_again_unless_it_has_committed_something(database_url: str) -> None:
    patient = Update(resource={"resourceType": "Patient", "id": "p"})
    async with make_pool(database_url, size=2) as pool:
        store = Store(pool)
        forgotten: list[int] = []
        store.when_rights_move(lambda _: forgotten.append(1))
        context = WriteContext(actor="t", at=datetime.now(UTC))

        async def outdated(*, writes: bool) -> str:
            if writes:
                await store.write([patient], context=context)
            if not forgotten:
                async with pool.connection() as connection:
                    await connection.execute("SELECT require_rights(1)")
            return "done"

        with pytest.raises(Unavailable) as refused:
            await store.at_present_rights(lambda: outdated(writes=True))
        assert refused.value.issues[0].key == "rights-moved"
        forgotten.clear()
        assert await store.at_present_rights(lambda: outdated(writes=False)) == "done"
        assert len(forgotten) == 1

        async def broken() -> None:
            async with pool.connection() as connection:
                await connection.execute("SELECT 1 / 0")

        with pytest.raises(psycopg.errors.DivisionByZero):
            await store.at_present_rights(broken)
