"""The national forms: fields and options as listed, scores at their boundaries."""

import datetime
import pathlib
import random
import re
from decimal import Decimal
from typing import Any

import pytest

from conformance import fhirpath
from conformance.cphc import BASE
from conformance.cphc.code_systems import CONFIDENCE
from conformance.forms.answers import check_response
from conformance.forms.calculated import check_calculated
from conformance.forms.enabling import answers_of, is_enabled
from conformance.forms.extract import extract
from conformance.forms.option_lists import option_value_sets
from conformance.forms.options import read_source
from conformance.forms.questionnaires import CALCULATED, ORDINAL, questionnaires
from conformance.forms.scores import scales, score
from conformance.problem import InvalidContent
from conformance.structure import check
from conformance.terminology.library import Library
from conformance.terminology.operations import expand_value_set, look_up_code

FORMS = questionnaires()
LIBRARY = Library(option_value_sets())
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

OPTIONS = {  # form, question → codes, as the paper forms have them
    ("phs3-personal-info", "education"): "1 2 3 4 5 6 7 8 9 10",
    ("phs3-personal-info", "occupation"): "0 1 2 3 4 5 6 7 8",
    ("phs3-personal-info", "marital"): "1 2 3 4 5",
    ("phs3-personal-info", "payment"): "1 2 3 4 5 6 7 8",
    ("phs3-personal-info", "drug-allergy"): "1 2 3 4 5",
    ("phs3-personal-info", "exposure"): "1 2 3 4",
    ("phs3-personal-info", "past-disease-name"): "1 2 3 4 5 6 7 8 9 10 11 12 13",
    ("phs3-personal-info", "disability"): "1 2 3 4 5 6 7 8",
    ("phs3-personal-info", "kitchen-exhaust"): "1 2 3 4",
    ("phs3-personal-info", "fuel"): "1 2 3 4 5 6",
    ("phs3-personal-info", "water"): "1 2 3 4 5 6",
    ("phs3-personal-info", "toilet"): "1 2 3 4 5",
    ("phs3-personal-info", "livestock-pen"): "1 2 3 4",
    ("phs3-health-exam", "symptoms"): " ".join(map(str, range(1, 26))),
    ("phs3-health-exam", "self-rated-health"): "1 2 3 4 5",
    ("phs3-health-exam", "lips"): "1 2 3 4 5",
    ("phs3-health-exam", "risk-control"): "1 2 3 4 5 6 7",
    ("phs3-htn-followup", "visit-mode"): "1 2 3",
    ("phs3-htn-followup", "symptoms"): "1 2 3 4 5 6 7 8 9 10",
    ("phs3-htn-followup", "class"): "1 2 3 4",
    ("phs3-dm2-followup", "symptoms"): "1 2 3 4 5 6 7 8 9 10",
    ("phs3-dm2-followup", "hypoglycaemia"): "1 2 3",
    ("phs3-smi-register", "past-symptoms"): " ".join(map(str, range(1, 13))),
    ("phs3-smi-register", "employment"): "1 2 3 4 5 6 7 8 9",
    ("phs3-smi-followup", "danger-level"): "0 1 2 3 4 5",
    ("phs3-smi-followup", "danger"): "1 2 3 4 5 6 7",
    ("phs3-smi-followup", "class"): "1 2 3",
    ("phs3-tb-first-visit", "symptoms"): "0 1 2 3 4 5 6 7 8 9",
    ("phs3-tb-first-visit", "dosage-form"): "1 2 3 4",
    ("phs3-tb-followup", "stop-reason"): "1 2 3 4",
    ("phs3-newborn-visit", "birth-kind"): "1 2 3 4 5 6 7",
    ("phs3-newborn-visit", "disease-screening"): "1 2 3 4 5",
    ("phs3-newborn-visit", "jaundice"): "1 2 3 4 5",
    ("phs3-child-1-8m", "rickets-symptoms"): "1 2 3 4",
    ("phs3-child-1-8m", "rickets-signs-3m"): "1 2",
    ("phs3-child-1-8m", "rickets-signs"): "1 2 3 4 5 6 7",
    ("phs3-child-1-8m", "weight-grade"): "1 2 3",
    ("phs3-child-1-8m", "illness"): "1 2 3 4 5",
    ("phs3-child-12-30m", "rickets-signs"): "1 2 3 4 5 6 7",
    ("phs3-child-12-30m", "length-grade"): "1 2 3",
    ("phs3-child-3-6y", "height-grade"): "1 2 3",
    ("phs3-child-3-6y", "growth"): "1 2 3 4 5",
    ("phs3-postpartum-42d", "class"): "1 2",
    ("phs3-postpartum-42d", "handling"): "1 2",
    ("phs3-info-card", "chronic-illness"): "1 2 3 4 5 6 7 8",
    ("phs3-tcm-child", "age-month"): "6 12 18 24 30 36",
    ("phs3-tcm-child", "service"): "1 2 3 4 5 6",
    ("phs3-vaccination-card", "vaccine"): " ".join(map(str, range(1, 17))),
    ("phs3-health-edu-activity", "archive"): "1 2 3 4 5 6",
    ("phs3-supervision-report", "kind"): "1 2 3 4 5 6",
    ("phs3-boy-growth-curve", "weight-grade"): "1 2 3",
}
# Fields and options of the records, counted on paper; texts of options and headings are not fields.
COUNTS = {
    "phs3-encounter-note": (8, 0),
    "phs3-consultation": (8, 0),
    "phs3-info-card": (17, 4 + 5 + 3 + 8),
    "phs3-boy-growth-curve": (3 + 8, 3 + 3),
    "phs3-girl-growth-curve": (3 + 8, 3 + 3),
    "phs3-tcm-child": (7, 6 + 6),
    "phs3-vaccination-card": (18 + 9, 4 + 2 + 16),
    "phs3-health-edu-activity": (15, 6),
    "phs3-supervision-report": (1 + 5, 6),
    "phs3-supervision-inspection": (2 + 5, 0),
}
REQUIRED_FORMS = [
    "phs3-cover",
    "phs3-personal-info",
    "phs3-health-exam",
    "phs3-htn-followup",
    "phs3-dm2-followup",
    "phs3-smi-register",
    "phs3-smi-followup",
    "phs3-tb-first-visit",
    "phs3-tb-followup",
    "phs3-elderly-adl",
    "phs3-tcm-elderly",
    "phs3-newborn-visit",
    "phs3-child-1-8m",
    "phs3-child-12-30m",
    "phs3-child-3-6y",
    "phs3-antenatal-1",
    "phs3-antenatal-2-5",
    "phs3-postpartum-visit",
    "phs3-postpartum-42d",
    "phs3-referral-out",
    "phs3-referral-back",
    "psych-phq9",
    "psych-gad7",
    "psych-sds",
    "psych-sas",
    "psych-gds15",
    "psych-epds",
    *COUNTS,
]
# The list leaves the names of the two open, and the text of the last is not in hand.
NAMED_OTHERWISE = {"phs3-supervision-", "phs3-copd-followup"}


