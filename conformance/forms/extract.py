"""QuestionnaireResponse/$extract: answers as Observation, Condition, medication and programme.

http://hl7.org/fhir/uv/sdc/OperationDefinition/QuestionnaireResponse-extract
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance.cphc import BASE
from conformance.forms.answer_rules import extension_values
from conformance.forms.enabling import answers_of
from conformance.forms.questionnaires import EXTRACT, EXTRACT_AS, LOINC
from conformance.problem import InvalidContent, Issue
from conformance.terminology.concepts import value_of

UCUM = "http://unitsofmeasure.org"
_UNIT = "http://hl7.org/fhir/StructureDefinition/questionnaire-unit"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_VITAL = {
    "8480-6",
    "8462-4",
    "8867-4",
    "9279-1",
    "8310-5",
    "8302-2",
    "29463-7",
    "39156-5",
    "8280-0",
}
_DATES = ("visit-date", "exam-date", "assessed-on", "filled-on", "opened-on")
_PROGRAMMES = {
    "phs3-htn-followup": ("htn", "高血压患者健康管理 (hypertension)"),
    "phs3-dm2-followup": ("dm2", "2型糖尿病患者健康管理 (type 2 diabetes)"),
    "phs3-smi-register": ("smi", "严重精神障碍患者管理 (severe mental illness)"),
    "phs3-tb-first-visit": ("tb", "肺结核患者健康管理 (tuberculosis)"),
    "phs3-antenatal-1": ("pregnancy", "孕产妇健康管理 (pregnancy)"),
}
_PROGRAMME_TYPE = f"{BASE}/CodeSystem/cphc-programme-type"
PRESSURE = ("8480-6", "8462-4")
NONE = "1"  # the option 无 (none) of every list of diseases


def extract(response: Mapping[str, Any], questionnaire: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the resources in an order in which references come after what they point to.

    Raises InvalidContent where the response is about nobody.
    """
    subject = response.get("subject", {})
    if "reference" not in subject:
        raise InvalidContent(
            Issue(
                code="required",
                key="extract-without-subject",
                expression="QuestionnaireResponse.subject",
                text_en="The response says of nobody that these are their answers",
                text_zh="答卷没有指明是谁的答案",
                fix_en="Set QuestionnaireResponse.subject to the Patient.",
                fix_zh="请将 QuestionnaireResponse.subject 设为该居民。",
            )
        )
    extraction = _Extraction(response, subject)
    form = questionnaire.get("id", "")
    found = list(extraction.observations(questionnaire.get("item", ())))
    found += extraction.groups(questionnaire.get("item", ()), response.get("item", ()))
    if form in _PROGRAMMES:
        found.append(extraction.episode(*_PROGRAMMES[form], form))
    return found


class _Extraction:
    """One response while it is being read."""

    def __init__(self, response: Mapping[str, Any], subject: Mapping[str, Any]) -> None:
        self.answers = answers_of(response.get("item", ()))
        self.subject = subject
        self.source = f"QuestionnaireResponse/{response['id']}" if "id" in response else None
        dates = (value_of(self.answers[name][0]) for name in _DATES if name in self.answers)
        self.on = next((str(date) for date in dates if date), response.get("authored"))

    def observations(self, questions: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield an Observation for each coded answer; both pressures together make one."""
        pressures: dict[str, dict[str, Any]] = {}
        for question in _every(questions):
            if not extension_values(question, EXTRACT) or not question.get("code"):
                continue
            if question["linkId"] not in self.answers:
                continue
            code = question["code"][0]
            value = self._value(question, self.answers[question["linkId"]][0])
            if code["code"] in PRESSURE:
                pressures.setdefault(code["code"], {"code": {"coding": [code]}, **value})
            else:
                yield self._observation({**code, "display": question["text"]}, value)
        if len(pressures) == len(PRESSURE):
            panel = {"system": LOINC, "code": "85354-9", "display": "血压 (blood pressure)"}
            yield self._observation(panel, {"component": [pressures[code] for code in PRESSURE]})

    def groups(
        self, questions: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yield a Condition or MedicationStatement for each answer that stands for one."""
        kinds = {
            question["linkId"]: kind
            for question in _every(questions)
            for kind in extension_values(question, EXTRACT_AS)
        }
        for item in _every(items):
            kind = kinds.get(item["linkId"])
            for answer in item.get("answer", ()) if kind else ():
                made = self._condition(answer) if kind == "condition" else self._medication(answer)
                if made:
                    yield made

    def episode(self, code: str, title: str, form: str) -> dict[str, Any]:
        """Return the programme the resident is in; one for each form's programme."""
        return self._about(
            "EpisodeOfCare",
            "patient",
            {
                "identifier": [
                    {"system": "urn:qiao:programme", "value": f"{form}|{self.subject['reference']}"}
                ],
                "status": "active",
                "type": [{"coding": [{"system": _PROGRAMME_TYPE, "code": code}], "text": title}],
                **({"period": {"start": self.on}} if self.on else {}),
            },
        )

    def _value(self, question: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
        value = value_of(answer)
        units = extension_values(question, _UNIT)
        if isinstance(value, Mapping):
            return {"valueCodeableConcept": {"coding": [value], "text": value.get("display")}}
        if question["type"] in ("integer", "decimal"):
            unit = units[0]["code"] if units else "1"
            quantity = {"value": value, "unit": unit, "system": UCUM, "code": unit}
            return {"valueQuantity": quantity}
        if question["type"] in ("date", "dateTime"):
            return {"valueDateTime": value}
        return {"valueString": str(value)}

    def _observation(self, code: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
        is_vital = code["code"] in _VITAL or code["code"] == "85354-9"
        category = {"system": _CATEGORY, "code": "vital-signs" if is_vital else "exam"}
        observation: dict[str, Any] = {
            "status": "final",
            "category": [{"coding": [category]}],
            "code": {"coding": [code]},
            **value,
        }
        if self.source:
            observation["derivedFrom"] = [{"reference": self.source}]
        if self.on:
            observation["effectiveDateTime"] = self.on
        return self._about("Observation", "subject", observation)

    def _condition(self, answer: Mapping[str, Any]) -> dict[str, Any] | None:
        value = value_of(answer)
        if isinstance(value, Mapping) and value.get("code") == NONE:
            return None
        code = {"coding": [value]} if isinstance(value, Mapping) else {"text": str(value)}
        clinical = "http://terminology.hl7.org/CodeSystem/condition-clinical"
        condition: dict[str, Any] = {
            "clinicalStatus": {"coding": [{"system": clinical, "code": "active"}]},
            "code": code,
        }
        if self.on:
            condition["recordedDate"] = self.on
        return self._about("Condition", "subject", condition)

    def _medication(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        statement: dict[str, Any] = {
            "status": "active",
            "medicationCodeableConcept": {"text": str(value_of(answer))},
        }
        if self.source:
            statement["derivedFrom"] = [{"reference": self.source}]
        if self.on:
            statement["effectiveDateTime"] = self.on
        return self._about("MedicationStatement", "subject", statement)

    def _about(self, type_: str, role: str, content: Mapping[str, Any]) -> dict[str, Any]:
        return {"resourceType": type_, **content, role: dict(self.subject)}


def _every(items: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for item in items:
        yield item
        yield from _every(item.get("item", ()))
        for answer in item.get("answer", ()):
            yield from _every(answer.get("item", ()))
