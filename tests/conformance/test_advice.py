"""Every refusal says what to do, and doing it helps."""

import contextlib
import copy
import random
from typing import Any

import msgspec
import pytest
from lxml import etree

from conformance import resource_json, resource_xml, structure
from conformance.constraint_texts import constraint_texts
from conformance.problem import InvalidContent, InvalidStructure
from conformance.r4 import tables
from conformance.structure_texts import TEXTS

DIV = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'
EXTENSION = {"url": "http://example.org/x", "valueString": "a"}
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "text": {"status": "generated", "div": DIV.format("x")},
    "name": [{"family": "张", "given": ["三"]}],
    "birthDate": "1990-02-28",
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "x"},
    "referenceRange": [{"low": {"value": 1}}],
}

# key, a resource, path, what is wrong there, what the advice makes of it (... is: left out)
CASES: list[tuple[str, dict[str, Any], str, Any, Any]] = [
    ("not-an-object", PATIENT, "maritalStatus", "married", {"text": "married"}),
    ("not-a-list", PATIENT, "address", {"text": "x"}, [{"text": "x"}]),
    ("list-not-expected", PATIENT, "active", [True], True),
    ("empty-list", PATIENT, "address", [], ...),
    ("null-value", PATIENT, "active", None, ...),
    ("null-item", PATIENT, "name.0.given", ["三", None], ["三"]),
    ("lists-not-aligned", PATIENT, "name.0._given", [None, {"id": "a"}], [{"id": "a"}]),
    ("unknown-element", PATIENT, "colour", "x", ...),
    ("missing-element", OBSERVATION, "status", ..., "final"),
    ("more-than-one-choice", {**PATIENT, "deceasedBoolean": True}, "deceasedDateTime", "2020", ...),
    ("ele-1", PATIENT, "maritalStatus", {"id": "x"}, ...),
    ("not-a-string", PATIENT, "name.0.family", 1, "1"),
    ("empty-string", PATIENT, "name.0.family", "", "张"),
    ("blank-string", PATIENT, "name.0.family", " ", "张"),
    ("string-too-long", PATIENT, "name.0.family", "x" * 1048577, "x"),
    ("control-character", PATIENT, "name.0.family", "a\x1f", "a"),
    ("bad-code", PATIENT, "language", " zh", "zh"),
    ("bad-uri", PATIENT, "implicitRules", "http://a b", "http://a%20b"),
    ("bad-id", PATIENT, "id", "张", "p1"),
    ("bad-oid", PATIENT, "extension", [{"url": "http://a.b/c", "valueOid": "2.16"}],
     [{"url": "http://a.b/c", "valueOid": "urn:oid:2.16.156.10011.1.3"}]),
    ("bad-uuid", PATIENT, "extension", [{"url": "http://a.b/c", "valueUuid": "1"}],
     [{"url": "http://a.b/c", "valueUuid": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}]),
    ("not-a-boolean", PATIENT, "active", "true", True),
    ("not-an-integer", PATIENT, "multipleBirthInteger", "2", 2),
    ("integer-range", PATIENT, "multipleBirthInteger", 2**40, 2),
    ("unsigned-range", PATIENT, "photo", [{"size": -1}], [{"size": 0}]),
    ("positive-range", PATIENT, "telecom", [{"rank": 0}], [{"rank": 1}]),
    ("not-a-decimal", OBSERVATION, "valueQuantity", {"value": "72.50"}, {"value": 72}),
    ("bad-date", PATIENT, "birthDate", "28.2.1990", "1990-02-28"),
    ("bad-date-time", PATIENT, "deceasedDateTime", "2026-01-31 08:30",
     "2026-01-31T08:30:00+08:00"),
    ("bad-instant", OBSERVATION, "issued", "2026-01-31", "2026-01-31T08:30:00+08:00"),
    ("bad-time", OBSERVATION, "valueTime", "8:30", "08:30:00"),
    ("bad-base64", PATIENT, "photo", [{"contentType": "a/b", "data": "A"}],
     [{"contentType": "a/b", "data": "QQ=="}]),
    ("code-not-in-value-set", PATIENT, "gender", "M", "male"),
    ("sqty-1", OBSERVATION, "referenceRange.0.low.comparator", "<", ...),
    ("resource-type-missing", PATIENT, "contained", [{"id": "a"}], ...),
    ("resource-type-unknown", PATIENT, "resourceType", "patient", "Patient"),
    ("bad-reference", PATIENT, "managingOrganization", {"reference": "1"},
     {"reference": "Organization/1"}),
    ("reference-target", PATIENT, "managingOrganization", {"reference": "Patient/1"},
     {"reference": "Organization/1"}),
    ("ref-1", PATIENT, "managingOrganization", {"reference": "#o"},
     {"reference": "Organization/o"}),
    ("dom-2", PATIENT, "contained",
     [{"resourceType": "Basic", "id": "a", "code": {"text": "x"}, "contained": [
         {"resourceType": "Basic", "id": "b", "code": {"text": "x"}}]}], ...),
    ("dom-3", PATIENT, "contained",
     [{"resourceType": "Organization", "id": "o", "name": "x"}], ...),
    ("dom-4", PATIENT, "contained",
     [{"resourceType": "Organization", "id": "o", "name": "x", "meta": {"versionId": "1"}}], ...),
    ("dom-5", PATIENT, "contained", [{"resourceType": "Organization", "id": "o", "name": "x",
                                      "meta": {"security": [{"code": "R"}]}}], ...),
    ("contained-id-missing", PATIENT, "contained", [{"resourceType": "Organization"}], ...),
    ("contained-id-repeated", PATIENT, "contained",
     [{"resourceType": "Organization", "id": "o", "name": "x"}] * 2, ...),
    ("ext-1", PATIENT, "extension", [{"url": "http://example.org/x"}], [EXTENSION]),
    ("extension-url-relative", PATIENT, "extension", [{**EXTENSION, "url": "x"}], [EXTENSION]),
    ("narrative-not-xml", PATIENT, "text.div", DIV.format("a & b"), DIV.format("a &amp; b")),
    ("narrative-root", PATIENT, "text.div", "<p>x</p>", DIV.format("<p>x</p>")),
    ("narrative-element", PATIENT, "text.div", DIV.format("<form/>x"), DIV.format("x")),
    ("narrative-attribute", PATIENT, "text.div", DIV.format('<b onclick="a">x</b>'),
     DIV.format("<b>x</b>")),
    ("narrative-link", PATIENT, "text.div", DIV.format('<a href="javascript:a">x</a>'),
     DIV.format('<a href="https://example.org">x</a>')),
    ("narrative-style", PATIENT, "text.div", DIV.format('<b style="a:expression(b)">x</b>'),
     DIV.format('<b style="color: red">x</b>')),
    ("narrative-declaration", PATIENT, "text.div", "<!DOCTYPE div>" + DIV.format("x"),
     DIV.format("x")),
    ("txt-2", PATIENT, "text.div", DIV.format(""), DIV.format("x")),
]  # fmt: skip


