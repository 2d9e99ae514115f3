"""QuestionnaireResponse/$score: totals, bands, constitutions and flags of the scales.

Thresholds stand in `sources/scores.yaml` and may be overridden by the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.forms.enabling import answers_of
from conformance.forms.options import read_source
from conformance.forms.questionnaires import ORDINAL, questionnaires
from conformance.problem import InvalidContent, Issue
from conformance.terminology.concepts import value_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a scale says: raw and standard total, its band, parts by name, and flags to act on."""

    form: str
    raw: int
    total: int
    band: str
    parts: Mapping[str, tuple[int, str]]
    flags: Mapping[str, str]


def score(response: Mapping[str, Any], *, thresholds: Mapping[str, int] | None = None) -> Score:
    """Score a response of a known scale; raises InvalidContent for another form or a gap."""
    form = response.get("questionnaire", "").split("|")[0].rpartition("/")[2]
    rule = _rules().get(form)
    if rule is None:
        raise InvalidContent(_issue_no_scale(form))
    points = _points(form, response)
    if "constitutions" in rule:
        return _constitution(form, rule, points, {**rule["thresholds"], **(thresholds or {})})
    return _total(form, rule, points)


def scales() -> Sequence[str]:
    """Return the ids of the forms that can be scored."""
    return tuple(_rules())


def _rules() -> Mapping[str, Any]:
    rules: Mapping[str, Any] = read_source("scores")
    return rules


def _points(form: str, response: Mapping[str, Any]) -> dict[str, int]:
    """Return the score of each answer, by the option of the form, not by what the response says."""
    worth = {
        (item["linkId"], option["valueCoding"]["code"]): value_of(
            option["valueCoding"]["extension"][0]
        )
        for item in questionnaires()[form]["item"]
        for option in item.get("answerOption", ())
        if option["valueCoding"].get("extension", [{}])[0].get("url") == ORDINAL
    }
    found = {}
    for link_id, answers in answers_of(response.get("item", ())).items():
        coding = value_of(answers[0])
        code = coding.get("code") if isinstance(coding, Mapping) else None
        if (link_id, code) in worth:
            found[link_id] = worth[(link_id, code)]
    return found


def _require(points: Mapping[str, int], items: Sequence[str], form: str) -> None:
    missing = [name for name in items if name not in points]
    if missing:
        raise InvalidContent(
            Issue(
                code="required",
                key="score-incomplete",
                text_en=f"The scale {form} lacks answers to {', '.join(missing)}",
                text_zh=f"量表 {form} 缺少题目 {', '.join(missing)} 的答案",
                fix_en="Answer every item before scoring.",
                fix_zh="请答完全部题目后再计分。",
                expression="QuestionnaireResponse.item",
            )
        )


def _total(form: str, rule: Mapping[str, Any], points: Mapping[str, int]) -> Score:
    items = rule["items"]
    _require(points, items, form)
    turned = rule.get("reverse", ())
    start = rule.get("reverse-from", 0)
    raw = sum(start - points[name] if name in turned else points[name] for name in items)
    total = int(raw * rule.get("factor", 1))  # the scales take the integer part
    band = next(
        text for least, text in sorted(rule["bands"].items(), reverse=True) if total >= least
    )
    flags = {
        flag["key"]: flag["text"]
        for name, flag in rule.get("flags", {}).items()
        if points[name] >= flag["least"]
    }
    return Score(form=form, raw=raw, total=total, band=band, parts={}, flags=flags)


def _constitution(
    form: str, rule: Mapping[str, Any], points: Mapping[str, int], thresholds: Mapping[str, int]
) -> Score:
    """Judge the nine constitutions of the 33-item questionnaire."""
    balanced = rule["balanced"]
    _require(points, sorted({n for items in rule["constitutions"].values() for n in items}), form)
    _require(points, balanced["items"], form)
    parts: dict[str, tuple[int, str]] = {}
    for name, items in rule["constitutions"].items():
        total = sum(points[item] for item in items)
        is_biased, is_tending = total >= thresholds["biased"], total >= thresholds["tending"]
        parts[name] = (total, "是" if is_biased else "倾向是" if is_tending else "否")
    highest = max(total for total, _ in parts.values())
    start = balanced["reverse-from"]
    own = sum(
        start - points[item] if item in balanced["reverse"] else points[item]
        for item in balanced["items"]
    )
    verdict = "否"
    if own >= thresholds["balanced"]:
        if highest <= thresholds["balanced-others"]:
            verdict = "是"
        elif highest <= thresholds["mostly-balanced-others"]:
            verdict = "基本是"
    parts[balanced["name"]] = (own, verdict)
    clear = [name for name, (_, judged) in parts.items() if judged in ("是", "基本是")]
    return Score(
        form=form, raw=own, total=own, band="、".join(clear) or "无明确体质", parts=parts, flags={}
    )


def _issue_no_scale(form: str) -> Issue:
    known = ", ".join(_rules())
    return Issue(
        code="not-supported",
        key="score-no-scale",
        text_en=f"The form {form!r} is no scale",
        text_zh=f"表单 {form!r} 不是量表",
        fix_en=f"Score one of {known}.",
        fix_zh=f"可计分的量表：{known}。",
        expression="QuestionnaireResponse.questionnaire",
    )
