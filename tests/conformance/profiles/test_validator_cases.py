"""The reference validator's cases: our verdict agrees, save for the named ones."""

import json
import pathlib
import re
from typing import Any

import pytest
import yaml

from conformance import documents
from conformance.fhirpath import Ports
from conformance.forms.answers import check_response
from conformance.problem import Issue, Problem
from conformance.profiles import Profiles
from conformance.r4 import tables
from conformance.terminology.library import Library
from conformance.terminology.port import terminology_of
from conformance.validation import Validator

_REASONS = json.loads(
    pathlib.Path(__file__).with_name("validator_disagreements.json").read_text(encoding="utf-8")
)
NAMED, NOT_JUDGED = _REASONS["disagreements"], _REASONS["not_judged"]


# Profiles that the cases name and the folder lacks, written down as facts of their differentials.
WRITTEN = yaml.safe_load(
    pathlib.Path(__file__).with_name("validator_profiles.yaml").read_text(encoding="utf-8")
)
HL7 = "http://hl7.org/fhir/StructureDefinition/"
PART = "http://hl7.org/fhir/StructureDefinition/elementdefinition-profile-element"


def written_profile(name: str) -> dict[str, Any]:
    facts = WRITTEN[name]
    if "value_set" in facts:
        compose = {"include": [facts["value_set"]]}
        return {
            "resourceType": "ValueSet", "url": facts["url"], "status": "active", "compose": compose,
        }  # fmt: skip
    elements = []
    for identifier, demands in facts["elements"].items():
        element = {"id": identifier, "path": re.sub(r":[^.]+", "", identifier), **demands}
        if ":" in identifier.rpartition(".")[2]:
            element["sliceName"] = identifier.rpartition(":")[2]
        if "part_of" in element:
            profile, part = element.pop("part_of")
            extension = {"extension": [{"url": PART, "valueString": part}]}
            element["type"] = [
                {"code": "BackboneElement", "profile": [profile], "_profile": [extension]}
            ]
        elements.append(element)
    is_resource = tables.load().types[facts["type"]].kind == "resource"
    return {
        "resourceType": "StructureDefinition",
        "url": facts["url"],
        "name": name.partition(".")[0],
        "status": "draft",
        "fhirVersion": "4.0.1",
        "kind": "resource" if is_resource else "complex-type",
        "abstract": False,
        "type": facts["type"],
        "baseDefinition": f"http://hl7.org/fhir/StructureDefinition/{facts['type']}",
        "derivation": "constraint",
        **({"context": facts["context"]} if "context" in facts else {}),
        "differential": {"element": elements},
    }


def inputs_of(case: dict[str, Any]) -> list[str]:
    profile = case["profile"] or {}
    named = [profile["source"]] if "source" in profile else []
    return [*case["supporting"], *named, *profile.get("supporting", [])]


