"""Each place where a search meets a resource filters it: without that one filter, it leaks there.

The rights: Organizations and Observations are open, everything else only of patient `p1`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from fhir_store.authorization import EVERYTHING, Authorization, Compartment, Criterion
from fhir_store.search import include
from fhir_store.search.compile import Compiler
from fhir_store.search.searcher import Searcher
from routes.bearer import Caller

pytestmark = pytest.mark.anyio

RIGHTS = Authorization(
    by_type={"Organization": None, "Observation": None},
    default=(Criterion(compartment=Compartment(kind="Patient", ids=("p1",))),),
)


def patient(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "name": [{"family": "Test"}],
        "managingOrganization": {"reference": f"Organization/o{number}"},
    }


def observation(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"b{number}",
        "status": "final",
        "code": {"coding": [{"code": "x"}]},
        "subject": {"reference": f"Patient/p{number}"},
        "encounter": {"reference": f"Encounter/e{number}"},
    }


def others(number: int) -> list[dict[str, Any]]:
    subject = {"reference": f"Patient/p{number}"}
    return [
        {"resourceType": "Organization", "id": f"o{number}", "name": "Clinic"},
        {
            "resourceType": "Encounter",
            "id": f"e{number}",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": subject,
        },
        {
            "resourceType": "List",
            "id": f"l{number}",
            "status": "current",
            "mode": "working",
            "subject": subject,
            "entry": [{"item": {"reference": f"Observation/b{number}"}}],
        },
    ]


# place -> the searches that meet a resource there alone, and what of them the rights show
PLACES: dict[str, dict[str, set[str]]] = {
    "matches": {
        "Patient?": {"Patient/p1"},
        "Patient?family=Test": {"Patient/p1"},
        "Patient?_sort=family": {"Patient/p1"},
        "Patient?_has:Observation:patient:code=x": {"Patient/p1"},
        "Encounter?_id=e1,e2&_total=accurate": {"Encounter/e1"},
    },
    "chain": {
        "Observation?patient.family=Test": {"Observation/b1"},
        "Observation?patient.family=Test&_sort=_id": {"Observation/b1"},
        "Observation?patient.family=Test&code=x": {"Observation/b1"},
        "Observation?patient.organization.name=Clinic": {"Observation/b1"},
        "Observation?encounter.class=AMB": {"Observation/b1"},
        "Observation?_filter=patient.family eq test": {"Observation/b1"},
    },
    "_has": {
        "Organization?_has:Patient:organization:family=Test": {"Organization/o1"},
        "Organization?_has:Patient:organization:family=Test&_sort=_id": {"Organization/o1"},
        "Organization?_has:Patient:organization:_has:Observation:patient:code=x": {
            "Organization/o1"
        },
    },
    "_list": {"Observation?_list=l1,l2": {"Observation/b1"}},
    "_include": {
        "Observation?_include=Observation:patient": {
            "Observation/b1",
            "Observation/b2",
            "Patient/p1",
        },
        "Observation?_include=Observation:patient&_include:iterate=Patient:organization": {
            "Observation/b1",
            "Observation/b2",
            "Patient/p1",
            "Organization/o1",
        },
    },
    "_revinclude": {
        "Organization?_revinclude=Patient:organization": {
            "Organization/o1",
            "Organization/o2",
            "Patient/p1",
        },
        "Organization?_revinclude=Patient:organization&_revinclude:iterate=Encounter:patient": {
            "Organization/o1",
            "Organization/o2",
            "Patient/p1",
            "Encounter/e1",
        },
    },
}


def remove_filter(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the filter of one place and leave the others."""
    if place == "matches":

        async def no_right(*_: Any) -> None:
            return None

        monkeypatch.setattr(Searcher, "_right", no_right)
    elif place in ("_include", "_revinclude"):
        follow = include._follow

        async def unfiltered(
            connection: Any, hop: Any, rids: Any, compiler: Any, limit: int
        ) -> Any:
            if hop.is_reverse is (place == "_revinclude"):
                compiler = replace(compiler, authorization=EVERYTHING)
            return await follow(connection, hop, rids, compiler, limit)

        monkeypatch.setattr(include, "_follow", unfiltered)
    else:
        name = {"chain": "_chain", "_has": "_has", "_list": "_list"}[place]
        compiled: Callable[..., Awaitable[Any]] = getattr(Compiler, name)

        async def free(compiler: Compiler, *condition: Any) -> Any:
            return await compiled(replace(compiler, authorization=EVERYTHING), *condition)

        monkeypatch.setattr(Compiler, name, free)


async def shown(client: httpx.AsyncClient, query: str) -> set[str]:
    answer = await client.get(f"/{query}")
    assert answer.status_code == 200, answer.text
    found = [one["resource"] for one in answer.json().get("entry", [])]
    matches = [one for one in answer.json().get("entry", []) if one["search"]["mode"] == "match"]
    if "_total=accurate" in query:
        assert answer.json()["total"] == len(matches)
    return {f"{one['resourceType']}/{one['id']}" for one in found}


async def test_without_its_filter_each_place_leaks_and_no_other(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rights(_caller: Caller, letter: str, _type: str) -> Authorization:
        return RIGHTS if letter in "rs" else EVERYTHING

    async with serve(authorize=rights) as client:
        for number in (1, 2):
            for one in (*others(number), patient(number), observation(number)):
                path = f"/{one['resourceType']}/{one['id']}"
                assert (await client.put(path, json=one)).status_code == 201
        queries = [(place, *one) for place, asked in PLACES.items() for one in asked.items()]
        for place, query, expected in queries:
            assert await shown(client, query) == expected, (place, query)
        for removed in PLACES:
            with monkeypatch.context() as patched:
                remove_filter(removed, patched)
                answers = await asyncio.gather(*(shown(client, query) for _, query, _ in queries))
            for (place, query, expected), found in zip(queries, answers, strict=True):
                if place == removed:
                    assert found > expected, f"{query} does not need the filter of {removed}"
                else:
                    assert found == expected, f"{query} needs the filter of {removed}"
