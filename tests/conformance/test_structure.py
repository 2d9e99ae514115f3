"""Structural validation: each rule with an example that breaks it."""

import concurrent.futures
import contextlib
import copy
import json
import pathlib
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import (
    primitives,
    resource_json,
    structure,
    structure_compile,
    structure_quick,
)
from conformance.problem import InvalidContent, TooCostly
from conformance.structure_compile import Compiler

DIV = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "text": {"status": "generated", "div": DIV.format("<p>一位居民</p>")},
    "contained": [{"resourceType": "Organization", "id": "o1", "name": "社区卫生服务中心"}],
    "extension": [{"url": "http://example.org/x", "valueString": "a"}],
    "identifier": [{"system": "urn:oid:2.16.156.10011.1.3", "value": "x"}],
    "active": True,
    "name": [{"text": "张三", "given": ["三"], "_given": [{"id": "g"}]}],
    "gender": "male",
    "birthDate": "1990-02-28",
    "_birthDate": {"extension": [{"url": "http://example.org/t", "valueTime": "08:30:00"}]},
    "deceasedBoolean": False,
    "multipleBirthInteger": 2,
    "photo": [{"contentType": "image/png", "data": "AAEC"}],
    "contact": [{"name": {"text": "李四"}}],
    "generalPractitioner": [{"reference": "Practitioner/1"}],
    "managingOrganization": {"reference": "#o1"},
}


def changed(path: str, value: Any, resource: dict[str, Any] = PATIENT) -> dict[str, Any]:
    """Return a copy with the value at a dotted path replaced, or removed if it is `...`."""
    copied = copy.deepcopy(resource)
    node: Any = copied
    *steps, last = [int(s) if s.isdigit() else s for s in path.split(".")]
    for step in steps:
        node = node[step]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return copied


def found(resource: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(issue.key, issue.expression) for issue in structure.check(resource)]


def test_a_good_patient_passes() -> None:
    assert structure.check(PATIENT) == []
    structure.require_valid(PATIENT)