def walk(items: list[dict]) -> list[dict]:
    return [found for item in items for found in (item, *walk(item.get("item", [])))]


def question(form: str, link_id: str) -> dict:
    return next(item for item in walk(FORMS[form]["item"]) if item["linkId"] == link_id)


def test_every_form_of_the_list_is_there() -> None:
    assert sorted(FORMS) == sorted(REQUIRED_FORMS)


def test_the_inventory_of_the_requirements_is_covered(shared_data: pathlib.Path) -> None:
    source = shared_data.parent / "domain" / "public-health-forms.md"
    if not source.exists():
        pytest.skip("the requirements are not here")
    inventory = source.read_text(encoding="utf-8").partition("## 2.")[0]
    named = set(re.findall(r"`(phs3-[a-z0-9-]+)", inventory)) - NAMED_OTHERWISE
    assert len(named) > 25
    assert named <= set(FORMS)


@pytest.mark.parametrize("form", COUNTS)
def test_fields_and_options_are_as_many_as_on_paper(form: str) -> None:
    fields = [
        item
        for item in walk(FORMS[form]["item"])
        if item["type"] != "group" and not item["linkId"].endswith("-text")
    ]
    options = sum(len(item.get("answerOption", ())) for item in fields)
    assert (len(fields), options) == COUNTS[form]


def test_a_record_of_an_activity_is_of_an_institution() -> None:
    assert FORMS["phs3-health-edu-activity"]["subjectType"] == ["Organization"]
    assert FORMS["phs3-tcm-child"]["subjectType"] == ["Patient"]


