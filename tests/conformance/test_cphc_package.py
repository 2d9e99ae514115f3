"""The package `cn.cphc.core`: every artefact is valid R4 and says what it should."""

import datetime
from collections import Counter
from typing import Any

import pytest

from conformance.cphc import BASE
from conformance.cphc.artefacts import extensions, operation_definitions, package, profiles
from conformance.fhirpath import Ports
from conformance.identity_numbers import ID_CARD_SYSTEM, check_character_of_id_card
from conformance.profiles import Profiles
from conformance.r4.tables import load
from conformance.structure import check
from conformance.terminology.library import KINDS, Library
from conformance.terminology.operations import translate_code
from conformance.terminology.port import terminology_of
from conformance.validation import Validator

PACKAGE = list(package())


def test_every_artefact_is_a_valid_resource() -> None:
    wrong = {
        f"{r['resourceType']}/{r['id']}": [f"{i.expression}: {i.text_en}" for i in issues]
        for r in PACKAGE
        if (issues := check(r))
    }
    assert wrong == {}


def test_every_artefact_holds_to_the_definitions_of_its_extensions() -> None:
    ports = Ports(terminology=terminology_of(Library(PACKAGE)))
    validator = Validator(profiles=Profiles(PACKAGE), ports=ports)
    wrong = {
        f"{r['resourceType']}/{r['id']}": [f"{i.expression}: {i.text_en}" for i in issues]
        for r in PACKAGE
        if (issues := [one for one in validator.check(r) if one.severity != "information"])
    }
    assert wrong == {}


def test_addresses_and_ids_are_unique_and_ours() -> None:
    names = Counter(f"{r['resourceType']}/{r['id']}" for r in PACKAGE)
    assert [name for name, count in names.items() if count > 1] == []
    addresses = Counter(r["url"] for r in PACKAGE if r["resourceType"] != "NamingSystem")
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
            if path == "extension" or path.endswith((".system", ".extension", "[x].code")):
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
    assert counts["Questionnaire"] == 37
    assert counts["StructureDefinition"] >= 60
    assert counts["CodeSystem"] >= 245


NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CM = [r for r in PACKAGE if r["resourceType"] == "ConceptMap"]


LISTS = f"{BASE}/CodeSystem"
FORMER = {f"{LISTS}/phs2011-{name}" for name in ("occupation", "livestock-pen", "education")} | {
    f"{LISTS}/phs3-dm2-followup-dorsalis-pedis-former",
    f"{LISTS}/phs3-personal-info-livestock-pen",
}


def test_the_concept_maps_lead_from_known_codes_to_known_codes() -> None:
    library = Library([r for r in PACKAGE if r["resourceType"] in KINDS])

    def is_known(system: str, code: str) -> bool:
        found = library.code_system(system)
        return found is not None and found.find(code) is not None

    assert len(CM) >= 14
    for concept_map in CM:
        assert "Confidence: " in concept_map["purpose"]
        for group in concept_map["group"]:
            for element in group["element"]:
                # Earlier editions are not among the lists; their codes stand in the maps alone.
                is_former = group["source"] in FORMER
                assert is_former or is_known(group["source"], element["code"])
                for target in element["target"]:
                    assert "code" not in target or is_known(group["target"], target["code"])
    assert not is_known(f"{BASE}/CodeSystem/cphc-rh", "4")


def test_the_form_and_the_national_list_ask_for_rh_the_other_way_round() -> None:
    library = Library(CM)
    question = parameters(code="1", system=f"{BASE}/CodeSystem/phs3-rh")
    answer = translate_code(question, library, NOW)
    match = next(p for p in answer["parameter"] if p["name"] == "match")
    (concept,) = [p["valueCoding"] for p in match["part"] if p["name"] == "concept"]
    assert concept == {"system": f"{BASE}/CodeSystem/cphc-rh", "code": "2"}


def test_what_the_third_edition_divided_is_left_to_a_person() -> None:
    question = parameters(code="5", system=f"{BASE}/CodeSystem/phs2011-education")
    answer = translate_code(question, Library(CM), NOW)
    matches = [p["part"] for p in answer["parameter"] if p["name"] == "match"]
    said = {
        part["valueCode"] for parts in matches for part in parts if part["name"] == "equivalence"
    }
    assert len(matches) == 3
    assert said == {"narrower"}


def parameters(**named: str) -> dict[str, Any]:
    listed = [{"name": name, "valueString": value} for name, value in named.items()]
    return {"resourceType": "Parameters", "parameter": listed}


RESIDENT = {
    "resourceType": "Patient",
    "identifier": [{"system": ID_CARD_SYSTEM, "value": "11010519491231002X"}],
    "name": [{"text": "测试"}],
    "gender": "female",
    "birthDate": "1949-12-31",
}
VALIDATOR = Validator(profiles=Profiles(PACKAGE))


def broken_rules(number: str | None, **members: Any) -> list[str]:
    identifier = {"system": ID_CARD_SYSTEM} | ({"value": number} if number is not None else {})
    resident = {**RESIDENT, "identifier": [identifier], **members}
    found = VALIDATOR.check(resident, profiles=[f"{BASE}/StructureDefinition/cphc-patient"])
    return [
        name for issue in found for name in issue.text_en.split() if name.startswith("cphc-id-")
    ]


def number_of(first17: str) -> str:
    return first17 + check_character_of_id_card(first17)


