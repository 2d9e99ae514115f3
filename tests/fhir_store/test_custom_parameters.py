"""Custom SearchParameter resources: registered, built in the background, told about honestly."""

import asyncio
from datetime import UTC, datetime

import pytest
from psycopg.errors import UniqueViolation

from conformance import index_values
from conformance.problem import InvalidContent, UnknownParameter
from fhir_store import custom_parameters
from fhir_store.custom_parameters import build_step, register_written
from fhir_store.operations import Delete, Update, WriteContext
from fhir_store.search.query import QueryRules, parse_query
from fhir_store.store import Store, make_pool

URL = "urn:blood"
PARAMETER = {
    "resourceType": "SearchParameter",
    "id": "sp",
    "url": "urn:sp",
    "name": "Blood",
    "status": "active",
    "description": "d",
    "code": "blood-group",
    "base": ["Patient"],
    "type": "token",
    "expression": f"Patient.extension.where(url='{URL}').value",
}


def patient(id_, group):
    return {
        "resourceType": "Patient",
        "id": id_,
        "extension": [{"url": URL, "valueCode": group}],
    }


async def write(store, *operations):
    context = WriteContext(actor="t", at=datetime.now(UTC), trace_id="t")
    await store.write(list(operations), context=context)


async def build(store, connection):
    """Build all parameters to their end, and let the store know it."""
    while await build_step(connection, settle=0):
        pass
    await store.parameters.refresh(connection)


async def register(connection):
    """Register what is written, once nothing that ends at this moment elsewhere is in its way."""
    passed = "SELECT change_horizon() > max(txid) FROM resource"
    async with asyncio.timeout(60):
        while True:
            row = await (await connection.execute(passed)).fetchone()
            if row[0]:
                return await register_written(connection)
            await asyncio.sleep(0.05)


async def find(store, *pairs):
    rules = QueryRules(lookup=store.parameters.lookup)
    page = await store.search(parse_query("Patient", list(pairs), rules))
    return sorted(v.id for v in page.matches), [issue.text_en for issue in page.warnings]


@pytest.fixture
def scenario(database_url):
    def run(body):
        async def inside():
            async with make_pool(database_url, size=3) as pool:
                await body(Store(pool), pool)

        asyncio.run(inside())

    return run


def test_a_custom_parameter_is_built_in_the_background_and_says_how_far_it_is(scenario):
    async def body(store, pool):
        await write(store, *(Update(resource=patient(f"p{n}", "A")) for n in range(9)))
        await write(store, Update(resource=PARAMETER))
        with pytest.raises(UnknownParameter):
            await find(store, ("blood-group", "A"))
        async with pool.connection() as connection:
            assert await register(connection) == 1
            await store.parameters.refresh(connection)
            assert not await build_step(connection)  # other processes may not know it yet
            await write(store, Update(resource=patient("new", "A")))
            found, warnings = await find(store, ("blood-group", "A"))
            assert found == ["new"]
            assert "building 0 %" in warnings[0]
            assert await build_step(connection, settle=0, batch=4)
            await store.parameters.refresh(connection)
            _, warnings = await find(store, ("blood-group", "A"))
            assert 0 < int(warnings[0].split("building ")[1].split(" %")[0]) < 100
            while await build_step(connection, settle=0, batch=4):
                pass
            await store.parameters.refresh(connection)
        found, warnings = await find(store, ("blood-group", "a"), ("_count", "50"))
        assert found == sorted(["new", *(f"p{n}" for n in range(9))])
        assert warnings == []
        assert (await find(store, ("blood-group:missing", "true")))[0] == []
        await write(store, Update(resource=patient("p0", "B")), Delete(type="Patient", id="p1"))
        assert (await find(store, ("blood-group", "B")))[0] == ["p0"]
        assert "p1" not in (await find(store, ("blood-group", "A")))[0]

    scenario(body)