@pytest.mark.parametrize(("form", "link_id"), OPTIONS)
def test_the_options_are_those_of_the_paper(form: str, link_id: str) -> None:
    options = question(form, link_id)["answerOption"]
    codes = [option["valueCoding"]["code"] for option in options]
    assert codes == OPTIONS[(form, link_id)].split()


@pytest.mark.parametrize("form", REQUIRED_FORMS)
def test_a_form_is_sound(form: str) -> None:
    items = walk(FORMS[form]["item"])
    names = [item["linkId"] for item in items]
    assert len(set(names)) == len(names)
    for item in items:
        assert item["text"]
        assert item["_text"]["extension"]
        for condition in item.get("enableWhen", ()):
            assert condition["question"] in names
            coding = condition.get("answerCoding")
            if coding:
                asked = question(form, condition["question"])["answerOption"]
                assert coding["code"] in [option["valueCoding"]["code"] for option in asked]


DEVELOPMENT = [
    ("phs3-child-1-8m", "age-month", {"3": "3m", "6": "6m", "8": "8m"}),
    ("phs3-child-12-30m", "age-month", {"12": "12m", "18": "18m", "24": "24m", "30": "30m"}),
    ("phs3-child-3-6y", "age-year", {"3": "3y", "4": "4y", "5": "5y", "6": "6y"}),
]


@pytest.mark.parametrize(("form", "age", "questions"), DEVELOPMENT)
def test_warning_signs_are_those_of_the_age(form: str, age: str, questions: dict[str, str]) -> None:
    texts = set()
    for code, name in questions.items():
        asked = question(form, f"development-{name}")
        assert [o["valueCoding"]["code"] for o in asked["answerOption"]] == list("01234")
        texts |= {o["valueCoding"]["display"] for o in asked["answerOption"]}
        for other in questions:
            answers = answers_of(filled(form, {age: other})["item"])
            assert is_enabled(asked, answers) == (other == code)
    assert len(texts) == 1 + 4 * len(questions)


def test_one_of_several_answers_opens_a_question() -> None:
    asked = question("phs3-child-1-8m", "rickets-signs")
    for age, is_asked in (("1", False), ("3", False), ("6", True), ("8", True)):
        answers = answers_of(filled("phs3-child-1-8m", {"age-month": age})["item"])
        assert is_enabled(asked, answers) == is_asked
    assert asked["enableBehavior"] == "any"


def test_illnesses_are_counted_each_by_itself() -> None:
    answers = {"age-month": "6", "illness": "2", "pneumonia-times": 2}
    response = filled("phs3-child-1-8m", answers)
    assert check_response(response, FORMS["phs3-child-1-8m"], LIBRARY) == []
    response = filled("phs3-child-1-8m", answers | {"diarrhoea-times": 1})
    keys = [one.key for one in check_response(response, FORMS["phs3-child-1-8m"], LIBRARY)]
    assert keys == ["form-not-enabled"]


def filled(form: str, answers: dict[str, Any]) -> dict[str, Any]:
    items = []
    for link_id, value in answers.items():
        kind = question(form, link_id)["type"]
        if kind == "choice":
            options = question(form, link_id)["answerOption"]
            coding = next(
                o["valueCoding"] for o in options if o["valueCoding"]["code"] == str(value)
            )
            answer = {"valueCoding": {k: coding[k] for k in ("system", "code", "display")}}
        else:
            answer = {{"integer": "valueInteger", "decimal": "valueDecimal"}[kind]: value}
        items.append({"linkId": link_id, "answer": [answer]})
    return {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": f"{FORMS[form]['url']}|{FORMS[form]['version']}",
        "status": "in-progress",
        "item": items,
    }


def calculated(form: str, link_id: str, response: dict[str, Any]) -> list[Any]:
    extensions = question(form, link_id)["extension"]
    expression = next(e for e in extensions if e["url"] == CALCULATED)["valueExpression"]
    found = fhirpath.evaluate(expression["expression"], response)
    return [float(value) for value in found]


@pytest.mark.parametrize(
    ("weight", "height", "bmi"), [(53.5, 170, 18.5), (69.4, 170, 24.0), (81, 170, 28.0)]
)
def test_the_body_mass_index_is_calculated(weight: float, height: float, bmi: float) -> None:
    response = filled("phs3-child-3-6y", {"weight": weight, "height": height})
    assert calculated("phs3-child-3-6y", "bmi", response) == [bmi]


def test_a_missing_answer_leaves_the_calculation_open() -> None:
    assert calculated("phs3-child-3-6y", "bmi", filled("phs3-child-3-6y", {"weight": 20})) == []