def with_value(resource: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(resource)
    node: Any = copied
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in steps:
        node = node[step]
    if value is ...:
        node.pop(last, None)
    else:
        node[last] = value
    return copied


@pytest.mark.parametrize(("key", "resource", "path", "wrong", "mended"), CASES)
def test_following_the_advice_makes_the_resource_valid(
    key: str, resource: dict[str, Any], path: str, wrong: Any, mended: Any
) -> None:
    assert key in [issue.key for issue in structure.check(with_value(resource, path, wrong))]
    assert structure.check(with_value(resource, path, mended)) == []


@pytest.mark.parametrize(
    ("key", "wrong", "mended"),
    [
        ("xml-syntax", '<active value="true">', '<active value="true"/>'),
        ("xml-syntax", '<birthDate value="&nbsp;"/>', '<birthDate value="1990"/>'),
        ("xml-text", "<active>true</active>", '<active value="true"/>'),
        ("xml-attribute", '<active wert="true"/>', '<active value="true"/>'),
        ("xml-no-resource", "<contained/>", ""),
        ("too-many", '<active value="true"/><active value="true"/>', '<active value="true"/>'),
        ("xml-namespace", '<contained><Basic xmlns="x"/></contained>', ""),
    ],
)
def test_following_the_advice_makes_the_xml_readable(key: str, wrong: str, mended: str) -> None:
    document = '<Patient xmlns="http://hl7.org/fhir">{}</Patient>'
    with pytest.raises(InvalidStructure) as refused:
        resource_xml.parse(document.format(wrong).encode())
    assert key in [issue.key for issue in refused.value.issues]
    assert structure.check(resource_xml.parse(document.format(mended).encode())) == []


@pytest.mark.parametrize(
    ("key", "wrong", "mended"),
    [
        ("xml-doctype", b"<!DOCTYPE Patient>", b""),
        ("xml-encoding", b'<?xml version="1.0" encoding="GBK"?>', b'<?xml version="1.0"?>'),
    ],
)
def test_following_the_advice_about_the_head_of_xml_helps(
    key: str, wrong: bytes, mended: bytes
) -> None:
    document = b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'
    with pytest.raises(InvalidStructure) as refused:
        resource_xml.parse(wrong + document)
    assert refused.value.issues[0].key == key
    assert structure.check(resource_xml.parse(mended + document)) == []


def test_every_message_has_a_case_here() -> None:
    tried = {case[0] for case in CASES} | {"too-many"}
    assert {key for key in TEXTS if not key.startswith("xml-")} == tried


PERIOD = {"start": "2026-02", "end": "2026-01"}
CONDITION = {"resourceType": "Condition", "subject": {"display": "x"}, "code": {"text": "x"}}
RESOLVED = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "resolved"}
    ]
}
APPOINTMENT: dict[str, Any] = {
    "resourceType": "Appointment",
    "status": "noshow",
    "start": "2026-01-31T08:30:00Z",
    "end": "2026-01-31T09:00:00Z",
    "participant": [{"actor": {"display": "x"}, "status": "accepted"}],
}
UNIT = {"value": 1, "code": "kg"}
CONSTRAINTS: list[tuple[str, dict[str, Any], str, Any, Any]] = [
    ("pat-1", PATIENT, "contact", [{"gender": "male"}], [{"name": {"text": "x"}}]),
    ("cpt-2", PATIENT, "telecom", [{"value": "1"}], [{"value": "1", "system": "phone"}]),
    ("per-1", PATIENT, "name.0.period", PERIOD, {"start": "2026-01", "end": "2026-02"}),
    ("att-1", PATIENT, "photo", [{"data": "QQ=="}], [{"data": "QQ==", "contentType": "a/b"}]),
    ("qty-3", OBSERVATION, "valueQuantity", UNIT, {**UNIT, "system": "http://unitsofmeasure.org"}),
    ("obs-6", {**OBSERVATION, "dataAbsentReason": {"text": "x"}}, "valueInteger", 1, ...),
    ("obs-3", OBSERVATION, "referenceRange", [{"id": "a", "age": {"low": {"value": 1}}}], ...),
    ("con-4", CONDITION, "abatementDateTime", "2026", ...),
    ("app-4", {**APPOINTMENT, "cancelationReason": {"text": "x"}}, "status", "booked", "noshow"),
    ("app-2", APPOINTMENT, "end", ..., "2026-01-31T09:00:00Z"),
    ("app-1", APPOINTMENT, "participant", [{"status": "accepted"}], APPOINTMENT["participant"]),
    ("org-1", {"resourceType": "Organization", "active": True}, "name", ..., "x"),
]


