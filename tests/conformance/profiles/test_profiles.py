"""Profiles: each feature refuses what breaks it and passes what keeps it."""

from typing import Any

import pytest

from conformance.cphc.artefacts import package
from conformance.fhirpath import Ports, Terminology
from conformance.problem import InvalidContent
from conformance.profiles import Profiles, snapshot
from conformance.profiles.definitions import check_definition
from conformance.r4 import tables
from conformance.validation import Validator

CORE = "http://hl7.org/fhir/StructureDefinition/"
OWN = "http://example.com/StructureDefinition/"


def profile(
    *elements: dict[str, Any],
    type_: str = "Patient",
    name: str = "p",
    base: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    return {
        "resourceType": "StructureDefinition", "url": OWN + name, "type": type_,
        "kind": "resource", "derivation": "constraint",
        "baseDefinition": base or CORE + type_,
        "differential": {"element": list(elements)}, **more,
    }  # fmt: skip


def keys(
    resource: dict[str, Any],
    definition: dict[str, Any],
    *others: dict[str, Any],
    ports: Ports | None = None,
) -> list[str]:
    profiles = Profiles([definition, *others])
    found = profiles.check(resource, definition["url"], ports=ports or Ports())
    return [issue.key for issue in found]


def patient(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **members}


NAME_NEEDED = profile({"path": "Patient.name", "min": 1})


@pytest.mark.parametrize(
    ("element", "good", "bad", "key"),
    [
        ({"path": "Patient.name", "min": 1}, {"name": [{"text": "x"}]}, {}, "min"),
        ({"path": "Patient.name", "max": "1"}, {"name": [{}]}, {"name": [{}, {}]}, "max"),
        ({"path": "Patient.photo", "max": "0"}, {}, {"photo": [{}]}, "max"),
        ({"path": "Patient.name.family", "min": 1}, {"name": [{"family": "x"}]},
         {"name": [{"family": "x"}, {"text": "y"}]}, "min"),
        ({"path": "Patient.gender", "fixedCode": "female"}, {"gender": "female"},
         {"gender": "male"}, "fixed"),
        ({"path": "Patient.maritalStatus", "patternCodeableConcept": {"coding": [{"code": "M"}]}},
         {"maritalStatus": {"coding": [{"code": "X"}, {"code": "M", "display": "m"}]}},
         {"maritalStatus": {"coding": [{"code": "X"}]}}, "pattern"),
        ({"path": "Patient.maritalStatus", "fixedCodeableConcept": {"coding": [{"code": "M"}]}},
         {"maritalStatus": {"coding": [{"code": "M"}]}},
         {"maritalStatus": {"coding": [{"code": "M", "display": "m"}]}}, "fixed"),
        ({"path": "Patient.birthDate", "minValueDate": "1900-01-01"}, {"birthDate": "1900-01-01"},
         {"birthDate": "1899-12-31"}, "min-value"),
        ({"path": "Patient.multipleBirth[x]", "maxValueInteger": 3},
         {"multipleBirthInteger": 3}, {"multipleBirthInteger": 4}, "max-value"),
        ({"path": "Patient.name.family", "maxLength": 3}, {"name": [{"family": "abc"}]},
         {"name": [{"family": "abcd"}]}, "max-length"),
        ({"path": "Patient.deceased[x]", "type": [{"code": "boolean"}]},
         {"deceasedBoolean": True}, {"deceasedDateTime": "2020"}, "type"),
        ({"path": "Patient.deceasedDateTime", "min": 1},
         {"deceasedDateTime": "2020"}, {"deceasedBoolean": True}, "min"),
        ({"path": "Patient.contact.name", "min": 1}, {"contact": [{"name": {"text": "x"}}]},
         {"contact": [{"gender": "male"}]}, "min"),
        ({"path": "Patient.managingOrganization", "type": [{"code": "Reference",
          "targetProfile": [CORE + "Practitioner"]}]},
         {"managingOrganization": {"reference": "Practitioner/1"}},
         {"managingOrganization": {"reference": "Organization/1"}}, "target"),
        ({"path": "Patient", "constraint": [{"key": "c-1", "severity": "error",
          "expression": "active or gender.exists()"}]},
         {"active": True}, {"active": False}, "constraint"),
        ({"path": "Patient.name", "constraint": [{"key": "c-2", "severity": "warning",
          "expression": "family.length() > 1"}]},
         {"name": [{"family": "ab"}]}, {"name": [{"family": "a"}]}, "constraint-warning"),
        ({"path": "Patient.birthDate.extension", "min": 1},
         {"birthDate": "2020", "_birthDate": {"extension": [{"url": "u", "valueCode": "c"}]}},
         {"birthDate": "2020"}, "min"),
    ],
)  # fmt: skip
def test_an_element_rule_passes_the_good_and_tells_the_bad(
    element: dict[str, Any], good: dict[str, Any], bad: dict[str, Any], key: str
) -> None:
    assert keys(patient(**good), profile(element)) == []
    assert keys(patient(**bad), profile(element)) == [key]


def sliced(*slices: dict[str, Any], kind: str = "value", path: str = "system", **slicing: Any
           ) -> dict[str, Any]:  # fmt: skip
    head = {
        "path": "Patient.identifier",
        "slicing": {"discriminator": [{"type": kind, "path": path}], "rules": "open", **slicing},
    }
    return profile(head, *slices)


def slice_of(name: str, system: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"path": "Patient.identifier", "sliceName": name, **more},
        {"path": "Patient.identifier.system", "fixedUri": system},
    ]


