"""Histories: three levels, _since, _at, pages; and point reads that share a statement."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from conformance.problem import Gone, NotFound, TooCostly
from conformance.search_parameters import resource_types
from fhir_store import histories
from fhir_store.authorization import EVERYTHING, Authorization, Compartment, Criterion
from fhir_store.histories import HistoryQuery
from fhir_store.operations import Delete, Update, WriteContext

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def hour(number):
    return START + timedelta(hours=number)


def resource(id_, text, type_="Patient"):
    return {"resourceType": type_, "id": id_, "text": {"status": "generated", "div": text}}


class OnlyOne:
    """A pool that lends the same connection, set up for the test."""

    def __init__(self, connection):
        self._connection = connection

    @contextlib.asynccontextmanager
    async def connection(self):
        yield self._connection


async def fill(store):
    """p1 at hours 0, 1, 4 (deleted); p2 at hour 2; an Organization at hour 3."""
    context = WriteContext(actor="test", at=START)
    for at, operation in (
        (0, Update(resource=resource("p1", "a"))),
        (1, Update(resource=resource("p1", "b"))),
        (2, Update(resource=resource("p2", "a"))),
        (3, Update(resource=resource("o1", "a", "Organization"))),
        (4, Delete(type="Patient", id="p1")),
    ):
        await store.write([operation], context=replace(context, at=hour(at)))


async def names(store, **query):
    page = await store.history(HistoryQuery(**query))
    return [f"{one.id}/{one.version}" for one in page.versions]


def test_the_three_levels_list_versions_newest_first(open_store):
    async def run():
        async with open_store() as store:
            await fill(store)
            assert await names(store, type="Patient", id="p1") == ["p1/3", "p1/2", "p1/1"]
            assert await names(store, type="Patient") == ["p1/3", "p2/1", "p1/2", "p1/1"]
            assert await names(store) == ["p1/3", "o1/1", "p2/1", "p1/2", "p1/1"]
            page = await store.history(HistoryQuery(type="Patient", id="p1"))
            assert [one.method for one in page.versions] == ["DELETE", "PUT", "PUT"]
            assert page.versions[0].body == b""
            for absent in ({"type": "Patient", "id": "x"}, {"type": "Nothing"}):
                with pytest.raises(NotFound):
                    await names(store, **absent)

    asyncio.run(run())


def test_since_takes_versions_from_that_moment_on(open_store):
    async def run():
        async with open_store() as store:
            await fill(store)
            assert await names(store, since=hour(2)) == ["p1/3", "o1/1", "p2/1"]
            assert await names(store, type="Patient", id="p1", since=hour(1)) == ["p1/3", "p1/2"]
            assert await names(store, type="Patient", id="p2", since=hour(9)) == []

    asyncio.run(run())


def test_at_takes_what_was_current_at_some_moment_of_the_span(open_store):
    async def run():
        async with open_store() as store:
            await fill(store)
            moment = timedelta(minutes=1)
            at = (hour(1) + moment, hour(1) + 2 * moment)
            assert await names(store, at=at) == ["p1/2"]
            assert await names(store, at=(hour(0), hour(1) + moment)) == ["p1/2", "p1/1"]
            assert await names(store, at=(hour(9), hour(10))) == ["p1/3", "o1/1", "p2/1"]
            assert await names(store, at=(hour(-2), hour(-1))) == []

    asyncio.run(run())


def test_a_history_that_takes_too_long_is_refused_with_advice(open_store):
    async def run():
        async with open_store() as store:
            await fill(store)
            async with store.pool.connection() as other, other.transaction():
                await other.execute("LOCK TABLE resource_history")  # as slow as one can be
                async with store.pool.connection() as connection:
                    await connection.execute("SET statement_timeout = 50")
                    store.pool = OnlyOne(connection)
                    with pytest.raises(TooCostly) as refusal:
                        await store.history(HistoryQuery())
            assert refusal.value.issues[0].key == "history-time-limit"
            assert "_since" in refusal.value.issues[0].fix_en

    asyncio.run(run())


def test_pages_neither_skip_nor_repeat_versions_of_one_moment(open_store, context):
    async def run():
        async with open_store() as store:
            for text in "abc":
                await store.write(
                    [Update(resource=resource(f"p{n}", text)) for n in range(7)], context=context
                )
            found, after = [], None
            while True:
                page = await store.history(HistoryQuery(type="Patient", count=4, after=after))
                found += [(one.id, one.version) for one in page.versions]
                if page.next is None:
                    break
                after = page.next
                await store.write(
                    [Update(resource=resource(f"new{len(found)}", "x"))], context=context
                )
            expected = [(f"p{n}", version) for n in range(7) for version in (1, 2, 3)]
            assert sorted(one for one in found if one[0].startswith("p")) == expected
            assert len(found) == len(set(found))

    asyncio.run(run())


def test_reads_at_the_same_moment_share_a_statement_and_fail_each_for_itself(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write(
                [Update(resource=resource(f"p{n}", "a")) for n in range(50)], context=context
            )
            await store.write([Delete(type="Patient", id="p7")], context=context)
            wanted = [f"p{n}" for n in range(60)]
            found = await asyncio.gather(
                *(store.read("Patient", id_) for id_ in wanted), return_exceptions=True
            )
            assert isinstance(found[7], Gone)
            assert all(isinstance(one, NotFound) for one in found[50:])
            assert [one.id for one in found[:50] if not isinstance(one, Gone)] == [
                id_ for id_ in wanted[:50] if id_ != "p7"
            ]
            with pytest.raises(NotFound):
                await store.read("Nothing", "1")
            with pytest.raises(NotFound):
                await store.vread("Patient", "p1", 2**40)

    asyncio.run(run())


def test_a_reader_who_goes_away_takes_nobody_with_him(open_store, context):
    async def run():
        async with open_store() as store:
            await store.write([Update(resource=resource("p1", "a"))], context=context)
            impatient = asyncio.create_task(store.read("Patient", "p1"))
            patient = asyncio.create_task(store.read("Patient", "p1"))
            await asyncio.sleep(0)
            impatient.cancel()
            assert (await patient).id == "p1"

    asyncio.run(run())


OWN = Authorization(
    by_type={
        type_: (Criterion(compartment=Compartment(kind="Patient", ids=("p1",))),)
        for type_ in ("Patient", "Observation")
    }
    | {"Organization": None}
)


def observation(id_, patient, text):
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"text": text},
        "subject": {"reference": f"Patient/{patient}"},
    }


async def district(store, others=40):
    """Ten versions of p1 and of what is his, and of an Organization, under those of many others."""
    context = WriteContext(actor="test", at=START)
    people = ["p1", *(f"q{n}" for n in range(others))]
    for number in range(10):
        text = f"v{number}"
        changed = [Update(resource=resource(id_, text)) for id_ in people]
        changed += [Update(resource=observation(f"o-{id_}", id_, text)) for id_ in people]
        changed.append(Update(resource=resource("g", text, "Organization")))
        await store.write(changed, context=replace(context, at=hour(number)))
    await store.write([Delete(type="Organization", id="g")], context=replace(context, at=hour(11)))


async def all_pages(store, authorization, **query):
    found, after = [], None
    while True:
        asked = HistoryQuery(count=7, after=after, **query)
        page = await store.history(asked, authorization=authorization)
        found += [(one.last_updated, one.type, one.id, one.version) for one in page.versions]
        if page.next is None:
            return found
        after = page.next


@pytest.mark.parametrize("few", [400, 1], ids=["read as a set", "too many for a set"])
def test_a_history_with_narrow_rights_is_the_whole_one_without_the_rest(
    open_store, monkeypatch, few
):
    monkeypatch.setattr(histories, "most_gathered", lambda _: few)

    async def run():
        async with open_store() as store:
            await district(store, others=5)
            for query in (
                {},
                {"type": "Patient"},
                {"type": "Observation"},
                {"type": "Organization"},
                {"type": "Patient", "id": "p1"},
                {"since": hour(4)},
                {"at": (hour(3), hour(5))},
                {"type": "Patient", "id": "p1", "at": (hour(3), hour(5))},
                {"type": "Patient", "id": "p1", "at": (hour(2) + timedelta(minutes=1), hour(3))},
                {"type": "Observation", "at": (hour(2), hour(20)), "since": hour(4)},
            ):
                whole = await all_pages(store, EVERYTHING, **query)
                expected = [one for one in whole if one[2] in ("p1", "o-p1", "g")]
                assert await all_pages(store, OWN, **query) == expected, query
                assert expected == sorted(expected, key=lambda one: one[0], reverse=True)
                assert expected

    asyncio.run(run())


async def rows_met(connection, statement, values):
    """Return how many rows the scans of a statement meet, those they then leave out included."""
    cursor = await connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
    met, plans = 0, [(await cursor.fetchone())[0][0]["Plan"]]
    while plans:
        plan = plans.pop()
        plans += plan.get("Plans", ())
        if plan.get("Relation Name", "").startswith("resource"):
            rows = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
            met += rows * plan["Actual Loops"]
    return met


class Asking:
    """A connection that tells of each statement how many rows it meets."""

    def __init__(self, connection):
        self._connection = connection
        self.met = 0

    async def execute(self, statement, values, **choices):
        self.met += await rows_met(self._connection, statement.decode(), values)
        return await self._connection.execute(statement, values, **choices)


async def met_by_own_history(store, type_=None):
    types = (type_,) if type_ else resource_types()
    async with store.pool.connection() as connection:
        visible = await store.searcher.visible(connection, types, OWN)
        asking = Asking(connection)
        query = HistoryQuery(type=type_, count=20)
        page = await histories.history(asking, query, visible)
    assert len(page.versions) >= 10
    return asking.met


def test_own_history_does_not_read_that_of_others(open_store):
    async def run():
        async with open_store() as store:
            await district(store)
            async with store.pool.connection() as connection:
                await connection.execute("ANALYZE")
            assert await met_by_own_history(store, "Patient") < 60
            assert await met_by_own_history(store) < 150

    asyncio.run(run())


def test_twin_read_in_the_order_of_time_it_would(open_store, monkeypatch):
    monkeypatch.setattr(histories, "is_gatherable", lambda _: False)

    async def run():
        async with open_store() as store:
            await district(store)
            async with store.pool.connection() as connection:
                await connection.execute("ANALYZE")
            assert await met_by_own_history(store, "Patient") > 350
            assert await met_by_own_history(store) > 600

    asyncio.run(run())
