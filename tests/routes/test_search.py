"""Search, compartments and `$everything` over HTTP."""

from typing import Any

import httpx
import pytest

from fhir_store.search import searcher
from fhir_store.search.nodes import Typed
from fhir_store.search.plan import Plan, choose
from routes.bearer import Caller
from routes.operations import everything
from routes.scopes import parse_scopes

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}


def observation(id_: str, patient: str, code: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{patient}"},
        **more,
    }


RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "o1", "name": "卫生院"},
    {"resourceType": "Practitioner", "id": "d1", "name": [{"family": "李"}]},
    *(
        {
            "resourceType": "Patient",
            "id": f"p{number}",
            "name": [{"family": "王", "given": [str(number)]}],
            "managingOrganization": {"reference": "Organization/o1"},
        }
        for number in range(5)
    ),
    observation("a", "p1", "x", effectiveDateTime="2020-01-01"),
    observation("b", "p1", "y", performer=[{"reference": "Practitioner/d1"}]),
    observation("c", "p2", "x"),
    {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": "Patient/p1"},
    },
]


async def filled(client: httpx.AsyncClient) -> None:
    for resource in RESOURCES:
        path = f"/{resource['resourceType']}/{resource['id']}"
        answer = await client.put(path, json=resource, headers=JSON)
        assert answer.status_code == 201, answer.text


def ids(bundle: Any, mode: str = "match") -> list[str]:
    return [e["resource"]["id"] for e in bundle.get("entry", []) if e["search"]["mode"] == mode]