def ids(*systems: str) -> dict[str, Any]:
    return patient(identifier=[{"system": system, "value": "1"} for system in systems])


def test_slices_are_counted_by_their_value() -> None:
    definition = sliced(*slice_of("a", "urn:a", min=1, max="1"), *slice_of("b", "urn:b", max="1"))
    assert keys(ids("urn:a", "urn:x"), definition) == []
    assert keys(ids("urn:b", "urn:b"), definition) == ["min", "max"]


def test_a_slice_checks_its_own_items_only() -> None:
    definition = sliced(*slice_of("a", "urn:a"), {"path": "Patient.identifier.period", "min": 1})
    assert keys(ids("urn:x"), definition) == []
    assert keys(ids("urn:a"), definition) == ["min"]


def test_closed_slicing_refuses_the_rest() -> None:
    definition = sliced(*slice_of("a", "urn:a"), rules="closed")
    assert keys(ids("urn:a"), definition) == []
    assert keys(ids("urn:a", "urn:x"), definition) == ["slice-closed"]


def test_open_at_end_wants_the_rest_behind() -> None:
    definition = sliced(*slice_of("a", "urn:a"), rules="openAtEnd")
    assert keys(ids("urn:a", "urn:x"), definition) == []
    assert keys(ids("urn:x", "urn:a"), definition) == ["slice-end"]


def test_ordered_slices_stand_in_their_order() -> None:
    definition = sliced(*slice_of("a", "urn:a"), *slice_of("b", "urn:b"), ordered=True)
    assert keys(ids("urn:a", "urn:b"), definition) == []
    assert keys(ids("urn:b", "urn:a"), definition) == ["slice-order"]
    assert (
        keys(ids("urn:b", "urn:a"), sliced(*slice_of("a", "urn:a"), *slice_of("b", "urn:b"))) == []
    )


