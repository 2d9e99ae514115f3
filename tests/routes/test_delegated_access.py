"""A doctor who stands in sees the team's residents while the delegation lasts, and no longer."""

import asyncio
import datetime
from typing import Any

import httpx
import pytest

from conformance.cphc.artefacts import search_parameters
from conformance.problem import TooCostly
from fhir_store.custom_parameters import build_step, register_written
from fhir_store.operations import Update, WriteContext
from fhir_store.store import Store, make_pool
from routes import team_relations
from routes.authorize import Authorizer
from routes.bearer import Caller
from routes.scopes import parse_scopes
from routes.team_relations import teams_of

pytestmark = pytest.mark.anyio

DELEGATED = "https://fhir.qiao.example/cphc/StructureDefinition/cphc-delegated-from"
NOW = datetime.datetime.now(datetime.UTC)


def standing_in(member: str, end: datetime.datetime) -> dict[str, Any]:
    return {
        "extension": [{"url": DELEGATED, "valueReference": {"reference": "Practitioner/d1"}}],
        "member": {"reference": member},
        "period": {
            "start": (NOW - datetime.timedelta(days=1)).isoformat(),
            "end": end.isoformat(),
        },
    }


def team(id_: str, *participants: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "id": id_,
        "status": "active",
        "participant": list(participants),
    }


def contract(id_: str, patient: str, status: str = "executed") -> dict[str, Any]:
    return {
        "resourceType": "Contract",
        "id": id_,
        "status": status,
        "subject": [{"reference": f"Patient/{patient}"}],
        "term": [
            {
                "offer": {"text": "基础包"},
                "action": [
                    {
                        "type": {"text": "履约"},
                        "intent": {"text": "服务"},
                        "status": {"text": "complete"},
                        "performer": {"reference": "CareTeam/t1"},
                    }
                ],
            }
        ],
    }


async def write(store: Store, *resources: dict[str, Any]) -> None:
    context = WriteContext(actor="t", at=datetime.datetime.now(datetime.UTC))
    await store.write([Update(resource=one) for one in resources], context=context)


async def with_parameters(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store index contracts by their team, at once."""
    monkeypatch.setattr("fhir_store.custom_parameters.SETTLE", 0.0)
    await write(store, *(p for p in search_parameters() if p["code"] == "care-team"))
    async with asyncio.timeout(60), store.pool.connection() as connection:
        while not await register_written(connection):
            await asyncio.sleep(0.05)
        await store.parameters.refresh(connection)
        while await build_step(connection):
            pass
        await store.parameters.refresh(connection)


def doctor(id_: str) -> Caller:
    return Caller(
        subject=id_,
        client="t",
        scopes=parse_scopes("user/*.cruds"),
        fhir_user=f"Practitioner/{id_}",
    )


async def test_a_delegation_opens_the_residents_under_contract_until_its_last_instant(
    serve: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)
    async with make_pool(database_url, size=4) as pool:
        store = Store(pool)
        await with_parameters(store, monkeypatch)
        member = {"member": {"reference": "Practitioner/d1"}}
        await write(
            store,
            *({"resourceType": "Patient", "id": p} for p in ("own", "ended", "other")),
            team(
                "t1", member, standing_in("Practitioner/d2", end), standing_in("CareTeam/t2", end)
            ),
            team("t2", {"member": {"reference": "Practitioner/d3"}}),
            contract("c1", "own"),
            contract("c2", "ended", "terminated"),
            {**contract("c3", "other"), "term": [{"offer": {"text": "x"}}]},
        )
        callers = {name: doctor(name) for name in ("d1", "d2", "d3", "d4")}

        async def identify(authorization: str | None) -> Caller:
            return callers[(authorization or "").removeprefix("Bearer ")]

        async def seen(client: httpx.AsyncClient, who: str) -> list[str]:
            answer = await client.get("/Patient", headers={"authorization": f"Bearer {who}"})
            return sorted(e["resource"]["id"] for e in answer.json().get("entry", ()))

        rights = Authorizer(store).authorize
        async with serve(store=store, identify=identify, authorize=rights) as client:
            before = {who: await seen(client, who) for who in callers}
            assert before == {"d1": ["own"], "d2": ["own"], "d3": ["own"], "d4": []}
            read = await client.get("/Contract/c1", headers={"authorization": "Bearer d2"})
            assert read.status_code == 200
            wait = end - datetime.datetime.now(datetime.UTC)
            await asyncio.sleep(max(0.0, wait.total_seconds()) + 0.05)
            after = {who: await seen(client, who) for who in callers}
            assert after == {"d1": ["own"], "d2": [], "d3": [], "d4": []}
            read = await client.get("/Contract/c1", headers={"authorization": "Bearer d2"})
            assert read.status_code == 404


async def test_a_team_of_a_patient_counts_while_the_participation_lasts(
    serve: Any, database_url: str
) -> None:
    over = standing_in("Practitioner/d2", NOW - datetime.timedelta(hours=1))
    lasting = standing_in("Practitioner/d2", NOW + datetime.timedelta(hours=1))
    async with make_pool(database_url, size=4) as pool:
        store = Store(pool)
        await write(
            store,
            {"resourceType": "Patient", "id": "own"},
            {"resourceType": "Patient", "id": "other"},
            {**team("t1", lasting), "subject": {"reference": "Patient/own"}},
            {**team("t2", over), "subject": {"reference": "Patient/other"}},
        )
        teams = await teams_of(store, "Practitioner/d2", datetime.datetime.now(datetime.UTC))
        assert (teams.current, teams.lapsed) == (("t1",), ("t2",))
        assert teams.until == NOW + datetime.timedelta(hours=1)

        async def identify(_authorization: str | None) -> Caller:
            return doctor("d2")

        rights = Authorizer(store).authorize
        async with serve(store=store, identify=identify, authorize=rights) as client:
            found = (await client.get("/Patient")).json()["entry"]
            assert [e["resource"]["id"] for e in found] == ["own"]


async def test_whoever_is_in_too_many_teams_is_told_to_close_some(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team_relations, "_PAGE", 2)
    monkeypatch.setattr(team_relations, "_PAGES", 1)
    member = {"member": {"reference": "Practitioner/d1"}}
    teams = [team(f"t{number}", member) for number in range(3)]
    context = WriteContext(actor="test", at=NOW)
    async with make_pool(database_url, size=1) as pool:
        store = Store(pool)
        await store.write([Update(resource=one) for one in teams], context=context)
        with pytest.raises(TooCostly) as refused:
            await teams_of(store, "Practitioner/d1", NOW)
        assert refused.value.issues[0].key == "teams-too-many"
        closed = Update(resource={**teams[0], "status": "inactive"})
        await store.write([closed], context=context)
        assert len((await teams_of(store, "Practitioner/d1", NOW)).current) == 2
