"""What the province checks in the documents that follow each other, and that parents come first.

An institution before its doctors, doctors before their team, the team and the resident before a
contract: https://www.w3.org/TR/xmlschema-1/ says the form, the tables here the rest.
"""

import csv
import datetime
import importlib.resources
from collections.abc import Iterator, Mapping, Sequence

from adapters.province.registration import (
    Check,
    Checked,
    FieldError,
    Register,
    Rules,
    check_by,
    is_id_card,
    resident_check,
    resident_subject,
    subject_of,
)
from adapters.safe_xml import Element

SCHEMAS: Mapping[str, str] = {
    "resident": "resident_registration.xsd",
    "institution": "institution_registration.xsd",
    "doctor": "doctor_registration.xsd",
    "team": "team_registration.xsd",
    "contract": "contract_registration.xsd",
    "types": "registration_types.xsd",
}
"""The schema of each business type, and the types they share."""
_INSTITUTION = "urn:qiao:province:institution:1"
_DOCTOR = "urn:qiao:province:doctor:1"
_TEAM = "urn:qiao:province:team:1"
_CONTRACT = "urn:qiao:province:contract:1"
_USCC = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_FIRST = "-"  # in contract_steps.csv: the step may open a contract's ledger

Errors = list[FieldError]
Steps = Mapping[str, tuple[Sequence[str], Sequence[str]]]


def all_checks() -> dict[str, Check]:
    """Return the check of each business type, with its schema loaded."""
    contract_rules = _contract_rules(read_steps())
    return {
        "resident": resident_check(),
        "institution": check_by(
            SCHEMAS["institution"], "InstitutionRegistration", _institution_rules
        ),
        "doctor": check_by(SCHEMAS["doctor"], "DoctorRegistration", _doctor_rules),
        "team": check_by(SCHEMAS["team"], "TeamRegistration", _team_rules),
        "contract": check_by(SCHEMAS["contract"], "ContractRegistration", contract_rules),
    }


def read_steps() -> Steps:
    """Return for each step of contract_steps.csv what it may follow and the elements it needs."""
    file = importlib.resources.files("adapters.province").joinpath("contract_steps.csv")
    rows = csv.DictReader(file.read_text("utf-8").splitlines())
    return {row["step"]: (row["after"].split(), row["needs"].split()) for row in rows}


def _institution_rules(
    document: Element, _today: datetime.date, register: Register
) -> Checked | Errors:
    code = _text(document, _INSTITUTION, "Institution/Code")
    parent = _text(document, _INSTITUTION, "Institution/Parent/Code")
    credit = _text(document, _INSTITUTION, "Institution/SocialCreditCode")
    errors = []
    if credit and not _is_uscc(credit):
        errors.append(_error("SocialCreditCode", "E2008", "the check character does not fit"))
    if parent and not register.is_registered("institution", subject_of("institution", parent)):
        errors.append(_unknown("Parent", "institution"))
    return errors or Checked(subject=subject_of("institution", code), number=code)


def _doctor_rules(document: Element, _today: datetime.date, register: Register) -> Checked | Errors:
    number = _text(document, _DOCTOR, "Doctor/Number")
    card = _text(document, _DOCTOR, "Doctor/IdCard")
    errors = []
    if card and not is_id_card(card):
        errors.append(_error("IdCard", "E2003", "the check digit does not fit"))
    institution = _text(document, _DOCTOR, "Institution/Code")
    if not register.is_registered("institution", subject_of("institution", institution)):
        errors.append(_unknown("Institution", "institution"))
    return errors or Checked(subject=subject_of("doctor", number), number=number)


def _team_rules(document: Element, _today: datetime.date, register: Register) -> Checked | Errors:
    code = _text(document, _TEAM, "Team/Code")
    errors = []
    institution = _text(document, _TEAM, "Team/Institution/Code")
    if not register.is_registered("institution", subject_of("institution", institution)):
        errors.append(_unknown("Institution", "institution"))
    numbers = [found.text or "" for found in document.iterfind(f".//{{{_TEAM}}}Number")]
    if any(not register.is_registered("doctor", subject_of("doctor", one)) for one in numbers):
        errors.append(_unknown("Member", "doctor"))
    for one in document.iterfind(f".//{{{_TEAM}}}StandsInFor"):
        if (one.text or "") not in numbers:
            errors.append(_error("StandsInFor", "E2108", "not the number of a member"))
    return errors or Checked(subject=subject_of("team", code), number=code)


def _contract_rules(steps: Steps) -> Rules:
    def rules(document: Element, today: datetime.date, register: Register) -> Checked | Errors:
        number, step = _text(document, _CONTRACT, "Number"), _text(document, _CONTRACT, "Step")
        if step not in steps:
            return [_error("Step", "E2105", "no step of this table")]
        after, needs = steps[step]
        subject = subject_of("contract", number)
        errors = [
            _error(name, "E2009", "this step needs the element")
            for name in needs
            if document.find(f"{{{_CONTRACT}}}{name}") is None
        ]
        errors += _unknown_parties(document, register)
        if _text(document, _CONTRACT, "EndOn") < _text(document, _CONTRACT, "BeginOn"):
            errors.append(_error("EndOn", "E2107", "the term ends before it begins"))
        if _text(document, _CONTRACT, "StepOn") > today.isoformat():
            errors.append(_error("StepOn", "E2107", "the step is in the future"))
        before = register.steps_of(subject)
        if (before[-1] if before else _FIRST) not in after:
            errors.append(_error("Step", "E2106", "not after what is registered of the contract"))
        return errors or Checked(subject=subject, number=number, step=step)

    return rules


def _unknown_parties(document: Element, register: Register) -> Iterator[FieldError]:
    """Yield a refusal for each party of a contract that was not registered before it."""
    resident = document.find(f"{{{_CONTRACT}}}Resident")
    assert resident is not None
    person = resident_subject(resident, _CONTRACT)
    if not person:
        yield _error("Resident", "E2004", "one identifier of the resident is required")
    elif not register.is_registered("resident", person):
        yield _unknown("Resident", "resident")
    for name, kind, path in (
        ("Team", "team", "Team/Code"),
        ("Doctor", "doctor", "Doctor/Number"),
        ("PreviousNumber", "contract", "PreviousNumber"),
    ):
        number = _text(document, _CONTRACT, path)
        if number and not register.is_registered(kind, subject_of(kind, number)):
            yield _unknown(name, kind)


_UNKNOWN = {
    "institution": "E2101",
    "doctor": "E2102",
    "team": "E2103",
    "resident": "E2104",
    "contract": "E2109",
}


def _unknown(field: str, kind: str) -> FieldError:
    return _error(field, _UNKNOWN[kind], f"the {kind} is not registered")


def _error(field: str, code: str, message: str) -> FieldError:
    return FieldError(field=field, code=code, message=message)


def _text(document: Element, namespace: str, path: str) -> str:
    steps = "/".join(f"{{{namespace}}}{step}" for step in path.split("/"))
    return (document.findtext(steps) or "").strip()


def _is_uscc(code: str) -> bool:
    """Tell whether the check character fits (GB 32100-2015: weights 3^i mod 31)."""
    total = sum(_USCC.index(letter) * pow(3, at, 31) for at, letter in enumerate(code[:17]))
    return _USCC[-total % 31] == code[17]