def test_slices_by_pattern_exists_and_type() -> None:
    pattern = sliced(
        {"path": "Patient.identifier", "sliceName": "m", "max": "1"},
        {"path": "Patient.identifier.type", "patternCodeableConcept": {"coding": [{"code": "MR"}]}},
        kind="pattern", path="type",
    )  # fmt: skip
    twice = patient(identifier=[{"type": {"coding": [{"code": "MR", "system": "s"}]}}] * 2)
    assert keys(twice, pattern) == ["max"]
    exists = sliced(
        {"path": "Patient.identifier", "sliceName": "with", "max": "1"},
        {"path": "Patient.identifier.period", "min": 1},
        {"path": "Patient.identifier", "sliceName": "without", "max": "0"},
        {"path": "Patient.identifier.period", "max": "0"},
        kind="exists", path="period",
    )  # fmt: skip
    assert keys(patient(identifier=[{"period": {"start": "2020"}}]), exists) == []
    assert keys(patient(identifier=[{"value": "1"}]), exists) == ["max"]
    by_type = profile(
        {"path": "Observation.value[x]", "slicing": {
            "discriminator": [{"type": "type", "path": "$this"}], "rules": "closed"}},
        {"path": "Observation.value[x]", "sliceName": "valueQuantity", "type": [
            {"code": "Quantity"}]},
        {"path": "Observation.value[x].unit", "min": 1},
        type_="Observation",
    )  # fmt: skip
    quantity = {"resourceType": "Observation", "valueQuantity": {"value": 1}}
    assert keys(quantity, by_type) == ["min"]
    assert keys({"resourceType": "Observation", "valueString": "x"}, by_type) == ["slice-closed"]


def test_slices_by_profile_and_by_the_type_behind_a_reference() -> None:
    named = profile({"path": "Patient.name", "min": 1}, name="named")
    bundle = profile(
        {"path": "Bundle.entry", "slicing": {
            "discriminator": [{"type": "profile", "path": "resource"}], "rules": "closed"}},
        {"path": "Bundle.entry", "sliceName": "n", "min": 1},
        {"path": "Bundle.entry.resource", "type": [
            {"code": "Patient", "profile": [named["url"]]}]},
        type_="Bundle",
    )  # fmt: skip
    entry = {"resource": patient(name=[{"text": "x"}])}
    good = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
    assert keys(good, bundle, named) == []
    bad = {**good, "entry": [{"resource": patient()}]}
    assert keys(bad, bundle, named) == ["slice-closed", "min"]
    listing = profile(
        {"path": "List.entry", "slicing": {
            "discriminator": [{"type": "type", "path": "item.resolve()"}], "rules": "closed"}},
        {"path": "List.entry", "sliceName": "o"},
        {"path": "List.entry.item", "type": [
            {"code": "Reference", "targetProfile": [CORE + "Observation"]}]},
        type_="List",
    )  # fmt: skip
    known = {"Observation/1": {"resourceType": "Observation"}, "Patient/1": patient()}
    ports = Ports(resolver=known.get)
    for target, expected in (("Observation/1", []), ("Patient/1", ["slice-closed"])):
        resource = {"resourceType": "List", "entry": [{"item": {"reference": target}}]}
        assert keys(resource, listing, ports=ports) == expected


def test_slices_of_slices_are_counted_inside_them() -> None:
    definition = profile(
        {"id": "Patient.identifier", "path": "Patient.identifier", "slicing": {
            "discriminator": [{"type": "value", "path": "system"}], "rules": "open"}},
        {"id": "Patient.identifier:a", "path": "Patient.identifier", "sliceName": "a",
         "slicing": {"discriminator": [{"type": "value", "path": "use"}], "rules": "open"}},
        {"id": "Patient.identifier:a.system", "path": "Patient.identifier.system",
         "fixedUri": "urn:a"},
        {"id": "Patient.identifier:a/o", "path": "Patient.identifier", "sliceName": "a/o",
         "min": 1},
        {"id": "Patient.identifier:a/o.use", "path": "Patient.identifier.use",
         "fixedCode": "official"},
    )  # fmt: skip
    good = patient(identifier=[{"system": "urn:a", "use": "official"}])
    assert keys(good, definition) == []
    bad = patient(identifier=[{"system": "urn:a", "use": "old"},
                              {"system": "urn:b", "use": "official"}])  # fmt: skip
    assert keys(bad, definition) == ["min"]


def test_a_slice_whose_profile_is_unknown_is_left_undecided() -> None:
    bundle = profile(
        {"path": "Bundle.entry", "slicing": {
            "discriminator": [{"type": "profile", "path": "resource"}], "rules": "closed"}},
        {"path": "Bundle.entry", "sliceName": "n", "min": 1},
        {"path": "Bundle.entry.resource", "type": [
            {"code": "Patient", "profile": [OWN + "nowhere"]}]},
        type_="Bundle",
    )  # fmt: skip
    resource = {"resourceType": "Bundle", "entry": [{"resource": patient()}]}
    assert keys(resource, bundle) == ["slice-undecided"]


