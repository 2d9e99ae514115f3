"""The national forms as Questionnaire resources, built from readable rows in `sources/`.

A row is [linkId, type, Chinese text, English text, {more}]. Types: those of FHIR, `choices` for
several, `!` required, `*` repeating. `options` is a list of options.yaml or such a list itself;
`when` is another answer (`smoking=3`, `age-month=6 8` for either, `smoking!=1`, `death-on?`);
`calculate` FHIRPath with `[linkId]` for an answer; `sum` adds the scores of answers; `observe` a
LOINC code to extract.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from conformance.cphc import BASE
from conformance.forms.options import BrokenForm, options_of, read_source, shared_lists

VERSION = "3.0"  # third edition of the national specification, 2017
FILES = ("records", "programmes", "mother-and-child", "scales", "activities")
LOINC = "http://loinc.org"
ORDINAL = "http://hl7.org/fhir/StructureDefinition/ordinalValue"
CALCULATED = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-calculatedExpression"
EXTRACT = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-observationExtract"
EXTRACT_AS = f"{BASE}/StructureDefinition/cphc-form-extract"
ENGLISH = "http://hl7.org/fhir/StructureDefinition/translation"
_FHIR = "http://hl7.org/fhir/StructureDefinition/"

_WHEN = re.compile(r"^(?P<question>[a-z0-9-]+?)(?P<operator>!?=|\?)(?P<value>.*)$")
_VALUE_TYPES = {"integer": "valueInteger", "decimal": "valueDecimal"}


@functools.cache
def questionnaires() -> Mapping[str, dict[str, Any]]:
    """Return every form by its id."""
    forms: dict[str, dict[str, Any]] = {}
    for name in FILES:
        for source in read_source(name):
            forms[source["id"]] = _Form(source).build()
    return forms


class Difference(NamedTuple):
    """Questions whose options are not those of the requirements' page, and why."""

    form: str
    questions: tuple[str, ...]
    page: str
    reason: str
    seen: str


def differences() -> list[Difference]:
    """Return where a form departs on purpose from the page that lists the forms."""
    return [
        Difference(one["form"], tuple(one["questions"]), one["page"], one["reason"],
                   str(one["seen"]))
        for one in read_source("differences")
    ]  # fmt: skip