BAD: list[tuple[str, Any, str, str]] = [
    # path, value, key, expression
    ("nmae", "x", "unknown-element", "Patient"),
    ("name.0.famly", "x", "unknown-element", "Patient.name[0]"),
    ("active", "true", "not-a-boolean", "Patient.active"),
    ("active", 1, "not-a-boolean", "Patient.active"),
    ("active", None, "null-value", "Patient.active"),
    ("active", [True], "list-not-expected", "Patient.active"),
    ("multipleBirthInteger", "2", "not-an-integer", "Patient.multipleBirth.ofType(integer)"),
    ("multipleBirthInteger", True, "not-an-integer", "Patient.multipleBirth.ofType(integer)"),
    ("multipleBirthInteger", 2**31, "integer-range", "Patient.multipleBirth.ofType(integer)"),
    ("deceasedDateTime", "2020", "more-than-one-choice", "Patient.deceased"),
    ("name", {"text": "x"}, "not-a-list", "Patient.name"),
    ("name", "text", "not-a-list", "Patient.name"),
    ("name", {}, "not-a-list", "Patient.name"),
    ("name", [], "empty-list", "Patient.name"),
    ("name.0", {}, "ele-1", "Patient.name[0]"),
    ("name.0", {"id": "x"}, "ele-1", "Patient.name[0]"),
    ("name.0", None, "null-value", "Patient.name[0]"),
    ("name.0", "张三", "not-an-object", "Patient.name[0]"),
    ("name.0.given", ["a", None], "null-item", "Patient.name[0].given[1]"),
    ("name.0.given", ["a", "b"], "lists-not-aligned", "Patient.name[0].given"),
    ("name.0._given", [None, None], "lists-not-aligned", "Patient.name[0].given"),
    ("name.0.text", "", "empty-string", "Patient.name[0].text"),
    ("name.0.text", " \t", "blank-string", "Patient.name[0].text"),
    ("name.0.text", "a\x02", "control-character", "Patient.name[0].text"),
    ("name.0.text", "x" * (1024 * 1024 + 1), "string-too-long", "Patient.name[0].text"),
    ("gender", "alien", "code-not-in-value-set", "Patient.gender"),
    ("gender", " male", "bad-code", "Patient.gender"),
    ("gender", 1, "not-a-string", "Patient.gender"),
    ("birthDate", "1990-02-30", "bad-date", "Patient.birthDate"),
    ("birthDate", "1990-2-3", "bad-date", "Patient.birthDate"),
    ("birthDate", "0000", "bad-date", "Patient.birthDate"),
    ("birthDate", "1990-02-28T00:00:00Z", "bad-date", "Patient.birthDate"),
    ("_birthDate", {}, "ele-1", "Patient.birthDate"),
    ("_birthDate", {"value": 1}, "unknown-element", "Patient.birthDate"),
    ("_contact", {"id": "x"}, "unknown-element", "Patient"),
    ("id", "a b", "bad-id", "Patient.id"),
    ("id", "x" * 65, "bad-id", "Patient.id"),
    ("identifier.0.system", "urn:oid: 1", "bad-uri", "Patient.identifier[0].system"),
    ("photo.0.data", "AAE", "bad-base64", "Patient.photo[0].data"),
    ("photo.0.data", "AA=C", "bad-base64", "Patient.photo[0].data"),
    ("photo.0.data", "=AAA", "bad-base64", "Patient.photo[0].data"),
    ("photo.0.data", "AA=A=AAA", "bad-base64", "Patient.photo[0].data"),
    ("photo.0.data", "AAAAA===", "bad-base64", "Patient.photo[0].data"),
    ("photo.0.data", "AAAA\nAA", "bad-base64", "Patient.photo[0].data"),
    ("photo.0.data", " \n", "empty-string", "Patient.photo[0].data"),
    ("name.0.text", "a" * 300 + "\n\x0b", "control-character", "Patient.name[0].text"),
    ("photo.0.size", -1, "unsigned-range", "Patient.photo[0].size"),
    ("extension.0.valueInteger", 1, "more-than-one-choice", "Patient.extension[0].value"),
    ("extension.0.valueString", ..., "ext-1", "Patient.extension[0]"),
    ("extension.0.url", ..., "missing-element", "Patient.extension[0].url"),
    ("extension.0.url", "x", "extension-url-relative", "Patient.extension[0].url"),
    ("extension.0.valueFoo", "x", "unknown-element", "Patient.extension[0]"),
    ("link", [{"other": {"reference": "Patient/2"}}], "missing-element", "Patient.link[0].type"),
    (
        *("generalPractitioner.0.reference", "Patient/1", "reference-target"),
        "Patient.generalPractitioner[0].reference",
    ),
    (
        *("generalPractitioner.0.reference", "http://a.org/fhir/Patient/1", "reference-target"),
        "Patient.generalPractitioner[0].reference",
    ),
    (
        *("generalPractitioner.0.reference", "Doctor/1", "bad-reference"),
        "Patient.generalPractitioner[0].reference",
    ),
    (
        *("generalPractitioner.0.reference", "Practitioner/", "bad-reference"),
        "Patient.generalPractitioner[0].reference",
    ),
    (
        *("generalPractitioner.0.type", "Patient", "reference-target"),
        "Patient.generalPractitioner[0].type",
    ),
    (
        *("generalPractitioner.0.type", {"coding": []}, "not-a-string"),
        "Patient.generalPractitioner[0].type",
    ),
    ("managingOrganization.reference", "#o2", "ref-1", "Patient.managingOrganization.reference"),
    ("managingOrganization", ..., "dom-3", "Patient.contained[0]"),
    ("contained.0.id", ..., "contained-id-missing", "Patient.contained[0]"),
    (
        "contained.0.contained",
        [{"resourceType": "Basic"}],
        "dom-2",
        "Patient.contained[0].contained",
    ),
    ("contained.0.meta", {"versionId": "1"}, "dom-4", "Patient.contained[0].meta"),
    (
        *("contained.0.meta", {"security": [{"code": "R"}]}, "dom-5"),
        "Patient.contained[0].meta.security",
    ),
    ("contained.0.resourceType", ..., "resource-type-missing", "Patient.contained[0]"),
    ("resourceType", "Citation", "resource-type-unknown", "Citation"),
    ("resourceType", "DomainResource", "resource-type-unknown", "DomainResource"),
    ("text.div", DIV.format("<script>x</script>"), "narrative-element", "Patient.text.div"),
    ("text.div", DIV.format('<p onclick="x">x</p>'), "narrative-attribute", "Patient.text.div"),
    (
        *("text.div", DIV.format('<a href="java&#x9;script:x">x</a>'), "narrative-link"),
        "Patient.text.div",
    ),
    (
        *("text.div", DIV.format('<p style="x:expression(1)">x</p>'), "narrative-style"),
        "Patient.text.div",
    ),
    ("text.div", DIV.format(" "), "txt-2", "Patient.text.div"),
    ("text.div", DIV.format("<p>"), "narrative-not-xml", "Patient.text.div"),
    ("text.div", "<div>x</div>", "narrative-root", "Patient.text.div"),
    (
        *(
            "text.div",
            "<!DOCTYPE a [<!ENTITY b 'c'>]>" + DIV.format("&b;"),
            "narrative-declaration",
        ),
        "Patient.text.div",
    ),
]


