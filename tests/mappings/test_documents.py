"""The province's resident registration, from rows, both ways."""

import pathlib

import pytest
from lxml import etree

from conformance.problem import InvalidContent, InvalidStructure, TooCostly
from mappings.channels.profile import HEALTH_CARD, NATIONAL_ID, ChannelProfile
from mappings.documents import Documents
from mappings.engine.library import load
from mappings.engine.tree import read_xml

PROVINCE = pathlib.Path(__file__).resolve().parents[2] / "adapters" / "province"
PATIENT = {
    "resourceType": "Patient",
    "identifier": [
        {"system": "https://fhir.qiao.example/cphc/sid/HOSP-A", "value": "MRN0001",
         "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203",
                              "code": "MR"}]}},
        {"system": NATIONAL_ID, "value": "999001199003071010"},
        {"system": HEALTH_CARD, "value": "HC9990010001"},
    ],
    "name": [{"family": "演示", "given": ["甲"]}],
    "gender": "male",
    "birthDate": "1990-03-07",
    "telecom": [{"system": "phone", "value": "13900000001"}],
    "address": [{"state": "演示省", "city": "演示市", "line": ["演示路1号"],
                 "postalCode": "215000"}],
    "maritalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus",
                                  "code": "M"}]},
}  # fmt: skip
CONTENT = {
    "patient": PATIENT,
    "organization": {"identifier": [{"value": "HOSP-A"}], "name": "演示医院"},
    "contact": [
        {"name": [{"text": "演示乙"}],
         "relationship": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode",
                                       "code": "SPS"}]}],
         "telecom": [{"system": "phone", "value": "13900000002"}]},
        {"telecom": [{"system": "phone", "value": "13900000003"}]},
    ],
    "registeredOn": "2026-01-02",
}  # fmt: skip


@pytest.fixture(scope="module")
def documents() -> Documents:
    return Documents(load())


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(PROVINCE / "resident_registration.xsd"))


def test_a_patient_becomes_a_document_that_the_schema_accepts(
    documents: Documents, schema: etree.XMLSchema
) -> None:
    composed = documents.compose("resident-registration", CONTENT)
    root = etree.fromstring(composed.payload)
    schema.assertValid(root)
    texts = {etree.QName(one).localname: one.text for one in root.iter() if one.text}
    assert texts["IdCard"] == "999001199003071010"
    assert texts["SexCode"] == "1"
    assert texts["MaritalStatusCode"] == "20"
    assert texts["Text"] == "演示省演示市演示路1号"
    assert root.find(".//{*}MedicalRecordNumber").get("assigner") == "HOSP-A"
    # The second contact has no name, which the province requires; that is said, not hidden.
    assert len(root.findall(".//{*}Contact")) == 1
    assert [note.expression for note in composed.notes] == ["contact[*]"]


def test_the_provinces_own_sample_survives_there_and_back(
    documents: Documents, schema: etree.XMLSchema
) -> None:
    sample = (PROVINCE / "resident_registration.xml").read_bytes()
    read = documents.read("resident-registration", sample)
    patient = read.content["patient"]
    assert patient["name"] == [{"text": "演示甲"}]
    assert {one["value"] for one in patient["identifier"]} == {
        "999001199003071010", "HC9990010001", "MRN0001",
    }  # fmt: skip
    again = documents.compose("resident-registration", read.content)
    schema.assertValid(etree.fromstring(again.payload))
    second = documents.read("resident-registration", again.payload)
    assert second.content == read.content
    entries = {target: source for target, source, _ in read.trace}
    assert entries["patient.birthDate"] == "/ResidentRegistration/Resident[1]/BirthDate[1]"


def test_what_the_province_requires_is_named_with_the_element_to_fill(
    documents: Documents,
) -> None:
    patient = {**PATIENT, "identifier": [], "birthDate": "1990"}
    del patient["gender"]
    with pytest.raises(InvalidContent) as refused:
        documents.compose("resident-registration", {**CONTENT, "patient": patient})
    places = [issue.expression for issue in refused.value.issues]
    assert places[0:2] == ["patient.gender", "patient.birthDate"]
    assert places[2] is not None
    assert "identifier" in places[2]


def test_the_channels_names_of_authorities_are_used(documents: Documents) -> None:
    sender = ChannelProfile().sender
    composed = documents.compose("resident-registration", CONTENT, sender)
    assert b'assigner="HOSP-A"' in composed.payload


@pytest.mark.parametrize(
    "attack",
    [
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><a>&y;</a>',
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd"><a/>',
        b"<a>" * 5000,
        b"<a>&nope;</a>",
        b"<a",
        b"",
        b'<a xmlns="urn:other"/>',
    ],
)
def test_hostile_or_foreign_documents_are_refused(documents: Documents, attack: bytes) -> None:
    with pytest.raises((InvalidStructure, TooCostly)):
        documents.read("resident-registration", attack)


def test_without_the_depth_limit_a_deep_document_would_be_read() -> None:
    depth = 60
    deep = b"<a>" * depth + b"</a>" * depth
    assert read_xml(deep).name == "a"
