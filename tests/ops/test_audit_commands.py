"""The audit is sealed in the background and verified by `qiao audit verify`."""

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime

import psycopg
import pytest
from typer.testing import CliRunner

import ops.upkeep
from fhir_store.audit import seal
from fhir_store.operations import Update, WriteContext
from fhir_store.retention import Retention
from fhir_store.store import Store, make_pool
from ops.commands.audit import app
from ops.upkeep import keep_up

KEEP = Retention(message_days=0, row_days=0)


@pytest.fixture
def run(database_url, monkeypatch):
    monkeypatch.setenv("QIAO_DATABASE_URL", database_url)
    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.fixture
def sealed_writes(database_url):
    """Three writes, sealed by the upkeep."""

    async def write():
        context = WriteContext(actor="Practitioner/7", at=datetime.now(UTC))
        async with make_pool(database_url) as pool:
            upkeep = asyncio.create_task(
                keep_up(Store(pool), KEEP, seal_seconds=0.01, hourly_seconds=0.05)
            )
            store = Store(pool)
            for number in range(3):
                patient = {"resourceType": "Patient", "id": f"p{number}"}
                await store.write([Update(resource=patient)], context=context)
            async with pool.connection() as connection:
                rows = 0
                while rows < 3:
                    await asyncio.sleep(0.02)
                    cursor = await connection.execute("SELECT sum(rows) FROM audit_seal")
                    rows = (await cursor.fetchone())[0] or 0
            upkeep.cancel()
            with suppress(asyncio.CancelledError):
                await upkeep

    asyncio.run(write())


def test_an_untouched_audit_passes_and_a_touched_one_names_the_span(
    run, sealed_writes, database_url
):
    assert run("verify").exit_code == 0
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE audit SET actor = 'nobody' WHERE fid = 'p1'")
    done = run("verify")
    assert done.exit_code == 1
    assert "rows were changed" in done.output
    assert json.loads(run("verify", "--json").stdout.splitlines()[0])["kind"] == "rows-changed"


def test_a_head_from_the_log_shows_a_cut(run, sealed_writes, database_url):
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT number, encode(hash, 'hex') FROM audit_seal ORDER BY number DESC LIMIT 1"
        ).fetchone()
        head = f"{row[0]}:{row[1]}"
        assert run("verify", "--head", head).exit_code == 0
        connection.execute("DELETE FROM audit_seal")
        connection.execute("DELETE FROM audit")
    assert run("verify").exit_code == 0
    assert run("verify", "--head", head).exit_code == 1
    assert run("verify", "--head", "x").exit_code == 2


def test_accesses_are_listed_by_record_and_actor(run, sealed_writes):
    listed = run("list", "--of", "Patient/p1", "--json")
    assert [json.loads(line)["action"] for line in listed.stdout.splitlines()] == ["U"]
    assert len(run("list", "--actor", "Practitioner/7").stdout.splitlines()) == 3
    assert run("list", "--action", "read").stdout == ""


@pytest.mark.parametrize(("hourly_seconds", "left"), [(0.0, ["young"]), (3600.0, ["old", "young"])])
def test_answers_kept_for_repeats_are_forgotten_after_a_day(database_url, hourly_seconds, left):
    async def prune():
        async with make_pool(database_url) as pool:
            store = Store(pool)
            async with pool.connection() as connection:
                await connection.execute(
                    "INSERT INTO idempotency (k, request_hash, status, headers, body, created_at)"
                    " VALUES (1, 'old', 200, '[]', '', now() - interval '25 hours'),"
                    " (2, 'young', 200, '[]', '', now() - interval '23 hours')"
                )
            context = WriteContext(actor="Practitioner/7", at=datetime.now(UTC))
            upkeep = asyncio.create_task(
                keep_up(store, KEEP, seal_seconds=0.01, hourly_seconds=hourly_seconds)
            )
            for number in range(2):  # the second seal comes after the first round has ended
                patient = {"resourceType": "Patient", "id": f"p{number}"}
                await store.write([Update(resource=patient)], context=context)
                async with pool.connection() as connection:
                    while True:
                        await asyncio.sleep(0.02)
                        cursor = await connection.execute("SELECT sum(rows) FROM audit_seal")
                        if ((await cursor.fetchone())[0] or 0) > number:
                            break
            async with pool.connection() as connection:
                cursor = await connection.execute("SELECT request_hash FROM idempotency ORDER BY k")
                found = [bytes(row[0]).decode() for row in await cursor.fetchall()]
            upkeep.cancel()
            with suppress(asyncio.CancelledError):
                await upkeep
        return found

    assert asyncio.run(prune()) == left


def test_sealing_goes_on_after_any_failure(database_url, monkeypatch):
    failures = []

    async def fails_twice(connection):
        if len(failures) < 2:
            failures.append("")
            raise KeyError("what nobody foresaw")
        return await seal(connection)

    monkeypatch.setattr(ops.upkeep, "seal", fails_twice)

    async def body():
        async with make_pool(database_url) as pool:
            store = Store(pool)
            patient = {"resourceType": "Patient", "id": "p"}
            context = WriteContext(actor="Practitioner/7", at=datetime.now(UTC))
            await store.write([Update(resource=patient)], context=context)
            upkeep = asyncio.create_task(keep_up(store, KEEP, seal_seconds=0.01))
            async with asyncio.timeout(30), pool.connection() as connection:
                while (
                    await (await connection.execute("SELECT count(*) FROM audit_seal")).fetchone()
                )[0] == 0:
                    assert not upkeep.done()
                    await asyncio.sleep(0.02)
            upkeep.cancel()
            with suppress(asyncio.CancelledError):
                await upkeep

    asyncio.run(body())
    assert len(failures) == 2