@pytest.mark.parametrize(("path", "value", "key", "expression"), BAD)
def test_one_fault_gives_its_issue_at_its_place(
    path: str, value: Any, key: str, expression: str
) -> None:
    issues = structure.check(changed(path, value))
    assert (key, expression) in [(issue.key, issue.expression) for issue in issues]
    for issue in issues:
        assert issue.text_en
        assert issue.text_zh
        assert issue.fix_en
        assert issue.fix_zh
        assert "{" not in issue.text_en.replace("{...}", "")
    with pytest.raises(InvalidContent):
        structure.require_valid(changed(path, value))


GOOD: list[tuple[str, Any]] = [
    ("birthDate", "2024-02-29"),
    ("birthDate", "1990"),
    ("birthDate", ...),
    ("name.0.text", "a b\n"),
    ("name.0.text", "\u3000张"),
    ("name.0", {"given": ["a", None], "_given": [None, PATIENT["_birthDate"]]}),
    ("generalPractitioner.0.reference", "Practitioner/1/_history/2"),
    ("generalPractitioner.0.reference", "Practitioner?identifier=a|b"),
    ("generalPractitioner.0.reference", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
    ("generalPractitioner.0.reference", "https://a.org/any/thing"),
    ("photo.0.data", "AAE\nC AA=\n = "),
    ("text.div", DIV.format("a&nbsp;b")),
    ("text.div", DIV.format('<img src="data:image/png;base64,AA" alt="x"/>')),
]


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_what_the_standard_allows_passes(path: str, value: Any) -> None:
    assert found(changed(path, value)) == []


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("2015-02-07T13:28:17.239+02:00", True),
        ("2015-02-07T13:28:17Z", True),
        ("2016-12-31T23:59:60Z", True),
        ("2015-02-07", True),
        ("2015-02-07T13:28", False),
        ("2015-02-07T13:28:17", False),
        ("2015-02-07T24:00:00Z", False),
        ("2015-02-07T13:28:17+14:30", False),
        ("2015-02-07T13:28:17+08:80", False),
        ("2015-02-07T13:28:17.123-13:60", False),
        ("2024-02-29T13:28:17Z", True),
        ("2023-02-29T13:28:17Z", False),
        ("2015-04-31", False),
        ("2015-12-31", True),
        ("2015-02-29", False),
        ("2015-02-07T13:28:17.Z", False),
        ("２０１５", False),
    ],
)
def test_date_times_are_days_or_have_seconds_and_a_zone(text: str, is_good: bool) -> None:
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "effectiveDateTime": text,
    }
    assert (found(observation) == []) is is_good


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    (issue,) = structure.check(changed("name.0.famly", "x"))
    assert issue.fix_en == "Did you mean family?"
    assert "famly" in issue.text_zh
    (issue,) = [i for i in structure.check(changed("deceased", True)) if i.expression == "Patient"]
    assert issue.fix_en == "Did you mean deceasedBoolean?"


