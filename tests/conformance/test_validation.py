"""Form, constraints, extensions, Bundle rules and profiles judged together."""

import json
import pathlib
from typing import Any

import pytest

from conformance import resource_json
from conformance.profiles import Profiles
from conformance.validation import ENFORCE, OFF, WARN, Validator

OWN = "http://example.com/StructureDefinition/"
CORE = "http://hl7.org/fhir/StructureDefinition/"
EXCEPTIONS = json.loads(
    pathlib.Path(__file__).with_name("r4_example_exceptions.json").read_text(encoding="utf-8")
)


def definition(name: str, type_: str, *elements: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "StructureDefinition", "url": OWN + name, "name": "N", "type": type_,
        "status": "active", "kind": "resource", "abstract": False, "derivation": "constraint",
        "baseDefinition": CORE + type_, "differential": {"element": list(elements)}, **more,
    }  # fmt: skip


def extension(*contexts: tuple[str, str], **more: Any) -> dict[str, Any]:
    return definition(
        "x", "Extension",
        {"id": "Extension.extension", "path": "Extension.extension", "max": "0"},
        {"id": "Extension.url", "path": "Extension.url", "fixedUri": OWN + "x"},
        {"id": "Extension.value[x]", "path": "Extension.value[x]", "min": 1,
         "type": [{"code": "string"}]},
        context=[{"type": kind, "expression": expression} for kind, expression in contexts],
        kind="complex-type", **more,
    )  # fmt: skip


NAMED = definition("named", "Patient", {"id": "Patient.name", "path": "Patient.name", "min": 1})
ONE = {"url": OWN + "x", "valueString": "y"}


