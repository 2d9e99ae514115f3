"""How many round trips each interaction costs, and that its statements use their indexes."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from psycopg import AsyncConnection

from fhir_store import statements
from fhir_store.arrays import Int4s, Int8s
from fhir_store.audit_events import LIST_EVENTS
from fhir_store.keys import resource_key
from fhir_store.operations import Create, Delete, Patch, Update
from fhir_store.outbox import Delivery
from fhir_store.resource_types import TYPE_IDS
from fhir_store.store import Store, make_pool
from fhir_store.versions import READ_CURRENT, READ_VERSION

SYSTEM = "urn:oid:2.16.156.10011.1.3"


class Counted(AsyncConnection):
    """A connection that counts how often it waits for the server to answer."""

    trips = 0

    async def wait(self, gen, *args, **options):
        return await super().wait(_noticed(gen), *args, **options)


def _noticed(gen):
    answer, is_new = None, True
    while True:
        try:
            wanted = gen.send(answer)
        except StopIteration as end:
            return end.value
        Counted.trips += is_new
        is_new = False
        answer = yield wanted


def patient(value, **more):
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": value}],
        "name": [{"family": "Test"}],
        **more,
    }


@asynccontextmanager
async def counted_store(database_url, **choices):
    async with make_pool(database_url, size=1, connection_class=Counted) as pool:
        yield Store(pool, **choices)


async def trips_of(store, context, operations_of):
    """The fewest round trips of five: the first ones prepare, and some take a block of numbers."""
    trips = []
    for turn in range(5):
        before = Counted.trips
        await store.write(operations_of(turn), context=context)
        trips.append(Counted.trips - before)
    return min(trips)


INTERACTIONS = {
    # one statement without BEGIN and COMMIT
    "create": (lambda n: [Create(resource=patient(f"a{n}"))], 1),
    "create of 20": (lambda n: [Create(resource=patient(f"b{n}/{k}")) for k in range(20)], 1),
    # BEGIN, read under lock, write, COMMIT
    "update": (lambda n: [Update(resource=patient(f"c{n}", id="p0"))], 4),
    "update of 20": (
        lambda n: [Update(resource=patient(f"d{n}", id=f"q{k}")) for k in range(20)],
        4,
    ),
    "update without change": (lambda n: [Update(resource=patient("e", id="p1"))], 4),
    "patch": (
        lambda n: [Patch(type="Patient", id="p1", change=lambda r: {**r, "language": f"x-{n}"})],
        4,
    ),
    "delete": (lambda n: [Delete(type="Patient", id=f"q{n}")], 4),
    # and a lock on the new id, and a second look
    "update of a new id": (lambda n: [Update(resource=patient("f", id=f"new{n}"))], 6),
    # and a lock on the condition, and its search
    "conditional create": (
        lambda n: [Create(resource=patient(f"g{n}"), if_none_exist=f"identifier={SYSTEM}|g{n}")],
        5,
    ),
    "conditional update": (
        lambda n: [Update(resource=patient("h"), criteria=f"identifier={SYSTEM}|h")],
        6,
    ),
}


def test_round_trips_of_each_interaction(database_url, context):
    async def run():
        async with counted_store(database_url) as store:
            return {
                name: await trips_of(store, context, operations_of)
                for name, (operations_of, _) in INTERACTIONS.items()
            }

    assert asyncio.run(run()) == {name: trips for name, (_, trips) in INTERACTIONS.items()}


def test_reads_and_writes_of_one_moment_share_a_round_trip(database_url, context):
    async def run():
        async with counted_store(database_url) as store:
            for turn in range(3):
                before = Counted.trips
                await asyncio.gather(
                    *(
                        store.write([Create(resource=patient(f"{turn}/{n}"))], context=context)
                        for n in range(20)
                    )
                )
                writing = Counted.trips - before
                before = Counted.trips
                await asyncio.gather(
                    *(store.read("Patient", f"p{n}") for n in range(20)), return_exceptions=True
                )
                reading = Counted.trips - before
            return writing, reading

    assert asyncio.run(run()) == (1, 1)


def linked(turn, place):
    """A Patient and an Observation that names it by the full URL it has in the request."""
    url = f"urn:uuid:00000000-0000-4000-8000-{turn:04d}{place:08d}"
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "pulse"},
        "subject": {"reference": url},
    }
    return [
        Create(resource=patient(f"{turn}/{place}"), full_url=url),
        Create(resource=observation),
    ]


def test_transactions_of_one_moment_share_a_round_trip(database_url, context):
    async def run():
        async with counted_store(database_url) as store:
            for turn in range(3):
                before = Counted.trips
                written = await asyncio.gather(
                    *(
                        store.write(linked(turn, n), context=context, link=True, distinct=True)
                        for n in range(20)
                    )
                )
            return Counted.trips - before, written

    trips, written = asyncio.run(run())
    assert trips == 1
    for of_patient, of_observation in written:
        named = json.loads(of_observation.version.body)["subject"]["reference"]
        assert named == f"Patient/{of_patient.version.id}"


def test_a_create_that_owes_deliveries_stays_one_commit(database_url, context):
    async def run():
        def owe(written):
            return [Delivery(destination="province")]

        async with counted_store(database_url, choose_destinations=owe) as store:
            return await trips_of(store, context, lambda n: [Create(resource=patient(f"a{n}"))])

    assert asyncio.run(run()) == 4  # BEGIN, write, outbox, COMMIT


RKEYS = Int8s([resource_key("Patient", "p1"), resource_key("Patient", "p2")])
PLANS = {
    "read_current": (READ_CURRENT, {"rkeys": RKEYS}, "resource_rkey"),
    "lock_current": (statements.LOCK_CURRENT, {"rkeys": RKEYS}, "resource_rkey"),
    "read_version": (
        READ_VERSION,
        {"tid": TYPE_IDS["Patient"], "fid": "p1", "ver": 1},
        "resource_fid",
    ),
    "find_by_identifier": (
        statements.FIND_BY_IDENTIFIER,
        {"h": Int8s([1, 2]), "sid": Int4s([1, 2]), "tid": Int4s([TYPE_IDS["Patient"]] * 2)},
        "ix_token_h",
    ),
    "lost_tokens": (
        f"WITH {statements.LOST_TOKENS} SELECT 1",
        {"lt_h": Int8s([1]), "lt_rid": Int8s([1]), "lt_sid": Int4s([1])},
        "ix_token_h",
    ),
    "events of a record": (
        LIST_EVENTS.replace("{filters}", "AND fid = %(fid)s AND tid = %(tid)s"),
        {"txid": 2**62, "seq": 0, "fid": "p1", "tid": TYPE_IDS["Patient"], "limit": 20},
        "audit_entity",
    ),
}


@pytest.fixture(scope="module")
def plan_of():
    """A function that returns the plan of a statement as text."""

    async def explained(connection, statement, values):
        cursor = await connection.execute(f"EXPLAIN (FORMAT JSON) {statement}", values)
        return json.dumps((await cursor.fetchone())[0])

    return explained


def test_named_statements_use_their_indexes(database_url, context, plan_of):
    async def run():
        async with make_pool(database_url, size=2) as pool:
            store = Store(pool)
            for turn in range(2):
                await store.write(
                    [Update(resource=patient(f"{turn}v{n}", id=f"p{n}")) for n in range(1500)],
                    context=context,
                )
            async with pool.connection() as connection:
                await connection.execute("ANALYZE")
                for name, (statement, values, index) in PLANS.items():
                    plan = await plan_of(connection, statement, values)
                    assert index in plan, name
                    assert "Seq Scan" not in plan, name

    asyncio.run(run())


def test_without_its_index_a_named_statement_scans(database_url, context, plan_of):
    async def run():
        async with make_pool(database_url, size=2) as pool:
            await Store(pool).write(
                [Update(resource=patient(f"v{n}", id=f"p{n}")) for n in range(1500)],
                context=context,
            )
            async with pool.connection() as connection:
                await connection.execute("DROP INDEX resource_rkey")
                await connection.execute("ANALYZE")
                statement, values, _ = PLANS["read_current"]
                assert "Seq Scan" in await plan_of(connection, statement, values)

    asyncio.run(run())


def test_every_pooled_connection_has_a_time_limit(database_url):
    async def run():
        async with make_pool(database_url, size=3, statement_seconds=2) as pool:

            async def limit():
                async with pool.connection() as connection:
                    await connection.execute("SELECT pg_sleep(0.05)")
                    cursor = await connection.execute("SHOW statement_timeout")
                    return (await cursor.fetchone())[0]

            return await asyncio.gather(*(limit() for _ in range(6)))

    assert set(asyncio.run(run())) == {"2s"}


@pytest.mark.parametrize(("scans", "expected"), [("off", False), ("on", True)])
def test_a_plan_made_on_small_tables_serves_large_ones(database_url, context, scans, expected):
    async def run():
        async with make_pool(database_url, size=2) as pool, pool.connection() as connection:
            await connection.execute(f"SET enable_seqscan = {scans}")  # the twin: "on"
            store = Store(pool)
            few, many = (
                [Update(resource=patient(f"v{n}", id=f"p{n}")) for n in range(count)]
                for count in (20, 1500)
            )
            await store.write(few, context=context)
            await connection.execute("ANALYZE")
            statement = statements.LOCK_CURRENT.replace("%(rkeys)b", "$1")
            await connection.execute(f"PREPARE early (int8[]) AS {statement}")
            for _ in range(8):
                await connection.execute("EXECUTE early ('{1,2}')")
            await store.write(many, context=context)
            cursor = await connection.execute("EXPLAIN EXECUTE early ('{1,2}')")
            return "Seq Scan" in str(await cursor.fetchall())

    assert asyncio.run(run()) is expected