ADL = ("eating", "washing", "dressing", "toilet", "moving")


@pytest.mark.parametrize(
    ("answers", "total", "band"),
    [
        ("11111", 0, "可自理"),
        ("22111", 1, "可自理"),
        ("31111", 3, "可自理"),
        ("32111", 4, "轻度依赖"),
        ("33122", 8, "轻度依赖"),
        ("33311", 9, "中度依赖"),
        ("33332", 15, "中度依赖"),
        ("43133", 18, "中度依赖"),
        ("33333", 19, "不能自理"),
        ("44444", 37, "不能自理"),
    ],
)
def test_self_care_is_scored_at_its_boundaries(answers: str, total: int, band: str) -> None:
    response = filled("phs3-elderly-adl", dict(zip(ADL, answers, strict=True)))
    found = score(response)
    assert (found.total, found.band.split()[0]) == (total, band)
    assert calculated("phs3-elderly-adl", "score", response) == [total]


def same_answer(form: str, count: int, code: int) -> dict[str, Any]:
    return {str(n): code for n in range(1, count + 1)}


def tcm(**changed: int) -> dict[str, Any]:
    answers = same_answer("phs3-tcm-elderly", 33, 1) | {"1": 5}
    return filled("phs3-tcm-elderly", answers | {k.strip("i"): v for k, v in changed.items()})


def test_the_first_vector_is_balanced() -> None:
    found = score(tcm())
    assert found.parts["平和质"] == (25, "是")


def test_the_second_vector_lacks_vitality() -> None:
    found = score(tcm(i2=3, i3=3, i4=3, i14=2))
    assert found.parts["气虚质"] == (11, "是")
    assert found.parts["平和质"][1] == "否"


def test_the_third_vector_is_mostly_balanced() -> None:
    found = score(tcm(i10=2, i21=2, i26=2, i31=3))
    assert found.parts["阴虚质"] == (9, "倾向是")
    assert found.parts["平和质"][1] == "基本是"


def test_the_disputed_boundary_is_a_parameter() -> None:
    all_eight = tcm(i10=2, i21=2, i26=2, i31=2)
    all_ten = tcm(i10=3, i21=3, i26=2, i31=2)
    assert score(all_eight).parts["平和质"][1] == "是"
    assert score(all_ten).parts["平和质"][1] == "基本是"
    strict = {"balanced-others": 7, "mostly-balanced-others": 9}
    assert score(all_eight, thresholds=strict).parts["平和质"][1] == "基本是"
    assert score(all_ten, thresholds=strict).parts["平和质"][1] == "否"


