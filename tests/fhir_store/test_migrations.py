"""Migrations: from nothing, again, by several at once, and after a restore."""

import asyncio
import pathlib
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

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
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT (SELECT txid FROM resource) > (SELECT min(txid) FROM audit),"
            " change_horizon() > (SELECT min(txid) FROM audit)"
        ).fetchone()
    assert row == (True, True)


def test_the_newest_revision_is_the_one_the_chain_ends_with():
    config = Config()
    config.set_main_option("script_location", str(migrate._FOLDER))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.newest_revision()


def test_a_start_with_nothing_to_migrate_loads_no_migration_tool(database_url):
    program = (
        "import sys; from fhir_store.migrate import upgrade; upgrade(sys.argv[1]);"
        " print('alembic' in sys.modules, 'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, database_url],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "False"]
