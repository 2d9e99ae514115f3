"""Every access leaves one note or one audit row, refused ones too."""

from typing import Any

import psycopg
import pytest

from fhir_store.audit import Access
from routes.bearer import Caller, not_authenticated

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}
PATIENT = {"resourceType": "Patient", "id": "p1"}


async def test_reads_and_refusals_are_noted_and_writes_bring_their_own_row(
    serve: Any, notes: list[Access], database_url: str
) -> None:
    async with serve() as client:
        await client.put("/Patient/p1", json=PATIENT, headers=JSON)
        await client.get("/Patient/p1", headers={"x-request-id": "r-1"})
        await client.get("/Patient/p1/_history/1")
        await client.get("/Patient/_history?_count=3")
        await client.get("/Patient/never")
        await client.put("/Patient/p2", json=PATIENT, headers=JSON)
        await client.get("/metadata")
    assert [(note.action, note.type, note.id, note.outcome) for note in notes] == [
        ("read", "Patient", "p1", 0),
        ("vread", "Patient", "p1", 0),
        ("history-type", "Patient", None, 0),
        ("read", "Patient", "never", 4),
        ("update", "Patient", "p2", 4),
    ]
    assert (notes[0].trace_id, notes[0].actor) == ("r-1", "anybody")
    assert (notes[1].version, notes[2].detail) == (1, "_count=3")
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT action, fid FROM audit").fetchall()
    assert rows == [("update", "p1")]


async def test_each_entry_of_a_batch_is_noted(serve: Any, notes: list[Access]) -> None:
    entries = [{"request": {"method": "GET", "url": f"Patient/{n}"}} for n in range(3)]
    sent = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    async with serve() as client:
        await client.post("", json=sent, headers=JSON)
    assert sorted((note.action, note.id) for note in notes) == [
        ("read", "0"),
        ("read", "1"),
        ("read", "2"),
    ]


async def test_strangers_and_faults_are_noted(serve: Any, notes: list[Access]) -> None:
    async def nobody(_authorization: str | None) -> Caller:
        raise not_authenticated()

    class Broken:
        async def read(self, _type: str, _id: str) -> None:
            raise RuntimeError

    async with serve(identify=nobody) as client:
        answer = await client.get("/Patient/p1")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await client.get("/metadata")).status_code == 200
    async with serve(store=Broken()) as client:
        assert (await client.get("/Patient/p1")).status_code == 500
    assert [(note.actor, note.outcome) for note in notes] == [("unknown", 4), ("anybody", 8)]
