"""What is owed to the province, and what it waits for."""

import datetime

import pytest

from conformance.cphc import BASE
from fhir_store.operations import Version, Written
from ops.province_choice import choose_province, submitted_steps

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
ROLES = f"{BASE}/CodeSystem/cphc-fd-role"
STATE = f"{BASE}/StructureDefinition/cphc-registration-state"


def owed(resource, previous=None, *, changed=True, deleted=False):
    version = Version(resource["resourceType"], "x1", 1, NOW, deleted=deleted)
    written = Written(version=version, changed=changed, resource=resource, previous=previous)
    return [
        (one.destination, one.part, one.order_key, one.is_latest_only, one.depends_on)
        for one in choose_province(written)
    ]


def ref(text):
    return {"reference": text}


ORGANIZATION = {
    "resourceType": "Organization",
    "identifier": [{"system": "urn:oid:2.16.156.10011.1.5", "value": "A"}],
    "partOf": ref("Organization/up"),
}
DOCTOR = {"resourceType": "Practitioner", "qualification": [{"code": {"text": "全科"}}]}
ROLE = {
    "resourceType": "PractitionerRole",
    "practitioner": ref("Practitioner/d1"),
    "organization": ref("Organization/o1"),
    "code": [{"coding": [{"system": ROLES, "code": "family-doctor"}]}],
}
TEAM = {
    "resourceType": "CareTeam",
    "managingOrganization": [ref("Organization/o1")],
    "participant": [
        {"member": ref("Practitioner/d1")},
        {"member": ref("CareTeam/t2")},
        {"member": ref("Practitioner/d1")},
    ],
}
CONTRACT = {
    "resourceType": "Contract",
    "status": "executed",
    "legalState": {"coding": [{"code": "renewed"}]},
    "subject": [ref("Patient/p1")],
    "term": [{"action": [{"performer": ref("CareTeam/t1")}]}],
    "signer": [{"party": ref("RelatedPerson/r1")}, {"party": ref("Practitioner/d1")}],
    "extension": [
        {"url": f"{BASE}/StructureDefinition/cphc-renews", "valueReference": ref("Contract/c0")}
    ],
}


def state(code):
    return {**ROLE, "extension": [{"url": STATE, "valueCode": code}]}


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Patient"}, ("province", "", None, True, None)),
        (ORGANIZATION, ("province", "", None, True, "Organization/up")),
        (DOCTOR, ("province", "", None, True, None)),
        (ROLE, ("province", "", "Practitioner/d1", True, "Organization/o1")),
        (state("suspended"), ("province", "", "Practitioner/d1", True, "Organization/o1")),
        (TEAM, ("province", "", None, True, "Organization/o1 Practitioner/d1")),
        (
            CONTRACT,
            ("province", "renew", None, False,
             "Patient/p1 CareTeam/t1 Practitioner/d1 Contract/c0"),
        ),
    ],
)  # fmt: skip
def test_what_the_province_registers_is_owed_after_its_parents(resource, expected):
    assert owed(resource) == [expected]
    assert owed(resource, changed=False) == []
    assert owed(resource, deleted=True) == []


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "active": False},
        {"resourceType": "Observation"},
        {**ORGANIZATION, "identifier": [{"system": "urn:other", "value": "WARD"}]},
        {"resourceType": "Practitioner", "name": [{"text": "from PV1-7"}]},
        {**ROLE, "code": [{"coding": [{"system": "urn:other", "code": "doctor"}]}]},
        {**ROLE, "practitioner": {"display": "nobody"}},
        state("applied"),
        state("rejected"),
        {**TEAM, "subject": ref("Patient/p1")},
        {**CONTRACT, "status": "policy"},
        {**CONTRACT, "status": "terminated"},
    ],
)
def test_what_the_province_does_not_register_is_owed_to_nobody(resource):
    assert owed(resource) == []


def test_a_step_that_the_table_does_not_name_is_not_submitted():
    disputed = {**CONTRACT, "status": "disputed"}
    assert "dispute" not in submitted_steps()
    assert owed(disputed, CONTRACT) == []
    assert [one[1] for one in owed({**CONTRACT, "status": "revoked"}, disputed)] == ["terminate"]
