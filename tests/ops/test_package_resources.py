"""What is loaded at start beside the package: partners' code tables; and how both are asked."""

import json
import pathlib
from typing import Any

import pytest
from contracting import asked, world

import ops.package
from adapters.province.error_table import read_error_table
from conformance.cphc import BASE
from conformance.cphc.artefacts import package
from conformance.structure import check
from conformance.terminology.library import Library
from mappings.engine.library import default_folder
from ops.partner_maps import partner_maps

MAPS = list(partner_maps())
PACKAGE = list(package())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def rows_of(concept_map: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    return {
        (group["target"], element["code"]): {one.get("code", "") for one in element["target"]}
        for group in concept_map["group"]
        for element in group["element"]
    }


def test_every_table_of_a_partner_leads_to_codes_that_are_known() -> None:
    library = Library(PACKAGE)
    assert len(MAPS) >= 11
    for one in MAPS:
        assert check(one) == [], one["id"]
        assert one["id"].startswith("cphc-cm-province-")
        assert one["url"] == f"{BASE}/ConceptMap/{one['id']}"
        for (target, _), codes in rows_of(one).items():
            system = library.code_system(target)
            assert system is not None, target
            assert [code for code in codes if system.find(code) is None] == []
    assert {one["id"] for one in MAPS} & {one["id"] for one in PACKAGE} == set()


def test_every_error_of_the_province_says_what_to_do() -> None:
    (errors,) = [one for one in MAPS if "error" in one["id"]]
    elements = {one["code"]: one["target"][0]["comment"] for one in errors["group"][0]["element"]}
    table = read_error_table()
    assert elements.keys() == table.keys() - {"0000", "0002"}  # registered, and still waiting
    assert all(table[code].action_zh in comment for code, comment in elements.items())


@pytest.mark.parametrize(
    ("table", "concept_map"),
    [
        ("GBT2261-1", "gbt-2261-1-to-administrative-gender"),
        ("GBT2261-2", "gbt-2261-2-to-v3-maritalstatus"),
        ("GBT4761", "gbt-4761-to-v3-rolecode"),
    ],
)
def test_the_tables_of_national_codes_say_what_the_package_says(
    table: str, concept_map: str
) -> None:
    file: pathlib.Path = default_folder() / "tables" / f"{table}.json"
    of_maps = rows_of(json.loads(file.read_text("utf-8")))
    (own,) = [one for one in PACKAGE if one["id"] == f"cphc-cm-{concept_map}"]
    known = rows_of(own)
    assert {key: codes for key, codes in of_maps.items() if codes != known[key]} == {}


def translation(code: str, system: str, **more: Any) -> dict[str, Any]:
    named = [{"name": name, "valueBoolean": value} for name, value in more.items()]
    return asked(
        {"name": "code", "valueCode": code}, {"name": "system", "valueUri": system}, *named
    )


def answers(parameters: dict[str, Any]) -> list[str]:
    return [
        part["valueCoding"]["code"]
        for match in parameters["parameter"]
        if match["name"] == "match"
        for part in match["part"]
        if part["name"] == "concept"
    ]


@pytest.mark.anyio
async def test_systems_and_tables_are_found_over_http(database_url: str) -> None:
    async with world(database_url) as client:
        for name, id_ in (
            ("2.16.156.10011.1.3", "cphc-ns-id-card"),
            (f"{BASE}/NamingSystem/cphc-ns-uscc", "cphc-ns-uscc"),
            (f"{BASE}/CodeSystem/cphc-gbt-2260", "cphc-ns-gbt-2260"),
        ):
            found = (await client.get("/NamingSystem", params={"value": name})).json()
            assert [one["resource"]["id"] for one in found["entry"]] == [id_]
        found = (await client.get("/NamingSystem?kind=identifier&_summary=count")).json()
        assert found["total"] >= 14
        ask = "/ConceptMap/$translate"
        answer = await client.post(ask, json=translation("09", "urn:qiao:province:endreason"))
        assert answers(answer.json()) == ["09"]
        terminated = translation("terminated", "http://hl7.org/fhir/contract-status", reverse=True)
        answer = await client.post(ask, json=terminated)
        assert "40" in answers(answer.json())
        answer = await client.post(ask, json=translation("E2003", "urn:qiao:province:error"))
        assert answers(answer.json()) == ["field"]


@pytest.mark.anyio
async def test_without_loading_a_partner_is_not_known(
    fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops.package, "partner_maps", lambda: ())
    async with world(fresh_database_url) as client:
        asked_for = translation("09", "urn:qiao:province:endreason")
        answer = await client.post("/ConceptMap/$translate", json=asked_for)
        assert answers(answer.json()) == []
