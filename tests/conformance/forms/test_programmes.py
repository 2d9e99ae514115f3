"""Follow-up rules at their boundaries, filling in, and reading out."""

import datetime
from decimal import Decimal
from typing import Any

import pytest

from conformance.cphc import BASE
from conformance.forms.answers import check_response
from conformance.forms.extract import extract
from conformance.forms.option_lists import option_value_sets
from conformance.forms.populate import populate
from conformance.forms.programmes import age_at, assess, body_mass_index_band, spirits_of
from conformance.forms.questionnaires import questionnaires
from conformance.problem import InvalidContent
from conformance.structure import check
from conformance.terminology.library import Library

FORMS = questionnaires()
LIBRARY = Library(option_value_sets())
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:oid:2.16.156.10011.1.3", "value": "999001199003071232"}],
    "name": [{"use": "official", "text": "王秀英"}],
    "gender": "female",
    "birthDate": "1990-03-07",
    "telecom": [{"system": "phone", "value": "10000000001"}],
}


def coded(link_id: str, code: str) -> dict[str, Any]:
    return {"linkId": link_id, "answer": [{"valueCoding": {"code": code}}]}


def visit(form: str, *items: dict[str, Any], on: str = "2026-03-02") -> dict[str, Any]:
    date = {"linkId": "visit-date", "answer": [{"valueDate": on}]}
    return {
        "resourceType": "QuestionnaireResponse",
        "id": "r1",
        "questionnaire": f"{BASE}/Questionnaire/{form}|3.0",
        "status": "completed",
        "subject": {"reference": "Patient/p1"},
        "item": [date, *items],
    }


def pressure(systolic: int, diastolic: int, *more: dict[str, Any]) -> dict[str, Any]:
    signs = [
        {"linkId": "systolic", "answer": [{"valueInteger": systolic}]},
        {"linkId": "diastolic", "answer": [{"valueInteger": diastolic}]},
    ]
    return visit("phs3-htn-followup", {"linkId": "signs", "item": signs}, *more)


def days_after(assessment: Any) -> int:
    return (assessment.next_due - datetime.date(2026, 3, 2)).days


@pytest.mark.parametrize(
    ("systolic", "diastolic", "class_code", "refer", "days"),
    [
        (139, 89, "1", False, 90),
        (140, 89, "2", False, 14),
        (139, 90, "2", False, 14),
        (179, 109, "2", False, 14),
        (180, 80, "2", True, 14),
        (120, 110, "2", True, 14),
    ],
)
def test_blood_pressure_decides_class_referral_and_next_visit(
    systolic: int, diastolic: int, class_code: str, refer: bool, days: int
) -> None:
    found = assess(pressure(systolic, diastolic))
    assert (found.class_code, found.refer, days_after(found)) == (class_code, refer, days)


def test_the_elderly_have_a_target_of_their_own() -> None:
    assert assess(pressure(148, 85), age=64).class_code == "2"
    assert assess(pressure(148, 85), age=65).class_code == "1"
    assert assess(pressure(150, 85), age=65).class_code == "2"


def test_twice_unsatisfied_is_referred() -> None:
    before = pressure(150, 95, coded("class", "2"))
    assert assess(pressure(150, 95), previous=before).refer
    assert not assess(pressure(150, 95), previous=pressure(130, 80, coded("class", "1"))).refer


def test_a_complication_is_referred_and_a_reaction_watched() -> None:
    assert assess(pressure(120, 80, coded("class", "4"))).refer
    reaction = assess(pressure(120, 80, coded("adverse-reaction", "2")))
    assert (reaction.class_code, reaction.refer, days_after(reaction)) == ("3", False, 14)


def glucose(value: str) -> dict[str, Any]:
    tests = [{"linkId": "fasting-glucose", "answer": [{"valueDecimal": Decimal(value)}]}]
    return visit("phs3-dm2-followup", {"linkId": "tests", "item": tests})


