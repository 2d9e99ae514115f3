"""Migrations: from nothing, again, by several at once, and after a restore."""

import asyncio
import pathlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from fhir_store import migrate
from fhir_store.operations import Update
from fhir_store.resource_types import TYPES

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