def keys(validator: Validator, resource: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    found = validator.check(resource, **more)
    return [(one.severity, one.key) for one in found if one.key != "dom-6"]


def patient(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **members}


def test_official_examples_pass_save_the_named_ones(shared_data: pathlib.Path) -> None:
    validator = Validator()
    refused = set()
    for file in sorted((shared_data / "r4-examples").glob("*.json")):
        found = validator.check(resource_json.parse(file.read_bytes()))
        if any(one.severity in ("error", "fatal") for one in found):
            refused.add(file.name)
    named = {**EXCEPTIONS["exceptions"], **EXCEPTIONS["profile_exceptions"]}
    assert refused == set(named)
    assert len(named) <= 10


def test_form_is_judged_first() -> None:
    assert keys(Validator(), patient(nam=1)) == [("error", "unknown-element")]


def test_claimed_profiles_follow_the_policy() -> None:
    profiles = Profiles([NAMED])
    claim = patient(meta={"profile": [NAMED["url"]]})
    assert keys(Validator(profiles=profiles), claim) == [("error", "min")]
    assert keys(Validator(profiles=profiles, claimed=WARN), claim) == [("warning", "min")]
    assert keys(Validator(profiles=profiles, claimed=OFF), claim) == []
    # What was asked for by name is not told again as a claim.
    for policy in (ENFORCE, WARN):
        validator = Validator(profiles=profiles, claimed=policy)
        assert keys(validator, claim, profiles=[NAMED["url"]]) == [("error", "min")]
    unknown = patient(meta={"profile": [OWN + "nowhere"]})
    assert keys(Validator(profiles=profiles), unknown) == [("warning", "profile-unchecked")]


def test_resources_inside_are_checked_by_what_they_claim() -> None:
    inner = patient(meta={"profile": [NAMED["url"]]})
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": inner}]}
    issue = next(i for i in Validator(profiles=Profiles([NAMED])).check(bundle) if i.key == "min")
    assert issue.expression == "Bundle.entry[0].resource"


def test_named_and_implied_profiles_are_checked() -> None:
    profiles = Profiles([NAMED])
    assert keys(Validator(profiles=profiles), patient(), profiles=[NAMED["url"]]) == [
        ("error", "min")
    ]
    implied = Validator(profiles=profiles, implied={"Patient": (NAMED["url"],)})
    assert keys(implied, patient()) == [("error", "min")]
    assert keys(Validator(), patient(), profiles=[OWN + "nowhere"]) == [
        ("error", "profile-missing")
    ]
    assert keys(Validator(), patient(), profiles=[CORE + "Group"]) == [("error", "profile-type")]


@pytest.mark.parametrize(
    ("context", "place", "fits"),
    [
        (("element", "Patient"), {"extension": [ONE]}, True),
        (("element", "Element"), {"extension": [ONE]}, True),
        (("element", "HumanName"), {"extension": [ONE]}, False),
        (("element", "HumanName"), {"name": [{"text": "t", "extension": [ONE]}]}, True),
        (("element", "Patient.name"), {"name": [{"text": "t", "extension": [ONE]}]}, True),
        (("element", "Patient.contact.name"),
         {"name": [{"text": "t", "extension": [ONE]}]}, False),
        (("element", "Patient.deceased[x]"),
         {"deceasedBoolean": True, "_deceasedBoolean": {"extension": [ONE]}}, True),
        (("fhirpath", "Patient.name.where(use = 'old')"),
         {"name": [{"use": "old", "extension": [ONE]}]}, True),
        (("fhirpath", "Patient.name.where(use = 'old')"),
         {"name": [{"use": "usual", "extension": [ONE]}]}, False),
        (("extension", OWN + "outer"), {"extension": [ONE]}, False),
        (("extension", OWN + "outer"),
         {"extension": [{"url": OWN + "outer", "extension": [ONE]}]}, True),
    ],
)  # fmt: skip
def test_an_extension_stands_only_where_its_definition_allows(
    context: tuple[str, str], place: dict[str, Any], fits: bool
) -> None:
    found = keys(Validator(profiles=Profiles([extension(context)])), patient(**place))
    assert (("error", "extension-context") not in found) is fits


def test_an_extension_is_checked_by_its_own_definition() -> None:
    validator = Validator(profiles=Profiles([extension(("element", "Element"))]))
    assert keys(validator, patient(extension=[ONE])) == []
    wrong = {"url": OWN + "x", "valueInteger": 1}
    assert keys(validator, patient(extension=[wrong])) == [("error", "type")]


def test_a_context_invariant_must_hold() -> None:
    rule = extension(("element", "Patient"), contextInvariant=["active = true"])
    validator = Validator(profiles=Profiles([rule]))
    assert keys(validator, patient(active=True, extension=[ONE])) == []
    assert keys(validator, patient(active=False, extension=[ONE])) == [("error", "constraint")]


def test_unknown_extensions_are_told_or_refused() -> None:
    assert keys(Validator(), patient(extension=[ONE])) == [("information", "extension-unknown")]
    assert keys(Validator(), patient(modifierExtension=[ONE])) == [("warning", "modifier-unknown")]
    strict = Validator(refused_extensions=("",))
    assert keys(strict, patient(extension=[ONE])) == [("error", "extension-refused")]
    assert keys(strict, patient(modifierExtension=[ONE])) == [("error", "extension-refused")]
    elsewhere = Validator(refused_extensions=(CORE,))
    assert keys(elsewhere, patient(extension=[ONE])) == [("information", "extension-unknown")]
    misspelt = {"url": CORE + "patient-animl", "valueString": "x"}
    assert keys(elsewhere, patient(extension=[misspelt])) == [("error", "extension-refused")]


def test_a_part_that_a_complex_extension_does_not_have_is_refused() -> None:
    animal = {"url": CORE + "patient-animal", "extension": [
        {"url": "species", "valueCodeableConcept": {"text": "x"}},
        {"url": "spezies", "valueCodeableConcept": {"text": "x"}}]}  # fmt: skip
    assert ("error", "extension-part") in keys(Validator(), patient(extension=[animal]))


@pytest.mark.parametrize(
    ("bundle", "key"),
    [
        ({"type": "collection", "entry": [{"fullUrl": "Patient/1", "resource": patient(id="1")}]},
         "bundle-full-url"),
        ({"type": "searchset", "entry": [{"fullUrl": "http://x/Patient/1",
                                          "resource": patient(id="2")}]}, "bundle-id"),
        ({"type": "collection", "entry": [{"fullUrl": "http://x/Person/1",
                                           "resource": patient(id="1")}]}, "bundle-id"),
        ({"type": "searchset", "entry": [{"resource": patient()}]}, "bundle-no-id"),
        ({"type": "searchset", "link": [{"relation": "self", "url": "a"}] * 2}, "bundle-link"),
        ({"type": "message", "entry": [
            {"fullUrl": "urn:uuid:0ec0ab5d-9c3d-4d4c-8a4e-6f1f1c1b1a1a",
             "resource": {"resourceType": "MessageHeader", "eventUri": "urn:e",
                          "source": {"endpoint": "urn:s"},
                          "focus": [{"reference": "Patient/1/_history/3"}]}},
            {"fullUrl": "http://x/Patient/1",
             "resource": patient(id="1", meta={"versionId": "2"})}]}, "bundle-version"),
    ],
)  # fmt: skip
def test_a_bundle_keeps_its_own_rules(bundle: dict[str, Any], key: str) -> None:
    assert ("error", key) in keys(Validator(), {"resourceType": "Bundle", **bundle})


def test_a_profile_that_cannot_be_used_is_told_when_it_is_written() -> None:
    bad = definition("bad", "Patient", {"id": "Patient.nam", "path": "Patient.nam", "min": 1})
    assert ("error", "profile-element") in keys(Validator(), bad)
    lost = definition("lost", "Patient", {
        "id": "Patient.name", "path": "Patient.name",
        "slicing": {"discriminator": [{"type": "value", "path": "nowhere"}], "rules": "open"},
    }, {"id": "Patient.name:a", "path": "Patient.name", "sliceName": "a"})  # fmt: skip
    assert ("error", "profile-discriminator") in keys(Validator(), lost)
    assert keys(Validator(), NAMED) == []


def test_targets_are_looked_for_when_asked() -> None:
    resource = patient(managingOrganization={"reference": "Organization/1"})
    assert keys(Validator(), resource) == []
    assert keys(Validator(requires_targets=True), resource) == [("error", "reference-missing")]
