"""Chains, `_has` and texts that contain something: each match once, on any page, however many."""

import asyncio
import importlib.util
import pathlib
import random
import sys

import pytest

from fhir_store.operations import Update
from fhir_store.search import densities, include, links, plan
from fhir_store.search.query import parse_query

_SPEC = importlib.util.spec_from_file_location(
    "search_library_for_links", pathlib.Path(__file__).with_name("test_search.py")
)
library_module = importlib.util.module_from_spec(_SPEC)
sys.modules["search_library_for_links"] = library_module
_SPEC.loader.exec_module(library_module)

# (type, name, value): one link, several, of several types, from keys and from what is gathered
QUESTIONS = [
    ("Patient", "_has:Observation:patient:code", "x"),
    ("Patient", "_has:Observation:patient:code", "x,y,z"),
    ("Patient", "_has:Observation:patient:date", "ge2020"),
    ("Patient", "_has:Observation:patient:performer", "Practitioner/d1,Practitioner/d2"),
    ("Patient", "_has:Observation:patient:performer:Practitioner.family", "Do"),
    ("Practitioner", "_has:Observation:performer:code", "x,y"),
    ("Practitioner", "_has:Observation:performer:patient.gender", "male,female"),
    ("Practitioner", "_has:Observation:performer:_has:Provenance:target:agent", "Device/v1"),
    ("Observation", "performer:Practitioner.family", "Do"),
    ("Observation", "performer:Practitioner.identifier", "1,2,3"),
    ("Observation", "performer.identifier", "1,2,3,4"),
    ("Observation", "performer.identifier:not", "2"),
    ("Observation", "patient.gender", "male"),
    ("Observation", "patient.general-practitioner:Practitioner.family", "Do"),
    ("Observation", "patient._has:Observation:patient:code", "z"),
    ("Encounter", "participant:Practitioner._has:Observation:performer:code", "y"),
]


def resources(seed):
    """Thirty patients, eight who care for them, and what links them in many ways."""
    chance = random.Random(seed)
    yield from (
        {
            "resourceType": type_,
            "id": f"{letter}{n}",
            "identifier": [{"value": str(n)}, {"value": str(n % 3)}],
            "name": [{"family": chance.choice(["Doe", "Dow", "Roe"])}],
        }
        for type_, letter in (("Practitioner", "d"), ("RelatedPerson", "r"))
        for n in range(8)
    )
    for n in range(30):
        doctors = [{"reference": f"Practitioner/d{k}"} for k in chance.sample(range(8), 2)]
        yield {
            "resourceType": "Patient",
            "id": f"p{n}",
            "gender": chance.choice(["male", "female"]),
            "identifier": [{"value": str(n)}, {"value": str(n % 5)}],
            "generalPractitioner": doctors,
        }
    for n in range(90):
        people = [f"Practitioner/d{k}" for k in chance.sample(range(8), 3)]
        people += [f"Patient/p{chance.randrange(30)}", f"RelatedPerson/r{chance.randrange(8)}"]
        yield {
            "resourceType": "Observation",
            "id": f"o{n}",
            "status": "final",
            "code": {"coding": [{"code": c} for c in chance.sample("xyz", chance.choice([1, 2]))]},
            "subject": {"reference": f"Patient/p{chance.randrange(12)}"},
            "performer": [{"reference": one} for one in people],
            "effectiveDateTime": f"20{chance.randint(15, 25)}-05-05",
        }
        if n % 3 == 0:
            yield {
                "resourceType": "Provenance",
                "id": f"v{n}",
                "target": [{"reference": f"Observation/o{k}"} for k in chance.sample(range(90), 3)],
                "recorded": "2020-01-01T00:00:00Z",
                "agent": [{"who": {"reference": f"Device/v{n % 2}"}}],
            }
            yield {
                "resourceType": "Encounter",
                "id": f"e{n}",
                "status": "finished",
                "class": {"code": "AMB"},
                "participant": [
                    {"individual": {"reference": f"Practitioner/d{k}"}}
                    for k in chance.sample(range(8), 2)
                ],
            }


async def all_pages(lib, type_, *pairs):
    """Return the ids of all pages in order, and whether they were read link by link."""
    found, cursor = [], ""
    page = await lib.page(type_, *pairs, ("_explain", "true"))
    is_linked = "CROSS JOIN LATERAL" in page.explanation["statement"]
    while cursor is not None:
        page = await lib.page(type_, *pairs, *([("_cursor", cursor)] if cursor else []))
        found += [version.id for version in page.matches]
        cursor = page.next
    return found, is_linked


