"""Migrations: from nothing, again, by several at once, and after a restore."""

import asyncio
import json
import pathlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from conformance.search_parameters import parameters_of
from fhir_store import migrate
from fhir_store.keys import grams_of, key_of, resource_key, text_check
from fhir_store.operations import Update, WriteContext
from fhir_store.resource_types import TYPES
from fhir_store.search.query import parse_query
from fhir_store.store import Store, make_pool

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def empty_database(postgres_url):
    name = f"qiao_empty_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_several_processes_may_migrate_at_once(empty_database):
    assert migrate.current_revision(empty_database) is None
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate.upgrade, empty_database) for _ in range(4)]:
            done.result()
    revision = migrate.current_revision(empty_database)
    assert revision is not None
    migrate.upgrade(empty_database)
    assert migrate.current_revision(empty_database) == revision


def test_type_numbers_in_the_database_are_those_of_the_code(database_url):
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT tid, name FROM rtype ORDER BY tid").fetchall()
    assert rows == list(enumerate(TYPES, start=1))


def test_texts_kept_by_the_schema_before_are_found_after(empty_database):
    migrate._run_revisions(empty_database, "0020")
    one = {
        "resourceType": "Patient",
        "id": "p1",
        "name": [{"family": "Rosenthal", "given": ["丰华"]}],
        "address": [{"city": "Oldtown", "text": "1 Mill Lane"}],
    }
    number = {code: one.number for code, one in parameters_of("Patient").items()}
    texts = [
        *(("family", "Rosenthal"), ("given", "丰华"), ("name", "Rosenthal"), ("name", "丰华")),
        *(("address-city", "Oldtown"), ("address", "Oldtown"), ("address", "1 Mill Lane")),
    ]
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO resource (rid, rkey, tid, fid, ver, lu, op, pset, body)"
            " VALUES (1, %s, %s, 'p1', 1, now(), 'u', '{}', %s)",
            (resource_key("Patient", "p1"), TYPES.index("Patient") + 1, json.dumps(one)),
        )
        for code, text in texts:
            key, folded = key_of(number[code], "v"), text.lower()
            connection.execute(
                "INSERT INTO ix_str (h, v, rid, x, g) VALUES (%s, %s, 1, %s, %s)",
                (key, folded, text_check(text), grams_of(number[code], folded).tolist()),
            )
    migrate.upgrade(empty_database)

    async def found(store, code, text):
        page = await store.search(parse_query("Patient", [(code, text)]))
        return [version.id for version in page.matches]

    async def run():
        async with make_pool(empty_database, size=1) as pool:
            store = Store(pool)
            for code, text in texts:
                assert await found(store, code, text) == ["p1"], code
                assert await found(store, f"{code}:contains", text[-4:]) == ["p1"], code
            assert await found(store, "address-city:contains", "mill") == []
            assert await found(store, "given", "rosenthal") == []
            context = WriteContext(actor="t", at=datetime.now(UTC), trace_id="t")
            renamed = {**one, "name": [{"family": "Feld", "given": ["丰华"]}]}
            await store.write([Update(resource=renamed)], context=context)
            assert await found(store, "family:contains", "senth") == []
            assert await found(store, "name", "rosenthal") == []
            assert await found(store, "name:contains", "丰华") == ["p1"]

    asyncio.run(run())


def test_change_numbers_keep_rising_after_a_restore_into_a_younger_cluster(
    open_store, context, database_url
):
    with psycopg.connect(database_url, autocommit=True) as connection:
        # What a dump brings along: rows numbered beyond what this cluster has counted to.
        connection.execute(
            "INSERT INTO audit (txid, at, actor, trace_id, action)"
            " SELECT change_number() + 1000000, now(), 'a', '', 'read'"
        )
    migrate.upgrade(database_url)

    async def run():
        async with open_store() as store:
            await store.write(
                [Update(resource={"resourceType": "Patient", "id": "p"})], context=context
            )

    asyncio.run(run())
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT (SELECT txid FROM resource) > (SELECT min(txid) FROM audit)"
        ).fetchone()
        assert row == (True,)
        # What ends at this moment in another database of the server may hold the horizon.
        passed = "SELECT change_horizon() > (SELECT min(txid) FROM audit)"
        while connection.execute(passed).fetchone() != (True,):
            time.sleep(0.05)
