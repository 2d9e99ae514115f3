"""What a caller may not see is not found, counted, chained through, pointed from or included."""

import asyncio
import importlib.util
import pathlib
import sys

import pytest

from fhir_store.authorization import EVERYTHING, NOTHING, Authorization, Compartment, Criterion
from fhir_store.search.query import parse_query

_SPEC = importlib.util.spec_from_file_location(
    "search_library", pathlib.Path(__file__).with_name("test_search.py")
)
library_module = importlib.util.module_from_spec(_SPEC)
sys.modules["search_library"] = library_module
_SPEC.loader.exec_module(library_module)
Library, patient, observation = (
    library_module.Library,
    library_module.patient,
    library_module.observation,
)


def condition(type_, name, value):
    return parse_query(type_, [(name, value)]).conditions[0]


OWN = Authorization(
    by_type={"Organization": None},
    default=(Criterion(compartment=Compartment(kind="Patient", ids=("p1",))),),
)
FINAL_ONLY = Authorization(
    by_type={"Observation": (Criterion(conditions=(condition("Observation", "code", "x"),)),)},
    default=None,
)
CARE_TEAM = Authorization(
    default=(
        Criterion(
            compartment=Compartment(
                kind="Patient",
                owners=condition("Patient", "_has:CareTeam:patient:participant", "Practitioner/d"),
            )
        ),
    )
)
# path -> (type, parameters, what everybody finds, what the owner of p1 finds)
PATHS = {
    "type": ("Patient", [], {"p1", "p2"}, {"p1"}),
    "key": ("Observation", [("code", "x")], {"a", "b"}, {"a"}),
    "range": ("Observation", [("date", "2020")], {"a", "b"}, {"a"}),
    "text": ("Patient", [("name", "t")], {"p1", "p2"}, {"p1"}),
    "id": ("Patient", [("_id", "p1,p2")], {"p1", "p2"}, {"p1"}),
    "negation": ("Observation", [("code:not", "zz")], {"a", "b", "c"}, {"a"}),
    "chain": ("Organization", [("_has:Patient:organization:family", "t")], {"o1", "o2"}, {"o1"}),
    "chain target": ("Observation", [("patient.family", "t")], {"a", "b", "c"}, {"a"}),
    "sorted": ("Observation", [("_sort", "date")], {"a", "b", "c"}, {"a"}),
    "filter": ("Observation", [("_filter", "code eq x or code eq y")], {"a", "b", "c"}, {"a"}),
    "list": ("Observation", [("_list", "l2")], {"b"}, set()),
}


async def fill(lib):
    def organized(id_, organization):
        return patient(id_, managingOrganization={"reference": f"Organization/{organization}"})

    await lib.put(
        {"resourceType": "Organization", "id": "o1"},
        {"resourceType": "Organization", "id": "o2"},
        organized("p1", "o1"),
        organized("p2", "o2"),
        observation("a", "Patient/p1", effectiveDateTime="2020"),
        observation("b", "Patient/p2", effectiveDateTime="2020"),
        observation("c", "Patient/p2", code="y"),
        {
            "resourceType": "List",
            "id": "l2",
            "subject": {"reference": "Patient/p2"},
            "entry": [{"item": {"reference": "Observation/b"}}],
        },
        {
            "resourceType": "CareTeam",
            "id": "t",
            "subject": {"reference": "Patient/p2"},
            "participant": [{"member": {"reference": "Practitioner/d"}}],
        },
    )


@pytest.fixture
def filled(database_url):
    def run(scenario):
        async def inside():
            async with Library(database_url) as lib:
                await fill(lib)
                return await scenario(lib)

        return asyncio.run(inside())

    return run


@pytest.mark.parametrize("path", sorted(PATHS))
def test_every_path_shows_the_owner_his_own_and_without_the_filter_it_would_leak(filled, path):
    type_, pairs, all_ids, own_ids = PATHS[path]

    async def scenario(lib):
        for right, expected in ((EVERYTHING, all_ids), (OWN, own_ids), (NOTHING, set())):
            page = await lib.page(type_, *pairs, ("_total", "accurate"), authorization=right)
            assert {v.id for v in page.matches} == expected
            assert page.total == len(expected)

    filled(scenario)


@pytest.mark.parametrize(
    ("type_", "include", "own"),
    [
        ("Organization", ("_revinclude", "Patient:organization"), {"p1"}),
        ("Organization", ("_revinclude:iterate", "*"), {"p1", "a"}),
    ],
)
def test_included_resources_pass_the_same_filter(filled, type_, include, own):
    async def scenario(lib):
        iterate = ("_revinclude:iterate", "Observation:patient") if "*" in include else include
        page = await lib.page(type_, include, iterate, authorization=OWN)
        assert {v.id for v in page.matches} == {"o1", "o2"}
        assert {v.id for v in page.included} == own
        everything = await lib.page(type_, include, iterate)
        assert {v.id for v in everything.included} > own

    filled(scenario)


def test_a_chain_does_not_tell_about_a_target_the_caller_may_not_see(filled):
    hidden = Authorization(by_type={"Patient": ()}, default=None)

    async def scenario(lib):
        asked = ("patient.family", "t")
        assert await lib.ids("Observation", asked, authorization=hidden) == []
        assert len(await lib.ids("Observation", asked)) == 3
        pointed = ("_has:Observation:patient:code", "y")
        silent = Authorization(by_type={"Observation": ()}, default=None)
        assert await lib.ids("Patient", pointed, authorization=silent) == []
        assert await lib.ids("Patient", pointed) == ["p2"]

    filled(scenario)


def test_granular_scopes_narrow_one_type_by_a_search(filled):
    async def scenario(lib):
        assert set(await lib.ids("Observation", authorization=FINAL_ONLY)) == {"a", "b"}
        assert set(await lib.ids("Patient", authorization=FINAL_ONLY)) == {"p1", "p2"}

    filled(scenario)


def test_a_care_team_member_sees_the_compartments_of_its_patients(filled):
    async def scenario(lib):
        assert await lib.ids("Patient", authorization=CARE_TEAM) == ["p2"]
        assert set(await lib.ids("Observation", authorization=CARE_TEAM)) == {"b", "c"}
        assert await lib.ids("Organization", authorization=CARE_TEAM) == []

    filled(scenario)


def test_a_search_over_types_keeps_to_the_rights_of_each(filled):
    async def scenario(lib):
        page = await lib.page(
            None, ("_type", "Patient,Observation,Organization"), authorization=OWN
        )
        assert {v.id for v in page.matches} == {"p1", "a", "o1", "o2"}

    filled(scenario)
