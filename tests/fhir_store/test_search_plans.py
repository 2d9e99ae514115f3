"""The plans of the named search shapes, and how many statements a search takes."""

import asyncio
import importlib.util
import pathlib
import sys

import pytest

from fhir_store.search.query import parse_query

_SPEC = importlib.util.spec_from_file_location(
    "search_library_for_plans", pathlib.Path(__file__).with_name("test_search.py")
)
library_module = importlib.util.module_from_spec(_SPEC)
sys.modules["search_library_for_plans"] = library_module
_SPEC.loader.exec_module(library_module)

# shape -> (type, parameters, what the plan must show); no walk sorts more than its page
SHAPES = {
    "all of a type": ("Patient", [], "Scan Backward using resource_tid"),
    "code": ("Observation", [("code", "urn:a|x")], "Only Scan Backward using ix_token_h"),
    "reference": ("Observation", [("patient", "Patient/p1")], "Scan Backward using ix_ref_t"),
    "date since": ("Observation", [("date", "ge2020")], "Only Scan Backward using ix_date_hi"),
    "day": ("Observation", [("date", "2020-01-01")], "Only Scan Backward using ix_date_lo"),
    "quantity": ("Observation", [("value-quantity", "gt5")], "Only Scan Backward using ix_num_hi"),
    "text begins": ("Patient", [("family", "te")], "Scan using ix_str_v"),
    "text contains": ("Patient", [("family:contains", "st77")], "Bitmap Index Scan on ix_gram_g"),
    "text asked of candidates": (
        "Patient",
        [("_id", "p1,p2"), ("family:contains", "st")],
        "Scan using ix_str_w on ix_str",
    ),
    "sorted by date": ("Observation", [("_sort", "-date")], "Scan Backward using ix_date_lo"),
    "sorted by update": ("Patient", [("_sort", "_lastUpdated")], "Scan using resource_lu"),
    "chain": (
        "Observation",
        [("patient.family:exact", "Test7")],
        "Only Scan Backward using ix_ref_t",
    ),
    "has": (
        "Patient",
        [("_has:Observation:patient:code", "urn:a|x")],
        "Only Scan Backward using ix_token_h",
    ),
    "negated": ("Observation", [("code:not", "urn:a|x")], "Scan Backward using resource_tid"),
}


class Counting:
    """A connection that counts statements and passes everything on."""

    def __init__(self, connection):
        self._connection = connection
        self.statements = []

    async def execute(self, statement, *values):
        self.statements.append(statement)
        return await self._connection.execute(statement, *values)


@pytest.fixture
def library(database_url):
    def run(scenario, *, size=30):
        async def inside():
            async with library_module.Library(database_url) as lib:
                patients = [library_module.patient(f"p{n}", f"Test{n}") for n in range(size)]
                observations = [
                    library_module.observation(
                        f"o{n}",
                        subject=f"Patient/p{n % 20}",
                        code="x" if n % 2 else "y",
                        effectiveDateTime="2020-01-01",
                        valueQuantity={"value": n, "unit": "mg"},
                    )
                    for n in range(size)
                ]
                await lib.put(*patients, *observations)
                await scenario(lib)

        asyncio.run(inside())

    return run


def test_every_shape_is_read_from_its_index_and_no_table_is_read_whole(library):
    async def scenario(lib):
        async with lib.pool.connection() as connection:
            await connection.execute("VACUUM ANALYZE")
        wrong = {}
        for shape, (type_, pairs, expected) in SHAPES.items():
            page = await lib.page(type_, *pairs, ("_explain", "true"), ("_count", "3"))
            plan = "\n".join(page.explanation["plan"])
            if expected not in plan or "Seq Scan" in plan:
                wrong[shape] = plan
        assert not wrong

    library(scenario, size=1500)


@pytest.mark.parametrize(
    ("pairs", "most"),
    [
        ([], 1),
        ([("code", "urn:a|x")], 1),
        ([("date", "ge2020")], 1),
        ([("patient", "p1"), ("code", "x")], 2),
        ([("patient.family", "test")], 1),
        ([("code", "x"), ("_total", "accurate")], 2),
        ([("code", "x"), ("_include", "Observation:patient")], 2),
        ([("code:text", "x")], 2),
    ],
)
def test_a_search_takes_few_statements(library, pairs, most):
    async def scenario(lib):
        await lib.ids("Observation")  # the site's secret is read once
        async with lib.pool.connection() as connection:
            counting = Counting(connection)
            await lib.store.searcher.search(counting, parse_query("Observation", pairs))
        assert len(counting.statements) <= most

    library(scenario)
