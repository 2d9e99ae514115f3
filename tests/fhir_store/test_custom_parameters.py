"""Custom SearchParameter resources: registered, built in the background, told about honestly."""

import asyncio
from datetime import UTC, datetime

import pytest

from conformance.problem import UnknownParameter
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
    "change",
    [
        {"code": "gender"},
        {"type": "composite"},
        {"expression": "Patient.((("},
        {"code": "a.b"},
    ],
)
def test_a_parameter_that_cannot_be_searched_is_refused_and_stays_unknown(scenario, change):
    async def body(store, pool):
        await write(store, Update(resource={**PARAMETER, **change}))
        async with pool.connection() as connection:
            await register(connection)
            await store.parameters.refresh(connection)
            assert store.parameters.states() == ()
            cursor = await connection.execute("SELECT state FROM sparam")
            assert await cursor.fetchall() == [("refused",)]

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
