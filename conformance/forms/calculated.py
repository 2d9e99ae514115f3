"""Answers that the form calculates, compared with what the other answers give.

http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-calculatedExpression
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from conformance import fhirpath
from conformance.forms.answer_rules import extension_values
from conformance.forms.questionnaires import CALCULATED
from conformance.problem import Issue, Problem
from conformance.terminology.concepts import value_of

_MOST = 50  # calculated questions of one form that are looked at
_LIMITS = fhirpath.Limits(steps=200_000)


def check_calculated(
    response: Mapping[str, Any], questionnaire: Mapping[str, Any]
) -> Iterator[Issue]:
    """Yield a warning for each answer that differs from what its expression gives.

    An expression that gives nothing, more than one value or a refusal says nothing of the answer.
    """
    expressions = dict(_expressions(questionnaire.get("item", ())))
    for place, item in _items(response.get("item", ()), "QuestionnaireResponse"):
        expression = expressions.get(item.get("linkId", ""))
        answers = item.get("answer", ())
        if expression is None or len(answers) != 1:
            continue
        expected = _calculated(expression, response)
        if len(expected) == 1 and not _is_same(value_of(answers[0]), expected[0]):
            yield _differs(item["linkId"], f"{place}.answer[0].value")


def _expressions(questions: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    waiting = list(questions)
    while waiting and len(found) < _MOST:
        question = waiting.pop()
        waiting += question.get("item", ())
        for calculated in extension_values(question, CALCULATED):
            text = calculated.get("expression") if isinstance(calculated, Mapping) else None
            if isinstance(text, str) and calculated.get("language") == "text/fhirpath":
                found.append((question["linkId"], text))
    return found


def _items(
    items: Sequence[Mapping[str, Any]], place: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    waiting = [(f"{place}.item[{number}]", item) for number, item in enumerate(items)]
    while waiting:
        here, item = waiting.pop(0)
        yield here, item
        inner = [(f"{here}.item[{n}]", one) for n, one in enumerate(item.get("item", ()))]
        for number, answer in enumerate(item.get("answer", ())):
            inside = f"{here}.answer[{number}]"
            inner += [(f"{inside}.item[{n}]", one) for n, one in enumerate(answer.get("item", ()))]
        waiting = inner + waiting


def _calculated(expression: str, response: Mapping[str, Any]) -> list[Any]:
    try:
        return fhirpath.evaluate(expression, response, limits=_LIMITS)
    except Problem:
        return []


def _is_same(answer: Any, expected: Any) -> bool:
    one, other = _number(answer), _number(expected)
    if one is None or other is None:
        return bool(answer == expected)
    return one == other


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _differs(name: str, place: str) -> Issue:
    return Issue(
        severity="warning",
        code="business-rule",
        key="form-calculated",
        expression=place,
        text_en=f"The answer to {name} is not what the form calculates from the other answers",
        text_zh=f"题目 {name} 的答案与表单按其他答案算得的结果不符",
        fix_en="Leave the item out, or give what its calculatedExpression gives.",
        fix_zh="请去掉该题目，或填写 calculatedExpression 算得的值。",
    )
