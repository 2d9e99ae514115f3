"""R4's constraints: all compile, all hold on the official examples, broken ones are told."""

import functools
import itertools
import pathlib
from typing import Any

import pytest

from conformance import fhirpath, invariants, resource_json
from conformance.fhirpath import Node, model
from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.evaluation import truth
from conformance.fhirpath.parser import parse
from conformance.fhirpath.scope import Scope
from conformance.r4 import tables


@functools.cache
def examples(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    files = sorted((folder / "r4-examples").glob("*.json"))
    return {file.name: resource_json.parse(file.read_bytes()) for file in files}


def keys_of(resource: dict[str, Any], severity: str = "error") -> list[str]:
    return [issue.key for issue in invariants.check(resource) if issue.severity == severity]


def test_every_constraint_of_r4_compiles() -> None:
    count = 0
    for name, info in tables.load().types.items():
        count += len(invariants.rules_of(name))
        for inner, element in info.elements.items():
            if element.types and inner in info.children:
                count += len(invariants.rules_of(element.path))
            for constraint in element.constraints:
                invariants.rule_of(constraint, name)
    assert count > 200


def test_no_official_example_breaks_a_constraint(shared_data: pathlib.Path) -> None:
    broken = {
        name: [issue.key for issue in issues]
        for name, resource in examples(shared_data).items()
        if (issues := [i for i in invariants.check(resource) if i.severity != "warning"])
    }
    assert broken == {}


def test_the_direct_way_and_the_engine_give_the_same_verdicts(shared_data: pathlib.Path) -> None:
    compared = 0
    for resource in examples(shared_data).values():
        root = Node(resource, resource["resourceType"])
        for node in [root, *fhirpath.compile("descendants()").nodes(root)]:
            if not isinstance(node.value, dict) or model.is_resource(node.type) != (node is root):
                continue
            for rule in invariants.rules_of(node.type):
                closure = Compiler(as_filters=True).expression(parse(rule.expression))
                scope = Scope(resource)
                scope.context = (node.value, node.type)
                slow = truth(scope.evaluate(closure, node.value, node.type), "it")
                assert rule.test(node.value, scope) == slow, (rule.key, node.place)
                compared += 1
        if compared > 20_000:
            break
    assert compared > 10_000


def test_search_expressions_give_the_same_values_both_ways(shared_data: pathlib.Path) -> None:
    by_type: dict[str, set[str]] = {}
    for parameter in tables.load().search_parameters:
        for base in parameter.bases:
            by_type.setdefault(base, set()).add(parameter.expression or "{}")
    direct = 0
    for resource in examples(shared_data).values():
        for expression in by_type.get(resource["resourceType"], ()):
            compiled = fhirpath.compile(expression, as_filters=True)
            slow = [n.value if isinstance(n, Node) else n for n in compiled.nodes(resource)]
            assert compiled.evaluate(resource) == [v for v in slow if v is not None], expression
            direct += compiled.direct(resource["resourceType"]) is not None
    assert direct > 10_000


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "pat-1": ({"resourceType": "Patient", "contact": [{"gender": "male"}]}, "Patient.contact[0]"),
    "per-1": (
        {"resourceType": "Patient", "name": [{"period": {"start": "2020-02", "end": "2020-01"}}]},
        "Patient.name[0].period",
    ),
    "cpt-2": (
        {"resourceType": "Patient", "telecom": [{"value": "0"}]},
        "Patient.telecom[0]",
    ),
    "obs-6": (
        {
            "resourceType": "Observation", "valueString": "x",
            "dataAbsentReason": {"text": "y"},
        },
        "Observation",
    ),
    "obs-7": (
        {
            "resourceType": "Observation", "valueString": "x",
            "code": {"coding": [{"system": "s", "code": "c"}]},
            "component": [{"code": {"coding": [{"system": "s", "code": "c"}]}}],
        },
        "Observation",
    ),
    "bdl-7": (
        {
            "resourceType": "Bundle", "type": "collection",
            "entry": [{"fullUrl": "u", "resource": {"resourceType": "Basic"}}] * 2,
        },
        "Bundle",
    ),
    "bdl-2": (
        {"resourceType": "Bundle", "type": "collection", "entry": [{"search": {"mode": "match"}}]},
        "Bundle",
    ),
    "nsd-2": (
        {
            "resourceType": "NamingSystem",
            "uniqueId": [{"type": "oid", "value": v, "preferred": True} for v in ("1", "2")],
        },
        "NamingSystem",
    ),
    "bdl-8": (
        {"resourceType": "Bundle", "entry": [{"fullUrl": "http://x/Basic/1/_history/2"}]},
        "Bundle.entry[0]",
    ),
    "qty-3": (
        {"resourceType": "Observation", "valueQuantity": {"code": "kg"}},
        "Observation.value.ofType(Quantity)",
    ),
    "age-1": (
        {"resourceType": "Condition", "onsetAge": {"value": -1, "code": "a"}},
        "Condition.onset.ofType(Age)",
    ),
    "que-2": (
        {"resourceType": "Questionnaire", "item": [{"linkId": "1"}, {"linkId": "1"}]},
        "Questionnaire",
    ),
    "que-7": (
        {
            "resourceType": "Questionnaire",
            "item": [{"linkId": "1", "enableWhen": [{"operator": "exists", "answerInteger": 1}]}],
        },
        "Questionnaire.item[0].enableWhen[0]",
    ),
    "org-1": ({"resourceType": "Organization", "active": True}, "Organization"),
    "nsd-0": ({"resourceType": "NamingSystem", "name": "a b"}, "NamingSystem"),
    "cpb-12": (
        {
            "resourceType": "CapabilityStatement",
            "rest": [{"resource": [{"searchParam": [{"name": "a"}, {"name": "a"}]}]}],
        },
        "CapabilityStatement.rest[0].resource[0]",
    ),
    "ras-2": (
        {"resourceType": "RiskAssessment", "prediction": [{"probabilityDecimal": 101}]},
        "RiskAssessment.prediction[0]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("key", BROKEN)
def test_a_broken_rule_is_told_with_its_place(key: str) -> None:
    resource, place = BROKEN[key]
    issue = next(issue for issue in invariants.check(resource) if issue.key == key)
    assert issue.expression == place
    severity = "warning" if key == "nsd-0" else "error"
    assert (issue.severity, issue.code) == (severity, "invariant")
    assert issue.fix_en
    assert issue.fix_zh


def test_a_contained_resource_is_judged_as_a_resource_of_its_own() -> None:
    contained = {"resourceType": "Patient", "contact": [{"gender": "male"}]}
    resource = {"resourceType": "Observation", "contained": [contained]}
    issue = next(issue for issue in invariants.check(resource) if issue.key == "pat-1")
    assert issue.expression == "Observation.contained[0].contact[0]"


def test_extensions_of_primitives_are_judged() -> None:
    period = {"url": "u", "valuePeriod": {"start": "2020-02", "end": "2020-01"}}
    resource = {"resourceType": "Patient", "_birthDate": {"extension": [period]}}
    assert "per-1" in keys_of(resource)


MOMENTS = [
    "2020", "2021", "2020-01", "2020-02", "2020-01-31", "2020-02-01", "2020-01-31T23:00:00Z",
    "2020-02-01T01:00:00Z", "2020-02-01T01:00:00.5Z", "2020-02-01T01:00:00.25Z",
    "2020-02-01T01:00:00+08:00", "2020-02-01T02:00:00+08:00", "2020-02-01T01:00:00-05:00",
    "2020-02-01T01:00:00.125+08:00",
]  # fmt: skip


def test_periods_written_alike_are_judged_as_the_engine_judges_them() -> None:
    (rule,) = [one for one in invariants.rules_of("Period") if one.key == "per-1"]
    closure = Compiler(as_filters=True).expression(parse(rule.expression))
    for start, end in itertools.product(MOMENTS, MOMENTS):
        period = {"start": start, "end": end}
        scope = Scope(period)
        scope.context = (period, "Period")
        slow = truth(scope.evaluate(closure, period, "Period"), "it")
        assert rule.test(period, scope) == slow, period


def test_links_are_counted_wherever_the_engine_finds_them() -> None:
    answers = {"resourceType": "QuestionnaireResponse", "item": [{"linkId": "1"}]}
    form = {"resourceType": "Questionnaire", "item": [{"linkId": "1"}], "contained": [answers]}
    assert "que-2" in keys_of(form)
    contract = {"resourceType": "Contract", "term": [{"offer": {"linkId": ["1", "2"]}}]}
    assert "que-2" not in keys_of({"resourceType": "Questionnaire", "contained": [contract]})


def test_lawful_data_that_r4_refuses_by_mistake_passes() -> None:
    period = {"start": "2020-01-15", "end": "2020-01"}
    patient = {"resourceType": "Patient", "name": [{"period": period}]}
    assert keys_of(patient) == []
    when = [{"operator": "exists", "question": "1", "answerBoolean": True}]
    item = [{"linkId": "1", "type": "group", "item": [{"linkId": "2", "type": "string"}],
             "enableWhen": when}]  # fmt: skip
    assert keys_of({"resourceType": "Questionnaire", "item": item}) == []


def test_without_its_correction_the_rule_refuses_them() -> None:
    written = tables.Constraint("que-7", "error", "operator = 'exists' implies (answer is Boolean)")
    as_written = tables.Constraint("other", written.severity, written.expression)
    value = {"operator": "exists", "answerBoolean": True}
    path = "Questionnaire.item.enableWhen"
    assert invariants.rule_of(written, path).verdict(value, Scope({})) == ""
    assert invariants.rule_of(as_written, path).verdict(value, Scope({})) == "broken"