def test_messages_carry_no_data() -> None:
    secret = "110101199003078515 张三"
    for path in ("name.0.text", "birthDate", "gender", "id", secret, f"name.0.{secret}"):
        for issue in structure.check(changed(path, [secret])):
            assert secret not in str(issue)


def test_choices_elsewhere_are_required_and_counted() -> None:
    use = {"resourceType": "MedicationStatement", "status": "active", "subject": {"display": "x"}}
    assert found(use) == [("missing-element", "MedicationStatement.medication")]
    use["medicationCodeableConcept"] = {"text": "x"}
    assert found(use) == []
    use["medicationReference"] = {"reference": "Medication/1"}
    assert found(use) == [("more-than-one-choice", "MedicationStatement.medication")]


def test_a_value_and_its_extension_are_one_choice() -> None:
    resource = changed("_deceasedBoolean", {"id": "x"})
    assert found(resource) == []
    resource = changed("_deceasedDateTime", {"extension": PATIENT["extension"]})
    assert found(resource) == [("more-than-one-choice", "Patient.deceased")]


def test_entries_of_a_bundle_stand_for_themselves() -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": PATIENT}, {"resource": changed("managingOrganization", ...)}],
    }
    assert found(bundle) == [("dom-3", "Bundle.entry[1].resource.contained[0]")]


def test_too_deep_content_is_refused_and_not_a_crash() -> None:
    item: dict[str, Any] = {"linkId": "1", "type": "group"}
    for _ in range(2000):
        item = {"linkId": "1", "type": "group", "item": [item]}
    form = {"resourceType": "Questionnaire", "status": "active", "item": [item]}
    assert [issue.key for issue in structure.check(form)] == ["too-deep"]
    with pytest.raises(TooCostly):
        structure.require_valid(form)


# Lists of extensions beside lists of values are left to the exact check.
PLAIN = changed("name.0._given", ...)
ODD = [None, "", " ", "a\x02", "x y", -1, 1.5, True, [], {}, [None], [[]], {"id": "x"}, "#o1", "#"]
PLACES = st.lists(st.integers(0, 40), min_size=1, max_size=6)


def odd_one_out(resource: Any, place: list[int], odd: Any, *, name: str | None) -> None:
    """Put an odd value somewhere: in place of another, or under a name of its own."""
    node, inner = resource, resource
    step: Any = None
    for index in place:
        if not isinstance(inner, dict | list) or not inner:
            break
        node = inner
        step = list(node)[index % len(node)] if isinstance(node, dict) else index % len(node)
        inner = node[step]
    if name is not None and isinstance(inner, dict):
        inner[name] = odd
    else:
        node[step] = odd


@given(PLACES, st.sampled_from(ODD), st.sampled_from([None, "id", "_id", "foo", "valueCode"]))
def test_the_quick_verdict_passes_nothing_that_the_exact_one_refuses(
    place: list[int], odd: Any, name: str | None
) -> None:
    compiler = structure._compiler(narratives=True)
    resource = copy.deepcopy(PLAIN)
    odd_one_out(resource, place, odd, name=name)
    if compiler.certainly_fits(resource):
        assert not compiler.whole_resource(resource)


def test_the_quick_verdict_passes_none_of_the_known_faults() -> None:
    compiler = structure._compiler(narratives=True)
    assert compiler.certainly_fits(PLAIN)
    for path, value, *_ in BAD:
        if "given" not in path:
            assert not compiler.certainly_fits(changed(path, value, PLAIN)), path


def test_extensions_in_place_of_a_list_of_values_pass_the_quick_way() -> None:
    compiler = structure._compiler(narratives=True)
    extended = {"extension": [{"url": "http://example.org/x", "valueString": "a"}]}

    def patient(**name: Any) -> dict[str, Any]:
        return {"resourceType": "Patient", "name": [name]}

    assert compiler.certainly_fits(patient(family="a", _given=[extended]))
    for items in ([], [None], [{"id": "x"}], [extended, None], extended):
        bad = patient(family="a", _given=items)
        assert compiler.whole_resource(bad)
        assert not compiler.certainly_fits(bad)
    assert not compiler.certainly_fits(patient(given=["a"], _given=[extended, extended]))