def member_of(coded: Any, value_set: str) -> bool | None:
    codings = coded if isinstance(coded, str) else coded.get("coding", [{}])[0].get("code")
    return None if value_set == "unknown" else codings == "good"


TERMINOLOGY = Ports(terminology=Terminology(member_of=member_of, subsumes=lambda *_: None))


@pytest.mark.parametrize(
    ("strength", "value_set", "code", "expected"),
    [
        ("required", "vs", "good", []),
        ("required", "vs", "bad", ["binding"]),
        ("extensible", "vs", "bad", ["binding-extensible"]),
        ("preferred", "vs", "bad", []),
        ("required", "unknown", "bad", ["binding-unchecked"]),
    ],
)
def test_a_binding_is_judged_by_its_strength(
    strength: str, value_set: str, code: str, expected: list[str]
) -> None:
    definition = profile(
        {"path": "Patient.maritalStatus", "binding": {"strength": strength, "valueSet": value_set}}
    )
    resource = patient(maritalStatus={"coding": [{"code": code}]})
    assert keys(resource, definition, ports=TERMINOLOGY) == expected


def test_a_type_may_have_a_profile_of_its_own() -> None:
    address = profile({"path": "Address.city", "min": 1}, type_="Address", name="a")
    definition = profile(
        {"path": "Patient.address", "type": [{"code": "Address", "profile": [address["url"]]}]}
    )
    assert keys(patient(address=[{"city": "x"}]), definition, address) == []
    assert keys(patient(address=[{"text": "x"}]), definition, address) == ["min"]


def test_one_of_several_type_profiles_is_enough() -> None:
    city = profile({"path": "Address.city", "min": 1}, type_="Address", name="a")
    line = profile({"path": "Address.line", "min": 1}, type_="Address", name="b")
    definition = profile(
        {"path": "Patient.address", "type": [
            {"code": "Address", "profile": [city["url"], line["url"]]}]}
    )  # fmt: skip
    assert keys(patient(address=[{"line": ["x"]}]), definition, city, line) == []
    assert keys(patient(address=[{"text": "x"}]), definition, city, line) == ["type-profile"]


def test_a_faulty_profile_among_several_leaves_the_question_open() -> None:
    city = profile({"path": "Address.city", "min": 1}, type_="Address", name="a")
    faulty = profile({"path": "Address.town", "min": 1}, type_="Address", name="b")
    definition = profile(
        {"path": "Patient.address", "type": [
            {"code": "Address", "profile": [city["url"], faulty["url"]]}]}
    )  # fmt: skip
    found = keys(patient(address=[{"text": "x"}]), definition, city, faulty)
    assert found == ["profile-unchecked"]
    assert keys(patient(address=[{"city": "x"}]), definition, city, faulty) == []


def test_a_target_profile_that_nobody_knows_refuses_no_type() -> None:
    doctor = profile({"path": "Practitioner.active", "min": 1}, type_="Practitioner", name="d")
    definition = profile(
        {"path": "Patient.generalPractitioner", "type": [
            {"code": "Reference", "targetProfile": [doctor["url"]]}]}
    )  # fmt: skip
    sent = patient(generalPractitioner=[{"reference": "Organization/1"}])
    assert keys(sent, definition, doctor) == ["target"]
    assert keys(sent, definition) == []


def test_extension_slices_go_by_their_url() -> None:
    extension = profile(
        {"path": "Extension.url", "fixedUri": OWN + "x"},
        {"path": "Extension.value[x]", "min": 1, "type": [{"code": "string"}]},
        type_="Extension", name="x", kind="complex-type",
    )  # fmt: skip
    definition = profile(
        {"path": "Patient.extension", "sliceName": "x", "min": 1, "max": "1", "type": [
            {"code": "Extension", "profile": [extension["url"]]}]}
    )  # fmt: skip
    one = {"url": OWN + "x", "valueString": "y"}
    assert keys(patient(extension=[one]), definition, extension) == []
    assert keys(patient(extension=[{"url": "urn:other"}]), definition, extension) == ["min"]
    assert keys(patient(extension=[one, one]), definition, extension) == ["max"]