@pytest.mark.parametrize(
    ("value", "class_code", "refer", "days"),
    [
        ("6.9", "1", False, 90),
        ("7.0", "2", False, 14),
        ("16.6", "2", False, 14),
        ("16.7", "2", True, 14),
        ("4.0", "1", False, 90),
        ("3.9", "2", True, 14),
    ],
)
def test_fasting_glucose_decides_class_referral_and_next_visit(
    value: str, class_code: str, refer: bool, days: int
) -> None:
    found = assess(glucose(value))
    assert (found.class_code, found.refer, days_after(found)) == (class_code, refer, days)


@pytest.mark.parametrize(
    ("level", "class_code", "refer", "days"),
    [("0", "3", False, 90), ("1", "2", False, 14), ("2", "2", False, 14), ("3", "1", True, 14),
     ("5", "1", True, 14)],
)  # fmt: skip
def test_danger_decides_class_referral_and_next_visit(
    level: str, class_code: str, refer: bool, days: int
) -> None:
    found = assess(visit("phs3-smi-followup", coded("danger-level", level)))
    assert (found.class_code, found.refer, days_after(found)) == (class_code, refer, days)


@pytest.mark.parametrize(
    ("answers", "refer", "days"),
    [
        ({}, False, 30),
        ({"adverse-reaction": "1", "complication": "1"}, False, 30),
        ({"adverse-reaction": "2"}, True, 14),
        ({"complication": "2"}, True, 14),
    ],
)
def test_a_visit_for_tuberculosis_follows_every_month_or_two_weeks_after_a_referral(
    answers: dict[str, str], refer: bool, days: int
) -> None:
    found = assess(visit("phs3-tb-followup", *(coded(*one) for one in answers.items())))
    assert (found.programme, found.class_code) == ("tb", None)
    assert (found.refer, days_after(found)) == (refer, days)


@pytest.mark.parametrize(
    ("taken", "due", "is_regular"),
    [(90, 100, True), (89, 100, False), (180, 200, True), (0, 0, False)],
)
def test_the_end_of_a_treatment_says_whether_drugs_were_taken_regularly(
    taken: int, due: int, is_regular: bool
) -> None:
    doses = [
        {"linkId": name, "answer": [{"valueInteger": value}]}
        for name, value in (("doses-due", due), ("doses-taken", taken))
    ]
    management = {"linkId": "management", "item": doses}
    found = assess(visit("phs3-tb-followup", coded("stop-reason", "1"), management))
    assert found.next_due is None
    assert ("未规则服药" in found.reasons[-1]) is not is_regular
    with pytest.raises(InvalidContent, match="doses-taken"):
        assess(visit("phs3-tb-followup", coded("stop-reason", "1")))


def test_basically_stable_waits_two_weeks_once_and_then_three_months() -> None:
    before = visit("phs3-smi-followup", coded("danger-level", "1"), coded("class", "2"))
    now = visit("phs3-smi-followup", coded("danger-level", "1"))
    assert days_after(assess(now, previous=before)) == 90


def test_a_missing_answer_is_named() -> None:
    with pytest.raises(InvalidContent, match="systolic"):
        assess(visit("phs3-htn-followup"))
    with pytest.raises(InvalidContent, match="No programme"):
        assess(visit("phs3-cover"))


@pytest.mark.parametrize("level", ["6", "-1", "$this", "", "9" * 5000, "٣"])
def test_a_danger_level_that_the_form_has_not_is_named(level: str) -> None:
    with pytest.raises(InvalidContent, match="danger-level"):
        assess(visit("phs3-smi-followup", coded("danger-level", level)))


@pytest.mark.parametrize(
    "day", ["abcdefghij", "2026-02-30", "2026-03", "", "0000-01-01", "9999-12-31"]
)
def test_a_visit_without_a_day_is_named(day: str) -> None:
    with pytest.raises(InvalidContent, match="visit-date"):
        assess(visit("phs3-smi-followup", coded("danger-level", "0"), on=day))