def test_nearly_all_official_examples_pass_the_quick_way(shared_data: pathlib.Path) -> None:
    compiler = structure._compiler(narratives=True)
    files = sorted((shared_data / "r4-examples").glob("*.json"))
    resources = [resource_json.parse(file.read_bytes()) for file in files]
    passed = [one for one in resources if compiler.certainly_fits(one)]
    assert not [one["id"] for one in passed if compiler.whole_resource(one)]
    assert len(passed) > 0.95 * len(resources)


def test_checks_of_sets_of_names_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_quick, "MOST_OF_TYPE", 3)
    compiler = structure_compile.Compiler(narratives=False)
    names = ["active", "gender", "birthDate", "id", "language", "implicitRules"]
    values = [True, "male", "1990", "x", "zh", "http://example.org/rules"]
    for first, value in zip(names, values, strict=True):
        resource = {"resourceType": "Patient", first: value}
        assert compiler.whole_resource(resource) is None
        compiler.certainly_fits(resource)
    quick = compiler._resources["Patient"].quick
    assert isinstance(quick, structure_quick.QuickObject)
    assert len(quick.of_names) == 3


EXCEPTIONS = json.loads(
    pathlib.Path(__file__).with_name("r4_example_exceptions.json").read_text(encoding="utf-8")
)["exceptions"]


def test_official_examples_pass_save_the_named_ones(shared_data: pathlib.Path) -> None:
    assert len(EXCEPTIONS) <= 10
    refused = set()
    for file in sorted((shared_data / "r4-examples").glob("*.json")):
        issues = structure.check(resource_json.parse(file.read_bytes()))
        if any(issue.severity in {"error", "fatal"} for issue in issues):
            refused.add(file.name)
    assert refused == set(EXCEPTIONS)


def _judged_one_character_at_a_time(text: str) -> str | None:
    if not text:
        return "empty-string"
    if all(one.isspace() for one in text):
        return "blank-string"
    controls = (one for one in text if ord(one) < 32 and one not in "\t\n\r")
    return "control-character" if any(controls) else None


@given(st.text(st.sampled_from("a! \t\n\x00\x08\x0b\x1f\x7f\x85\u3000桥\ud800"), max_size=5))
def test_a_string_is_judged_as_its_characters_are(text: str) -> None:
    assert primitives.check_string(text) == _judged_one_character_at_a_time(text)
    assert primitives.check_string(text + "a" * 50) != "blank-string"


class _Halting(Compiler):
    """Stops while it builds the check of a Patient until it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        super().__init__(narratives=False)

    def _add(self, shape: Any, info: Any, element: Any) -> None:
        if info.name == "Patient":
            self.begun.set()
            assert self.go_on.wait(20)
        super()._add(shape, info, element)


@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_thread_waits_for_the_check_that_another_is_building(is_guarded: bool) -> None:
    compiler = _Halting()
    if not is_guarded:
        compiler._lock = contextlib.nullcontext()  # type: ignore[assignment]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(compiler.whole_resource, PATIENT)
        assert compiler.begun.wait(20)
        second = pool.submit(compiler.whole_resource, PATIENT)
        concurrent.futures.wait([second], timeout=0.2)
        compiler.go_on.set()
        assert not first.result(20)
        if is_guarded:
            assert not second.result(20)
        else:
            assert isinstance(second.exception(20), KeyError)


def test_trusted_references_leave_the_constraints_to_be_judged() -> None:
    resource = {
        "resourceType": "Patient",
        "managingOrganization": {"reference": "somewhere"},
        "contact": [{"gender": "female"}],
    }
    assert [(one.severity, one.key) for one in structure.check(resource)] == [
        ("error", "bad-reference")
    ]
    told = [(one.severity, one.key) for one in structure.check(resource, trusts_references=True)]
    assert told == [("warning", "bad-reference"), ("error", "pat-1")]
    bare = structure.check(resource, trusts_references=True, constraints=False)
    assert [one.severity for one in bare] == ["warning"]
    wrong = {**resource, "managingOrganization": {"reference": "Patient/1"}}
    assert [one.severity for one in structure.check(wrong, trusts_references=True)] == ["error"]