def test_parts_of_texts_are_found_by_a_custom_parameter_in_older_resources_too(scenario):
    parameter = {**PARAMETER, "type": "string"}

    def named(id_, family):
        one = patient(id_, "")
        return {
            **one,
            "extension": [{"url": URL, "valueString": "Rosenthal"}],
            "name": [{"family": family}],
        }

    async def body(store, pool):
        await write(store, Update(resource=named("old", "Test")))
        await write(store, Update(resource=parameter))
        async with pool.connection() as connection:
            await register(connection)
            await store.parameters.refresh(connection)
            await build(store, connection)
        await write(store, Update(resource=named("new", "Test")))
        wanted = ("blood-group:contains", "senth")
        assert (await find(store, wanted))[0] == ["new", "old"]
        await write(store, *(Update(resource=named(id_, "Other")) for id_ in ("new", "old")))
        assert (await find(store, wanted))[0] == ["new", "old"]
        assert (await find(store, ("family:contains", "the")))[0] == ["new", "old"]

    scenario(body)


def test_building_while_others_write_loses_and_doubles_nothing(scenario):
    async def body(store, pool):
        await write(store, *(Update(resource=patient(f"p{n}", "A")) for n in range(40)))
        await write(store, Update(resource=PARAMETER))
        async with pool.connection() as connection:
            await register(connection)
            await store.parameters.refresh(connection)

            async def build():
                while await build_step(connection, settle=0, batch=3):
                    await asyncio.sleep(0)

            async def change():
                for n in range(40):
                    await write(store, Update(resource=patient(f"p{n}", "B" if n % 2 else "A")))

            await asyncio.gather(build(), change())
            await store.parameters.refresh(connection)
            rows = await (
                await connection.execute("SELECT h, rid, count(*) FROM ix_token GROUP BY 1, 2")
            ).fetchall()
        assert {count for _, _, count in rows} == {1}
        odd, _ = await find(store, ("blood-group", "B"), ("_count", "50"))
        assert odd == sorted(f"p{n}" for n in range(40) if n % 2)

    scenario(body)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"code": "gender"}, None),
        ({"code": "a+b,c"}, None),
        ({"type": "composite"}, "type"),
        ({"expression": "Patient.((("}, "expression"),
        ({"expression": "Patient.name.shout()"}, "expression"),
    ],
)
def test_a_parameter_that_cannot_be_searched_is_refused_and_says_why(scenario, change, fault):
    async def body(store, pool):
        await write(store, Update(resource={**PARAMETER, **change}))
        async with pool.connection() as connection:
            await register(connection)
            await store.parameters.refresh(connection)
            assert store.parameters.states() == ()
            cursor = await connection.execute("SELECT state FROM sparam")
            assert await cursor.fetchall() == [("refused",)]
        if fault is not None:
            with pytest.raises(UnknownParameter) as refused:
                await find(store, ("blood-group", "A"))
            (issue,) = refused.value.issues
            assert issue.key == "search-parameter-refused"
            assert f"urn:sp is stored, but cannot be searched for its {fault}" in issue.text_en
            # The hint, applied:
            await write(store, Update(resource=PARAMETER))
            async with pool.connection() as connection:
                await register(connection)
                await store.parameters.refresh(connection)
            assert (await find(store, ("blood-group", "A")))[0] == []

    scenario(body)


def test_of_two_parameters_with_one_code_the_second_waits_for_the_first_to_go(scenario):
    async def body(store, pool):
        second = {**PARAMETER, "id": "sp2", "url": "urn:sp2", "expression": "Patient.gender"}
        other = {**PARAMETER, "id": "sp3", "url": "urn:sp3", "code": "blood-other"}
        await write(store, Update(resource={**patient("p", "A"), "gender": "male"}))
        await write(store, *(Update(resource=one) for one in (PARAMETER, second, other)))
        async with pool.connection() as connection:
            assert await register(connection) == 3
            await build(store, connection)
            assert (await find(store, ("blood-group", "A")))[0] == ["p"]
            assert (await find(store, ("blood-other", "A")))[0] == ["p"]
            refusal = custom_parameters._refused(
                await (
                    await connection.execute(
                        "SELECT pid, tid, code, type, expr, url FROM sparam WHERE url = 'urn:sp2'"
                    )
                ).fetchone()
            )
            assert refusal.fault == "code"
            await write(store, Delete(type="SearchParameter", id="sp"))
            await register(connection)
            await store.parameters.refresh(connection)
            found, warnings = await find(store, ("blood-group", "male"))
            assert (found, len(warnings)) == ([], 1)
            await build(store, connection)
            assert await find(store, ("blood-group", "male")) == (["p"], [])

    scenario(body)


FAILING = {**PARAMETER, "expression": "Patient.extension.value.single().toString()"}


