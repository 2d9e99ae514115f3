"""Every system of identifiers and codes that the hub writes is named by a NamingSystem."""

import pathlib
import re
from collections import Counter

import pytest

from conformance.cphc import BASE
from conformance.cphc.code_systems import code_systems
from conformance.cphc.naming_systems import name_of, naming_systems

ROOT = pathlib.Path(__file__).parents[2]
PARTS = ("conformance", "mappings", "care", "routes", "ops", "adapters", "fhir_store")
ENDINGS = (".py", ".yaml", ".json", ".csv")
# National OIDs (2.16.156 and HL7中国's arc), and names that the hub gave itself.
SYSTEM = re.compile(
    r"urn:oid:2\.16\.156\.[0-9.]*[0-9]|urn:oid:2\.16\.840\.1\.113883\.2\.23\.[0-9.]*[0-9]"
    r"|(?:BASE\}|" + re.escape(BASE) + r")/NamingSystem/[a-z-]+"
)
NAMED = {unique["value"] for one in naming_systems() for unique in one["uniqueId"]}


def systems_in(text: str) -> set[str]:
    return {found.replace("BASE}", BASE) for found in SYSTEM.findall(text)}


def unnamed(text: str) -> set[str]:
    return {one for one in systems_in(text) if name_of(one) not in NAMED}


def test_every_system_in_the_sources_is_named() -> None:
    files = [
        file
        for part in PARTS
        for file in (ROOT / part).rglob("*")
        if file.suffix in ENDINGS and ".cases" not in str(file)
    ]
    texts = {file: file.read_text("utf-8") for file in files}
    assert len(set().union(*map(systems_in, texts.values()))) >= 12
    assert {str(file): found for file, text in texts.items() if (found := unnamed(text))} == {}


def test_a_system_that_nobody_named_is_noticed() -> None:
    assert unnamed('"system": "urn:oid:2.16.156.10011.1.99"') == {"urn:oid:2.16.156.10011.1.99"}
    assert unnamed('f"{BASE}/NamingSystem/cphc-ns-nobody"') == {
        f"{BASE}/NamingSystem/cphc-ns-nobody"
    }


def test_every_national_list_is_named_by_its_address_and_its_oid() -> None:
    for system in code_systems():
        for identifier in system.get("identifier", ()):
            assert system["url"] in NAMED
            assert name_of(identifier["value"]) in NAMED
    assert f"{BASE}/CodeSystem/cphc-gbt-2260" in NAMED


def test_every_oid_of_the_page_is_named(shared_data: pathlib.Path) -> None:
    source = shared_data.parent / "domain" / "codes-and-identifiers.md"
    if not source.exists():
        pytest.skip("the page of requirements is not here")
    listed = set(re.findall(r"`(2\.16\.[0-9.]+)`", source.read_text(encoding="utf-8")))
    assert len(listed) >= 26
    assert listed - NAMED == set()


def test_a_name_stands_for_one_system() -> None:
    counts = Counter(u["value"] for one in naming_systems() for u in one["uniqueId"])
    assert [name for name, count in counts.items() if count > 1] == []
    for one in naming_systems():
        preferred = Counter(u["type"] for u in one["uniqueId"] if u.get("preferred"))
        assert max(preferred.values()) == 1  # nsd-2