def test_a_slice_may_borrow_a_part_of_another_profile() -> None:
    element = "http://hl7.org/fhir/StructureDefinition/elementdefinition-profile-element"
    library = profile(
        {"path": "Composition.section", "slicing": {
            "discriminator": [{"type": "pattern", "path": "code"}], "rules": "open"}},
        {"path": "Composition.section", "sliceName": "allergies"},
        {"path": "Composition.section.title", "min": 1},
        {"path": "Composition.section.code", "min": 1,
         "patternCodeableConcept": {"coding": [{"code": "A"}]}},
        type_="Composition", name="library",
    )  # fmt: skip
    part = {"extension": [{"url": element, "valueString": "Composition.section:allergies"}]}
    definition = profile(
        {"path": "Composition.section", "slicing": {
            "discriminator": [{"type": "pattern", "path": "code"}], "rules": "closed"}},
        {"path": "Composition.section", "sliceName": "a", "min": 1, "type": [
            {"code": "BackboneElement", "profile": [library["url"]], "_profile": [part]}]},
        type_="Composition",
    )  # fmt: skip
    section = {"title": "t", "code": {"coding": [{"code": "A"}]}}
    good = {"resourceType": "Composition", "section": [section]}
    assert keys(good, definition, library) == []
    untitled = {**good, "section": [{"code": section["code"]}]}
    assert keys(untitled, definition, library) == ["min"]
    assert keys({**good, "section": []}, definition, library) == ["min"]
    other = {**good, "section": [section, {"title": "x"}]}
    assert keys(other, definition, library) == ["slice-closed"]


def test_an_element_that_must_have_a_value_is_not_content_with_extensions() -> None:
    url = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ElementDefinition.mustHaveValue"
    definition = profile(
        {"path": "Patient.active", "min": 1, "extension": [{"url": url, "valueBoolean": True}]}
    )
    assert keys(patient(active=True), definition) == []
    absent = {"extension": [{"url": "u", "valueCode": "unknown"}]}
    assert keys(patient(_active=absent), definition) == ["value"]


def test_slices_go_by_a_value_inside_an_extension() -> None:
    kind = OWN + "kind"
    extension = profile(
        {"path": "Extension.url", "fixedUri": kind},
        {"path": "Extension.value[x]", "type": [{"code": "code"}]},
        type_="Extension", name="kind", kind="complex-type",
    )  # fmt: skip
    definition = profile(
        {"id": "Patient.contact", "path": "Patient.contact", "slicing": {
            "discriminator": [{"type": "value", "path": f"extension('{kind}').value"}],
            "rules": "open"}},
        {"id": "Patient.contact:main", "path": "Patient.contact", "sliceName": "main", "min": 1},
        {"id": "Patient.contact:main.extension:kind", "path": "Patient.contact.extension",
         "sliceName": "kind", "min": 1, "type": [{"code": "Extension", "profile": [kind]}]},
        {"id": "Patient.contact:main.extension:kind.valueCode",
         "path": "Patient.contact.extension.valueCode", "min": 1, "fixedCode": "main"},
        {"id": "Patient.contact:main.name", "path": "Patient.contact.name", "min": 1},
    )  # fmt: skip

    def contact(code: str, **more: Any) -> dict[str, Any]:
        return {"extension": [{"url": kind, "valueCode": code}], **more}

    good = patient(contact=[contact("main", name={"text": "x"}), contact("other")])
    assert keys(good, definition, extension) == []
    assert keys(patient(contact=[contact("other")]), definition, extension) == ["min"]
    assert keys(patient(contact=[contact("main")]), definition, extension) == ["min"]


