"""What residents and relatives may not change by plain writes, though the record is theirs.

Who a person is, and what others have found out or decided, is for staff and for operations.
"""

from collections.abc import Mapping
from typing import Any

from care.identity.verification import level_of
from conformance import resource_json
from conformance.problem import Issue, NotAllowed
from fhir_store.operations import Written
from routes.bearer import Caller

Resource = Mapping[str, Any]

# The rest of a Patient is the resident's own.
STAFF_FIELDS = (
    "identifier", "active", "gender", "birthDate", "deceasedBoolean", "deceasedDateTime",
    "multipleBirthBoolean", "multipleBirthInteger", "link", "managingOrganization",
    "generalPractitioner", "extension", "modifierExtension", "contained",
)  # fmt: skip


def is_lay(caller: Caller) -> bool:
    """Say whether a caller is a resident, a relative, or an app that acts for one."""
    kind = (caller.fhir_user or "").partition("/")[0]
    return kind in ("Patient", "RelatedPerson") or (not kind and caller.patient is not None)


def require_own_business(before: Resource | None, written: Written) -> None:
    """Raise NotAllowed where a lay caller's write changes what staff alone may change."""
    version = written.version
    if not written.changed:
        return
    after = {} if version.deleted else resource_json.parse(version.body)
    if version.type == "RelatedPerson":
        _require_unproven(before or {}, after)
    if version.type != "Patient" or before is None:
        return
    if version.deleted:
        raise _for_staff("Patient")
    for name in STAFF_FIELDS:
        if before.get(name) != after.get(name):
            raise _for_staff(f"Patient.{name}")
    if _official(before) != _official(after):
        raise _for_staff("Patient.name")


def _require_unproven(before: Resource, after: Resource) -> None:
    """Refuse what would give somebody a verified identity, or give a verified one to another."""
    if after and level_of(before) != level_of(after):
        raise _for_staff("RelatedPerson.extension")
    for name in ("identifier", "name", "birthDate", "patient") if level_of(before) else ():
        if after and before.get(name) != after.get(name):
            raise _for_staff(f"RelatedPerson.{name}")


def _official(patient: Resource) -> list[Any]:
    """Return the names but those that a person gives oneself."""
    return [one for one in patient.get("name", ()) if one.get("use") != "nickname"]


def _for_staff(place: str) -> NotAllowed:
    return NotAllowed(
        Issue(
            code="forbidden",
            key="staff-field",
            text_en="Residents and relatives cannot change this themselves.",
            text_zh="居民及其亲属不能自行更改此项。",
            fix_en="Leave it as it is, and ask the family-doctor team to correct it.",
            fix_zh="请保持原值，并请家庭医生团队更正。",
            expression=place,
        )
    )
