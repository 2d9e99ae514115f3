"""The audit: rows beside writes, notes of reads, seals that show any later change."""

import asyncio
import base64
from datetime import UTC, datetime

import psycopg
import pytest

from conformance.problem import NotFound, Throttled, VersionConflict
from fhir_store.audit import Access, AccessLog, seal, verify
from fhir_store.audit_events import AuditQuery, list_events, read_event
from fhir_store.operations import Delete, Update


def patient(id_, **more):
    return {"resourceType": "Patient", "id": id_, **more}


def access(action="read", **more):
    return Access(actor="Practitioner/1", at=datetime.now(UTC), action=action, **more)


async def sealed(connection, **options):
    """Seal, once nothing is in the way that ends at this moment in another database."""
    passed = "SELECT change_horizon() > max(txid) FROM audit"
    while not (await (await connection.execute(passed)).fetchone())[0]:
        await asyncio.sleep(0.02)
    return await seal(connection, **options)


async def rows_of(connection):
    cursor = await connection.execute(
        "SELECT action, actor, fid, ver, detail, trace_id FROM audit ORDER BY txid, seq"
    )
    return await cursor.fetchall()


def test_every_write_has_its_audit_row_and_a_refused_one_none(open_store, context):
    async def run():
        async with open_store() as store:
            for operation in (
                Update(resource=patient("p")),
                Update(resource=patient("p", active=True)),
                Update(resource=patient("p", active=True)),
                Delete(type="Patient", id="p"),
            ):
                await store.write([operation], context=context)
            with pytest.raises(VersionConflict):
                await store.write([Update(resource=patient("p"), if_match=1)], context=context)
            async with store.pool.connection() as connection:
                rows = await rows_of(connection)
            assert [row[:1] + row[2:5] for row in rows] == [
                ("update", "p", 1, None),
                ("update", "p", 2, None),
                ("update", "p", 2, "unchanged"),
                ("delete", "p", 3, None),
            ]
            assert {row[1] for row in rows} == {context.actor}
            assert {row[5] for row in rows} == {context.trace_id}

    asyncio.run(run())


def test_reads_are_noted_in_batches_and_told_as_audit_events(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=patient("p"))], context=context)
            async with AccessLog(store.pool, every_seconds=30).running() as log:
                log.note(access(type="Patient", id="p", version=1))
                log.note(access("search-type", type="Patient", detail="name=x"))
                log.note(access(type="Patient", id="secret", outcome=8))
            async with store.pool.connection() as connection:
                page = await list_events(connection, AuditQuery(count=3))
                refused, search, read = page.events
                assert refused["outcome"] == "8"
                assert base64.b64decode(search["entity"][0]["query"]) == b"name=x"
                assert read["entity"][0]["what"]["reference"] == "Patient/p/_history/1"
                assert read["agent"][0]["who"] == {"reference": "Practitioner/1"}
                assert await read_event(connection, read["id"]) == read
                older = await list_events(connection, AuditQuery(count=3, after=page.next))
                assert [one["action"] for one in older.events] == ["U"]
                assert older.next is None
                seen = await list_events(connection, AuditQuery(entity=("Patient", "p")))
                assert [one["subtype"][0]["code"] for one in seen.events] == ["read", "update"]
                by_actor = AuditQuery(actor=context.actor, action="update", since=context.at)
                assert len((await list_events(connection, by_actor)).events) == 1
                for wrong in ("1", "x-y", "1-1", "9" * 50 + "-1"):
                    with pytest.raises(NotFound):
                        await read_event(connection, wrong)

    asyncio.run(run())


def test_reads_are_refused_rather_than_unaudited(open_store):
    async def run():
        async with open_store() as store:
            log = AccessLog(store.pool)
            for _ in range(50_000):
                log.note(access())
            with pytest.raises(Throttled):
                log.note(access())

    asyncio.run(run())


TAMPERINGS = {
    "changed": ("UPDATE audit SET actor = 'somebody else' WHERE fid = 'p3'", "rows-changed"),
    "moved": ("UPDATE audit SET at = at + interval '1 second' WHERE fid = 'p3'", "rows-changed"),
    "deleted": ("DELETE FROM audit WHERE fid = 'p3'", "rows-missing"),
    "inserted": (
        "INSERT INTO audit (txid, at, actor, trace_id, action)"
        " SELECT txid, at, actor, trace_id, action FROM audit WHERE fid = 'p3'",
        "rows-added",
    ),
    "seal removed": ("DELETE FROM audit_seal WHERE number = 2", "chain-broken"),
    "seal rewritten": (
        "UPDATE audit_seal SET hash = sha256('x'::bytea) WHERE number = 2",
        "rows-changed",
    ),
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_the_verifier_finds_every_later_change(open_store, context, how):
    statement, kind = TAMPERINGS[how]

    async def run():
        async with open_store() as store, store.pool.connection() as connection:
            for number in range(6):
                await store.write([Update(resource=patient(f"p{number}"))], context=context)
                if number % 2:
                    assert (await sealed(connection)).rows == 2
            assert await seal(connection) is None
            assert await verify(connection) == []
            await connection.execute(statement)
            assert kind in [one.kind for one in await verify(connection)]

    asyncio.run(run())


def test_a_head_kept_elsewhere_shows_that_the_newest_seals_were_cut_off(open_store, context):
    async def run():
        async with open_store() as store, store.pool.connection() as connection:
            for number in range(3):
                await store.write([Update(resource=patient(f"p{number}"))], context=context)
                head = await sealed(connection)
            await connection.execute("DELETE FROM audit_seal WHERE number = 3")
            await connection.execute("DELETE FROM audit WHERE fid = 'p2'")
            assert await verify(connection) == []  # nothing inside shows it
            assert [one.kind for one in await verify(connection, head=head)] == ["head-missing"]

    asyncio.run(run())


def test_what_commits_late_is_sealed_later_and_not_left_out(open_store, context, database_url):
    async def run():
        async with (
            open_store() as store,
            store.pool.connection() as connection,
            await psycopg.AsyncConnection.connect(database_url) as slow,
        ):
            await slow.execute(
                "INSERT INTO audit (at, actor, trace_id, action) VALUES (now(), 'slow', '', 'read')"
            )
            await store.write([Update(resource=patient("p"))], context=context)
            assert await seal(connection) is None  # an older transaction is still open
            await slow.commit()
            assert (await sealed(connection)).rows == 2
            assert await verify(connection) == []

    asyncio.run(run())


def test_a_long_backlog_is_sealed_in_spans(open_store, context):
    async def run():
        async with open_store() as store, store.pool.connection() as connection:
            for number in range(7):
                await store.write([Update(resource=patient(f"p{number}"))], context=context)
            spans = []
            while sum(one.rows for one in spans) < 7:
                spans.append(await sealed(connection, most=2))
            assert len(spans) > 1
            assert await verify(connection) == []

    asyncio.run(run())