def test_a_content_reference_is_walked_into() -> None:
    definition = profile({"path": "Questionnaire.item.item.text", "min": 1}, type_="Questionnaire")
    good = {"resourceType": "Questionnaire", "item": [{"linkId": "1", "item": [{"text": "x"}]}]}
    assert keys(good, definition) == []
    bad = {"resourceType": "Questionnaire", "item": [{"linkId": "1", "item": [{"linkId": "2"}]}]}
    assert keys(bad, definition) == ["min"]


def test_a_profile_keeps_the_rules_of_the_profile_below() -> None:
    below = profile({"path": "Patient.name", "min": 1}, name="below")
    above = profile({"path": "Patient.gender", "min": 1}, base=below["url"])
    assert keys(patient(), above, below) == ["min", "min"]
    assert keys(patient(name=[{}], gender="male"), above, below) == []


def test_a_written_snapshot_is_used_as_it_is() -> None:
    made = snapshot(NAME_NEEDED, Profiles())
    elements = {element["id"]: element for element in made["snapshot"]["element"]}
    assert elements["Patient.name"]["min"] == 1
    assert elements["Patient.name"]["base"] == {"path": "Patient.name", "min": 0, "max": "*"}
    assert next(iter(elements)) == "Patient"
    del made["differential"]
    assert keys(patient(), made) == ["min"]


def test_the_snapshot_names_slices_and_their_children() -> None:
    made = snapshot(sliced(*slice_of("a", "urn:a", min=1)), Profiles())
    names = [element["id"] for element in made["snapshot"]["element"]]
    assert names.index("Patient.identifier") < names.index("Patient.identifier:a")
    assert "Patient.identifier:a.system" in names


def test_all_of_r4s_own_profiles_can_be_compiled() -> None:
    profiles = Profiles()
    broken = []
    for url in tables.load().profiles:
        try:
            assert profiles.check_of(url) is not None
        except InvalidContent as problem:
            broken.append((url, str(problem)))
    assert broken == []


def test_all_profiles_of_the_package_can_be_used() -> None:
    definitions = [one for one in package() if one["resourceType"] == "StructureDefinition"]
    profiles = Profiles(definitions)
    faults = {one["url"]: check_definition(one, profiles) for one in definitions}
    assert {url: found for url, found in faults.items() if found} == {}
    assert len(definitions) > 50


def test_missing_and_cyclic_profiles_are_told() -> None:
    assert [i.key for i in Profiles().check(patient(), OWN + "nowhere")] == ["profile-missing"]
    lost = profile({"path": "Patient.name", "min": 1}, base=OWN + "nowhere")
    assert keys(patient(), lost) == ["profile-base"]
    one = profile(name="one", base=OWN + "two")
    two = profile(name="two", base=OWN + "one")
    assert keys(patient(), one, two) == ["profile-cycle"]
    assert keys(patient(), profile({"path": "Patient.nam", "min": 1})) == ["profile-element"]
    for most in ("some", "", "-1", "١"):
        endless = profile({"path": "Patient.name", "max": most})
        assert keys(patient(), endless) == ["profile-broken"]
        assert [one.key for one in check_definition(endless, Profiles())] == ["profile-broken"]
    broken = profile({"path": "Patient", "constraint": [{"key": "x", "expression": "name.("}]})
    assert keys(patient(), broken) == ["profile-broken"]
    assert keys({"resourceType": "Basic"}, NAME_NEEDED) == ["profile-type"]


@pytest.mark.parametrize(
    ("element", "is_told"),
    [
        ({"path": "Patient.birthDate", "max": "*"}, True),
        ({"path": "Patient.birthDate", "max": "2"}, True),
        ({"path": "Patient.birthDate", "min": 1, "max": "1"}, False),
        ({"path": "Patient.name", "max": "3"}, False),
        ({"path": "Patient.link.other", "min": 0}, True),
        ({"path": "Patient.link.other", "min": 1}, False),
    ],
)
def test_a_profile_that_allows_more_than_its_base_is_told(
    element: dict[str, Any], is_told: bool
) -> None:
    definition = profile(element)
    found = check_definition(definition, Profiles())
    assert [one.key for one in found] == (["profile-widened"] if is_told else [])
    if is_told:
        assert element["path"] in found[0].text_en
        narrowed = profile({**element, "max": "1", "min": 1})  # the advice, followed
        assert check_definition(narrowed, Profiles()) == []


