"""What a follow-up visit asks for next: class, referral and due date, by rules kept as data.

国家基本公共卫生服务规范（第三版）: 高血压, 2型糖尿病, 严重精神障碍, 肺结核 (hypertension, diabetes,
severe mental illness, tuberculosis).
"""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from conformance.forms.enabling import answers_of
from conformance.forms.options import read_source
from conformance.problem import InvalidContent, Issue
from conformance.terminology.concepts import value_of

UNSATISFIED = ("2", "3", "4")
_LAST_YEAR = 9998  # a next visit is to come after it
_DANGER_LEVELS = ("0", "1", "2", "3", "4", "5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What follows from one visit; `class_code` is the answer code of 此次随访分类.

    None where the form has no class, and where no visit is to follow.
    """

    programme: str
    class_code: str | None
    is_urgent: bool
    refer: bool
    next_due: datetime.date | None
    reasons: tuple[str, ...]


def assess(
    response: Mapping[str, Any],
    *,
    previous: Mapping[str, Any] | None = None,
    age: int | None = None,
    rules: Mapping[str, Any] | None = None,
) -> Assessment:
    """Judge a follow-up response beside the previous one; `age` in years changes the target.

    Raises InvalidContent for a form without rules or without the answers the rules need.
    """
    form = response.get("questionnaire", "").split("|")[0].rpartition("/")[2]
    judge = _JUDGES.get(form)
    if judge is None:
        raise InvalidContent(_no_rules(form))
    visit = _Visit(response)
    before = _Visit(previous) if previous else None
    return judge(visit, before, age, rules or _rules()[form])


def age_at(patient: Mapping[str, Any], response: Mapping[str, Any]) -> int | None:
    """Return the years of a Patient at the visit; None without a day of birth or of the visit."""
    born = patient.get("birthDate")
    try:
        on = _Visit(response).on
        birthday = datetime.date.fromisoformat(str(born))
    except (InvalidContent, ValueError):
        return None
    had_birthday = (on.month, on.day) >= (birthday.month, birthday.day)
    return on.year - birthday.year - (0 if had_birthday else 1)


def body_mass_index_band(value: float) -> str:
    """Return the band of a BMI: below 18.5, from 18.5, from 24, from 28."""
    bands = sorted(_rules()["bmi"].items(), reverse=True)
    return next(str(text) for least, text in bands if value >= least)


def spirits_of(drink: str, amount: Decimal) -> Decimal:
    """Convert an amount of a drink to the same alcohol in spirits (白酒), both in 两 of 50 g."""
    return amount / Decimal(_rules()["alcohol"][drink])


def _rules() -> Mapping[str, Any]:
    rules: Mapping[str, Any] = read_source("programmes-rules")
    return rules


class _Visit:
    """The answers of one visit by linkId."""

    def __init__(self, response: Mapping[str, Any]) -> None:
        self._answers = answers_of(response.get("item", ()))

    def code(self, link_id: str) -> str | None:
        value = value_of(self._answers.get(link_id, [{}])[0])
        return str(value["code"]) if isinstance(value, Mapping) else None

    def number(self, link_id: str) -> Decimal:
        value = value_of(self._answers.get(link_id, [{}])[0])
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return Decimal(str(value))
        raise InvalidContent(_missing(link_id))

    @property
    def on(self) -> datetime.date:
        value = value_of(self._answers.get("visit-date", [{}])[0])
        try:
            day = datetime.date.fromisoformat(str(value))
        except ValueError:
            raise InvalidContent(_missing("visit-date")) from None
        if day.year > _LAST_YEAR:
            raise InvalidContent(_missing("visit-date"))
        return day


def _hypertension(
    visit: _Visit, before: _Visit | None, age: int | None, rules: Mapping[str, Any]
) -> Assessment:
    systolic, diastolic = visit.number("systolic"), visit.number("diastolic")
    urgent, target = rules["urgent"], rules["target"]
    if age is not None and age >= rules["elderly"]["age"]:
        target = rules["elderly"]
    reading = f"血压 {systolic}/{diastolic} mmHg"
    is_urgent = systolic >= urgent["systolic"] or diastolic >= urgent["diastolic"]
    is_high = systolic >= target["systolic"] or diastolic >= target["diastolic"]
    reasons = [f"{reading}，达到危急值 (urgent)"] if is_urgent else []
    if is_high and not is_urgent:
        reasons.append(f"{reading}，未达控制目标 (above target)")
    return _chronic(visit, before, rules, is_urgent=is_urgent, is_high=is_high, reasons=reasons)


def _diabetes(
    visit: _Visit, before: _Visit | None, _age: int | None, rules: Mapping[str, Any]
) -> Assessment:
    glucose = visit.number("fasting-glucose")
    urgent = rules["urgent"]
    is_urgent = glucose >= Decimal(str(urgent["high"])) or glucose <= Decimal(str(urgent["low"]))
    is_high = glucose >= Decimal(str(rules["target"]["fasting-glucose"]))
    reasons = [f"空腹血糖 {glucose} mmol/L，达到危急值 (urgent)"] if is_urgent else []
    if is_high and not is_urgent:
        reasons.append(f"空腹血糖 {glucose} mmol/L，未达控制目标 (above target)")
    return _chronic(visit, before, rules, is_urgent=is_urgent, is_high=is_high, reasons=reasons)


def _chronic(
    visit: _Visit,
    before: _Visit | None,
    rules: Mapping[str, Any],
    *,
    is_urgent: bool,
    is_high: bool,
    reasons: list[str],
) -> Assessment:
    """Judge what hypertension and diabetes have in common."""
    has_reaction = visit.code("adverse-reaction") == "2"
    has_complication = visit.code("class") == "4"
    was_unsatisfied = before is not None and before.code("class") in UNSATISFIED
    class_code = "4" if has_complication else "2" if is_high or is_urgent else "1"
    if has_reaction and class_code == "1":
        class_code = "3"
    if has_reaction:
        reasons.append("有药物不良反应 (adverse reaction)")
    if has_complication:
        reasons.append("出现新的并发症或原有并发症加重 (complication)")
    twice = class_code in UNSATISFIED and was_unsatisfied
    if twice:
        reasons.append("连续两次不满意 (unsatisfied twice)")
    days = rules["days"]
    wait = days["urgent"] if is_urgent else days["unsatisfied"]
    if class_code == "1" and not is_urgent:
        wait = days["stable"]
    return Assessment(
        programme=rules["programme"],
        class_code=class_code,
        is_urgent=is_urgent,
        refer=is_urgent or twice or has_complication,
        next_due=visit.on + datetime.timedelta(days=wait),
        reasons=tuple(reasons),
    )


def _mental_illness(
    visit: _Visit, before: _Visit | None, _age: int | None, rules: Mapping[str, Any]
) -> Assessment:
    code = visit.code("danger-level")
    if code not in _DANGER_LEVELS:
        raise InvalidContent(_missing("danger-level"))
    level = int(code)
    days = rules["days"]
    is_unstable = level >= rules["unstable-from"] or visit.code("insight") == "3"
    impaired = any(visit.code(f"social-{name}") == "3" for name in ("self", "house", "work"))
    if is_unstable:
        class_code, wait = "1", days["unstable"]
    elif level > rules["stable-at"] or impaired or visit.code("insight") == "2":
        was_basic = before is not None and before.code("class") == "2"
        # Basically stable: two weeks at first, then three months.
        class_code, wait = "2", days["stable"] if was_basic else days["basically-stable"]
    else:
        class_code, wait = "3", days["stable"]
    reasons = [f"危险性 {level} 级 (danger level)"]
    return Assessment(
        programme=rules["programme"],
        class_code=class_code,
        is_urgent=is_unstable,
        refer=is_unstable,
        next_due=visit.on + datetime.timedelta(days=wait),
        reasons=tuple(reasons),
    )


def _tuberculosis(
    visit: _Visit, _before: _Visit | None, _age: int | None, rules: Mapping[str, Any]
) -> Assessment:
    reasons = []
    if visit.code("adverse-reaction") == "2":
        reasons.append("有药物不良反应 (adverse reaction)")
    if visit.code("complication") == "2":
        reasons.append("有并发症或合并症 (complication)")
    refer = bool(reasons)
    wait = rules["days"]["referred" if refer else "regular"]
    next_due: datetime.date | None = visit.on + datetime.timedelta(days=wait)
    if visit.code("stop-reason") is not None:
        rate = visit.number("doses-taken") * 100 / max(visit.number("doses-due"), Decimal(1))
        is_regular = rate >= rules["regular-from"]
        said = "规则服药 (taken regularly)" if is_regular else "未规则服药 (not taken regularly)"
        reasons.append(f"服药率 {rate.quantize(Decimal('0.1'))}%，{said}")
        next_due = None
    return Assessment(
        programme=rules["programme"],
        class_code=None,
        is_urgent=refer,
        refer=refer,
        next_due=next_due,
        reasons=tuple(reasons),
    )


Judge = Callable[[_Visit, _Visit | None, int | None, Mapping[str, Any]], Assessment]
_JUDGES: Mapping[str, Judge] = {
    "phs3-htn-followup": _hypertension,
    "phs3-dm2-followup": _diabetes,
    "phs3-smi-followup": _mental_illness,
    "phs3-tb-followup": _tuberculosis,
}


def _missing(link_id: str) -> Issue:
    return Issue(
        code="required",
        key="programme-incomplete",
        expression="QuestionnaireResponse.item",
        text_en=f"The programme's rule needs an answer to {link_id}",
        text_zh=f"随访规则需要题目 {link_id} 的答案",
        fix_en=f"Answer {link_id} as the form asks.",
        fix_zh=f"请按表单要求填写 {link_id}。",
    )


def _no_rules(form: str) -> Issue:
    return Issue(
        code="not-supported",
        key="programme-no-rules",
        expression="QuestionnaireResponse.questionnaire",
        text_en=f"No programme's rules belong to the form {form!r}",
        text_zh=f"表单 {form!r} 没有对应的随访规则",
        fix_en=f"Assess one of {', '.join(_JUDGES)}.",
        fix_zh=f"可评估的表单：{'、'.join(_JUDGES)}。",
    )