@pytest.mark.parametrize(
    ("born", "on", "years"),
    [
        ("1961-03-02", "2026-03-02", 65),
        ("1961-03-03", "2026-03-02", 64),
        ("1960-02-29", "2025-02-28", 64),
        ("1960-02-29", "2025-03-01", 65),
        ("1961-03", "2026-03-02", None),
        ("1961-03-02", "2026", None),
        (None, "2026-03-02", None),
    ],
)
def test_the_age_is_that_of_the_day_of_the_visit(
    born: str | None, on: str, years: int | None
) -> None:
    patient = {"birthDate": born} if born else {}
    assert age_at(patient, visit("phs3-htn-followup", on=on)) == years


@pytest.mark.parametrize(
    ("value", "band"),
    [(18.4, "体重过低"), (18.5, "体重正常"), (23.9, "体重正常"), (24, "超重"), (27.9, "超重"),
     (28, "肥胖")],
)  # fmt: skip
def test_the_bands_of_the_body_mass_index(value: float, band: str) -> None:
    assert body_mass_index_band(value).split()[0] == band


def test_alcohol_is_counted_in_spirits() -> None:
    assert spirits_of("啤酒", Decimal(10)) == spirits_of("红酒", Decimal(4)) == 1
    assert spirits_of("黄酒", Decimal(5)) == spirits_of("白酒", Decimal(1)) == 1


def test_a_response_is_begun_from_the_record_and_the_visit_before() -> None:
    form = FORMS["phs3-personal-info"]
    begun = populate(form, PATIENT)
    answers = {item["linkId"]: item["answer"][0] for item in begun["item"]}
    assert answers["name"] == {"valueString": "王秀英"}
    assert answers["sex"]["valueCoding"]["code"] == "2"
    assert answers["birth-date"] == {"valueDate": "1990-03-07"}
    assert answers["id-card"] == {"valueString": "999001199003071232"}
    assert check_response(begun, form, LIBRARY) == []


def test_medication_is_carried_over_and_the_readings_are_not() -> None:
    drug = {"linkId": "medication-name", "answer": [{"valueString": "氨氯地平"}]}
    before = pressure(150, 95, {"linkId": "medications", "item": [drug]})
    kept = str(before)
    begun = populate(FORMS["phs3-htn-followup"], PATIENT, before)
    assert [item["linkId"] for item in begun["item"]] == ["medications"]
    assert str(before) == kept
    assert begun["status"] == "in-progress"


def test_a_visit_becomes_observations_medication_and_a_programme() -> None:
    drug = {"linkId": "medication-name", "answer": [{"valueString": "氨氯地平"}]}
    response = pressure(150, 95, {"linkId": "medications", "item": [drug]})
    found = extract(response, FORMS["phs3-htn-followup"])
    by_type = {resource["resourceType"]: resource for resource in found}
    assert set(by_type) == {"Observation", "MedicationStatement", "EpisodeOfCare"}
    (programme,) = by_type["EpisodeOfCare"]["type"]
    (coding,) = programme["coding"]
    assert coding == {"system": f"{BASE}/CodeSystem/cphc-programme-type", "code": "htn"}
    panel = by_type["Observation"]
    assert panel["code"]["coding"][0]["code"] == "85354-9"
    values = [c["valueQuantity"]["value"] for c in panel["component"]]
    assert values == [150, 95]
    assert panel["effectiveDateTime"] == "2026-03-02"
    for resource in found:
        assert check(resource) == []


def test_a_past_disease_becomes_a_condition_and_none_does_not() -> None:
    def told(code: str) -> dict[str, Any]:
        system = f"{BASE}/CodeSystem/phs3-personal-info-past-disease-name"
        disease = {"valueCoding": {"system": system, "code": code, "display": "高血压"}}
        inner = [{"linkId": "past-disease-name", "answer": [disease]}]
        response = visit("phs3-personal-info", {"linkId": "past-disease", "item": inner})
        return extract(response, FORMS["phs3-personal-info"])

    (condition,) = told("2")
    assert condition["resourceType"] == "Condition"
    assert check(condition) == []
    assert told("1") == []


def test_answers_of_nobody_are_refused() -> None:
    response = pressure(120, 80)
    del response["subject"]
    with pytest.raises(InvalidContent, match="nobody"):
        extract(response, FORMS["phs3-htn-followup"])