def test_where_an_expression_fails_the_resource_has_no_value_and_its_writer_is_not_refused(
    scenario,
):
    async def body(store, pool):
        twice = patient("twice", "A")
        twice["extension"] *= 2
        await write(store, Update(resource=twice), Update(resource=patient("old", "A")))
        await write(store, Update(resource=FAILING))
        async with pool.connection() as connection:
            await register(connection)
            await store.parameters.refresh(connection)
            await build(store, connection)
        await write(store, Update(resource={**twice, "active": True}))
        await write(store, Update(resource=patient("new", "A")))
        assert await find(store, ("blood-group", "A")) == (["new", "old"], [])
        assert await find(store, ("blood-group:missing", "true")) == (["twice"], [])

    scenario(body)


def test_twin_uncaught_the_failing_expression_would_refuse_the_writer(scenario, monkeypatch):
    monkeypatch.setattr(index_values, "Problem", ZeroDivisionError)

    async def body(store, pool):
        await write(store, Update(resource=FAILING))
        async with pool.connection() as connection:
            await register(connection)
            await store.parameters.refresh(connection)
        twice = patient("twice", "A")
        twice["extension"] *= 2
        with pytest.raises(InvalidContent):
            await write(store, Update(resource=twice))

    scenario(body)


def test_twin_unasked_a_code_that_is_taken_would_stop_all_registering(scenario, monkeypatch):
    nobody = b"SELECT 1 WHERE %(tid)s = 0 AND %(code)s = ''"
    monkeypatch.setattr(custom_parameters, "_TAKEN", nobody)

    async def body(store, pool):
        second = {**PARAMETER, "id": "sp2", "url": "urn:sp2"}
        await write(store, Update(resource=PARAMETER), Update(resource=second))
        async with pool.connection() as connection:
            with pytest.raises(UniqueViolation):
                await register(connection)

    scenario(body)


@pytest.mark.parametrize(
    "pairs",
    [
        [("keeper.name", "x")],
        [("keeper:missing", "true")],
        [("_sort", "keeper")],
        [("_include", "Patient:keeper")],
        [("_include", "*")],
        [("_has:Patient:keeper:gender", "male")],
        [("_revinclude", "Patient:keeper")],
        [("_filter", "keeper eq Patient/1")],
    ],
)
def test_whatever_way_a_search_uses_it_it_says_that_it_is_building(scenario, pairs):
    async def body(store, pool):
        keeper = {
            **PARAMETER,
            "code": "keeper",
            "type": "reference",
            "target": ["Patient"],
            "expression": "Patient.extension.value.ofType(Reference)",
        }
        await write(store, Update(resource=patient("p", "A")), Update(resource=keeper))
        async with pool.connection() as connection:
            await register(connection)
            await store.parameters.refresh(connection)
            _, warnings = await find(store, *pairs)
            assert [text[:32] for text in warnings] == ["The search parameter keeper is b"]
            assert (await find(store, ("gender", "male")))[1] == []
            await build(store, connection)
        assert (await find(store, *pairs))[1] == []

    scenario(body)


def test_a_type_has_room_for_so_many_parameters_and_the_next_stops_nothing(scenario, monkeypatch):
    monkeypatch.setattr(custom_parameters, "_ROOM", custom_parameters.FIRST_CUSTOM + 1)

    async def body(store, pool):
        second = {**PARAMETER, "id": "sp2", "url": "urn:sp2", "code": "second"}
        await write(store, Update(resource=PARAMETER), Update(resource=second))
        async with pool.connection() as connection:
            assert await register(connection) == 2
            assert await register(connection) == 0

    scenario(body)


def test_a_changed_or_deleted_parameter_is_retired_and_its_number_never_comes_again(scenario):
    async def body(store, pool):
        await write(store, Update(resource=patient("p", "A")), Update(resource=PARAMETER))
        async with pool.connection() as connection:
            numbers = []
            for change in ({}, {"type": "string"}):
                await write(store, Update(resource={**PARAMETER, **change}))
                await register(connection)
                await store.parameters.refresh(connection)
                numbers += [state.parameter.number for state in store.parameters.states()]
            assert len(set(numbers)) == 2
            await write(store, Delete(type="SearchParameter", id="sp"))
            await register(connection)
            await store.parameters.refresh(connection)
            assert store.parameters.states() == ()

    scenario(body)
