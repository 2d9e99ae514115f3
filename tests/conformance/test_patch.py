"""JSON Patch and XML Patch: the official cases and what the cases leave out."""

import copy
import json
import os
import pathlib
import re
from decimal import Decimal
from typing import Any

import pytest
from lxml import etree

from conformance import resource_xml
from conformance.patch.fhirpath_patch import apply_fhirpath_patch
from conformance.patch.json_patch import apply_json_patch
from conformance.patch.xml_patch import apply_xml_patch, parse_xml
from conformance.problem import BusinessRule, InvalidContent


def case_file(name: str) -> pathlib.Path | None:
    root = pathlib.Path(__file__).resolve().parents[2]
    named = os.environ.get("QIAO_SHARED")
    places = [pathlib.Path(named)] if named else []
    places += [root.parent / "shared", root.parent.parent / "shared"]
    for place in places:
        path = place / "data" / "fhir-patch" / name
        if path.exists():
            return path
    return None


def json_cases() -> list[Any]:
    path = case_file("json-patch-tests.json")
    return json.loads(path.read_text(), parse_float=Decimal) if path else []


def xml_cases() -> list[Any]:
    path = case_file("xml-patch-tests.xml")
    return list(etree.parse(path).getroot().iter("case")) if path else []


@pytest.mark.parametrize("case", json_cases(), ids=lambda case: case["comment"])
def test_official_json_patch_case(case: dict[str, Any]) -> None:
    before = copy.deepcopy(case["doc"])
    if "error" in case:
        with pytest.raises(InvalidContent):
            apply_json_patch(case["doc"], case["patch"])
    else:
        assert apply_json_patch(case["doc"], case["patch"]) == case["expected"]
    assert case["doc"] == before


def fhirpath_cases() -> list[Any]:
    path = case_file("fhir-patch-tests.xml")
    return list(etree.parse(path).getroot().iter("case")) if path else []


def resource_in(case: Any, name: str) -> dict[str, Any]:
    element = next(child for child in case.find(name) if isinstance(child.tag, str))
    etree.strip_tags(element, etree.Comment)
    return resource_xml.parse(etree.tostring(element, with_tail=False))


def without_blanks(resource: dict[str, Any]) -> dict[str, Any]:
    """Blanks between the elements of a narrative say nothing."""
    if "text" not in resource:
        return resource
    div = re.sub(r"\s*(<[^>]*>)\s*", r"\1", resource["text"]["div"])
    return {**resource, "text": {**resource["text"], "div": re.sub(r"\s+", " ", div)}}


@pytest.mark.parametrize("case", fhirpath_cases(), ids=lambda case: case.get("name"))
def test_official_fhirpath_patch_case(case: Any) -> None:
    resource, parameters = resource_in(case, "input"), resource_in(case, "diff")
    if case.find("output") is None:
        with pytest.raises(BusinessRule):
            apply_fhirpath_patch(resource, parameters)
        return
    answer = apply_fhirpath_patch(resource, parameters)
    assert without_blanks(answer) == without_blanks(resource_in(case, "output"))


def canonical(element: Any) -> str:
    text = etree.tostring(element, method="c14n", with_comments=True, exclusive=True).decode()
    return re.sub(r"\s+", " ", re.sub(r"\s*(<[^>]*>)\s*", r"\1", text)).strip()


@pytest.mark.parametrize("case", xml_cases(), ids=lambda case: case.get("name"))
def test_official_xml_patch_case(case: Any) -> None:
    target = next((child for child in case.find("target") if isinstance(child.tag, str)), None)
    patch = case.find("{http://hl7.org/fhir}patch")
    expected = case.find("patched")
    if expected is None:
        with pytest.raises(InvalidContent):
            apply_xml_patch(target, patch)
        return
    answer = apply_xml_patch(target, patch)
    assert canonical(answer) == canonical(expected[0])
    assert answer.nsmap.items() >= expected[0].nsmap.items()


def test_decimals_keep_their_digits_through_a_json_patch() -> None:
    document = {"value": Decimal("1.10")}
    patch = [{"op": "copy", "from": "/value", "path": "/other"}]
    assert str(apply_json_patch(document, patch)["other"]) == "1.10"


def test_a_json_patch_test_tells_true_from_one() -> None:
    with pytest.raises(BusinessRule):
        apply_json_patch({"a": True}, [{"op": "test", "path": "/a", "value": 1}])
    assert apply_json_patch({"a": Decimal("1.0")}, [{"op": "test", "path": "/a", "value": 1}])


def test_doubling_copies_are_refused_before_they_fill_the_memory() -> None:
    patch = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(60)]
    with pytest.raises(InvalidContent):
        apply_json_patch({"a": list(range(100))}, patch)


@pytest.mark.parametrize(
    "patch",
    [
        {},
        [1],
        [{"op": "no", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "move", "path": "/a"}],
        [{"op": "remove", "path": ""}],
        [{"op": "add", "path": "", "value": 3}],
        [{"op": "remove", "path": "/a/01"}],
        [{"op": "remove", "path": "/a/2"}],
        [{"op": "remove", "path": "/a/-"}],
        [{"op": "remove", "path": "/a/0/b"}],
        [{"op": "move", "from": "/a", "path": "/a/0"}],
    ],
)
def test_a_wrong_json_patch_is_refused_with_words(patch: Any) -> None:
    with pytest.raises(InvalidContent) as caught:
        apply_json_patch({"a": ["x", "y"]}, patch)
    assert caught.value.issues[0].fix_en


