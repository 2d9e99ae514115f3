"""FHIR XML in and out, without loss."""

import json
import pathlib
from typing import Any

import pytest
from lxml import etree

from conformance import resource_json, resource_xml, structure
from conformance.problem import InvalidContent, InvalidStructure

HEAD = b'<Patient xmlns="http://hl7.org/fhir">'
DIV = b'<div xmlns="http://www.w3.org/1999/xhtml">'


def canonical(resource: dict[str, Any]) -> str:
    return json.dumps(json.loads(resource_json.dump(resource), parse_float=str), sort_keys=True)


def test_every_example_comes_back_from_xml_as_it_was(shared_data: pathlib.Path) -> None:
    files = sorted((shared_data / "r4-examples").glob("*.json"))
    for file in files:
        resource = resource_json.parse(file.read_bytes())
        again = resource_xml.parse(resource_xml.dump(resource))
        assert canonical(again) == canonical(resource), file.name
    assert len(files) == 781


def test_xml_written_by_others_comes_back_as_it_was(shared_data: pathlib.Path) -> None:
    for file in sorted((shared_data / "validator-r4").rglob("*.xml")):
        data = file.read_bytes()
        try:
            resource = resource_xml.parse(data)
        except InvalidStructure:
            continue
        again = resource_xml.dump(resource)
        assert resource_xml.parse(again) == resource
        assert etree.fromstring(again).tag == etree.fromstring(data).tag


def test_elements_stand_in_the_order_of_the_standard() -> None:
    resource = {"resourceType": "Patient", "birthDate": "1990", "active": True, "id": "p"}
    assert resource_xml.dump(resource) == (
        b'<?xml version="1.0" encoding="UTF-8"?>'
        + HEAD
        + b'<id value="p"/><active value="true"/><birthDate value="1990"/></Patient>'
    )


def test_primitive_extensions_ids_and_nulls_come_back() -> None:
    extended = {"id": "x", "extension": [{"url": "http://a.org/e", "valueDecimal": 1}]}
    resource = {
        "resourceType": "Patient",
        "name": [{"id": "n", "given": ["a", None, "c"], "_given": [None, extended, None]}],
        "_birthDate": extended,
    }
    assert resource_xml.parse(resource_xml.dump(resource)) == resource


@pytest.mark.parametrize("text", ["1.10", "1E3", "0.10000000000000000001", "-0.0", "19"])
def test_a_number_keeps_its_text(text: str) -> None:
    data = b'{"resourceType":"Observation","valueQuantity":{"value":' + text.encode() + b"}}"
    resource = resource_json.parse(data)
    assert resource_json.dump(resource_xml.parse(resource_xml.dump(resource))) == data


def test_line_ends_quotes_and_tabs_survive_in_values() -> None:
    resource = {"resourceType": "Patient", "name": [{"text": " a\r\n\t\"<&>' 桥 😀 "}]}
    assert resource_xml.parse(resource_xml.dump(resource)) == resource


def test_without_escapes_xml_would_turn_line_ends_into_blanks() -> None:
    read = resource_xml.parse(HEAD + b'<name><text value="a\nb"/></name></Patient>')
    assert read["name"] == [{"text": "a b"}]


def test_a_narrative_keeps_its_bytes() -> None:
    div = (DIV + b"<p title='a'>&quot;x&#160;<br /><!-- c --></p ></div>").decode()
    resource = {"resourceType": "Patient", "text": {"status": "generated", "div": div}}
    assert resource_xml.parse(resource_xml.dump(resource)) == resource


@pytest.mark.parametrize(
    "text",
    [
        b'<text><status value="empty"/><h:div>x<h:br/></h:div></text>',
        b'<text><status value="empty"/><h:div xmlns:h="http://www.w3.org/1999/xhtml">x<h:br/></h:div>'
        b"</text>",
    ],
)
def test_a_prefixed_narrative_gets_its_namespace(text: bytes) -> None:
    head = HEAD[:-1] + b' xmlns:h="http://www.w3.org/1999/xhtml">'
    resource = resource_xml.parse(head + text + b"</Patient>")
    assert resource["text"]["div"] == (DIV + b"x<br/></div>").decode()
    assert structure.check(resource) == []


BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'


@pytest.mark.parametrize(
    ("data", "key", "place", "expression"),
    [
        (HEAD + b"<active", "xml-syntax", (1, 38), "Patient"),
        (BOMB + HEAD + b"</Patient>", "xml-doctype", (1, 13), None),
        (
            b'<!DOCTYPE a SYSTEM "file:///etc/hostname">' + HEAD + b"</Patient>",
            *("xml-doctype", (1, 42), None),
        ),
        (HEAD + b'<birthDate value="&c;"/></Patient>', "xml-syntax", (1, 38), "Patient"),
        (
            b'<?xml version="1.0" encoding="GB18030"?>' + HEAD + b"</Patient>",
            *("xml-encoding", (1, 1), None),
        ),
        (b"<Patient/>", "xml-namespace", (1, 1), None),
        (b'<Citation xmlns="http://hl7.org/fhir"/>', "resource-type-unknown", (1, 1), None),
        (HEAD + b'\n <birthdate value="1"/></Patient>', "unknown-element", (2, 2), "Patient"),
        (
            HEAD + b'<birthDate values="1"/></Patient>',
            "xml-attribute",
            (1, 38),
            "Patient.birthDate",
        ),
        (HEAD + b"<active>true</active></Patient>", "xml-text", (1, 38), "Patient.active"),
        (
            HEAD + b'<active value="true"/><active value="true"/></Patient>',
            *("too-many", (1, 60), "Patient"),
        ),
        (HEAD + b"<contained/></Patient>", "xml-no-resource", (1, 38), "Patient.contained[0]"),
        (HEAD + b"<birthDate/></Patient>", "ele-1", (1, 38), "Patient.birthDate"),
        (HEAD + b"<contact>" * 70, "xml-depth", (1, 0), None),
    ],
)
def test_what_is_not_fhir_xml_is_refused_with_its_place(
    data: bytes, key: str, place: tuple[int, int], expression: str | None
) -> None:
    if key == "xml-depth":
        item = b"<item>"
        data = b'<Questionnaire xmlns="http://hl7.org/fhir">' + item * 70
        place, expression = (1, 44 + 63 * 6), "Questionnaire" + ".item[0]" * 63
    with pytest.raises(InvalidStructure) as refused:
        resource_xml.parse(data)
    issue = refused.value.issues[0]
    assert (issue.key, (issue.line, issue.column), issue.expression) == (key, place, expression)
    assert "{" not in issue.text_en


def test_deep_narratives_are_refused() -> None:
    data = HEAD + b"<text>" + DIV + b"<b>" * 5000
    with pytest.raises(InvalidStructure) as refused:
        resource_xml.parse(data)
    assert refused.value.issues[0].key == "xml-depth"


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "nmae": "x"},
        {"resourceType": "Nothing"},
        {"resourceType": "Patient", "name": [["x"]]},
        {"resourceType": "Patient", "birthDate": {"a": 1}},
        {"resourceType": "Patient", "text": {"div": "<div>"}},
    ],
)
def test_what_xml_cannot_say_is_refused_and_not_dropped(resource: dict[str, Any]) -> None:
    with pytest.raises(InvalidContent):
        resource_xml.dump(resource)


def test_places_are_told_for_every_element() -> None:
    data = HEAD + b'\n <name>\n  <given value="a"/><given value="b"/>\n </name>\n</Patient>'
    _, places = resource_xml.parse_with_places(data)
    assert places["name[0]"] == (2, 2)
    assert places["name[0].given[1]"] == (3, 21)