async def test_a_search_by_get_and_by_post_finds_the_same(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        got = (await client.get("/Observation?code=x&_total=accurate")).json()
        assert got["type"] == "searchset"
        assert sorted(ids(got)) == ["a", "c"]
        assert got["total"] == 2
        assert got["entry"][0]["fullUrl"].startswith(f"{client.base_url}Observation/")
        posted = await client.post(
            "/Observation/_search?_total=accurate", data={"code": "x", "patient": "p1"}
        )
        assert ids(posted.json()) == ["a"]
        wrong = await client.post("/Observation/_search", json={"code": "x"})
        assert wrong.status_code == 415
        everywhere = (await client.get("/?_type=Patient,Organization&_count=100")).json()
        assert sorted(ids(everywhere)) == ["o1", "p0", "p1", "p2", "p3", "p4"]
        posted = await client.post("/_search", data={"_type": "Encounter"})
        assert ids(posted.json()) == ["e1"]


async def test_pages_are_followed_to_the_end_without_repeats(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        found: list[str] = []
        url: str | None = "/Patient?family=王&_count=2&_sort=given"
        while url:
            page = (await client.get(url)).json()
            found += ids(page)
            links = {link["relation"]: link["url"] for link in page["link"]}
            assert "_count=2" in links["self"]
            url = links.get("next")
        assert found == ["p0", "p1", "p2", "p3", "p4"]


async def test_includes_summaries_and_counts_shape_the_page(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        page = (
            await client.get("/Observation?_id=a&_include=Observation:patient&_elements=status")
        ).json()
        assert ids(page) == ["a"]
        assert ids(page, "include") == ["p1"]
        assert set(page["entry"][0]["resource"]) <= {
            *("resourceType", "id", "meta", "status", "code", "subject"),
        }
        count = (await client.get("/Patient?_summary=count")).json()
        assert count["total"] == 5
        assert "entry" not in count
        as_xml = await client.get("/Patient?_format=xml&_count=1")
        assert as_xml.content.startswith(b"<?xml")
        explained = (await client.get("/Patient?family=王&_explain=true")).json()
        outcome = explained["entry"][-1]["resource"]["issue"][0]
        assert "SELECT" in outcome["diagnostics"]


async def test_what_a_search_cannot_mean_is_said_and_lenient_leaves_it_out(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        for query in (
            "_content=",
            "_lastUpdated=",
            "_id=,",
            "nonsense=1",
            "gender:exact=male",
            "birthdate=soon",
            "_sort=nonsense",
        ):
            answer = await client.get(f"/Patient?{query}")
            assert answer.status_code == 400, query
            issue = answer.json()["issue"][0]
            assert issue["expression"]
            assert issue["diagnostics"]
        lenient = await client.get(
            "/Patient?nonsense=1&_count=100", headers={"prefer": "handling=lenient"}
        )
        assert len(ids(lenient.json())) == 5
        assert lenient.json()["entry"][-1]["search"]["mode"] == "outcome"
        assert "nonsense" not in lenient.json()["link"][0]["url"]


async def test_words_without_letters_find_nothing(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        for query in ("_content=%C2%8E", "_text=_&_total=accurate"):
            assert ids((await client.get(f"/Patient?{query}")).json()) == []


async def test_compartments_hold_what_belongs_to_their_owner(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        observations = (await client.get("/Patient/p1/Observation")).json()
        assert sorted(ids(observations)) == ["a", "b"]
        narrowed = (await client.get("/Patient/p1/Observation?code=x")).json()
        assert ids(narrowed) == ["a"]
        posted = await client.post("/Patient/p1/Observation/_search", data={"code": "y"})
        assert ids(posted.json()) == ["b"]
        of_all_types = (await client.get("/Patient/p1/*")).json()
        assert sorted(ids(of_all_types)) == ["a", "b", "e1", "p1"]
        assert ids((await client.get("/Practitioner/d1/Observation")).json()) == ["b"]
        assert (await client.get("/Patient/p1/Organization")).status_code == 404
        assert (await client.get("/Organization/o1/Patient")).status_code == 404
        links = of_all_types["link"]
        assert links[0]["url"].endswith("/Patient/p1/*")


async def test_everything_brings_the_compartment_and_what_it_refers_to(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        page = (await client.get("/Patient/p1/$everything")).json()
        assert sorted(ids(page)) == ["a", "b", "e1", "p1"]
        assert sorted(ids(page, "include")) == ["d1", "o1"]
        found: list[str] = []
        url: str | None = "/Patient/p1/$everything?_count=1"
        while url:
            step = (await client.get(url)).json()
            found += ids(step)
            url = {link["relation"]: link["url"] for link in step["link"]}.get("next")
        assert sorted(found) == ["a", "b", "e1", "p1"]
        typed = (await client.get("/Patient/p1/$everything?_type=Encounter")).json()
        assert ids(typed) == ["e1"]
        dated = (await client.get("/Patient/p1/$everything?start=2021-01-01")).json()
        assert "a" not in ids(dated)
        later = (await client.get("/Patient/p1/$everything?_since=2100-01-01T00:00:00Z")).json()
        assert ids(later) == []
        body = {
            "resourceType": "Parameters",
            "parameter": [{"name": "_count", "valueInteger": 2}],
        }
        posted = await client.post("/Patient/p1/$everything", json=body, headers=JSON)
        assert len(ids(posted.json())) == 2
        assert ids((await client.get("/Encounter/e1/$everything")).json()) == ["e1"]
        assert (await client.get("/Patient/none/$everything")).status_code == 404
        assert (await client.get("/Patient/p1/$everything?x=1")).status_code == 400


async def test_everything_names_the_parameter_that_is_wrong_and_how_to_mend_it(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        for query, name, right in (
            ("end=bad", "end", "end=2030"),
            ("start=2020-13-01", "start", "start=2020-12-01"),
            ("_since=yesterday", "_since", "_since=2020-01-01T00:00:00Z"),
            ("_since=", "_since", "_since=2020"),
            ("start=2020&start=2021", "start", "start=2020"),
            ("_type=Practitioner", "_type", "_type=Practitioner,Patient"),
            ("_type=Nonsense", "_type", "_type=Patient"),
            ("_count=few", "_count", "_count=3"),
            ("_cursor=x", "_cursor", ""),
        ):
            for place in ("/Patient/p1", "/Patient"):
                refused = await client.get(f"{place}/$everything?{query}")
                assert refused.status_code == 400, query
                assert name in str(refused.json()["issue"][0]["expression"]), refused.text
                answer = await client.get(f"{place}/$everything?{right}")
                assert answer.status_code == 200, answer.text


async def test_everything_of_some_types_brings_no_others(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        for query in ("_type=Observation,Practitioner", "_type=Observation&_type=Practitioner"):
            page = (await client.get(f"/Patient/p1/$everything?{query}")).json()
            assert (sorted(ids(page)), ids(page, "include")) == (["a", "b"], ["d1"])
            assert "Practitioner" in page["link"][0]["url"]


async def test_everything_of_all_patients_brings_each_record_once(serve: Any) -> None:
    free = {"resourceType": "Observation", "status": "final", "code": {"text": "of nobody"}}
    about = {**free, "id": "wards", "subject": {"reference": "Group/g1"}}
    async with serve() as client:
        await filled(client)
        await client.put("/Observation/free", json={**free, "id": "free"}, headers=JSON)
        await client.put("/Observation/wards", json=about, headers=JSON)
        whole = (await client.get("/Patient/$everything?_count=100")).json()
        singly: set[str] = set()
        for patient in ids((await client.get("/Patient")).json()):
            singly |= set(ids((await client.get(f"/Patient/{patient}/$everything")).json()))
        assert set(ids(whole)) == singly
        assert {"a", "b", "c", "e1", "p1", "p2"} <= singly
        assert not {"free", "wards"} & singly
        found: list[str] = []
        url: str | None = "/Patient/$everything?_count=2"
        while url:
            step = (await client.get(url)).json()
            found += ids(step)
            url = {link["relation"]: link["url"] for link in step["link"]}.get("next")
        assert sorted(found) == sorted(singly)
        assert (await client.get("/Encounter/$everything")).status_code == 404


async def test_everything_of_all_reads_what_a_caller_may_see_and_no_more(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may see all reads by type, newest first; for one patient that would read the others'."""
    plans: list[Plan] = []

    def noted(*given: Any) -> Plan:
        plans.append(choose(*given))
        return plans[-1]

    async def identify(authorization: str | None) -> Caller:
        scope = (authorization or "").removeprefix("Bearer ")
        patient = "p1" if scope.startswith("patient/") else None
        return Caller(subject="x", scopes=parse_scopes(scope), patient=patient)

    monkeypatch.setattr(searcher, "choose", noted)
    async with serve(identify=identify) as client:
        setup = {"authorization": "Bearer system/*.cruds"}
        client.headers.update(setup)
        await filled(client)
        for scope, is_walk in (("system/*.rs", True), ("patient/*.rs", False)):
            plans.clear()
            asked = {"authorization": f"Bearer {scope}"}
            page = await client.get("/Patient/$everything", headers=asked)
            assert page.status_code == 200, page.text
            assert isinstance(plans[-1].driver, Typed) is is_walk, scope


async def everything_beside_others(client: httpx.AsyncClient) -> Any:
    """Return what `$everything` brings where a Provenance and a Group name two people's things."""
    contracts = [
        {
            "resourceType": "Contract",
            "id": f"k{number}",
            "status": "executable",
            "subject": [{"reference": f"Patient/p{number}"}],
        }
        for number in (1, 2)
    ]
    devices = [
        {"resourceType": "Device", "id": "scale"},
        {"resourceType": "Device", "id": "pump", "patient": {"reference": "Patient/p2"}},
    ]
    named = [*contracts, *devices]
    told = {
        "resourceType": "Provenance",
        "id": "told",
        "target": [{"reference": f"{one['resourceType']}/{one['id']}"} for one in named]
        + [{"reference": "Patient/p1"}, {"reference": "Observation/c"}],
        "recorded": "2020-01-01T00:00:00Z",
        "agent": [{"who": {"display": "x"}}],
    }
    family = {
        "resourceType": "Group",
        "id": "family",
        "type": "person",
        "actual": True,
        "member": [{"entity": {"reference": f"Patient/p{number}"}} for number in (1, 2)],
    }
    await filled(client)
    for resource in (*named, told, family):
        path = f"/{resource['resourceType']}/{resource['id']}"
        assert (await client.put(path, json=resource, headers=JSON)).status_code == 201
    return (await client.get("/Patient/p1/$everything")).json()


async def test_everything_of_one_is_nothing_of_others(serve: Any) -> None:
    async with serve() as client:
        page = await everything_beside_others(client)
        assert sorted(ids(page)) == ["a", "b", "e1", "family", "k1", "p1", "told"]
        assert sorted(ids(page, "include")) == ["d1", "o1", "scale"]


async def test_what_is_another_persons_would_come_without_its_rule(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "MORE_MEMBERS", {})
    monkeypatch.setattr(everything, "_OTHERS", {})
    async with serve() as client:
        page = await everything_beside_others(client)
        assert {"k2", "pump"} <= set(ids(page, "include"))


async def test_conditional_writes_take_any_search(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        many = await client.delete("/Observation?code=x")
        assert many.status_code == 412
        one = await client.delete("/Observation?code=x&patient=p1")
        assert one.status_code == 204
        assert (await client.get("/Observation/a")).status_code == 410
        bad = await client.delete("/Observation?nonsense=1")
        assert bad.status_code == 400


async def test_a_list_is_named_by_its_id_or_a_reference(serve: Any) -> None:
    async with serve() as client:
        await filled(client)
        body = {
            "resourceType": "List",
            "id": "l1",
            "status": "current",
            "mode": "working",
            "entry": [{"item": {"reference": "Patient/p1"}}],
        }
        await client.put("/List/l1", json=body, headers=JSON)
        for named in ("l1", "List/l1"):
            assert ids((await client.get(f"/Patient?_list={named}")).json()) == ["p1"]
