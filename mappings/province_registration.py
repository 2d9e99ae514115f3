"""A resident's registration as the province's XML document, from a Patient and its institution.

What the province requires and the record lacks is refused here, with the element to fill in, so
that no document leaves which the province could only send back.
"""

import datetime
from collections.abc import Mapping
from typing import Any

from lxml import etree

from conformance.problem import InvalidContent, Issue
from mappings.channels.profile import HEALTH_CARD, NATIONAL_ID

NAMESPACE = "urn:qiao:province:resident:1"
_NAMESPACES: Any = {None: NAMESPACE}
GENDER_TO_GBT_2261_1 = {"male": "1", "female": "2", "unknown": "0", "other": "9"}


def registration_of(
    patient: Mapping[str, Any], *, org_code: str, org_name: str, registered_on: datetime.date
) -> bytes:
    """Return the document; raises InvalidContent naming the element that is missing."""
    document = etree.Element(f"{{{NAMESPACE}}}ResidentRegistration", nsmap=_NAMESPACES)
    resident = _child(document, "Resident")
    _child(resident, "Name", _require(_name_of(patient), "Patient.name", "姓名"))
    _child(resident, "SexCode", GENDER_TO_GBT_2261_1.get(patient.get("gender", ""), "0"))
    born = str(patient.get("birthDate", ""))
    _child(resident, "BirthDate", _require(born if len(born) == 10 else "", "Patient.birthDate",
                                           "出生日期"))  # fmt: skip
    identifiers = [i for i in patient.get("identifier", ()) if i.get("value")]
    _require("yes" if identifiers else "", "Patient.identifier", "身份标识")
    _identifiers(resident, identifiers)
    _optional(resident, "Phone", _phone_of(patient))
    _address(resident, patient)
    if patient.get("deceasedBoolean") or "deceasedDateTime" in patient:
        _child(resident, "Deceased", "true")
    organisation = _child(document, "Organization")
    _child(organisation, "Code", org_code)
    _child(organisation, "Name", org_name)
    _child(document, "RegisteredOn", registered_on.isoformat())
    return etree.tostring(document, xml_declaration=True, encoding="UTF-8")


def _child(parent: etree._Element, name: str, text: str | None = None) -> etree._Element:
    element = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
    element.text = text
    return element


def _optional(parent: etree._Element, name: str, text: str | None) -> None:
    if text:
        _child(parent, name, text)


def _require(text: str | None, expression: str, chinese: str) -> str:
    if text:
        return text
    raise InvalidContent(
        Issue(
            code="required",
            key="province-required",
            expression=expression,
            text_en=f"The province requires {expression}, and the record has none",
            text_zh=f"省平台要求填写{chinese}，档案中没有",
            fix_en=f"Complete {expression} in the record, then requeue the delivery.",
            fix_zh=f"请在档案中补全{chinese}，然后重新提交。",
        )
    )


def _name_of(patient: Mapping[str, Any]) -> str | None:
    """Return the name as it is written: text, else family name first and no space."""
    for name in sorted(patient.get("name", ()), key=lambda n: n.get("use") != "official"):
        if name.get("text"):
            return str(name["text"])
        joined = name.get("family", "") + "".join(name.get("given", ()))
        if joined:
            return str(joined)
    return None


def _identifiers(resident: etree._Element, identifiers: list[Mapping[str, Any]]) -> None:
    by_system = {i.get("system"): i["value"] for i in reversed(identifiers)}
    _optional(resident, "IdCard", by_system.get(NATIONAL_ID))
    _optional(resident, "HealthCard", by_system.get(HEALTH_CARD))
    for identifier in identifiers:
        if identifier.get("system") not in (NATIONAL_ID, HEALTH_CARD):
            number = _child(resident, "MedicalRecordNumber", identifier["value"])
            number.set("assigner", _assigner_of(identifier))


def _assigner_of(identifier: Mapping[str, Any]) -> str:
    display = identifier.get("assigner", {}).get("display")
    return str(display or identifier.get("system", "unknown")).rpartition(":")[2][:64]


def _phone_of(patient: Mapping[str, Any]) -> str | None:
    phones = (t.get("value") for t in patient.get("telecom", ()) if t.get("system") == "phone")
    return next((phone for phone in phones if phone), None)


def _address(resident: etree._Element, patient: Mapping[str, Any]) -> None:
    for address in patient.get("address", ()):
        parts = [address.get(name, "") for name in ("state", "city", "district")]
        text = address.get("text") or "".join([*parts, *address.get("line", ())])
        if text:
            element = _child(resident, "Address")
            _child(element, "Text", text)
            if address.get("postalCode", "").isdigit() and len(address["postalCode"]) == 6:
                _child(element, "PostalCode", address["postalCode"])
            return
