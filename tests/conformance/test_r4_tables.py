"""The generated R4 tables say what the standard says."""

import gzip
import importlib
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from conformance.r4 import tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Elements, cardinalities and types are the same in R4 and R4B for these.
SAME_IN_R4B = [
    *("Patient", "Practitioner", "PractitionerRole", "Organization", "Location", "Encounter"),
    *("Condition", "Procedure", "MedicationRequest", "MedicationStatement", "Immunization"),
    *("AllergyIntolerance", "CarePlan", "CareTeam", "ServiceRequest", "Task", "Appointment"),
    *("EpisodeOfCare", "Contract", "Coverage", "Claim", "Questionnaire", "QuestionnaireResponse"),
    *("Bundle", "Composition", "DocumentReference", "Communication", "Consent", "Observation"),
    *("HumanName", "Address", "Identifier", "CodeableConcept", "Quantity", "Timing", "Dosage"),
]


def fields_by_r4b_model(name: str) -> dict[str, tuple[bool, bool]]:
    """Return JSON name → (is required, is a list) as fhir.resources R4B declares it."""
    module = importlib.import_module(f"fhir.resources.R4B.{name.lower()}")
    model: Any = getattr(module, name)
    found = {}
    for field in model.model_fields.values():
        alias = field.alias
        if alias.startswith("_") or alias in {"resourceType", "fhir_comments"}:
            continue
        extra = field.json_schema_extra or {}
        required = field.is_required() or bool(extra.get("element_required"))
        found[alias] = (required, "List[" in str(field.annotation))
    return found


def fields_by_tables(name: str) -> dict[str, tuple[bool, bool]]:
    found = {}
    for element in tables.load().types[name].children[""]:
        if element.is_choice:
            for of_type in element.types:
                code = of_type.code[0].upper() + of_type.code[1:]
                found[element.name.removesuffix("[x]") + code] = (False, element.is_list)
        else:
            found[element.name] = (element.min > 0, element.is_list)
    return found


@pytest.mark.parametrize("name", SAME_IN_R4B)
def test_elements_agree_with_another_library_where_the_releases_agree(name: str) -> None:
    assert fields_by_tables(name) == fields_by_r4b_model(name)


def test_facts_known_by_heart() -> None:
    known = tables.load()
    patient = known.types["Patient"]
    assert patient.base == "DomainResource"
    assert patient.elements["contact.name"].types[0].code == "HumanName"
    assert patient.elements["gender"].binding == tables.Binding(
        "required", "http://hl7.org/fhir/ValueSet/administrative-gender"
    )
    assert patient.elements["link"].is_modifier
    assert patient.elements["name"].is_summary
    assert patient.elements["generalPractitioner"].types[0].targets == (
        *("Organization", "Practitioner", "PractitionerRole"),
    )
    assert [c.key for c in patient.elements["contact"].constraints] == ["ele-1", "pat-1"]
    assert known.types["Observation"].elements["component.referenceRange"].content == (
        "Observation.referenceRange"
    )
    assert known.is_kind_of("Age", "Element")
    assert not known.is_kind_of("Bundle", "DomainResource")
    assert len(known.resource_types) == 146


def test_search_expressions_have_the_published_form() -> None:
    known = {p.url.rsplit("/", 1)[1]: p for p in tables.load().search_parameters}
    assert len(known) == 1375
    assert known["Observation-value-quantity"].expression == (
        "(Observation.value as Quantity) | (Observation.value as SampledData)"
    )
    assert known["Consent-source-reference"].expression == "Consent.source"
    assert known["clinical-patient"].targets == ("Patient", "Group")
    assert not any(".ofType(" in (p.expression or "") for p in known.values())


def test_compartments_and_terminology_are_there() -> None:
    known = tables.load()
    assert known.compartments["Patient"]["Observation"] == ("subject", "performer")
    genders = known.code_systems["http://hl7.org/fhir/administrative-gender"]
    assert [c["code"] for c in genders["concept"]] == ["male", "female", "other", "unknown"]
    assert "http://hl7.org/fhir/ValueSet/observation-status" in known.value_sets
    assert "http://terminology.hl7.org/CodeSystem/v2-0203" in known.code_systems
    assert "http://terminology.hl7.org/CodeSystem/v3-ActCode" in known.code_systems
    assert len(known.concept_maps) == 19
    assert "http://hl7.org/fhir/StructureDefinition/patient-birthPlace" in known.profiles


def test_the_tables_hold_no_prose() -> None:
    prose = {"short", "definition", "comment", "requirements", "description", "human", "text"}

    def names_in(node: object) -> set[str]:
        if isinstance(node, dict):
            return set(node).union(*(names_in(v) for v in node.values()))
        return set().union(*map(names_in, node)) if isinstance(node, list) else set()

    for file in (ROOT / "conformance" / "r4").glob("*.json.gz"):
        if file.name not in {"types.json.gz", "search-parameters.json.gz", "profiles.json.gz"}:
            assert not prose & names_in(json.loads(gzip.decompress(file.read_bytes()))), file.name


@pytest.mark.slow
def test_a_rebuild_gives_the_same_bytes(tmp_path: pathlib.Path) -> None:
    packages = os.environ.get("QIAO_R4_PACKAGES")
    if packages is None:
        pytest.skip("QIAO_R4_PACKAGES names no folder with the pinned archives")
    files = [*(ROOT / "conformance" / "r4").glob("*.json.gz"), ROOT / "tools/r4_differences.csv"]
    before = {file.name: file.read_bytes() for file in files}
    command = [sys.executable, "-m", "tools.build_r4_tables", "--packages", packages]
    subprocess.run(command, cwd=ROOT, check=True)
    assert {file.name: file.read_bytes() for file in files} == before
