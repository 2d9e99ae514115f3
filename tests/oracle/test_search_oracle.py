"""The search against an evaluator of obvious Python: random worlds, random questions."""

import asyncio
import importlib.util
import pathlib
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fhir_store.operations import Update, WriteContext
from fhir_store.page_token import PageTokens
from fhir_store.search import densities, links
from fhir_store.search.query import parse_query
from fhir_store.search.searcher import Searcher
from fhir_store.store import Store, make_pool

HERE = pathlib.Path(__file__).parent


def _load(name):
    spec = importlib.util.spec_from_file_location(f"oracle_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


naive_search = _load("naive_search")
strategies = _load("strategies")
QUESTIONS = 40  # asked of each world
TABLES = "resource, resource_history, ix_token, ix_ref, ix_date, ix_num, ix_str, ix_gram, audit"


class Bench:
    """A store, a searcher and an event loop that live as long as one test."""

    def __init__(self, url):
        self.runner = asyncio.Runner()
        self.runner.run(self._open(url))
        self.asked = 0

    async def _open(self, url):
        self.pool = make_pool(url, size=2)
        await self.pool.open()
        self.store = Store(self.pool)
        self.searcher = Searcher(tokens=PageTokens(b"secret"))

    def close(self):
        self.runner.run(self.pool.close())
        self.runner.close()

    def load(self, resources):
        async def run():
            async with self.pool.connection() as connection:
                await connection.execute(f"TRUNCATE {TABLES}")
            context = WriteContext(actor="t", at=datetime.now(UTC), trace_id="t")
            await self.store.write([Update(resource=r) for r in resources], context=context)

        self.runner.run(run())

    def search(self, type_, pairs):
        """Return the ids of all pages, in order."""

        async def run():
            found, cursor = [], ""
            async with self.pool.connection() as connection:
                for _ in range(100):
                    asked = [*pairs, ("_cursor", cursor)] if cursor else pairs
                    page = await self.searcher.search(connection, parse_query(type_, asked))
                    found += [version.id for version in page.matches]
                    cursor = page.next
                    if cursor is None:
                        return found
            raise AssertionError("the pages do not end")

        self.asked += 1
        return self.runner.run(run())


@pytest.fixture
def bench(database_url):
    bench = Bench(database_url)
    yield bench
    bench.close()


def check_world(bench, data, ways=None):
    world = data.draw(strategies.worlds(), label="world")
    bench.load(world)
    naive = naive_search.Naive(world)
    types = sorted({r["resourceType"] for r in world})
    for _ in range(QUESTIONS):
        type_ = data.draw(st.sampled_from(types))
        parameters = {t: naive_search.PARAMETERS[t] for t in types}
        question = strategies.questions(parameters, type_, ways=ways)
        count = 1 if ways else data.draw(st.sampled_from([1, 1, 1, 2, 2, 3]))
        pairs = [data.draw(question) for _ in range(count)]
        pairs += data.draw(
            st.sampled_from([[], [("_count", "1")], [("_count", "2")], [("_count", "3")]])
        )
        keys = [] if ways else sort_keys(type_)
        sort = data.draw(st.sampled_from([None, None, *keys])) if keys else None
        if sort:
            pairs.append(("_sort", sort))
        found = bench.search(type_, pairs)
        expected = naive.search(type_, pairs)
        note(f"{type_}?{pairs}: found {found}, expected {sorted(expected)}")
        assert len(found) == len(set(found)), "a page repeats a resource"
        assert set(found) == expected
        if sort:
            assert found == sorted_as(naive, type_, found, sort)


def sort_keys(type_):
    kinds = ("string", "date", "token", "number", "quantity")
    codes = [c for c, (kind, _, extra) in naive_search.PARAMETERS[type_].items()
             if kind in kinds and extra not in ("phone", "ContactPoint", "deceased")]  # fmt: skip
    return [f"{sign}{code}" for code in [*codes, "_id"] for sign in ("", "-")]


def sort_value(naive, type_, id_, code, is_descending):
    resource = naive.all[type_, id_]
    if code == "_id":
        return id_
    kind, path, extra = naive_search.PARAMETERS[type_][code]
    values = naive.values(resource, kind, path, extra, "")
    if kind == "string":
        values = [naive_search.folded(v) for v in values]
    elif kind == "number":
        values = [Decimal(str(v)) for v in values]
    elif kind == "quantity":
        values = [naive_search.quantity_low(v) for v in values if "value" in v]
    elif kind == "date":
        values = [s[0] for s in map(naive_search.span_of, values) if s is not None]
    else:
        codes = [c for v in values for _, c, _ in naive_search.codes_of(v, extra) if c is not None]
        values = codes if extra == "Identifier" else [c.casefold() for c in codes]
    if not values:
        return None
    return max(values) if is_descending else min(values)


def sorted_as(naive, type_, found, sort):
    """Return the ids in the order of the sort; those that tie keep the order they came in."""
    code, down = sort.removeprefix("-"), sort.startswith("-")
    valued = [(sort_value(naive, type_, i, code, down), i) for i in found]
    with_value = [v for v in valued if v[0] is not None]
    ordered = sorted(with_value, key=lambda v: v[0], reverse=down)
    if down:  # Python's reverse keeps ties in order
        ordered = sorted(with_value, key=lambda v: v[0], reverse=True)
    return [i for _, i in ordered] + [i for v, i in valued if v is None]


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture,
        HealthCheck.large_base_example]  # fmt: skip


def test_a_few_hundred_questions_are_answered_as_the_naive_evaluator_answers(bench):
    @settings(max_examples=12, deadline=None, suppress_health_check=SLOW, derandomize=True)
    @given(st.data())
    def run(data):
        check_world(bench, data)

    run()
    assert bench.asked >= 400


def test_links_of_which_there_are_many_are_answered_so_too(bench, monkeypatch):
    monkeypatch.setattr(links, "FEW", 1)
    monkeypatch.setattr(links, "GATHERED", 1)
    monkeypatch.setattr(densities, "FRUITFUL", 0)

    @settings(max_examples=8, deadline=None, suppress_health_check=SLOW, derandomize=True)
    @given(st.data())
    def run(data):
        check_world(bench, data, ways=("chain", "has"))

    run()
    assert bench.asked >= 300


@pytest.mark.slow
def test_twenty_thousand_questions_are_answered_as_the_naive_evaluator_answers(bench):
    @settings(max_examples=550, deadline=None, suppress_health_check=SLOW)
    @given(st.data())
    def run(data):
        check_world(bench, data)

    run()
    assert bench.asked >= 20_000


def test_the_evaluator_imports_nothing_of_ours():
    source = (HERE / "naive_search.py").read_text(encoding="utf-8")
    assert not [line for line in source.splitlines() if "fhir_store" in line and "import" in line]
    imported = {line.split()[1].split(".")[0] for line in source.splitlines()
                if line.startswith(("import ", "from "))}  # fmt: skip
    assert imported == {"datetime", "re", "unicodedata", "decimal"}