@pytest.mark.parametrize(
    ("few", "gathered", "fruitful"),
    [(1000, 1000, 8), (2, 1000, 0), (2, 1, 0), (3, 1000, 1000)],
    ids=["few", "many", "many from large sets", "many that lead nowhere"],
)
def test_links_give_each_match_once_on_any_page(database_url, monkeypatch, few, gathered, fruitful):
    monkeypatch.setattr(links, "FEW", few)
    monkeypatch.setattr(links, "GATHERED", gathered)
    monkeypatch.setattr(densities, "FRUITFUL", fruitful)

    async def scenario():
        async with library_module.Library(database_url) as lib:
            await lib.put(*resources(5))
            linked, matched = 0, 0
            for type_, name, value in QUESTIONS:
                expected = await lib.ids(type_, (name, value), ("_sort", "_id"), ("_count", "200"))
                for count in ("1", "4", "40"):
                    found, is_linked = await all_pages(lib, type_, (name, value), ("_count", count))
                    assert sorted(found) == sorted(expected), (type_, name, value, count)
                    linked += is_linked
                matched += len(expected)
            assert matched > 150
            assert linked >= (10 if fruitful == 1000 else 40)

    asyncio.run(scenario())


@pytest.mark.parametrize("most", [500, 3], ids=["few", "many"])
def test_texts_that_contain_something_are_found_once_on_any_page(database_url, monkeypatch, most):
    monkeypatch.setattr(plan, "SPARSE", most)
    chance = random.Random(3)

    def someone(number):
        names = ["Anna", "Hanna", "Johanna", "Peter", "Piotr", "Pavel", "Ion"]
        found = [{"family": chance.choice(names), "given": [chance.choice(names)]} for _ in "12"]
        return {"resourceType": "Patient", "id": f"p{number}", "name": found}

    async def scenario():
        async with library_module.Library(database_url) as lib:
            await lib.put(*(someone(number) for number in range(40)))
            for name, value in (("name:contains", "ann"), ("family:contains", "hann")):
                asked = (name, value)
                expected = await lib.ids("Patient", asked, ("_sort", "_id"), ("_count", "200"))
                assert 3 < len(expected) < 40
                for count in ("1", "7", "200", "7"):
                    page = await lib.page("Patient", asked, ("_count", count), ("_explain", "true"))
                    assert ("FROM resource w" in page.explanation["statement"]) is (most == 3)
                    found, _ = await all_pages(lib, "Patient", asked, ("_count", count))
                    assert sorted(found) == sorted(expected), (name, value, count)

    asyncio.run(scenario())


@pytest.mark.parametrize("is_rounded", [True, False])
def test_pages_of_any_length_share_the_statement_of_their_includes(
    open_store, context, monkeypatch, is_rounded
):
    """Else each length of page took a place among the statements that a connection keeps."""
    if not is_rounded:
        follow = include._follow

        async def exact(connection, hop, rids, compiler, most):
            return await follow(connection, hop, rids, compiler, most - len(rids))

        monkeypatch.setattr(include, "_follow", exact)

    async def run():
        patients = [{"resourceType": "Patient", "id": f"p{n}"} for n in range(6)]
        visits = [
            {
                "resourceType": "Encounter",
                "id": f"e{n}",
                "status": "planned",
                "class": {"code": "AMB"},
                "subject": {"reference": f"Patient/p{n}"},
            }
            for n in range(6)
        ]
        async with open_store(size=1) as store:
            written = [Update(resource=one) for one in (*patients, *visits)]
            await store.write(written, context=context)
            for length in (1, 2, 3, 4, 5, 6) * 2:
                ids = ",".join(f"e{n}" for n in range(length))
                pairs = [("_id", ids), ("_include", "Encounter:patient")]
                page = await store.search(parse_query("Encounter", pairs))
                assert len(page.included) == length
            async with store.pool.connection() as connection:
                cursor = await connection.execute(
                    "SELECT count(*)::int4 FROM pg_prepared_statements"
                    " WHERE statement LIKE '%SELECT DISTINCT t.rid%'"
                )
                return (await cursor.fetchone())[0]

    assert asyncio.run(run()) == (1 if is_rounded else 6)
