"""Questionnaire/$populate: a response begun from the resident's record and the previous one.

http://hl7.org/fhir/uv/sdc/OperationDefinition/Questionnaire-populate. Nothing that was recorded
is changed: the result is a new response in progress, for a person to look through.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance import fhirpath
from conformance.forms.answer_rules import ALLOWED
from conformance.forms.options import read_source
from conformance.terminology.members import canonical_of

# The record's answers are texts and days; a form of somebody else may ask otherwise by that linkId.
_WRITTEN = ("string", "text", "date")


def populate(
    questionnaire: Mapping[str, Any],
    patient: Mapping[str, Any],
    previous: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a QuestionnaireResponse `in-progress` with the answers that are known already."""
    before = {item["linkId"]: item for item in _every((previous or {}).get("item", ()))}
    response: dict[str, Any] = {"resourceType": "QuestionnaireResponse", "status": "in-progress"}
    if "url" in questionnaire:
        response["questionnaire"] = canonical_of(questionnaire)
    if "id" in patient:
        response["subject"] = {"reference": f"Patient/{patient['id']}"}
    items = list(_items(questionnaire.get("item", ()), patient, before))
    if items:
        response["item"] = items
    return response


def _every(items: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for item in items:
        yield item
        yield from _every(item.get("item", ()))


def _items(
    questions: Sequence[Mapping[str, Any]],
    patient: Mapping[str, Any],
    before: Mapping[str, Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    sources = _sources()
    for question in questions:
        name = question["linkId"]
        if name in sources["carried"] and name in before:
            yield dict(before[name])
            continue
        if "item" in question:
            inner = list(_items(question["item"], patient, before))
            if inner:
                yield {"linkId": name, "item": inner}
            continue
        expression = sources["patient"].get(name)
        found = fhirpath.evaluate(expression, patient) if expression else []
        if found:
            answer = _answer(question, found[0])
            if answer:
                yield {"linkId": name, "answer": [answer]}


def _answer(question: Mapping[str, Any], value: Any) -> dict[str, Any] | None:
    if question["type"] == "choice":
        options = (option["valueCoding"] for option in question.get("answerOption", ()))
        chosen = next((coding for coding in options if coding.get("code") == str(value)), None)
        return {"valueCoding": chosen} if chosen else None
    if question["type"] not in _WRITTEN:
        return None
    (name,) = ALLOWED[question["type"]]
    return {name: str(value)}


def _sources() -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_source("populate")
    return found
