"""What the calendar does to contracts: to the instant, once, and one failure stops no other."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from contracting import (
    APPROVE,
    SIGNING,
    WORLD,
    application,
    asked,
    signing,
    to_be_signed,
    world,
)
from days import next_year, today
from typer.testing import CliRunner

from care.fulfilment.schedule import tasks_for
from care.periods import LOCAL, end_of, start_of
from fhir_store.claims import ending_between, take_over
from fhir_store.operations import Claim, Delete, Update, WriteContext
from fhir_store.store import Store, make_pool
from ops.cli import app
from ops.flow_contracts import ContractCalendar
from ops.flow_deaths import Deaths
from routes.operations.contract_writing import Following

SECOND = datetime.timedelta(seconds=1)
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.asynccontextmanager
async def calendar(url: str, part: int = 200) -> AsyncIterator[ContractCalendar]:
    async with make_pool(url, size=3) as pool:
        store = Store(pool)
        following = Following(store.searcher, tasks_for=tasks_for)
        yield ContractCalendar(store=store, following=following, part=part)


async def signed(client: httpx.AsyncClient, contract_id: str) -> None:
    await to_be_signed(client, contract_id)
    answer = await client.post(f"/Contract/{contract_id}/$sign", json=SIGNING)
    assert answer.status_code == 200, answer.text


async def service(client: httpx.AsyncClient, contract_id: str) -> None:
    task = {
        "resourceType": "Task",
        "id": f"service-of-{contract_id}",
        "status": "requested",
        "intent": "order",
        "basedOn": [{"reference": f"Contract/{contract_id}"}],
        "for": {"reference": "Patient/p1"},
    }
    assert (await client.put(f"/Task/{task['id']}", json=task)).status_code == 201


async def status(client: httpx.AsyncClient, path: str) -> str:
    return str((await client.get(f"/{path}")).json()["status"])


async def test_a_contract_ends_with_its_last_day_at_local_midnight_and_once(
    database_url: str,
) -> None:
    async with world(database_url) as client, calendar(database_url) as by_day:
        await signed(client, "c1")
        await service(client, "c1")
        midnight = end_of(next_year())
        before = await by_day.look(midnight - SECOND)
        assert (before.expired, await status(client, "Contract/c1")) == (0, "executed")
        figures = await by_day.look(midnight)
        assert (figures.expired, figures.failed) == (1, [])
        assert await status(client, "Contract/c1") == "terminated"
        assert await status(client, "Task/service-of-c1") == "cancelled"
        assert (await by_day.look(midnight)).done == 0
        who = (await client.get("/Provenance?target=Contract/c1")).json()["entry"]
        codes = [e["resource"]["activity"]["coding"][0]["code"] for e in who]
        assert codes.count("expire") == 1
        await signed(client, "c2")


async def test_many_processes_end_each_contract_once(database_url: str) -> None:
    async with world(database_url) as client, calendar(database_url, part=3) as by_day:
        for number in range(10):
            person = f"q{number}"
            await client.put(f"/Patient/{person}", json={**WORLD[1], "id": person})
            wish = application(f"c{number}", 60.00, person)
            await client.post("/Contract/$submit-application", json=wish)
            await client.post(f"/Contract/c{number}/$review", json=APPROVE)
            answer = await client.post(
                f"/Contract/c{number}/$sign", json=signing(f"Patient/{person}")
            )
            assert answer.status_code == 200, answer.text
        over = end_of(next_year())
        found = await asyncio.gather(*(by_day.look(over) for _ in range(3)))
        again = await by_day.look(over)
        assert sum(one.expired for one in (*found, again)) == 10
        for number in range(10):
            versions = (await client.get(f"/Contract/c{number}/_history")).json()["entry"]
            assert [e["resource"]["status"] for e in versions].count("terminated") == 1


async def test_a_contract_begins_on_its_first_day(database_url: str) -> None:
    async with world(database_url) as client, calendar(database_url) as by_day:
        first = today() + datetime.timedelta(days=10)
        wish = application("c1")
        for part in wish["parameter"]:
            if part["name"] == "start":
                part["valueDate"] = first.isoformat()
        await client.post("/Contract/$submit-application", json=wish)
        await client.post("/Contract/c1/$review", json=APPROVE)
        await client.post("/Contract/c1/$sign", json=SIGNING)
        assert await status(client, "Contract/c1") == "executable"
        assert (await by_day.look(start_of(first) - SECOND)).started == 0
        assert (await by_day.look(start_of(first))).started == 1
        assert await status(client, "Contract/c1") == "executed"
        assert await status(client, "Task/c1-start-contract") == "completed"
        assert (await by_day.look(start_of(first))).done == 0


async def test_a_delegation_that_is_over_is_closed_in_the_history(database_url: str) -> None:
    async with world(database_url) as client, calendar(database_url) as by_day:
        await client.put("/Practitioner/d2", json={**WORLD[2], "id": "d2"})
        await signed(client, "c1")
        wish = asked(
            {"name": "from", "valueReference": {"reference": "Practitioner/d1"}},
            {"name": "to", "valueReference": {"reference": "Practitioner/d2"}},
            {"name": "end", "valueDate": today().isoformat()},
        )
        await client.post("/Contract/c1/$delegate", json=wish)
        team = (await client.get("/CareTeam/t1")).json()
        task = f"Task/{team['participant'][1]['id']}"
        assert (await by_day.look(end_of(today()) - SECOND)).delegations == 0
        assert (await by_day.look(end_of(today()))).delegations == 1
        assert await status(client, task) == "completed"


async def test_what_cannot_begin_is_told_and_stops_no_other(database_url: str) -> None:
    async with world(database_url) as client, calendar(database_url, part=2) as by_day:
        first = today() + datetime.timedelta(days=10)
        for number in range(3):
            person = f"q{number}"
            await client.put(f"/Patient/{person}", json={**WORLD[1], "id": person})
            await client.put(
                f"/PlanDefinition/plan{number}", json={**WORLD[-1], "id": f"plan{number}"}
            )
            wish = application(f"c{number}", 60.00, person)
            for part in wish["parameter"]:
                if part["name"] == "start":
                    part["valueDate"] = first.isoformat()
                if part["name"] == "package":
                    part["part"][0]["valueReference"]["reference"] = f"PlanDefinition/plan{number}"
            await client.post("/Contract/$submit-application", json=wish)
            await client.post(f"/Contract/c{number}/$review", json=APPROVE)
            answer = await client.post(
                f"/Contract/c{number}/$sign", json=signing(f"Patient/{person}")
            )
            assert answer.json()["status"] == "executable", answer.text
        async with by_day.store.begin() as transaction:
            context = WriteContext(actor="t", at=datetime.datetime.now(datetime.UTC))
            # No law keeps this store from what the hub refuses.
            await transaction.apply([Delete(type="PlanDefinition", id="plan0")], context=context)
            ghost = Claim(
                kind="contract-start",
                key="Contract/ghost",
                holder="Contract/ghost",
                period=(start_of(today()), None),
            )
            await transaction.apply([ghost], context=context)
        figures = await by_day.look(start_of(first))
        assert (figures.started, figures.failed) == (2, ["Contract/c0"])
        assert await status(client, "Contract/c0") == "executable"


async def test_a_contract_whose_messages_are_unsound_stops_no_other(database_url: str) -> None:
    async with world(database_url) as client, calendar(database_url) as by_day:
        await client.put("/Patient/p2", json={**WORLD[1], "id": "p2"})
        await signed(client, "c1")
        await client.post("/Contract/$submit-application", json=application("c2", 60.00, "p2"))
        await client.post("/Contract/c2/$review", json=APPROVE)
        answer = await client.post("/Contract/c2/$sign", json=signing("Patient/p2"))
        assert answer.status_code == 200, answer.text
        unsound = {
            "resourceType": "CommunicationRequest",
            "id": "m1",
            "basedOn": [{"reference": "Contract/c1"}],
            "status": "active",
            "subject": {"reference": "Patient/p1"},
            "sender": {"reference": "CareTeam/t1"},
        }
        context = WriteContext(actor="t", at=datetime.datetime.now(datetime.UTC))
        async with by_day.store.begin() as transaction:
            await transaction.apply([Update(resource=unsound)], context=context)
        figures = await by_day.look(end_of(next_year()))
        assert (figures.expired, figures.failed) == (1, ["Contract/c1"])
        assert await status(client, "Contract/c1") == "executed"
        assert await status(client, "Contract/c2") == "terminated"


async def test_what_ends_soon_is_found_unless_it_is_renewed(database_url: str) -> None:
    async with world(database_url) as client, calendar(database_url) as by_day:
        await signed(client, "c1")
        over = end_of(next_year())

        async def found() -> list[str]:
            async with by_day.store.pool.connection() as connection:
                soon = await ending_between(
                    connection, "family-doctor", over - SECOND, over + SECOND, 10
                )
                assert await take_over(connection, "family-doctor", over - SECOND, 10) == []
            return [one.holder for one in soon]

        assert await found() == ["Contract/c1"]
        later = next_year() + datetime.timedelta(days=300)
        wish: dict[str, Any] = {
            **SIGNING,
            "parameter": [*SIGNING["parameter"], {"name": "end", "valueDate": later.isoformat()}],
        }
        renewed = await client.post("/Contract/c1/$renew", json=wish)
        assert renewed.status_code == 200, renewed.text
        assert renewed.json()["legalState"]["coding"][0]["code"] == "renewed"
        assert await found() == []
        twice = await client.post("/Contract/c1/$renew", json=wish)
        assert twice.status_code == 409
        figures = await by_day.look(over)
        assert (figures.expired, figures.started) == (1, 1)
        new = renewed.json()["id"]
        assert await status(client, f"Contract/{new}") == "executed"
        again = (await client.get(f"/Contract/{new}")).json()
        assert again["legalState"]["coding"][0]["code"] == "renewed"


async def test_a_death_from_anywhere_closes_contracts_and_stops_messages(database_url: str) -> None:
    async with world(database_url) as client, make_pool(database_url, size=3) as pool:
        store = Store(pool)
        deaths = Deaths(store=store, following=Following(store.searcher))
        await signed(client, "c1")
        await service(client, "c1")
        await to_be_signed(client, "c2")
        message = {
            "resourceType": "CommunicationRequest",
            "id": "m1",
            "status": "active",
            "subject": {"reference": "Patient/p1"},
        }
        await client.put("/CommunicationRequest/m1", json=message)
        await client.put("/Patient/p2", json={**WORLD[1], "id": "p2"})
        other = {**message, "id": "m2", "subject": {"reference": "Patient/p2"}}
        await client.put("/CommunicationRequest/m2", json=other)
        for person in ("p1", "p2"):
            dead = {**WORLD[1], "id": person, "deceasedDateTime": today().isoformat()}
            await client.put(f"/Patient/{person}", json=dead)
        async with asyncio.timeout(30):
            while await status(client, "Contract/c1") == "executed":
                if not await deaths.step():
                    await asyncio.sleep(0.05)
            while await status(client, "CommunicationRequest/m2") == "active":
                if not await deaths.step():
                    await asyncio.sleep(0.05)
        found = {
            path: await status(client, path)
            for path in (
                "Contract/c1",
                "Contract/c2",
                "Task/service-of-c1",
                "CommunicationRequest/m1",
            )
        }
        assert found == {
            "Contract/c1": "revoked",
            "Contract/c2": "revoked",
            "Task/service-of-c1": "cancelled",
            "CommunicationRequest/m1": "revoked",
        }


def test_the_command_does_a_day_and_refuses_one_that_has_not_begun(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QIAO_DATABASE_URL", database_url)

    async def make() -> None:
        async with world(database_url) as client:
            await signed(client, "c1")
            async with make_pool(database_url, size=1) as pool, pool.connection() as connection:
                yesterday = start_of(today())
                await connection.execute(
                    "UPDATE claim SET period = tstzrange(lower(period) - interval '1 day', %s)"
                    " WHERE kind = 'family-doctor'",
                    [yesterday],
                )

    asyncio.run(make())
    tomorrow = (datetime.datetime.now(LOCAL) + datetime.timedelta(days=1)).date()
    early = CliRunner().invoke(app, ["contracts", "run-day", "--day", tomorrow.isoformat()])
    assert early.exit_code == 4
    assert "run-day --day" in early.stderr
    counted = CliRunner().invoke(app, ["contracts", "due", "--json"])
    assert '"over": 1' in counted.stdout
    # The claim is over but the agreement is not: it is told, and stays.
    done = CliRunner().invoke(app, ["contracts", "run-day", "--json"])
    assert done.exit_code == 5, done.output
    assert '"failed": ["Contract/c1"]' in done.stdout
