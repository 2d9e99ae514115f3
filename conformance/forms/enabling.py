"""Which questions are asked: `enableWhen` over the answers given so far.

https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from conformance.terminology.concepts import value_of


class Answers(Protocol):
    """Answers by linkId."""

    def get(self, name: str, default: Any = ..., /) -> Sequence[Mapping[str, Any]]:
        """Return the answers to a question."""


def answers_of(items: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return every answer in a response by linkId, however deep."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    waiting = list(items)
    while waiting:
        item = waiting.pop(0)
        waiting.extend(item.get("item", ()))
        for answer in item.get("answer", ()):
            waiting.extend(answer.get("item", ()))
            found.setdefault(item.get("linkId", ""), []).append(answer)
    return found


def is_enabled(question: Mapping[str, Any], answers: Answers) -> bool:
    """Say whether the question applies; one without `enableWhen` always does."""
    conditions = question.get("enableWhen", ())
    if not conditions:
        return True
    met = (_is_met(condition, answers) for condition in conditions)
    return any(met) if question.get("enableBehavior") == "any" else all(met)


def _is_met(condition: Mapping[str, Any], answers: Answers) -> bool:
    given = [value_of(answer) for answer in answers.get(condition["question"], ())]
    expected = next((v for k, v in condition.items() if k.startswith("answer")), None)
    operator = condition["operator"]
    if operator == "exists":
        return bool(given) == bool(expected)
    if operator == "!=":
        return bool(given) and not any(same(value, expected) for value in given)
    if operator == "=":
        return any(same(value, expected) for value in given)
    return any(_compares(value, operator, expected) for value in given)


def same(a: Any, b: Any) -> bool:
    """Say whether two answers are the same value; a Coding by system and code."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        names = ("system", "code") if "code" in b else ("value", "reference")
        return all(a.get(name) == b.get(name) for name in names)
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _compares(value: Any, operator: str, expected: Any) -> bool:
    left: Any = _ordered(value)
    right: Any = _ordered(expected)
    if left is None or type(left) is not type(right):
        return False
    if operator in (">", ">="):
        return bool(left > right or (operator == ">=" and left == right))
    return bool(left < right or (operator == "<=" and left == right))


def _ordered(value: Any) -> Decimal | str | None:
    if isinstance(value, Mapping):
        value = value.get("value")
    if isinstance(value, bool) or value is None:
        return None
    return Decimal(str(value)) if isinstance(value, int | float | Decimal) else str(value)