@pytest.mark.parametrize(
    ("number", "members", "broken"),
    [
        ("11010519491231002X", {}, []),
        ("11010519491231002x", {}, []),
        (None, {}, []),
        ("110105194912310021", {}, ["cphc-id-check"]),
        ("11010519491231020X", {}, ["cphc-id-check"]),  # two digits changed places
        ("110105491231002", {}, ["cphc-id-form"]),
        ("11010519491231002Y", {}, ["cphc-id-form"]),
        ("1" * 300, {}, ["cphc-id-form"]),
        (number_of("11010519490231002"), {}, ["cphc-id-birth"]),  # no 31st of February
        (number_of("11010529491231002"), {"birthDate": "2949-12-31"}, ["cphc-id-birth"]),
        ("11010519491231002X", {"birthDate": "1949-12-30"}, ["cphc-id-birth"]),
        ("11010519491231002X", {"birthDate": "1949-12"}, []),
        ("11010519491231002X", {"birthDate": "1949-11"}, ["cphc-id-birth"]),
        ("11010519491231002X", {"gender": "male"}, ["cphc-id-sex"]),
        (number_of("11010519491231001"), {"gender": "male"}, []),
        ("11010519491231002X", {"gender": "unknown"}, []),
    ],
)
def test_an_id_card_number_agrees_with_its_digit_the_birth_date_and_the_sex(
    number: str | None, members: dict[str, Any], broken: list[str]
) -> None:
    assert broken_rules(number, **members) == broken


def test_the_rule_of_the_profile_gives_the_digit_that_the_hub_computes() -> None:
    for serial in range(200):
        first17 = f"3301061988{serial % 12 + 1:02}{serial % 28 + 1:02}{serial:03}"
        born = f"1988-{serial % 12 + 1:02}-{serial % 28 + 1:02}"
        gender = "male" if serial % 2 else "female"
        wrong = "0123456789X".replace(check_character_of_id_card(first17), "")[serial % 10]
        assert broken_rules(number_of(first17), birthDate=born, gender=gender) == []
        assert broken_rules(first17 + wrong, birthDate=born, gender=gender) == ["cphc-id-check"]


SOCIAL_SECURITY = "urn:oid:2.16.840.1.113883.2.23.1.19.2"
MR = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]}
CLINIC = "urn:oid:2.16.156.10011.1.5.1"


@pytest.mark.parametrize(
    ("added", "broken"),
    [
        ([{"system": SOCIAL_SECURITY, "value": "A1"}] * 2, ""),
        ([{"system": CLINIC, "type": MR, "value": "1"}, {"type": MR, "value": "2",
           "assigner": {"display": "x"}}], ""),
        ([{"type": MR, "value": "2"}], "cphc-mrn-of"),
        ([{"value": "2"}], ""),  # of no slice
        ([{"system": "urn:oid:2.16.156.10011.1.2", "value": "1"}] * 2, "identifier:record"),
    ],
)  # fmt: skip
def test_numbers_of_a_resident_are_told_apart_by_system_and_type(
    added: list[dict[str, Any]], broken: str
) -> None:
    resident = {**RESIDENT, "identifier": [*RESIDENT["identifier"], *added]}
    found = VALIDATOR.check(resident, profiles=[f"{BASE}/StructureDefinition/cphc-patient"])
    assert bool(broken) == bool(found)
    assert broken in " ".join(issue.text_en for issue in found)
    assert VALIDATOR.check(resident) == []


DOCTOR = {
    "resourceType": "Practitioner",
    "identifier": RESIDENT["identifier"],
    "name": [{"text": "测试"}],
    "gender": "female",
    "birthDate": "1949-12-31",
}
INSTITUTION = {
    "resourceType": "Organization",
    "identifier": [{"system": f"{BASE}/NamingSystem/cphc-ns-uscc", "value": "91350100M000100Y43"}],
    "name": "测试",
    "type": [{"text": "x"}],
}


@pytest.mark.parametrize(
    ("resource", "profile", "changed", "broken"),
    [
        (DOCTOR, "cphc-practitioner", {}, ""),
        (DOCTOR, "cphc-practitioner", {"gender": "male"}, "cphc-id-sex"),
        (INSTITUTION, "cphc-organization", {}, ""),
        (INSTITUTION, "cphc-organization", {"identifier": [
            {**INSTITUTION["identifier"][0], "value": "91350100M000100Y4O"}]}, "cphc-uscc-form"),
    ],
)  # fmt: skip
def test_numbers_of_doctors_and_institutions_have_their_form(
    resource: dict[str, Any], profile: str, changed: dict[str, Any], broken: str
) -> None:
    claimed = [f"{BASE}/StructureDefinition/{profile}"]
    found = VALIDATOR.check({**resource, **changed}, profiles=claimed)
    assert [broken in one.text_en for one in found] == ([True] if broken else [])
    assert VALIDATOR.check({**resource, **changed}) == []


def test_without_the_rules_of_the_slice_a_wrong_number_passes() -> None:
    def without_rules(resource: dict[str, Any]) -> dict[str, Any]:
        if resource.get("id") != "cphc-patient":
            return resource
        kept = [
            {name: value for name, value in element.items() if name != "constraint"}
            for element in resource["differential"]["element"]
        ]
        return {**resource, "differential": {"element": kept}}

    profiles_ = Profiles([without_rules(one) for one in PACKAGE])
    wrong = {**RESIDENT, "identifier": [{"system": ID_CARD_SYSTEM, "value": "110105194912310021"}]}
    claimed = [f"{BASE}/StructureDefinition/cphc-patient"]
    assert Validator(profiles=profiles_).check(wrong, profiles=claimed) == []
