"""The hub's own audit as AuditEvents over HTTP, beside those that clients store."""

from typing import Any

import psycopg
import pytest

from conformance.structure import check
from routes.bearer import Caller
from routes.scopes import parse_scopes

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}
STORED = {
    "resourceType": "AuditEvent",
    "type": {"code": "rest"},
    "action": "R",
    "recorded": "2026-01-01T00:00:00Z",
    "agent": [{"requestor": True, "who": {"reference": "Practitioner/7"}}],
    "source": {"observer": {"display": "another system"}},
}


def note_accesses(database_url: str) -> None:
    """Three accesses of three days: a read, a search and a refused delete."""
    with psycopg.connect(database_url) as connection:
        tid = connection.execute("SELECT tid FROM audit WHERE fid = 'p1' LIMIT 1").fetchone()
        assert tid is not None
        for day, actor, action, fid, outcome in (
            (1, "Practitioner/7", "read", "p1", 0),
            (2, "Practitioner/8", "search-type", None, 0),
            (3, "Practitioner/7", "delete", "p2", 4),
        ):
            connection.execute(
                "INSERT INTO audit (at, actor, trace_id, action, tid, fid, outcome, detail)"
                " VALUES (%s, %s, 't', %s, %s, %s, %s, 'name=x')",
                (f"2025-01-0{day}T12:00:00Z", actor, action, tid[0], fid, outcome),
            )


async def found(client: Any, asked: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/AuditEvent?{asked}")
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


def actions(events: list[dict[str, Any]]) -> list[str]:
    return [event["subtype"][0]["code"] for event in events if "subtype" in event]


async def test_the_audit_is_asked_by_its_parameters_and_answers_valid_events(
    serve: Any, database_url: str
) -> None:
    async with serve() as client:
        await client.put("/Patient/p1", json={"resourceType": "Patient", "id": "p1"}, headers=JSON)
        note_accesses(database_url)
        everything = await found(client, "")
        assert actions(everything) == ["delete", "search-type", "read", "update"]
        for event in everything:
            assert check(event) == []
            again = await client.get(f"/AuditEvent/{event['id']}")
            assert again.json() == event
        for asked, expected in (
            ("date=2025-01-02", ["search-type"]),
            ("date=ge2025-01-02&date=lt2025-01-04", ["delete", "search-type"]),
            ("date=gt2025-01-02&date=le2025-01-03", ["delete"]),
            ("agent=Practitioner/7", ["delete", "read"]),
            (f"agent={client.base_url}Practitioner/8", ["search-type"]),
            ("entity=Patient/p1", ["read", "update"]),
            ("entity=Patient/p1&agent=Practitioner/7", ["read"]),
            ("action=D", ["delete"]),
            ("action=R", ["search-type", "read"]),
            ("action=R,U", ["search-type", "read", "update"]),
            ("subtype=http://hl7.org/fhir/restful-interaction|read", ["read"]),
            ("subtype=urn:other|read", []),
            ("type=rest&outcome=4", ["delete"]),
            ("type=login", []),
            ("site=x", []),
        ):
            assert actions(await found(client, asked)) == expected, asked


async def test_pages_lead_from_stored_events_into_the_audit_without_a_gap(
    serve: Any, database_url: str
) -> None:
    async with serve() as client:
        await client.put("/Patient/p1", json={"resourceType": "Patient", "id": "p1"}, headers=JSON)
        made = [await client.post("/AuditEvent", json=STORED, headers=JSON) for _ in range(2)]
        assert [one.status_code for one in made] == [201, 201]
        note_accesses(database_url)
        whole = [event["id"] for event in await found(client, "_count=100")]
        assert len(whole) == len(set(whole)) == 8  # 2 stored, 3 of their writes, 3 noted
        assert set(whole[:2]) == {one.json()["id"] for one in made}
        for size in (1, 2, 3):
            seen, url = [], f"/AuditEvent?_count={size}"
            while url:
                page = (await client.get(url)).json()
                seen += [entry["resource"]["id"] for entry in page["entry"]]
                url = next((x["url"] for x in page["link"] if x["relation"] == "next"), "")
            assert seen == whole


async def test_stored_events_are_found_and_a_question_the_audit_cannot_answer_says_so(
    serve: Any, database_url: str
) -> None:
    async with serve() as client:
        made = (await client.post("/AuditEvent", json=STORED, headers=JSON)).json()
        assert (await client.get(f"/AuditEvent/{made['id']}")).json() == made
        by_id = await found(client, f"agent=Practitioner/7&_sort=-date&_id={made['id']}")
        assert by_id[0] == made
        assert by_id[1]["issue"][0]["details"]["coding"][0]["code"] == "audit-left-out"
        for wrong in ("/AuditEvent/999-1", "/AuditEvent/nobody"):
            answer = await client.get(wrong)
            assert answer.status_code == 404
            assert answer.json()["resourceType"] == "OperationOutcome"
        for wrong in ("date=yesterday", "_cursor=audit.x", "nothing=1"):
            answer = await client.get(f"/AuditEvent?{wrong}")
            assert answer.status_code == 400
            assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    ("scope", "status", "sees"),
    [
        ("system/AuditEvent.rs", 200, True),
        ("system/*.read", 200, True),
        ("system/AuditEvent.rs?action=R", 200, False),
        ("user/*.rs", 200, False),
        ("patient/*.rs", 200, False),
        ("system/Patient.rs", 403, False),
    ],
)
async def test_only_who_may_read_every_audit_event_sees_the_hub_s_own(
    serve: Any, database_url: str, scope: str, status: int, sees: bool
) -> None:
    who = Caller(subject="s", scopes=parse_scopes(scope), patient="p1", fhir_user="Practitioner/7")

    async def identify(_authorization: str | None) -> Caller:
        return who

    async with serve() as client:
        await client.put("/Patient/p1", json={"resourceType": "Patient", "id": "p1"}, headers=JSON)
        own = (await found(client, ""))[0]["id"]
    async with serve(identify=identify) as client:
        asked = await client.get("/AuditEvent?entity=Patient/p1")
        assert asked.status_code == status
        assert bool(asked.json().get("entry")) is sees
        read = await client.get(f"/AuditEvent/{own}")
        assert read.status_code == (200 if sees else 404 if status == 200 else 403)
        later = await client.get("/AuditEvent?_cursor=audit.4611686018427387904-0")
        assert later.status_code == (200 if sees else 400 if status == 200 else 403)


@pytest.mark.parametrize("id_", ["17-3", "999999999999999999-0"])
async def test_no_client_stores_an_event_under_an_id_of_the_hub_s_own(serve: Any, id_: str) -> None:
    async with serve() as client:
        sent = {**STORED, "id": id_}
        refused = await client.put(f"/AuditEvent/{id_}", json=sent, headers=JSON)
        assert refused.status_code == 400
        assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "audit-event-id"
        entry = {"request": {"method": "PUT", "url": f"AuditEvent/{id_}"}, "resource": sent}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        assert (await client.post("", json=bundle, headers=JSON)).status_code == 400
        mended = await client.post("/AuditEvent", json=sent, headers=JSON)
        assert mended.status_code == 201
        other = {**STORED, "id": f"x{id_}"}
        assert (await client.put(f"/AuditEvent/x{id_}", json=other, headers=JSON)).is_success