class _Form:
    """One form while it is being built; remembers each question, for conditions and sums."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self.source = source
        self.id = source["id"]
        self.systems: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self.scores: dict[str, list[tuple[str, int]]] = {}

    def build(self) -> dict[str, Any]:
        """Return the Questionnaire."""
        parts = read_source("parts")
        rows = [
            *self.source["items"],
            *(r for n in self.source.get("include", ()) for r in parts[n]),
        ]
        self._note(rows)
        title = self.source["title"]
        url = f"{BASE}/Questionnaire/{self.id}"
        rights = {"copyright": self.source["copyright"]} if "copyright" in self.source else {}
        return {
            "resourceType": "Questionnaire",
            "id": self.id,
            "extension": [
                {
                    "url": f"{BASE}/StructureDefinition/cphc-confidence",
                    "valueCode": self.source.get("confidence", "secondary"),
                }
            ],
            "url": url,
            "version": VERSION,
            "name": "".join(part.capitalize() for part in self.id.split("-")),
            "title": title["zh"],
            "_title": _translated(title["en"]),
            "status": "active",
            "subjectType": [self.source.get("subject", "Patient")],
            **rights,
            "item": [item for row in rows for item in self._items(row)],
        }

    def _note(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            name, kind, more = row[0], row[1].rstrip("!*"), row[4] if len(row) > 4 else {}
            if name in self.types:
                raise BrokenForm(f"{self.id}: the linkId {name} stands twice")
            self.types[name] = kind
            if kind in ("choice", "choices"):
                options = more["options"]
                is_shared = options in shared_lists()
                key = f"phs3-{options}" if is_shared else f"{self.id}-{name}"
                self.systems[name] = f"{BASE}/CodeSystem/{key}"
                self.scores[name] = [
                    (option.code, option.score)
                    for option in options_of(options)
                    if option.score is not None
                ]
            self._note(more.get("items", ()))

    def _items(self, row: Sequence[Any]) -> Iterator[dict[str, Any]]:
        name, kind, text, english = row[:4]
        more = row[4] if len(row) > 4 else {}
        plain = kind.rstrip("!*")
        item: dict[str, Any] = {
            "linkId": name,
            "text": text,
            "_text": _translated(english),
            "type": "choice" if plain == "choices" else plain,
        }
        if "when" in more:
            item["enableWhen"] = self._conditions(name, more["when"])
            if len(item["enableWhen"]) > 1:
                item["enableBehavior"] = "any"
        if "!" in kind:
            item["required"] = True
        if "*" in kind or plain == "choices":
            item["repeats"] = True
        if extensions := self._extensions(item["type"], more):
            item["extension"] = extensions
        if "calculate" in more or "sum" in more:
            item["readOnly"] = True
        if plain == "string" and "max" in more:
            item["maxLength"] = more["max"]
        if "observe" in more:
            item["code"] = [{"system": LOINC, "code": more["observe"]}]
        if plain in ("choice", "choices"):
            item["answerOption"] = list(self._answer_options(name, more))
        if "items" in more:
            item["item"] = [inner for r in more["items"] for inner in self._items(r)]
        yield item
        if plain in ("choice", "choices"):
            yield from self._texts_of_options(name, more)

    def _extensions(self, kind: str, more: Mapping[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if kind in _VALUE_TYPES:
            for name, url in (("min", "minValue"), ("max", "maxValue")):
                if name in more:
                    found.append({"url": _FHIR + url, _VALUE_TYPES[kind]: more[name]})
        if "unit" in more:
            unit = {"system": "http://unitsofmeasure.org", "code": more["unit"]}
            found.append({"url": f"{_FHIR}questionnaire-unit", "valueCoding": unit})
        if "most" in more:
            found.append({"url": f"{_FHIR}questionnaire-maxOccurs", "valueInteger": more["most"]})
        expression = self._expression(more)
        if expression:
            value = {"language": "text/fhirpath", "expression": expression}
            found.append({"url": CALCULATED, "valueExpression": value})
        if "observe" in more:
            found.append({"url": EXTRACT, "valueBoolean": True})
        for name in ("condition", "medication"):
            if more.get(name):
                found.append({"url": EXTRACT_AS, "valueCode": name})
        return found

    def _expression(self, more: Mapping[str, Any]) -> str | None:
        if "sum" in more:
            return " + ".join(self._score_expression(name) for name in str(more["sum"]).split())
        if "calculate" in more:
            return re.sub(
                r"\[([a-z0-9-]+)\]",
                r"%resource.repeat(item).where(linkId='\1').answer.value",
                more["calculate"],
            )
        return None

    def _score_expression(self, name: str) -> str:
        """Return FHIRPath for the score of an answer; empty while it is missing."""
        scores = self.scores[name]
        chain = str(scores[-1][1])
        for code, score in reversed(scores[:-1]):
            chain = f"iif(code='{code}', {score}, {chain})"
        return f"%resource.repeat(item).where(linkId='{name}').answer.value.select({chain})"

    def _conditions(self, name: str, text: str) -> list[dict[str, Any]]:
        """Return a condition for each code of `age-month=6 8`, one of which has to hold."""
        first, *others = str(text).split()
        question = first.partition("=")[0]
        return [self._condition(name, first)] + [
            self._condition(name, f"{question}={code}") for code in others
        ]

    def _condition(self, name: str, text: str) -> dict[str, Any]:
        match = _WHEN.match(text)
        if match is None or match["question"] not in self.types:
            raise BrokenForm(f"{self.id}, {name}: there is no question for the condition {text!r}")
        question, operator = match["question"], match["operator"]
        if operator == "?":
            return {"question": question, "operator": "exists", "answerBoolean": True}
        coding = {"system": self.systems[question], "code": match["value"]}
        return {"question": question, "operator": operator, "answerCoding": coding}

    def _answer_options(self, name: str, more: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        alone = more.get("alone", "").split()
        for code, label, score, _ in options_of(more["options"]):
            coding: dict[str, Any] = {"system": self.systems[name], "code": code, "display": label}
            if score is not None:
                coding = {"extension": [{"url": ORDINAL, "valueDecimal": score}], **coding}
            option: dict[str, Any] = {"valueCoding": coding}
            if code in alone:
                url = f"{_FHIR}questionnaire-optionExclusive"
                option = {"extension": [{"url": url, "valueBoolean": True}], **option}
            yield option

    def _texts_of_options(self, name: str, more: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Give each option that takes a text its own question below."""
        for code, label, _, takes_text in options_of(more["options"]):
            if takes_text:
                yield {
                    "linkId": f"{name}-{code}-text",
                    "text": f"{label}（说明）",
                    "_text": _translated("please specify"),
                    "type": "string",
                    "enableWhen": [self._condition(name, f"{name}={code}")],
                }


def _translated(english: str) -> dict[str, Any]:
    return {
        "extension": [
            {
                "url": ENGLISH,
                "extension": [
                    {"url": "lang", "valueCode": "en"},
                    {"url": "content", "valueString": english},
                ],
            }
        ]
    }


def translation_of(element: Mapping[str, Any]) -> str:
    """Return the English of a text, as it stands beside the Chinese one."""
    return str(element["extension"][0]["extension"][1]["valueString"])