def everywhere(total: int) -> dict[str, Any]:
    """Answers by which every biased constitution has this sum, and 平和 as much as it can have."""
    answers: dict[str, int] = {"1": 5} | dict.fromkeys(("2", "4", "5", "13"), 1)
    for items in read_source("scores")["phs3-tcm-elderly"]["constitutions"].values():
        still = [one for one in items if one not in answers]
        missing = total - sum(answers[one] for one in items if one in answers)
        worth = [missing // len(still)] * len(still)
        worth[-1] += missing - sum(worth)
        answers |= dict(zip(still, worth, strict=True))
    return filled("phs3-tcm-elderly", {str(n): answers[str(n)] for n in range(1, 34)})


def test_all_eight_and_all_ten_are_judged_at_the_boundary() -> None:
    for total, biased, balanced, stricter in (
        (8, "否", "是", "基本是"),
        (10, "倾向是", "基本是", "否"),
    ):
        response = everywhere(total)
        parts = dict(score(response).parts)
        assert parts.pop("平和质") == (25, balanced)
        assert set(parts.values()) == {(total, biased)}
        strict = {"balanced-others": 7, "mostly-balanced-others": 9}
        assert score(response, thresholds=strict).parts["平和质"] == (25, stricter)


@pytest.mark.parametrize(
    ("third", "total", "verdict"),
    [(2, 8, "否"), (3, 9, "倾向是"), (4, 10, "倾向是"), (5, 11, "是")],
)
def test_a_constitution_is_judged_at_its_boundaries(third: int, total: int, verdict: str) -> None:
    assert score(tcm(i10=2, i21=2, i26=2, i31=third)).parts["阴虚质"] == (total, verdict)


@pytest.mark.parametrize(("first", "total", "verdict"), [(1, 17, "是"), (5, 21, "是")])
def test_balance_begins_at_seventeen(first: int, total: int, verdict: str) -> None:
    answers = tcm(i1=first, i2=2, i4=2, i5=2, i13=2)
    assert score(answers).parts["平和质"] == (total, verdict)
    less = tcm(i1=1, i2=2, i4=2, i5=2, i13=3)
    assert score(less).parts["平和质"] == (16, "否")


def spread(count: int, total: int, least: int, most: int) -> dict[str, Any]:
    """Answers of `count` items that add up to `total`."""
    values = [least] * count
    chance = random.Random(total)
    while sum(values) < total:
        place = chance.randrange(count)
        values[place] += values[place] < most
    return {str(n): value for n, value in enumerate(values, start=1)}


@pytest.mark.parametrize(
    ("total", "band"),
    [(4, "无抑郁"), (5, "轻度"), (9, "轻度"), (10, "中度"), (14, "中度"), (15, "中重度"),
     (19, "中重度"), (20, "重度"), (27, "重度")],
)  # fmt: skip
def test_depression_is_banded_at_its_boundaries(total: int, band: str) -> None:
    found = score(filled("psych-phq9", spread(9, total, 0, 3)))
    assert (found.total, found.band.split()[0]) == (total, band)


def test_thoughts_of_self_harm_are_flagged_whatever_the_total() -> None:
    calm = same_answer("psych-phq9", 9, 0)
    assert score(filled("psych-phq9", calm)).flags == {}
    assert "self-harm-risk" in score(filled("psych-phq9", calm | {"9": 1})).flags


@pytest.mark.parametrize(
    ("total", "band"),
    [
        (4, "无焦虑"),
        (5, "轻度"),
        (9, "轻度"),
        (10, "中度"),
        (14, "中度"),
        (15, "重度"),
        (21, "重度"),
    ],
)
def test_anxiety_is_banded_at_its_boundaries(total: int, band: str) -> None:
    assert score(filled("psych-gad7", spread(7, total, 0, 3))).band.split()[0] == band


@pytest.mark.parametrize(
    ("form", "reverse", "raw", "standard", "band"),
    [
        ("psych-sds", 10, 42, 52, "正常"),
        ("psych-sds", 10, 43, 53, "轻度抑郁"),
        ("psych-sds", 10, 50, 62, "轻度抑郁"),
        ("psych-sds", 10, 51, 63, "中度抑郁"),
        ("psych-sds", 10, 58, 72, "中度抑郁"),
        ("psych-sds", 10, 59, 73, "重度抑郁"),
        ("psych-sas", 5, 39, 48, "正常"),
        ("psych-sas", 5, 40, 50, "轻度焦虑"),
        ("psych-sas", 5, 47, 58, "轻度焦虑"),
        ("psych-sas", 5, 48, 60, "中度焦虑"),
        ("psych-sas", 5, 55, 68, "中度焦虑"),
        ("psych-sas", 5, 56, 70, "重度焦虑"),
    ],
)
def test_self_ratings_are_turned_weighted_and_banded(
    form: str, reverse: int, raw: int, standard: int, band: str
) -> None:
    turned = {
        "psych-sds": ("2", "5", "6", "11", "12", "14", "16", "17", "18", "20"),
        "psych-sas": ("5", "9", "13", "17", "19"),
    }[form]
    assert len(turned) == reverse
    answers = spread(20, raw, 1, 4)
    answers = {k: 5 - v if k in turned else v for k, v in answers.items()}
    found = score(filled(form, answers))
    assert (found.raw, found.total, found.band.split()[0]) == (raw, standard, band)


GDS_NO = ("1", "5", "7", "11", "13")  # items whose "no" tells of depression


@pytest.mark.parametrize(
    ("total", "band"), [(0, "阴性"), (4, "阴性"), (5, "阳性"), (8, "阳性"), (15, "阳性")]
)
def test_depression_of_the_elderly_is_banded_at_its_boundary(total: int, band: str) -> None:
    telling = spread(15, total, 0, 1)
    # Code 1 is yes, 2 is no; which of them tells of depression depends on the item.
    answers = {n: 1 if bool(yes) != (n in GDS_NO) else 2 for n, yes in telling.items()}
    response = filled("psych-gds15", answers)
    assert (score(response).total, score(response).band.split()[0]) == (total, band)
    assert calculated("psych-gds15", "score", response) == [total]


def test_who_says_yes_to_everything_has_the_score_of_the_items_turned_round() -> None:
    assert score(filled("psych-gds15", same_answer("psych-gds15", 15, 1))).total == 10
    assert score(filled("psych-gds15", same_answer("psych-gds15", 15, 2))).total == 5


@pytest.mark.parametrize(
    ("total", "band"),
    [
        (0, "阴性"),
        (9, "阴性"),
        (10, "可能抑郁"),
        (12, "可能抑郁"),
        (13, "很可能抑郁"),
        (30, "很可能抑郁"),
    ],
)
def test_postnatal_depression_is_banded_at_its_boundaries(total: int, band: str) -> None:
    response = filled("psych-epds", spread(10, total, 0, 3))
    assert (score(response).total, score(response).band.split()[0]) == (total, band)
    assert calculated("psych-epds", "score", response) == [total]


def test_thoughts_of_self_harm_after_birth_are_flagged_whatever_the_total() -> None:
    calm = same_answer("psych-epds", 10, 0)
    assert score(filled("psych-epds", calm)).flags == {}
    assert "self-harm-risk" in score(filled("psych-epds", calm | {"10": 1})).flags


def test_a_scale_under_copyright_names_its_source() -> None:
    assert "British Journal of Psychiatry 150" in FORMS["psych-epds"]["copyright"]
    assert FORMS["psych-gds15"]["copyright"].startswith("Public domain.")
    assert "copyright" not in FORMS["psych-phq9"]


def test_a_gap_is_named_not_guessed() -> None:
    with pytest.raises(InvalidContent, match="lacks answers to 9"):
        score(filled("psych-phq9", same_answer("psych-phq9", 8, 0)))


def test_a_form_that_is_no_scale_is_refused_with_the_list() -> None:
    with pytest.raises(InvalidContent) as caught:
        score({"questionnaire": "urn:other"})
    assert all(name in caught.value.issues[0].fix_en for name in scales())


def test_a_filled_scale_is_a_valid_response() -> None:
    response = filled("psych-gad7", spread(7, 9, 0, 3) | {"score": 9})
    response["status"] = "completed"
    assert check_response(response, FORMS["psych-gad7"], LIBRARY) == []


def test_an_answer_out_of_range_is_named() -> None:
    response = filled("phs3-child-3-6y", {"weight": 300})
    issues = check_response(response, FORMS["phs3-child-3-6y"], LIBRARY)
    assert [issue.key for issue in issues] == ["form-range"]


ORDERED = {
    "resourceType": "Questionnaire",
    "status": "active",
    "item": [
        {"linkId": "a", "type": "string", "item": [
            {"linkId": name, "type": "string"} for name in "xy"]},
        {"linkId": "g", "type": "group", "repeats": True, "item": [
            {"linkId": name, "type": "string"} for name in "pq"]},
        {"linkId": "b", "type": "string"},
    ],
}  # fmt: skip


def told_of_order(*items: dict[str, Any]) -> list[tuple[str, str]]:
    response = {"resourceType": "QuestionnaireResponse", "status": "completed", "item": [*items]}
    found = check_response(response, ORDERED, LIBRARY)
    assert {one.key for one in found} <= {"form-order", "form-link-id"}
    return [(one.expression, one.fix_en) for one in found if one.key == "form-order"]


def said(link_id: str, *inside: dict[str, Any]) -> dict[str, Any]:
    answer = {"valueString": "text"} | ({"item": [*inside]} if inside else {})
    return {"linkId": link_id, "answer": [answer]}


def group(*inside: str) -> dict[str, Any]:
    return {"linkId": "g", "item": [said(one) for one in inside]}


def test_answers_stand_in_the_order_of_their_questions() -> None:
    assert (
        told_of_order(said("a", said("x"), said("y")), group("p", "q"), group("q"), said("b")) == []
    )
    assert told_of_order(said("a"), said("b")) == []
    assert told_of_order(said("b"), said("z")) == []


def test_an_answer_out_of_order_is_named_with_its_place() -> None:
    place = "QuestionnaireResponse.item[1]"
    ((where, fix),) = told_of_order(said("b"), said("a"))
    assert where == place
    assert fix.startswith("Move a in front of b")
    assert told_of_order(said("a"), said("b")) == []  # the advice, followed
    ((where, fix),) = told_of_order(said("a", said("y"), said("x")))
    assert where == "QuestionnaireResponse.item[0].answer[0].item[1]"
    ((where, fix),) = told_of_order(group("p"), group("q", "p"))
    assert where == f"{place}.item[1]"
    assert fix.startswith("Move p in front of q")
    ((where, fix),) = told_of_order(group("p"), said("b"), group("q"))
    assert where == "QuestionnaireResponse.item[2]"


def disease(code: str, text: str = "") -> dict[str, Any]:
    system = f"{BASE}/CodeSystem/phs3-personal-info-past-disease-name"
    coding = {"system": system, "code": code}
    items = [{"linkId": "past-disease-name", "answer": [{"valueCoding": coding}]}]
    if text:
        name = "past-disease-name-6-text"
        items.append({"linkId": name, "answer": [{"valueString": text}]})
    return {"linkId": "past-disease", "item": items}


def test_a_condition_means_the_answer_of_its_own_group() -> None:
    def told(*groups: dict[str, Any]) -> list[str]:
        response = {"status": "in-progress", "item": [*groups]}
        found = check_response(response, FORMS["phs3-personal-info"], LIBRARY)
        assert {one.key for one in found} <= {"form-not-enabled"}
        return [one.expression for one in found]

    assert told(disease("2"), disease("6", "胃"), disease("7")) == []
    place = "QuestionnaireResponse.item[1].item[1]"
    # Another disease of the list is a cancer; this one is not.
    assert told(disease("6", "胃"), disease("2", "胃")) == [place]
    assert told(disease("2"), disease("2", "胃"), disease("6")) == [place]


NEAREST = {
    "resourceType": "Questionnaire",
    "status": "active",
    "item": [
        {"linkId": "g", "type": "group", "repeats": True, "item": [
            {"linkId": "q", "type": "boolean"},
            {"linkId": "inside", "type": "string", "required": True, "enableWhen": [
                {"question": "q", "operator": "=", "answerBoolean": True}]}]},
        {"linkId": "behind", "type": "string", "enableWhen": [
            {"question": "q", "operator": "=", "answerBoolean": True}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ([True], 1), ([False], 0), ([True, False], 1), ([False, True, True], 2), ([None, True], 2),
        ([None, False], 0),
    ],
)  # fmt: skip
def test_a_missing_answer_counts_where_its_own_group_asks_for_it(
    given: list[bool | None], missing: int
) -> None:
    groups: list[dict[str, Any]] = [
        {"linkId": "g", "item": []}
        if one is None
        else {"linkId": "g", "item": [{"linkId": "q", "answer": [{"valueBoolean": one}]}]}
        for one in given
    ]
    behind = {"linkId": "behind", "answer": [{"valueString": "x"}]}
    response = {"status": "completed", "item": groups}
    keys = [one.key for one in check_response(response, NEAREST, LIBRARY)]
    assert keys == ["form-required"] * missing
    # Nothing before a group without an answer: what follows decides. Behind them, the last one.
    response["item"] = [*groups, behind]
    keys = [one.key for one in check_response(response, NEAREST, LIBRARY)]
    assert ("form-not-enabled" in keys) == (given[-1] is False)


def test_scores_stand_on_the_options() -> None:
    for form in scales():
        scored = [
            option
            for item in FORMS[form]["item"]
            for option in item.get("answerOption", ())
            if option["valueCoding"].get("extension", [{}])[0].get("url") == ORDINAL
        ]
        assert scored


@pytest.mark.parametrize("form", REQUIRED_FORMS)
def test_a_form_is_a_valid_questionnaire(form: str) -> None:
    assert check(FORMS[form]) == []


def test_the_option_lists_are_valid_resources() -> None:
    assert [issue for resource in option_value_sets() for issue in check(resource)] == []


@pytest.mark.parametrize("form", REQUIRED_FORMS)
def test_every_option_is_found_in_the_list_of_its_question(form: str) -> None:
    for item in walk(FORMS[form]["item"]):
        codings = [option["valueCoding"] for option in item.get("answerOption", ())]
        for coding in codings:
            asked = [{"name": name, "valueString": coding[name]} for name in ("system", "code")]
            found = look_up_code({"parameter": asked}, LIBRARY, NOW)
            told = {part["name"]: part for part in found["parameter"]}
            assert told["display"]["valueString"] == coding["display"], item["linkId"]
        if codings:
            system = LIBRARY.find("CodeSystem", codings[0]["system"])
            whole = [{"name": "url", "valueUri": system["valueSet"]}]
            listed = expand_value_set({"parameter": whole}, LIBRARY, NOW)["expansion"]["contains"]
            assert [one["code"] for one in listed] == [coding["code"] for coding in codings]


def test_every_list_says_where_it_is_from_and_how_sure_we_are() -> None:
    systems = [one for one in option_value_sets() if one["resourceType"] == "CodeSystem"]
    assert len(systems) > 200
    for one in systems:
        (confidence,) = (extension["valueCode"] for extension in one["extension"])
        assert confidence in ("secondary", "expert")
        assert f"Confidence: {CONFIDENCE[confidence]}" in one["purpose"]
    by_id = {one["id"]: one["extension"][0]["valueCode"] for one in systems}
    assert by_id["phs3-phq-frequency"] == by_id["phs3-info-card-chronic-illness"] == "expert"


def test_a_list_of_one_question_tells_form_question_and_scores() -> None:
    name = f"{BASE}/CodeSystem/phs3-elderly-adl-toilet"
    system = LIBRARY.find("CodeSystem", name)
    assert system["title"] == "老年人生活自理能力评估表：如厕 (Self-care of the elderly: toilet)"
    scores = [concept["extension"][0]["valueDecimal"] for concept in system["concept"]]
    assert scores == [0, 1, 5, 10]


def test_answers_of_nobody_that_is_stored_are_not_extracted() -> None:
    response = filled("phs3-child-1-8m", {"age-month": "6", "weight": 7})
    for subject in ({}, {"subject": {"display": "张小宝"}}):
        with pytest.raises(InvalidContent, match="of nobody"):
            extract({**response, **subject}, FORMS["phs3-child-1-8m"])
    found = extract({**response, "subject": {"reference": "Patient/1"}}, FORMS["phs3-child-1-8m"])
    assert {one["resourceType"] for one in found} == {"Observation"}


@pytest.mark.parametrize(("form", "code"), [("psych-phq9", "44261-6"), ("psych-gad7", "70274-6")])
def test_a_total_becomes_an_observation(form: str, code: str) -> None:
    response = {**filled(form, {"score": 9}), "subject": {"reference": "Patient/1"}}
    (found,) = extract(response, FORMS[form])
    assert found["code"]["coding"][0]["code"] == code
    assert check(found) == []
    # A form of somebody else may ask for it without saying what is observed.
    bare = [{k: v for k, v in item.items() if k != "code"} for item in FORMS[form]["item"]]
    assert extract(response, {**FORMS[form], "item": bare}) == []


def said_of_calculated(form: str, link_id: str, value: Any, others: dict[str, Any]) -> list[str]:
    response = filled(form, others)
    response["item"].append({"linkId": link_id, "answer": [value]})
    found = check_calculated(response, FORMS[form])
    return [f"{issue.severity} {issue.expression}" for issue in found]


@pytest.mark.parametrize(("answer", "is_told"), [("22.9", False), ("22.90", False), ("23", True)])
def test_a_calculated_answer_that_differs_is_told(answer: str, is_told: bool) -> None:
    given = {"valueDecimal": Decimal(answer)}
    measured = {"weight": Decimal(62), "height": Decimal("164.5")}
    said = said_of_calculated("phs3-htn-followup", "bmi", given, measured)
    place = "warning QuestionnaireResponse.item[2].answer[0].value"
    assert said == ([place] if is_told else [])


def test_a_calculation_that_cannot_be_made_says_nothing() -> None:
    given = {"valueDecimal": Decimal(99)}
    assert said_of_calculated("phs3-htn-followup", "bmi", given, {}) == []
    without_height = {"weight": 60, "height": 0}
    assert said_of_calculated("phs3-htn-followup", "bmi", given, without_height) == []


def test_a_hostile_calculation_ends_within_its_limits() -> None:
    def asked(expression: str) -> dict[str, Any]:
        value = {"language": "text/fhirpath", "expression": expression}
        extension = [{"url": CALCULATED, "valueExpression": value}]
        return {"linkId": "a", "type": "integer", "extension": extension}

    response = {"item": [{"linkId": "a", "answer": [{"valueInteger": 1}]}]}
    for expression in ("(1).repeat($this + 1)", "1 +", "(" * 500, "1" + " = 1" * 500):
        assert list(check_calculated(response, {"item": [asked(expression)]})) == []
    assert len(list(check_calculated(response, {"item": [asked("1 + 1")]}))) == 1
