"""A contract ends by a death that the record knows, or that is put on record with its proof."""

import datetime
from typing import Any

import httpx
import pytest
from contracting import SIGNING, WORLD, asked, to_be_signed, world
from days import today

from care.contract import death

YESTERDAY = (today() - datetime.timedelta(days=1)).isoformat()
DEATH: dict[str, Any] = {"name": "reason", "valueCode": "03"}
WHEN: dict[str, Any] = {"name": "deceased", "valueDateTime": YESTERDAY}
PROOF: dict[str, Any] = {
    "name": "evidence",
    "valueReference": {"reference": "DocumentReference/e1"},
}
CERTIFICATE: dict[str, Any] = {
    "resourceType": "DocumentReference",
    "id": "e1",
    "status": "current",
    "type": {"text": "死亡医学证明"},
    "subject": {"reference": "Patient/p1"},
    "content": [{"attachment": {"title": "死亡医学证明"}}],
}
MESSAGE: dict[str, Any] = {
    "resourceType": "CommunicationRequest",
    "id": "m1",
    "status": "active",
    "subject": {"reference": "Patient/p1"},
    "payload": [{"contentString": "请来复诊"}],
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def in_effect(client: httpx.AsyncClient) -> None:
    await to_be_signed(client, "c1")
    assert (await client.post("/Contract/c1/$sign", json=SIGNING)).status_code == 200
    for one in (CERTIFICATE, MESSAGE):
        made = await client.put(f"/{one['resourceType']}/{one['id']}", json=one)
        assert made.status_code == 201, made.text


async def end(client: httpx.AsyncClient, *parts: dict[str, Any]) -> httpx.Response:
    return await client.post("/Contract/c1/$terminate", json=asked(*parts))


async def refused(client: httpx.AsyncClient, *parts: dict[str, Any]) -> str:
    answer = await end(client, *parts)
    assert answer.status_code in (400, 422), answer.text
    assert (await client.get("/Contract/c1")).json()["status"] == "executed"
    assert (
        not {"deceasedBoolean", "deceasedDateTime"}
        & (await client.get("/Patient/p1")).json().keys()
    )
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])


@pytest.mark.anyio
async def test_the_advice_of_the_refusal_puts_the_death_on_record(database_url: str) -> None:
    async with world(database_url) as client:
        await in_effect(client)
        assert await refused(client, DEATH) == "death-not-recorded"
        closed = await end(client, DEATH, WHEN, PROOF)
        assert closed.json()["status"] == "revoked", closed.text
        resident = (await client.get("/Patient/p1")).json()
        assert resident["deceasedDateTime"] == YESTERDAY
        assert resident["name"] == WORLD[1]["name"]
        assert (await client.get("/CommunicationRequest/m1")).json()["status"] == "revoked"
        told = (await client.get("/Provenance?target=Patient/p1")).json()["entry"][0]["resource"]
        assert told["activity"]["coding"][0]["code"] == "record-death"
        assert told["entity"][0]["what"]["reference"] == "DocumentReference/e1"


@pytest.mark.anyio
async def test_a_death_on_record_is_enough_and_another_day_is_not_written_over_it(
    database_url: str,
) -> None:
    async with world(database_url) as client:
        await in_effect(client)
        dead = {**WORLD[1], "deceasedDateTime": f"{today().isoformat()}T00:30:00+08:00"}
        await client.put("/Patient/p1", json=dead)
        answer = await end(client, DEATH, WHEN, PROOF)
        assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "death-differs"
        assert (await end(client, DEATH)).json()["status"] == "revoked"


@pytest.mark.anyio
async def test_that_somebody_died_becomes_the_day_on_which(database_url: str) -> None:
    async with world(database_url) as client:
        await in_effect(client)
        await client.put("/Patient/p1", json={**WORLD[1], "deceasedBoolean": True})
        assert (await end(client, DEATH, WHEN, PROOF)).json()["status"] == "revoked"
        resident = (await client.get("/Patient/p1")).json()
        assert resident["deceasedDateTime"] == YESTERDAY
        assert "deceasedBoolean" not in resident


@pytest.mark.anyio
async def test_a_death_without_proof_or_of_no_possible_day_is_refused(database_url: str) -> None:
    tomorrow = (today() + datetime.timedelta(days=1)).isoformat()
    days = (tomorrow, "1950-01-01", "2026-02", "20260101", "yesterday", f"{YESTERDAY}T10:00:00")
    async with world(database_url) as client:
        await in_effect(client)
        assert await refused(client, DEATH, WHEN) == "death-evidence"
        assert await refused(client, DEATH, PROOF) == "operation-parameter"
        left = {"name": "reason", "valueCode": "02"}
        assert await refused(client, left, WHEN, PROOF) == "death-reason"
        for day in days:
            when = {"name": "deceased", "valueDateTime": day}
            assert await refused(client, DEATH, when, PROOF) == "death-when", day
        for wrong in ({"status": "entered-in-error"}, {"subject": {"reference": "Patient/p2"}}):
            await client.put("/Patient/p2", json={**WORLD[1], "id": "p2"})
            await client.put("/DocumentReference/e1", json={**CERTIFICATE, **wrong})
            assert await refused(client, DEATH, WHEN, PROOF) == "death-evidence"


@pytest.mark.anyio
async def test_without_the_rule_the_dead_would_be_alive_on_record(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(death, "recorded", lambda *_: ())
    async with world(database_url) as client:
        await in_effect(client)
        assert (await end(client, DEATH)).json()["status"] == "revoked"
        assert "deceasedDateTime" not in (await client.get("/Patient/p1")).json()
