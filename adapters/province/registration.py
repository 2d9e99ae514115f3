"""What the province checks in a registration document before it takes it."""

import datetime
import importlib.resources
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import lxml.etree

from adapters.envelope.sm3 import sm3
from adapters.safe_xml import Element, UnreadableXml, parse_xml

RESIDENT = "urn:qiao:province:resident:1"

_CHECK_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One element that is not taken: its name, the code and words without its value."""

    field: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A document that may be registered; `subject` stands for what it is about every time.

    `number` is what institutions, doctors, teams and contracts are called by, "" for residents;
    `step` the step of a contract's life.
    """

    subject: str
    number: str = ""
    step: str = ""


class Register(Protocol):
    """What the province has registered so far."""

    def is_registered(self, business_type: str, subject: str) -> bool:
        """Say whether something of that kind was registered."""

    def steps_of(self, subject: str) -> Sequence[str]:
        """Return the steps registered of a contract, in their order."""


Check = Callable[[bytes, datetime.date, Register], Checked | list[FieldError]]
Rules = Callable[[Element, datetime.date, Register], Checked | list[FieldError]]


def resident_check() -> Check:
    """Return the check of a resident's registration, with its schema loaded."""
    return check_by("resident_registration.xsd", "ResidentRegistration", _resident_rules)


def check_by(schema_file: str, root: str, rules: Rules) -> Check:
    """Return the check of a document: readable, as its packaged schema says, and by its rules."""
    folder = importlib.resources.files("adapters.province")
    # By its path, so that the schemas it includes are found beside it.
    schema = lxml.etree.XMLSchema(lxml.etree.parse(str(folder.joinpath(schema_file))))

    def check(
        payload: bytes, today: datetime.date, register: Register
    ) -> Checked | list[FieldError]:
        try:
            document = parse_xml(payload)
        except UnreadableXml as unreadable:
            return [FieldError(field="payload", code="E2001", message=str(unreadable))]
        if not schema.validate(document):
            return _schema_errors(schema, document, root)
        return rules(document, today, register)

    return check


def subject_of(kind: str, number: str) -> str:
    """Return the digest that stands for what a number of a kind names."""
    return sm3(f"{kind} {number}".encode()).hex()[:32]


def is_id_card(number: str) -> bool:
    """Tell whether the check digit fits (GB 11643-1999, ISO 7064 MOD 11-2)."""
    total = sum(
        int(digit) * weight for digit, weight in zip(number[:17], _CHECK_WEIGHTS, strict=True)
    )
    return "10X98765432"[total % 11] == number[17]


def _schema_errors(schema: lxml.etree.XMLSchema, document: Element, root: str) -> list[FieldError]:
    # The validator's own words quote the value; its path does not.
    fields = []
    entries: Any = schema.error_log
    for entry in entries:
        found = document.getroottree().xpath(entry.path) if entry.path else []
        name = _name_of(found[0], root) if isinstance(found, list) and found else root
        fields.append((name, entry.type_name.removeprefix("SCHEMAV_").replace("_", " ").lower()))
    return [
        FieldError(field=name, code="E2002", message=f"the schema says: {rule}")
        for name, rule in dict(fields).items()
    ] or [FieldError(field=root, code="E2002", message="not as the schema says")]


def _name_of(element: object, root: str) -> str:
    return str(getattr(element, "tag", "")).rpartition("}")[2] or root


def _resident_rules(
    document: Element, today: datetime.date, _register: Register
) -> Checked | list[FieldError]:
    resident = document.find(f"{{{RESIDENT}}}Resident")
    assert resident is not None
    return _rule_errors(document, today) or Checked(subject=resident_subject(resident, RESIDENT))


def _rule_errors(document: Element, today: datetime.date) -> list[FieldError]:
    id_card = _text(document, "IdCard")
    born = datetime.date.fromisoformat(_text(document, "BirthDate")[:10])
    errors = []
    if not (id_card or _text(document, "HealthCard") or _text(document, "MedicalRecordNumber")):
        errors.append(("IdCard", "E2004", "one identifier of the resident is required"))
    if born > today:
        errors.append(("BirthDate", "E2007", "the birth date is in the future"))
    if id_card and not is_id_card(id_card):
        errors.append(("IdCard", "E2003", "the check digit does not fit"))
    elif id_card:
        if id_card[6:14] != born.strftime("%Y%m%d"):
            errors.append(("BirthDate", "E2005", "not the date in the ID-card number"))
        sex = "1" if int(id_card[16]) % 2 else "2"
        if _text(document, "SexCode") in ("1", "2") and _text(document, "SexCode") != sex:
            errors.append(("SexCode", "E2006", "not the sex in the ID-card number"))
    return [FieldError(field=field, code=code, message=text) for field, code, text in errors]


def resident_subject(resident: Element, namespace: str) -> str:
    """Return what stands for a resident named by ID card, health card or record number."""
    number = resident.find(f"{{{namespace}}}MedicalRecordNumber")
    assigner = number.get("assigner", "") if number is not None else ""
    for kind, name in (
        ("id-card", "IdCard"),
        ("health-card", "HealthCard"),
        (f"mrn {assigner}", "MedicalRecordNumber"),
    ):
        value = (resident.findtext(f"{{{namespace}}}{name}") or "").strip()
        if value:
            return subject_of(kind, value)
    return ""


def _text(document: Element, name: str) -> str:
    found = document.find(f"{{{RESIDENT}}}Resident/{{{RESIDENT}}}{name}")
    return (found.text or "").strip() if found is not None else ""