def implied_by(supporting: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for resource in supporting:
        for one in resource.get("global", ()):
            found[one["type"]] = (*found.get(one["type"], ()), one["profile"])
    return found


def issues_of(case: dict[str, Any], folder: pathlib.Path) -> list[Issue]:
    def read(name: str) -> dict[str, Any]:
        if name in WRITTEN:
            return written_profile(name)
        return documents.read((folder / name).read_bytes()).resource

    supporting = [read(name) for name in inputs_of(case)]
    library = Library(supporting)
    flags = case["flags"]
    by_name = {f"{one['resourceType']}/{one.get('id')}": one for one in supporting}
    profiles = Profiles(supporting)
    validator = Validator(
        profiles=profiles,
        ports=Ports(terminology=terminology_of(library), resolver=by_name.get),
        implied=implied_by(supporting),
        # As the reference does: what HL7 did not define in its own namespace, nobody did.
        refused_extensions=("",) if flags.get("examples") is False else (HL7,),
        requires_targets="validateReference" in flags,
        trusts_targets="validateReference" not in flags,
        trusts_references=flags.get("assumeValidRestReferences") is True,
    )
    resource = read(case["file"])
    named = [read(case["profile"]["source"])["url"]] if case["profile"] else []
    found = validator.check(resource, profiles=named)
    if "bundle-param" in flags:
        type_name, _, index = flags["bundle-param"]["rule"].partition(":")
        entries = [entry["resource"] for entry in resource["entry"]]
        fitting = [one for one in entries if one["resourceType"] == type_name]
        found += profiles.check(
            fitting[int(index)], flags["bundle-param"]["profile"], root=resource
        )
    if resource["resourceType"] == "QuestionnaireResponse":
        forms = {one["url"]: one for one in supporting if one["resourceType"] == "Questionnaire"}
        found += check_response(resource, forms.get(resource.get("questionnaire")), library)
    return found


def is_valid(case: dict[str, Any], folder: pathlib.Path) -> bool:
    try:
        found = issues_of(case, folder)
    except Problem:
        return False
    return not any(issue.severity in ("error", "fatal") for issue in found)


@pytest.fixture(scope="module")
def verdicts(shared_data: pathlib.Path) -> dict[str, bool]:
    """Whether we agree, for every case all of whose inputs are there."""
    folder = shared_data / "validator-r4"
    cases = json.loads((folder / "cases.json").read_bytes())
    assert len(cases) == 92
    return {
        case["name"]: is_valid(case, folder) == case["valid"]
        for case in cases
        if all(name in WRITTEN or (folder / name).exists() for name in inputs_of(case))
    }


def test_the_verdict_agrees_on_all_but_the_named_cases(verdicts: dict[str, bool]) -> None:
    assert len(verdicts) == 92 - len(NOT_JUDGED)
    assert {name for name, agrees in verdicts.items() if not agrees} == set(NAMED)
    assert sum(verdicts.values()) >= 88


def test_most_agree_without_a_profile_that_was_read_off_findings(
    shared_data: pathlib.Path, verdicts: dict[str, bool]
) -> None:
    cases = json.loads((shared_data / "validator-r4" / "cases.json").read_bytes())
    read_off = {
        case["name"]
        for case in cases
        if any("read_off" in WRITTEN.get(name, ()) for name in inputs_of(case))
    }
    assert len(read_off) == 3
    assert sum(agrees for name, agrees in verdicts.items() if name not in read_off) >= 85


def test_a_slice_without_a_use_takes_what_has_none(shared_data: pathlib.Path) -> None:
    folder = shared_data / "validator-r4"
    cases = json.loads((folder / "cases.json").read_bytes())
    (case,) = [one for one in cases if one["name"] == "slicing-kn-example"]
    profile = Profiles([written_profile("slicing-kn-profile.json")])
    resource = documents.read((folder / case["file"]).read_bytes()).resource
    validator = Validator(profiles=profile)
    canonical = WRITTEN["slicing-kn-profile.json"]["url"]
    assert validator.check(resource, profiles=[canonical]) == []
    resource["telecom"][1]["use"] = "home"
    assert "max" in {one.key for one in validator.check(resource, profiles=[canonical])}


def test_targets_are_judged_by_their_text_unless_they_are_trusted(
    shared_data: pathlib.Path,
) -> None:
    folder = shared_data / "validator-r4"
    profiles = Profiles([written_profile("type-ref-profile.xml")])
    resource = documents.read((folder / "type-ref-unchecked.xml").read_bytes()).resource
    named = [WRITTEN["type-ref-profile.xml"]["url"]]
    trusting = Validator(profiles=profiles, trusts_targets=True)
    assert trusting.check(resource, profiles=named) == []
    found = Validator(profiles=profiles).check(resource, profiles=named)
    assert [one.key for one in found] == ["target"]


def test_a_reference_of_no_known_form_is_refused_unless_references_are_trusted(
    shared_data: pathlib.Path,
) -> None:
    resource = documents.read(
        (shared_data / "validator-r4" / "list-bad-reference.xml").read_bytes()
    )
    told = [(one.severity, one.key) for one in Validator().check(resource.resource)]
    assert told == [("error", "bad-reference")]
    trusting = Validator(trusts_references=True).check(resource.resource)
    assert [(one.severity, one.key) for one in trusting] == [("warning", "bad-reference")]


def test_every_disagreement_has_its_reason() -> None:
    assert all(NAMED.values())
    assert all(NOT_JUDGED.values())
    assert len(NAMED) + len(NOT_JUDGED) <= 4
