"""Answers of earlier editions of a form are taken, and the code of today is named."""

import datetime
from typing import Any

import pytest

import conformance.forms.answer_rules
from conformance.cphc import BASE
from conformance.cphc.concept_maps import concept_maps, former_codes
from conformance.forms.answers import check_response
from conformance.forms.questionnaires import questionnaires
from conformance.problem import Issue
from conformance.terminology.library import Library
from conformance.terminology.operations import translate_code

LISTS = f"{BASE}/CodeSystem"
PEDIS = f"{LISTS}/phs3-dm2-followup-dorsalis-pedis"
EMPTY = Library([])


def response(form: str, group: str, link_id: str, **coding: str) -> dict[str, Any]:
    item: dict[str, Any] = {"linkId": link_id, "answer": [{"valueCoding": coding}]}
    if group:
        item = {"linkId": group, "item": [item]}
    return {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": f"{BASE}/Questionnaire/{form}",
        "status": "in-progress",
        "item": [item],
    }


def checked(form: str, group: str, link_id: str, **coding: str) -> list[Issue]:
    answered = response(form, group, link_id, **coding)
    return check_response(answered, questionnaires()[form], EMPTY)


def pedis(code: str, **display: str) -> list[Issue]:
    return checked(
        "phs3-dm2-followup", "signs", "dorsalis-pedis", system=PEDIS, code=code, **display
    )


@pytest.mark.parametrize(
    ("code", "display", "today"),
    [
        ("4", {}, "Write 2 of"),
        ("7", {"display": "消失（右侧）"}, "Write 3 of"),
        ("3", {"display": "减弱（左侧）"}, "Write 2 of"),  # told from today's 3 by its name alone
    ],
)
def test_the_dorsalis_pedis_of_seven_options_is_taken_with_todays_code(
    code: str, display: dict[str, str], today: str
) -> None:
    (told,) = pedis(code, **display)
    assert (told.severity, told.key) == ("warning", "form-former-code")
    assert today in told.fix_en
    assert "dorsalis-pedis-side with" in told.fix_en
    assert told.expression == "QuestionnaireResponse.item[0].item[0].answer[0].value"


@pytest.mark.parametrize(
    ("code", "display"),
    [("3", {}), ("3", {"display": "消失"}), ("1", {"display": "触及正常"}), ("2", {})],
)
def test_a_code_of_today_is_no_code_of_yesterday(code: str, display: dict[str, str]) -> None:
    assert pedis(code, **display) == []


@pytest.mark.parametrize(("code", "display"), [("8", {}), ("4", {"display": "别的"})])
def test_what_no_edition_has_is_still_none_of_the_options(
    code: str, display: dict[str, str]
) -> None:
    assert [one.key for one in pedis(code, **display)] == ["form-option"]


@pytest.mark.parametrize(
    ("link_id", "system", "code", "fix"),
    [
        ("livestock-pen", "phs3-personal-info-livestock-pen", "3", "Write 3 of"),
        ("livestock-pen", "phs2011-livestock-pen", "3", "Write 4 of"),
        ("occupation", "phs2011-occupation", "1", "Write 0 of"),
        ("education", "phs2011-education", "4", "Write one of 6, 5, 4 of"),
    ],
)
def test_codes_of_earlier_editions_of_the_record(
    link_id: str, system: str, code: str, fix: str
) -> None:
    found = checked("phs3-personal-info", "", link_id, system=f"{LISTS}/{system}", code=code)
    assert [(one.severity, one.fix_en.startswith(fix)) for one in found] == [("warning", True)]


def test_without_the_former_codes_the_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = conformance.forms.answer_rules
    monkeypatch.setattr(rules, "former_code_issue", lambda *_: None)
    assert [one.key for one in pedis("4")] == ["form-option"]


def test_every_former_code_leads_to_an_option_of_today() -> None:
    options = {
        (coding["system"], coding["code"])
        for form in questionnaires().values()
        for coding in codings(form["item"])
    }
    assert len(former_codes()) >= 5
    for (_, today), codes in former_codes().items():
        assert {(today, one) for former in codes.values() for one in former.targets} <= options


def codings(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    own = [o["valueCoding"] for item in items for o in item.get("answerOption", ())]
    return own + [one for item in items for one in codings(item.get("item", []))]


def test_the_side_comes_as_product_of_the_translation() -> None:
    named = {"code": "7", "system": f"{PEDIS}-former"}
    question = {
        "resourceType": "Parameters",
        "parameter": [{"name": name, "valueString": value} for name, value in named.items()],
    }
    answer = translate_code(question, Library(concept_maps()), datetime.datetime.now(datetime.UTC))
    (match,) = [one["part"] for one in answer["parameter"] if one["name"] == "match"]
    parts = {one["name"]: one for one in match}
    assert parts["concept"]["valueCoding"] == {"system": PEDIS, "code": "3"}
    assert "3" in str(parts["product"])
    assert "#dorsalis-pedis-side" in str(parts["product"])
