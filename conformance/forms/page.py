"""The forms as a page to read beside the paper."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance.forms.answer_rules import extension_values
from conformance.forms.questionnaires import (
    CALCULATED,
    differences,
    questionnaires,
    translation_of,
)

_FHIR = "http://hl7.org/fhir/StructureDefinition/"
HEAD = """# National forms

Rendered from the Questionnaires by `qiao forms`; compare each form with the paper row by row.
The fields come from secondary copies of 国家基本公共卫生服务规范（第三版）, the psychological
scales from general knowledge: before certifying, compare with the official text. `!` is a required
field, `*` one that repeats.
"""


def page() -> str:
    """Return all forms as Markdown."""
    forms = (line for form in questionnaires().values() for line in _form(form))
    return "\n".join([HEAD, *forms, *_differences()])


def _differences() -> Iterator[str]:
    yield "\n## Where a form departs from the list of requirements\n"
    yield "For a person to decide with the printed form in hand.\n"
    yield "| form | questions | the list has | reason | seen |"
    yield "|---|---|---|---|---|"
    for one in differences():
        questions = ", ".join(f"`{name}`" for name in one.questions)
        yield f"| `{one.form}` | {questions} | {one.page} | {one.reason} | {one.seen} |"


def _form(form: Mapping[str, Any]) -> Iterator[str]:
    english = translation_of(form["_title"])
    yield f"\n## {form['title']} ({english})\n"
    yield f"`{form['id']}`, version {form['version']}\n"
    if "copyright" in form:
        yield f"{form['copyright']}\n"
    yield "| linkId | field | type | options, range, condition |"
    yield "|---|---|---|---|"
    yield from _rows(form["item"], 0)


def _rows(items: Sequence[Mapping[str, Any]], depth: int) -> Iterator[str]:
    for item in items:
        marks = ("!" if item.get("required") else "") + ("*" if item.get("repeats") else "")
        name = f"{'— ' * depth}{item['text']} ({translation_of(item['_text'])})"
        cells = (f"`{item['linkId']}`", name, item["type"] + marks, "; ".join(_notes(item)))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        yield from _rows(item.get("item", ()), depth + 1)


def _notes(item: Mapping[str, Any]) -> Iterator[str]:
    options = [option["valueCoding"] for option in item.get("answerOption", ())]
    if options:
        yield " ".join(f"{o['code']}{o['display']}{_score(o)}" for o in options)
    low = extension_values(item, f"{_FHIR}minValue")
    high = extension_values(item, f"{_FHIR}maxValue")
    if low or high:
        yield f"{low[0] if low else ''}–{high[0] if high else ''}"
    for unit in extension_values(item, f"{_FHIR}questionnaire-unit"):
        yield unit["code"]
    if conditions := [_condition(one) for one in item.get("enableWhen", ())]:
        joint = " or " if item.get("enableBehavior") == "any" else " and "
        yield "when " + joint.join(conditions)
    if extension_values(item, CALCULATED):
        yield "calculated"


def _condition(condition: Mapping[str, Any]) -> str:
    value = condition.get("answerCoding", {}).get("code", "")
    operator = "is answered" if condition["operator"] == "exists" else condition["operator"]
    return f"`{condition['question']}` {operator} {value}".rstrip()


def _score(coding: Mapping[str, Any]) -> str:
    scores = [e["valueDecimal"] for e in coding.get("extension", ())]
    return f"({scores[0]})" if scores else ""
