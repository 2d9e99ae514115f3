"""The package `cn.cphc.core`: every artefact is valid R4 and says what it should."""

from collections import Counter

import pytest

from conformance.cphc import BASE
from conformance.cphc.artefacts import extensions, operation_definitions, package, profiles
from conformance.r4.tables import load
from conformance.structure import check

PACKAGE = list(package())


def test_every_artefact_is_a_valid_resource() -> None:
    wrong = {
        f"{r['resourceType']}/{r['id']}": [f"{i.expression}: {i.text_en}" for i in issues]
        for r in PACKAGE
        if (issues := check(r))
    }
    assert wrong == {}


def test_addresses_and_ids_are_unique_and_ours() -> None:
    names = Counter(f"{r['resourceType']}/{r['id']}" for r in PACKAGE)
    assert [name for name, count in names.items() if count > 1] == []
    addresses = Counter(r["url"] for r in PACKAGE)
    assert [url for url, count in addresses.items() if count > 1] == []
    assert all(url.startswith(BASE) for url in addresses)


def test_every_bound_value_set_is_in_the_package() -> None:
    there = {r["url"] for r in PACKAGE if r["resourceType"] == "ValueSet"}
    bound = {
        element["binding"]["valueSet"]
        for definition in (*profiles(), *extensions())
        for element in definition["differential"]["element"]
        if "binding" in element
    }
    assert bound <= there


def test_every_element_of_a_profile_is_an_element_of_its_type() -> None:
    types = load().types
    for profile in profiles():
        for element in profile["differential"]["element"][1:]:
            path = element["path"].removeprefix(f"{profile['type']}.")
            if path == "extension" or path.endswith((".system", ".extension")):
                continue
            assert path in types[profile["type"]].elements, f"{profile['id']}: {path}"


def test_every_extension_of_a_profile_is_defined() -> None:
    defined = {extension["url"] for extension in extensions()}
    used = {
        profile
        for definition in profiles()
        for element in definition["differential"]["element"]
        for type_ in element.get("type", ())
        for profile in type_.get("profile", ())
    }
    assert used <= defined


@pytest.mark.parametrize("operation", list(operation_definitions()), ids=lambda o: o["id"])
def test_the_address_of_an_operation_is_the_one_it_is_promised_under(operation: dict) -> None:
    assert operation["url"] == f"{BASE}/OperationDefinition/{operation['id']}"


def test_the_package_holds_what_the_list_asks_for() -> None:
    counts = Counter(r["resourceType"] for r in PACKAGE)
    assert counts["Questionnaire"] == 35
    assert counts["StructureDefinition"] >= 60
    assert counts["CodeSystem"] >= 50
