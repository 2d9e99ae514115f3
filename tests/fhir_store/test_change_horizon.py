"""Readers of changes stop where a transaction of this database is open, and nowhere else."""

import asyncio
import random
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest

from fhir_store.following import Place, next_written
from fhir_store.operations import Update

# What the horizon was before: the oldest open transaction of the whole server.
OLDEST_OF_THE_SERVER = """
CREATE OR REPLACE FUNCTION finished_below() RETURNS int8 LANGUAGE sql STABLE
    AS $$ SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8 $$"""
# A horizon that waits for nobody.
NEXT_OF_THE_SERVER = """
CREATE OR REPLACE FUNCTION finished_below() RETURNS int8 LANGUAGE sql STABLE
    AS $$ SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 $$"""


@pytest.fixture
def database(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@contextmanager
def open_transaction(url, *statements):
    """Hold a transaction with a number open; gives the number."""
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement)
        row = connection.execute("SELECT pg_current_xact_id()::text::int8").fetchone()
        yield row[0]
        connection.rollback()


def write(connection):
    """Write an audit row and return its change number."""
    return connection.execute(
        "INSERT INTO audit (at, actor, trace_id, action) VALUES (now(), 'a', '', 'read')"
        " RETURNING txid"
    ).fetchone()[0]


def horizon(connection):
    return connection.execute("SELECT change_horizon()").fetchone()[0]


def passes(connection, number, seconds=10.0):
    """Say whether the horizon passes a number; who ends at this moment may hold it that long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if horizon(connection) > number:
            return True
        time.sleep(0.01)
    return False


def test_an_open_transaction_of_another_database_holds_nobody_up(database, postgres_url):
    with open_transaction(postgres_url):
        assert passes(database, write(database))


def test_nor_does_one_in_a_subtransaction_of_another_database(database, postgres_url):
    with open_transaction(postgres_url, "SAVEPOINT s", "SELECT pg_current_xact_id()"):
        assert passes(database, write(database))


def test_with_the_oldest_of_the_server_it_held_everybody_up(database, postgres_url):
    database.execute(OLDEST_OF_THE_SERVER)
    with open_transaction(postgres_url):
        assert not passes(database, write(database), seconds=0.1)


@pytest.mark.parametrize("statements", [(), ("SAVEPOINT s", "SELECT pg_current_xact_id()")])
def test_an_open_transaction_of_this_database_holds_the_horizon(
    database, database_url, postgres_url, statements
):
    with open_transaction(postgres_url), open_transaction(database_url, *statements) as number:
        written = write(database)
        assert not passes(database, number, seconds=0.1)
        assert written > number
    assert passes(database, written)


def test_with_the_next_of_the_server_it_would_not(database, database_url):
    database.execute(NEXT_OF_THE_SERVER)
    with open_transaction(database_url) as number:
        write(database)
        assert passes(database, number)


def test_what_the_own_transaction_writes_lies_beyond_the_horizon(database, database_url):
    with database.transaction():
        number = write(database)
        with psycopg.connect(database_url, autocommit=True) as other:
            assert write(other) > number
        assert horizon(database) <= number


def test_a_prepared_transaction_counts_where_it_was_prepared(database, database_url, postgres_url):
    if database.execute("SHOW max_prepared_transactions").fetchone() == ("0",):
        pytest.skip("the server keeps no prepared transactions (max_prepared_transactions = 0)")
    prepared = []
    try:
        for url in (postgres_url, database_url):
            with psycopg.connect(url) as connection:
                name = f"qiao-horizon-{random.randrange(10**9)}"
                connection.execute("SELECT pg_current_xact_id()")
                connection.execute(f"PREPARE TRANSACTION '{name}'")
            prepared.append((url, name))
            written = write(database)
            is_ours = url == database_url
            assert passes(database, written, seconds=0.1 if is_ours else 10) is not is_ours
    finally:
        for url, name in prepared:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"ROLLBACK PREPARED '{name}'")


def test_a_role_without_any_right_of_its_own_sees_as_much(database, postgres_url):
    role = f"qiao_plain_{random.randrange(10**9)}"
    database.execute(f"CREATE ROLE {role}")
    try:
        with open_transaction(postgres_url):
            written = write(database)
            database.execute(f"SET ROLE {role}")
            assert passes(database, written)
            database.execute("RESET ROLE")
    finally:
        database.execute(f"DROP ROLE {role}")


def test_a_session_that_was_looked_at_before_is_looked_at_again(database, postgres_url):
    """What sessions do is remembered within a transaction unless one forgets it."""
    with database.transaction():
        assert horizon(database)
        database.execute("SELECT count(*) FROM pg_stat_activity")
        with open_transaction(postgres_url):
            with psycopg.connect(database.info.dsn, autocommit=True) as other:
                written = write(other)
            assert passes(database, written)


def _busy(url, until, seed, written):
    """Write and wait at random, some in savepoints, some undone; note what was committed."""
    chance = random.Random(seed)
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < until:
            with connection.transaction():
                if written is None:
                    connection.execute("SELECT pg_current_xact_id()")
                    time.sleep(chance.random() * 0.02)
                    continue
                numbers = []
                for _ in range(chance.randrange(1, 4)):
                    with connection.transaction(force_rollback=chance.random() < 0.2) as inner:
                        number = write(connection)
                        if not inner.force_rollback:
                            numbers.append(number)
                    time.sleep(chance.random() * 0.01)
            written += numbers


def _lost(database, database_url, postgres_url, seconds=1.0):
    """Follow busy writers as the followers do; return how many of their rows were never seen."""
    until = time.monotonic() + seconds
    written = []
    threads = [
        threading.Thread(target=_busy, args=(url, until, number, into))
        for number, (url, into) in enumerate(3 * [(database_url, written), (postgres_url, None)])
    ]
    for thread in threads:
        thread.start()
    seen, place = [], (0, 0)
    follow = (
        "SELECT txid, seq FROM audit WHERE (txid, seq) > (%s, %s) AND txid < change_horizon()"
        " ORDER BY txid, seq"
    )
    while any(thread.is_alive() for thread in threads) or not passes(database, max(written)):
        rows = database.execute(follow, place).fetchall()
        seen += rows
        place = rows[-1] if rows else place
    seen += database.execute(follow, place).fetchall()
    assert len(seen) == len(set(seen))
    return len(written) - len(seen)


def test_under_load_in_both_databases_every_write_is_followed_once(
    database, database_url, postgres_url
):
    assert _lost(database, database_url, postgres_url) == 0


def test_with_the_next_of_the_server_writes_are_lost_under_load(
    database, database_url, postgres_url
):
    database.execute(NEXT_OF_THE_SERVER)
    assert _lost(database, database_url, postgres_url) > 0


def test_followers_go_on_while_another_database_is_at_work(open_store, context, postgres_url):
    async def followed(store):
        async with store.pool.connection() as connection:
            place = Place(txid=0, rid=0)
            found, _, _ = await next_written(connection, place, ("Patient",), look=10, most=10)
        return [one.id for one in found]

    async def run():
        async with open_store() as store:
            patient = {"resourceType": "Patient", "id": "p"}
            await store.write([Update(resource=patient)], context=context)
            async with asyncio.timeout(10):
                while await followed(store) != ["p"]:
                    await asyncio.sleep(0.01)

    with open_transaction(postgres_url):
        asyncio.run(run())