def test_patients_that_refer_to_each_other_are_checked_once() -> None:
    definition = profile(
        {"path": "Patient.gender", "min": 1},
        {"path": "Patient.link.other", "type": [
            {"code": "Reference", "targetProfile": [OWN + "p"]}]},
    )  # fmt: skip

    def linked(to: str, **more: Any) -> dict[str, Any]:
        return patient(link=[{"other": {"reference": to}, "type": "seealso"}], **more)

    good = {"Patient/a": linked("Patient/b", gender="male"),
            "Patient/b": linked("Patient/a", gender="male")}  # fmt: skip
    assert keys(good["Patient/a"], definition, ports=Ports(resolver=good.get)) == []
    bad = {**good, "Patient/b": linked("Patient/a")}
    found = keys(good["Patient/a"], definition, ports=Ports(resolver=bad.get))
    assert found == ["target-profile"]


def test_a_rule_of_a_profile_may_ask_for_its_slices() -> None:
    phone = {"system": "phone", "value": "1"}
    mail = {"system": "email", "value": "a@example.org"}

    def sliced(expression: str) -> dict[str, Any]:
        return profile(
            {"path": "Patient", "constraint": [
                {"key": "x-1", "severity": "error", "human": "x", "expression": expression}]},
            {"path": "Patient.telecom", "slicing": {
                "discriminator": [{"type": "value", "path": "system"}], "rules": "open"}},
            {"id": "Patient.telecom:phone", "path": "Patient.telecom", "sliceName": "phone"},
            {"id": "Patient.telecom:phone.system", "path": "Patient.telecom.system",
             "fixedCode": "phone"},
        )  # fmt: skip

    def judged(expression: str) -> list[str]:
        definition = sliced(expression)
        validator = Validator(profiles=Profiles([definition]))
        sent = {"resourceType": "Patient", "telecom": [phone, mail]}
        found = validator.check(sent, profiles=[definition["url"]])
        return [one.key for one in found if one.severity == "error" or one.code == "incomplete"]

    name = f"telecom.slice('{OWN}p', 'phone')"
    assert judged(f"{name}.value = '1'") == []
    assert judged(f"{name}.value = 'a@example.org'") == ["constraint"]
    assert judged(f"telecom.slice('{OWN}p', 'fax').empty()") != []
    assert judged(f"telecom.slice('{OWN}q', 'phone').empty()") != []


def test_a_rule_that_asks_for_too_much_is_an_issue_and_no_end_of_the_check() -> None:
    def found(expression: str) -> list[tuple[str, str]]:
        rule = {"key": "t-1", "severity": "error", "human": "x", "expression": expression}
        definition = profile(
            {"id": "Patient", "path": "Patient", "constraint": [rule]},
            {"id": "Patient.name", "path": "Patient.name", "min": 2},
        )
        validator = Validator(profiles=Profiles([definition]))
        issues = validator.check(patient(), profiles=[definition["url"]])
        return [(issue.key, issue.code) for issue in issues]

    assert ("constraint-costly", "too-costly") in found("(1).repeat($this + 1).exists()")
    assert ("min", "required") in found("(1).repeat($this + 1).exists()")
    assert found("1" + " = 1" * 500) == [("profile-broken", "invalid")]
    assert ("constraint", "invariant") in found("1 = 2")


def test_a_broken_rule_is_told_in_its_own_words() -> None:
    rule = {
        "key": "t-1",
        "severity": "error",
        "human": "居民须有照片",
        "expression": "photo.exists()",
    }
    definition = profile({"id": "Patient", "path": "Patient", "constraint": [rule]})
    validator = Validator(profiles=Profiles([definition]))
    (issue,) = validator.check(patient(), profiles=[definition["url"]])
    assert "居民须有照片" in issue.text_zh
    assert issue.fix_en.endswith("photo.exists()")