def xml(text: str) -> Any:
    return etree.fromstring(text.encode())


@pytest.mark.parametrize(
    "selector",
    [
        "f:Patient[count(//*)>1]",
        "//f:active",
        "f:Patient/document('file:///etc/passwd')",
        "f:Patient/@id/x",
        "x:Patient",
        "f:Patient[@id='1'",
        "f:Patient[0]",
    ],
)
def test_a_selector_outside_the_subset_is_refused(selector: str) -> None:
    document = xml('<Patient xmlns="http://hl7.org/fhir" id="1"><active value="true"/></Patient>')
    patch = etree.Element("diff")
    etree.SubElement(patch, "remove", sel=selector)
    with pytest.raises(InvalidContent):
        apply_xml_patch(document, patch)


def test_xml_patch_adds_before_after_and_in_front() -> None:
    document = xml('<doc xmlns="http://hl7.org/fhir"><b/></doc>')
    patch = xml(
        '<diff xmlns="http://hl7.org/fhir"><add sel="f:doc" pos="prepend"><a/></add>'
        '<add sel="f:doc/f:b" pos="after"><d/></add><add sel="doc/d" pos="before"><c/></add></diff>'
    )
    answer = apply_xml_patch(document, patch)
    assert [etree.QName(child).localname for child in answer] == ["a", "b", "c", "d"]


def test_xml_patch_never_loses_or_adds_a_root() -> None:
    document = xml('<doc xmlns="http://hl7.org/fhir"/>')
    for body in ('<remove sel="f:doc"/>', '<add sel="f:doc" pos="after"><x/></add>'):
        with pytest.raises(BusinessRule):
            apply_xml_patch(document, xml(f'<diff xmlns="http://hl7.org/fhir">{body}</diff>'))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<diff>",
        '<!DOCTYPE diff [<!ENTITY e SYSTEM "file:///etc/passwd">]><diff>&e;</diff>',
        "<!DOCTYPE diff><diff/>",
        "<d>" * 5_000 + "</d>" * 5_000,
    ],
)
def test_a_patch_that_is_no_safe_xml_is_refused(text: str) -> None:
    with pytest.raises(InvalidContent):
        parse_xml(text.encode())


def operation(**parts: Any) -> dict[str, Any]:
    def part(name: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {"name": name, **value}
        return {"name": name, ("valueInteger" if isinstance(value, int) else "valueString"): value}

    return {"name": "operation", "part": [part(name, value) for name, value in parts.items()]}


PATIENT = {
    "resourceType": "Patient",
    "birthDate": "1990",
    "_birthDate": {"id": "b"},
    "name": [{"given": ["a", "b"], "_given": [None, {"id": "g"}]}],
}


def patched(*operations: dict[str, Any]) -> dict[str, Any]:
    return apply_fhirpath_patch(
        PATIENT, {"resourceType": "Parameters", "parameter": list(operations)}
    )


def test_a_primitive_goes_and_comes_with_what_stands_beside_it() -> None:
    assert "_birthDate" not in patched(operation(type="delete", path="Patient.birthDate"))
    moved = patched(operation(type="move", path="Patient.name[0].given", source=1, destination=0))
    assert moved["name"] == [{"given": ["b", "a"], "_given": [{"id": "g"}, None]}]
    fewer = patched(operation(type="delete", path="Patient.name.given.where($this = 'b')"))
    assert fewer["name"] == [{"given": ["a"]}]


def test_a_choice_takes_its_name_from_the_value() -> None:
    value = {"valueBoolean": True}
    added = patched(operation(type="add", path="Patient", name="deceased", value=value))
    assert added["deceasedBoolean"] is True
    again = operation(type="add", path="Patient", name="deceased", value={"valueDateTime": "2020"})
    with pytest.raises(BusinessRule):
        patched(operation(type="add", path="Patient", name="deceased", value=value), again)
    with pytest.raises(BusinessRule):
        patched(
            operation(type="add", path="Patient", name="deceased", value={"valueTime": "10:00"})
        )


@pytest.mark.parametrize(
    "parts",
    [
        {"type": "add", "path": "Patient", "name": "nothing", "value": {"valueString": "x"}},
        {"type": "add", "path": "Patient.birthDate", "name": "x", "value": {"valueString": "x"}},
        {"type": "replace", "path": "Patient", "value": {"valueString": "x"}},
        {"type": "replace", "path": "Patient.photo", "value": {"valueString": "x"}},
        {"type": "replace", "path": "Patient.name.given", "value": {"valueString": "x"}},
        {"type": "delete", "path": "Patient.name.given"},
        {"type": "delete", "path": "Patient"},
        {"type": "delete", "path": "'a'"},
        {"type": "delete", "path": "Patient."},
        {"type": "insert", "path": "Patient.name", "index": 2, "value": {"valueHumanName": {}}},
        {"type": "insert", "path": "Patient.birthDate", "index": 0, "value": {"valueDate": "1"}},
        {"type": "move", "path": "Patient.name", "source": 0, "destination": 1},
        {"type": "turn", "path": "Patient.name"},
        {"type": "delete"},
        {"type": "add", "path": "Patient", "name": "active", "value": {}},
        {"type": "add", "path": 3, "name": "active", "value": {"valueBoolean": True}},
    ],
)
def test_a_wrong_fhirpath_patch_is_refused_with_words(parts: dict[str, Any]) -> None:
    with pytest.raises(InvalidContent) as caught:
        patched(operation(**parts))
    assert caught.value.issues[0].fix_en
