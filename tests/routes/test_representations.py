"""JSON and XML, both ways and without loss, over HTTP."""

import json
import pathlib
from decimal import Decimal
from typing import Any

import pytest

from conformance import resource_json, resource_xml

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}
XML = {"content-type": "application/fhir+xml"}
EXCEPTIONS = json.loads(
    (pathlib.Path(__file__).parents[1] / "conformance/r4_example_exceptions.json").read_text()
)["exceptions"]


def exact(data: bytes) -> Any:
    """Return JSON with numbers as their text, without what the server writes."""
    resource = json.loads(data, parse_float=str, parse_int=str)
    for name in ("versionId", "lastUpdated"):
        resource.get("meta", {}).pop(name, None)
    if not resource.get("meta", True):
        del resource["meta"]
    return resource


@pytest.mark.parametrize("xml_every", [8, pytest.param(1, marks=pytest.mark.slow)])
async def test_every_official_example_is_accepted_and_comes_back_equal(
    serve: Any, shared_data: pathlib.Path, xml_every: int
) -> None:
    files = sorted((shared_data / "r4-examples").glob("*.json"))
    refused = set()
    async with serve() as client:
        for number, file in enumerate(files):
            sent = file.read_bytes()
            resource = json.loads(sent, parse_float=Decimal)
            path = f"/{resource['resourceType']}/{resource['id']}"
            answer = await client.put(path, content=sent, headers=JSON)
            if answer.status_code not in {200, 201}:
                refused.add(file.name)
                continue
            read = await client.get(path)
            assert exact(read.content) == exact(sent), file.name
            if number % xml_every:
                continue
            as_xml = await client.get(path, headers={"accept": "application/fhir+xml"})
            assert as_xml.headers["content-type"] == "application/fhir+xml; charset=utf-8"
            assert resource_xml.parse(as_xml.content) == resource_json.parse(read.content)
            again = await client.put(path, content=as_xml.content, headers=XML)
            assert again.status_code == 200, again.text
            assert exact((await client.get(path)).content) == exact(sent), file.name
    assert refused == set(EXCEPTIONS)


async def test_xml_goes_in_and_out_and_refusals_are_in_it_too(serve: Any) -> None:
    sent = '<Patient xmlns="http://hl7.org/fhir"><gender value="female"/></Patient>'
    async with serve() as client:
        made = await client.post("/Patient", content=sent, headers={**XML, "accept": "text/xml"})
        assert made.status_code == 201
        assert b'<gender value="female"/>' in made.content
        wrong = await client.get("/Patient/never?_format=xml")
        assert wrong.status_code == 404
        assert resource_xml.parse(wrong.content)["resourceType"] == "OperationOutcome"
        metadata = await client.get("/metadata?_format=xml")
        assert resource_xml.parse(metadata.content)["fhirVersion"] == "4.0.1"


@pytest.mark.parametrize(
    "body",
    [
        b"<Patient/>",
        b"<Patient",
        b'<!DOCTYPE Patient [<!ENTITY a "b">]><Patient xmlns="http://hl7.org/fhir"/>',
        b'<Patient xmlns="http://hl7.org/fhir"><nickname value="a"/></Patient>',
        b'<?xml version="1.0" encoding="gb18030"?><Patient xmlns="http://hl7.org/fhir"/>',
        b'<Patient xmlns="http://hl7.org/fhir">' + b"<extension>" * 5_000,
    ],
)
async def test_xml_that_is_not_safe_or_not_fhir_is_refused(serve: Any, body: bytes) -> None:
    async with serve() as client:
        answer = await client.post("/Patient", content=body, headers=XML)
        assert answer.status_code == 400
        assert answer.json()["resourceType"] == "OperationOutcome"


async def test_patches_in_three_languages_do_the_same(serve: Any) -> None:
    part = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Patient.birthDate"},
        {"name": "value", "valueDate": "1991-01-01"},
    ]
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
    changes = (
        (
            "application/json-patch+json",
            b'[{"op":"replace","path":"/birthDate","value":"1991-01-01"}]',
        ),
        ("application/fhir+json", json.dumps(parameters).encode()),
        ("application/fhir+xml", resource_xml.dump(parameters)),
        (
            "application/xml-patch+xml",
            b'<diff xmlns:f="http://hl7.org/fhir"><replace sel="f:Patient/f:birthDate/@value">'
            b"1991-01-01</replace></diff>",
        ),
    )
    async with serve() as client:
        for number, (content_type, body) in enumerate(changes):
            path = f"/Patient/p{number}"
            resource = {
                "resourceType": "Patient",
                "id": path.rpartition("/")[2],
                "birthDate": "1990-01-01",
            }
            await client.put(path, json=resource, headers=JSON)
            answer = await client.patch(path, content=body, headers={"content-type": content_type})
            assert answer.status_code == 200, answer.text
            assert answer.json()["birthDate"] == "1991-01-01"
            conditional = await client.patch(
                f"/Patient?identifier=none|{number}",
                content=body,
                headers={"content-type": content_type},
            )
            assert conditional.status_code == 404