@pytest.mark.parametrize(("key", "resource", "path", "wrong", "mended"), CONSTRAINTS)
def test_following_the_advice_meets_the_constraint(
    key: str, resource: dict[str, Any], path: str, wrong: Any, mended: Any
) -> None:
    issues = {issue.key: issue for issue in structure.check(with_value(resource, path, wrong))}
    assert issues[key].fix_en == constraint_texts()[key].fix_en
    assert structure.check(with_value(resource, path, mended)) == []


def test_a_condition_with_an_abatement_is_resolved() -> None:
    resource = {**CONDITION, "abatementDateTime": "2026", "clinicalStatus": RESOLVED}
    assert structure.check(resource) == []


def test_texts_of_constraints_are_whole_and_of_rules_that_are() -> None:
    known = {
        rule.key
        for info in tables.load().types.values()
        for rules in (info.constraints, *(one.constraints for one in info.elements.values()))
        for rule in rules
    }
    for key, text in constraint_texts().items():
        assert key in known
        assert all(text), key


def test_the_parsers_alone_would_take_in_what_is_refused() -> None:
    assert msgspec.json.decode(b'{"a":1,"a":2}') == {"a": 2}
    assert msgspec.json.decode(b'{"a":"\\u0000"}') == {"a": "\x00"}
    deep = b'{"a":' + b"[" * 100 + b"]" * 100 + b"}"
    assert msgspec.json.decode(deep)
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>'
    assert etree.fromstring(bomb).text == "bbbb"
    for data in (b'{"a":1,"a":2}', b'{"a":"\\u0000"}', deep):
        with pytest.raises(InvalidStructure):
            resource_json.parse(data)
    with pytest.raises(InvalidStructure):
        resource_xml.parse(bomb)


JUNK: list[Any] = [
    *(None, True, 0, -1, 2**70, 1.5, float("nan"), "", " ", "x", "#x", "Patient/1", [], [None]),
    *([[]], {}, {"id": "a"}, {"resourceType": "Patient"}, [{}], ["a", None], {"a": [1]}),
]


def places_in(node: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything inside a value."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    found: list[tuple[Any, Any]] = []
    for key, item in items:
        found.append((node, key))
        if isinstance(item, dict | list):
            found += places_in(item)
    return found


def test_no_damage_makes_a_check_fail_or_pass_in_silence_through_xml(shared_data: Any) -> None:
    chance = random.Random(20260501)
    files = sorted((shared_data / "r4-examples").glob("*.json"))
    refused = passed = 0
    for _ in range(1500):
        data = chance.choice(files).read_bytes()
        if len(data) > 60_000:
            continue
        resource = resource_json.parse(data)
        container, key = chance.choice(places_in(resource))
        name = chance.choice([key, "_" + key, key + "x"]) if isinstance(key, str) else key
        container[name] = copy.deepcopy(chance.choice(JUNK))
        issues = structure.check(resource)
        if any(issue.severity in {"error", "fatal"} for issue in issues):
            refused += 1
            with contextlib.suppress(InvalidContent):
                resource_xml.dump(resource)
            continue
        passed += 1
        again = resource_xml.parse(resource_xml.dump(resource))
        assert [i.key for i in structure.check(again)] == [i.key for i in issues]
    assert refused > 500
    assert passed > 20
