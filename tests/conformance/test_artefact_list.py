"""The package beside the page of requirements that lists its artefacts, line by line."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.cphc import BASE
from conformance.cphc.artefacts import package, profiles, search_parameters
from conformance.fhirpath import Ports
from conformance.index_values import extract_stored
from conformance.profiles import Profiles, snapshot
from conformance.r4.tables import load
from conformance.search_parameters import FIRST_CUSTOM, custom_parameter
from conformance.terminology.library import Library
from conformance.terminology.port import terminology_of
from conformance.validation import Validator

PACKAGE = list(package())
ELSEWHERE = {  # what stands under another name, or is not in the package: why
    "package-population": "packages are for key populations, coded in cphc-key-population",
    "termination-reason": "contract-termination-reason",
    "id-card-hash": "rows of the index hold hashes; POST _search keeps the number out of the URL",
    "age-range": "R4's birthdate, with ge and le",
    "item-code": "R4's code: a service's item is Task.code",
    "chain-hash": "the chain of the hub's audit is walked by qiao audit verify, not by search",
}
NOT_SERVED = {  # operations that the hub does not offer: the package does not promise them
    "apply", "match-service", "risk-summary", "compare", "submit", "approve", "return", "lock",
    "pay", "refund", "import-bill", "reconcile", "settle", "refer", "receive", "trace", "post",
    "isolate", "mute", "policy", "send-batch", "render-watermark", "print", "replay", "simulate",
    "reconcile-counts", "evaluate-measure",
}  # fmt: skip
SERVED_AS_OF_SDC = {"extract", "populate"}


@pytest.fixture(scope="module")
def page(shared_data: pathlib.Path) -> str:
    source = shared_data.parent / "domain" / "conformance-artefacts.md"
    if not source.exists():
        pytest.skip("the page of requirements is not here")
    return source.read_text(encoding="utf-8")


def section(page: str, number: int) -> str:
    return page.partition(f"\n## {number}. ")[2].partition("\n## ")[0]


def ids(type_: str) -> set[str]:
    return {one["id"] for one in PACKAGE if one["resourceType"] == type_}


def listed_profiles(text: str) -> Iterator[set[str]]:
    """Yield what each name may mean: `-view` stands for cphc-view or for cphc-consent-view."""
    for cell in re.findall(r"^\| (cphc-[^|]+?) \|", text, re.MULTILINE):
        first, *others = re.split(r"\s*[/,]\s*", cell)
        yield {first}
        for one in others:
            stems = ("", "cphc", "-".join(first.split("-")[:2]))
            yield {f"{stem}{one}" for stem in stems}


def missing_profiles(page: str) -> list[set[str]]:
    known = ids("StructureDefinition")
    return [names for names in listed_profiles(section(page, 1)) if not names & known]


def test_every_profile_of_the_list_is_there(page: str) -> None:
    assert len(list(listed_profiles(section(page, 1)))) >= 45
    assert missing_profiles(page) == []


def test_every_extension_of_the_list_is_there(page: str) -> None:
    listed = set(re.findall(r"`([a-z-]+)`", section(page, 2)))
    assert len(listed) >= 35
    assert {name for name in listed if f"cphc-{name}" not in ids("StructureDefinition")} == set()


def rows(page: str) -> dict[str, str]:
    return dict(re.findall(r"^\| ([a-z][^|]+?) \| (.+?) \|$", section(page, 3), re.MULTILINE))


def test_every_code_system_of_our_own_is_there(page: str) -> None:
    listed = set(re.findall(r"[a-z]+(?:-[a-z]+)+|campus", rows(page)["own code systems"]))
    assert len(listed) >= 21
    missing = {name for name in listed if f"cphc-{name}" not in ids("CodeSystem")}
    assert missing == {"package-population", "termination-reason"} <= ELSEWHERE.keys()
    name = f"{BASE}/CodeSystem/cphc-reconciliation-state"
    (states,) = [one for one in PACKAGE if one.get("url") == name]
    assert states["count"] >= 8


def test_every_value_set_of_the_list_is_there(page: str) -> None:
    listed = set(re.findall(r"vs-[a-z0-9-]*[a-z0-9]\b(?!-\*)", rows(page)["value sets"]))
    assert {"vs-fd-task-status", "vs-phs3-livestock-pen", "vs-report-type"} <= listed
    assert listed - {"vs-phs3"} - ids("ValueSet") == set()


def test_every_search_parameter_of_the_list_is_there(page: str) -> None:
    text = section(page, 6)
    found = 0
    r4 = {(base, one.code) for one in load().search_parameters for base in one.bases}
    ours = {(base, r["code"]) for r in PACKAGE if r["resourceType"] == "SearchParameter"
            for base in r["base"]}  # fmt: skip
    for part in text.split(";"):
        type_ = re.search(r"([A-Z][A-Za-z]+): ", part)
        assert type_ is not None
        for code in re.findall(r"`([a-z-]+)`", part):
            assert {(type_[1], code)} & (r4 | ours) or code in ELSEWHERE, f"{type_[1]}: {code}"
            found += 1
    assert found >= 22


def test_every_operation_of_the_list_is_promised_or_named_as_not_served(page: str) -> None:
    listed = set(re.findall(r"\$([a-z-]+)", section(page, 7)))
    promised = {r["code"] for r in PACKAGE if r["resourceType"] == "OperationDefinition"}
    assert len(listed) >= 49
    assert listed - promised - SERVED_AS_OF_SDC == NOT_SERVED
    assert not NOT_SERVED & promised


def test_a_line_that_nobody_built_is_noticed(page: str) -> None:
    assert missing_profiles(page.replace("| cphc-audit |", "| cphc-nobody |")) == [{"cphc-nobody"}]


def values(resource: dict[str, Any], code: str) -> list[Any] | None:
    (found,) = [
        one
        for one in search_parameters()
        if one["code"] == code and resource["resourceType"] in one["base"]
    ]
    parameter = custom_parameter(resource["resourceType"], found, FIRST_CUSTOM)
    return extract_stored(resource, [parameter]).get(code)


def answers(form: str, *items: dict[str, Any]) -> dict[str, Any]:
    canonical = f"{BASE}/Questionnaire/{form}|3.0"
    return {"resourceType": "QuestionnaireResponse", "questionnaire": canonical, "item": [*items]}


@pytest.mark.parametrize(
    ("form", "programme"),
    [
        *(("phs3-htn-followup", "htn"), ("phs3-dm2-followup", "dm2"), ("phs3-smi-register", "smi")),
        *(("phs3-tb-first-visit", "tb"), ("phs3-antenatal-2-5", "pregnancy")),
        *(("phs3-postpartum-42d", "pregnancy"), ("phs3-tcm-elderly", "elderly")),
        *(("phs3-newborn-visit", "child"), ("phs3-tcm-child", "child"), ("phs3-cover", None)),
    ],
)
def test_answers_are_found_by_their_programme(form: str, programme: str | None) -> None:
    assert form in ids("Questionnaire")
    found = values(answers(form), "programme")
    assert found == ([("", programme, "", ())] if programme else None)


def test_the_score_is_found_wherever_it_stands() -> None:
    score = {"linkId": "score", "answer": [{"valueInteger": 12}]}
    for items in ([score], [{"linkId": "group", "item": [score]}]):
        assert values(answers("psych-phq9", *items), "score") == [(12, 12)]
    assert values(answers("psych-phq9", {**score, "linkId": "1"}), "score") is None


def test_a_resident_is_found_by_region_and_a_doctor_by_insurance_code() -> None:
    url = f"{BASE}/StructureDefinition/cphc-region-code"
    home = {"extension": [{"url": url, "valueCode": "999001"}]}
    resident = {"resourceType": "Patient", "address": [{"city": "x"}, home]}
    assert values(resident, "region") == [("", "999001", "", ())]
    system = f"{BASE}/NamingSystem/cphc-ns-insurance-doctor"
    numbers = [{"system": system, "value": "D1"}, {"system": "urn:other", "value": "D2"}]
    doctor = {"resourceType": "Practitioner", "identifier": numbers}
    assert values(doctor, "insurance-doctor-code") == [(system, "D1", "", ())]


PATIENT = {"reference": "Patient/1"}
UCUM = "http://unitsofmeasure.org"


def observed(system: str, code: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": PATIENT,
        "effectiveDateTime": "2026-03-01",
        **more,
    }


def coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


WEIGHT = {"value": 7.2, "unit": "kg", "system": UCUM, "code": "kg"}
TASK = {"resourceType": "Task", "intent": "order", "focus": {"reference": "Invoice/1"},
        "for": PATIENT, "owner": {"reference": "Organization/1"}}  # fmt: skip
OWN_CODE = f"{BASE}/CodeSystem/cphc-observation-code"
LOINC = "http://loinc.org"
LABORATORY = [coded("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory")]
RULE = {"actor": [{"role": {"text": "x"}, "reference": PATIENT}],
        "dataPeriod": {"start": "2026-01-01"}}  # fmt: skip
CONSENT = {"resourceType": "Consent", "status": "active", "patient": PATIENT, "provision": RULE,
           "scope": coded("http://terminology.hl7.org/CodeSystem/consentscope", "research"),
           "category": [{"text": "x"}], "policyRule": {"text": "x"}}  # fmt: skip
EXAMPLES: list[tuple[str, dict[str, Any], str]] = [  # profile, what fits, what it cannot lack
    ("observation-adl", observed(OWN_CODE, "adl", valueInteger=3), "valueInteger"),
    ("observation-tcm", observed(OWN_CODE, "tcm", valueString="平和质"), "effectiveDateTime"),
    ("observation-growth", observed(LOINC, "29463-7", valueQuantity=WEIGHT), "valueQuantity"),
    ("observation-lab", observed(LOINC, "718-7", category=LABORATORY), "category"),
    ("room", {"resourceType": "Group", "type": "person", "actual": True, "name": "x"}, "name"),
    ("schedule", {"resourceType": "Schedule", "actor": [{"reference": "Practitioner/1"}],
                  "serviceType": [{"text": "x"}], "planningHorizon": {"start": "2026-01-01"}},
     "planningHorizon"),
    ("slot", {"resourceType": "Slot", "schedule": {"reference": "Schedule/1"}, "status": "free",
              "start": "2026-01-01T08:00:00Z", "end": "2026-01-01T09:00:00Z",
              "serviceType": [{"text": "x"}]}, "serviceType"),
    ("payment-task", {**TASK, "status": "ready", "businessStatus":
                      coded(f"{BASE}/CodeSystem/cphc-payment-state", "paid")}, "businessStatus"),
    ("print-task", {**TASK, "status": "ready", "businessStatus":
                    coded(f"{BASE}/CodeSystem/cphc-printer-state", "queued")}, "owner"),
    ("embryo-storage", {"resourceType": "BiologicallyDerivedProduct",
                        "identifier": [{"value": "1"}], "collection": {"source": PATIENT},
                        "storage": [{"duration": {"start": "2026-01-01"}}]}, "storage"),
    ("consent-research", CONSENT, "provision"),
    ("measure-fd", {"resourceType": "Measure", "status": "active", "url": "urn:m", "version": "1",
                    "title": "x", "group": [{
                        "population": [{"criteria": {"language": "text/cql", "expression": "x"}}],
                        "stratifier": [{"code": {"text": "x"}}]}]}, "version"),
]  # fmt: skip


@pytest.fixture(scope="module")
def validator() -> Validator:
    ports = Ports(terminology=terminology_of(Library(PACKAGE)))
    return Validator(profiles=Profiles(PACKAGE), ports=ports)


@pytest.mark.parametrize(("name", "resource", "needed"), EXAMPLES, ids=[e[0] for e in EXAMPLES])
def test_a_profile_takes_what_fits_and_refuses_what_lacks(
    validator: Validator, name: str, resource: dict[str, Any], needed: str
) -> None:
    claimed = [f"{BASE}/StructureDefinition/cphc-{name}"]
    assert [i for i in validator.check(resource, profiles=claimed) if i.severity == "error"] == []
    lacking = {key: value for key, value in resource.items() if key != needed}
    assert "error" in {one.severity for one in validator.check(lacking, profiles=claimed)}
    # Without the profile nothing asks for it.
    assert "error" not in {one.severity for one in validator.check(lacking)}


@pytest.mark.parametrize("part", ["system", "code"])
def test_what_is_measured_has_a_unit_of_ucum(validator: Validator, part: str) -> None:
    claimed = [f"{BASE}/StructureDefinition/cphc-observation-growth"]
    bare = {key: value for key, value in WEIGHT.items() if key != part}
    told = validator.check(observed(LOINC, "29463-7", valueQuantity=bare), profiles=claimed)
    assert "error" in {one.severity for one in told}


def test_a_code_of_another_measure_is_no_growth(validator: Validator) -> None:
    claimed = [f"{BASE}/StructureDefinition/cphc-observation-growth"]
    told = validator.check(observed(LOINC, "718-7", valueQuantity=WEIGHT), profiles=claimed)
    assert [one.key for one in told if one.severity == "error"] == ["binding"]


@pytest.mark.parametrize("profile", [p["id"] for p in profiles()])
def test_every_profile_has_a_snapshot(profile: str) -> None:
    known = Profiles(PACKAGE)
    definition = known.find(f"{BASE}/StructureDefinition/{profile}")
    assert definition is not None
    whole = snapshot(definition, known)["snapshot"]["element"]
    assert len(whole) > len(definition["differential"]["element"])
