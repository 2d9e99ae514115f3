"""家庭医生资格: registration and review of a doctor before he may sign, as states and moves.

The registration is a PractitionerRole of its own for each doctor; its extension says where it
stands, `active` follows. What the insurance's list of doctors says is compared, never copied.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from care.contract import content
from care.effects import Put, Resource, refuse
from care.periods import holds_at
from conformance.cphc import BASE

STATE = f"{BASE}/StructureDefinition/cphc-registration-state"
ROLES = f"{BASE}/CodeSystem/cphc-fd-role"
INSURANCE_CODE = f"{BASE}/NamingSystem/cphc-ns-insurance-doctor"
ACTIVITY = f"{BASE}/CodeSystem/cphc-identity-activity"
FAMILY_DOCTOR = "family-doctor"

_INSURANCE_FORM = re.compile(r"D[0-9]{12}")
_SUFFIX = "-family-doctor"
_TASK_SUFFIX = "-registration"
# State -> event -> state. Nothing leads out of what is not named.
MOVES: Mapping[str, Mapping[str, str]] = {
    "applied": {"approve": "approved", "reject": "rejected"},
    "approved": {"suspend": "suspended", "end": "ended"},
    "suspended": {"resume": "approved", "end": "ended"},
    "rejected": {"apply": "applied"},
    "ended": {"apply": "applied"},
    "": {"apply": "applied"},
}
_TASK = {"applied": "requested", "approved": "completed", "rejected": "rejected"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One doctor as the insurance lists him; `state` is active or suspended."""

    code: str
    name: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What the two lists say of one doctor, and the registration it asks to be suspended."""

    kind: str
    code: str
    name: str
    doctor: str | None = None


def registration_id(practitioner: str) -> str:
    """Return the id of a doctor's registration, by `Practitioner/id`."""
    return f"{practitioner.partition('/')[2]}{_SUFFIX}"


def state_of(registration: Resource | None) -> str:
    """Return applied, approved, suspended, rejected or ended; "" where there is none."""
    for one in (registration or {}).get("extension", ()):
        if one.get("url") == STATE:
            return str(one.get("valueCode", ""))
    return ""


def may_sign(
    practitioner: Resource,
    registration: Resource | None,
    now: datetime.datetime,
    *,
    is_review_required: bool,
) -> bool:
    """Say whether a doctor may sign: active, qualified today, and registered as a family doctor.

    A registration always counts; without one, only where no review is required.
    """
    if practitioner.get("active") is False or not any(
        holds_at(one.get("period", {}), now) for one in practitioner.get("qualification", ())
    ):
        return False
    if registration is None:
        return not is_review_required
    is_current = holds_at(registration.get("period", {}), now)
    return state_of(registration) == "approved" and bool(registration.get("active")) and is_current


def apply_for(
    practitioner: Resource,
    registration: Resource | None,
    *,
    organization: str,
    insurance_code: str | None,
    actor: str,
    now: datetime.datetime,
) -> list[Put]:
    """Register a doctor: what is written until somebody reviews it."""
    _move(registration, "apply")
    if practitioner.get("active") is False or not practitioner.get("qualification"):
        raise refuse(
            "doctor-without-qualification",
            "The doctor is not active, or no qualification is recorded",
            "该医生未启用，或档案中没有执业资格",
            "Record the licence in Practitioner.qualification first.",
            "请先在 Practitioner.qualification 中登记执业资格。",
            "Practitioner.qualification",
        )
    if insurance_code is not None and not _INSURANCE_FORM.fullmatch(insurance_code):
        raise refuse(
            "insurance-doctor-code",
            "The code of an insurance doctor is D and 12 digits",
            "医保医师代码应为字母 D 加 12 位数字",
            "Correct insuranceDoctorCode, or leave it out.",
            "请更正医保医师代码，或不填。",
            "Parameters.parameter.where(name = 'insuranceDoctorCode')",
        )
    doctor = f"Practitioner/{practitioner['id']}"
    role: dict[str, Any] = {
        "resourceType": "PractitionerRole",
        "id": registration_id(doctor),
        "extension": [{"url": STATE, "valueCode": "applied"}],
        "active": False,
        "practitioner": {"reference": doctor},
        "organization": {"reference": organization},
        "code": [{"coding": [{"system": ROLES, "code": FAMILY_DOCTOR}]}],
    }
    if insurance_code is not None:
        role["identifier"] = [{"system": INSURANCE_CODE, "value": insurance_code}]
    return [Put(role), Put(_task(role, "applied", actor, now)), _told(role, "register", actor, now)]


def review(
    registration: Resource | None, event: str, *, reason: str, actor: str, now: datetime.datetime
) -> list[Put]:
    """Approve, reject, suspend, resume or end a registration; all but approval need a reason."""
    state = _move(registration, event)
    assert registration is not None
    if event in ("reject", "suspend", "end") and not reason:
        raise refuse(
            "review-reason",
            "This decision needs its reason",
            "该决定须说明原因",
            "Give the reason.",
            "请填写原因。",
            "Parameters.parameter.where(name = 'reason')",
        )
    if actor == registration["practitioner"]["reference"]:
        raise refuse(
            "review-own",
            "Nobody reviews his own registration",
            "不能审核本人的申请",
            "Let another person review it.",
            "请由他人审核。",
        )
    others = [one for one in registration.get("extension", ()) if one.get("url") != STATE]
    period = dict(registration.get("period", {}))
    if event == "approve":
        period = {"start": now.isoformat()}
    elif state == "ended":
        period["end"] = now.isoformat()
    changed = {
        **registration,
        "extension": [*others, {"url": STATE, "valueCode": state}],
        "active": state == "approved",
        **({"period": period} if period else {}),
    }
    task = _task(changed, state, actor, now, reason)
    return [Put(changed), Put(task), _told(changed, event, actor, now)]


def compare_lists(
    listed: Sequence[Listed], registered: Mapping[str, tuple[str, str, str]]
) -> list[Difference]:
    """Return how our family doctors differ from the insurance's list.

    `registered` is our approved doctors by code: (`Practitioner/id`, name, state).
    """
    found = []
    codes = {one.code for one in listed}
    for one in listed:
        ours = registered.get(one.code)
        if ours is None:
            found.append(Difference(kind="not-registered", code=one.code, name=one.name))
            continue
        doctor, name, _ = ours
        if one.state != "active":
            kind = "suspended-there"
        elif name and one.name and name != one.name:
            kind = "name-differs"
        else:
            continue
        found.append(Difference(kind=kind, code=one.code, name=one.name, doctor=doctor))
    for code, (doctor, name, _) in registered.items():
        if code not in codes:
            found.append(Difference(kind="removed-there", code=code, name=name, doctor=doctor))
    return found


SUSPENDING = frozenset({"suspended-there", "removed-there"})
"""Differences that end the right to sign until somebody resumes it."""


def _move(registration: Resource | None, event: str) -> str:
    state = state_of(registration)
    moves = MOVES.get(state, {})
    if event not in moves:
        possible = ", ".join(sorted(moves)) or "-"
        raise refuse(
            "registration-state",
            f"{event} is not possible while the registration is {state or 'not there'}",
            f"登记处于“{state or '无'}”状态，不能执行 {event}",
            f"Possible now: {possible}.",
            f"现在可以执行：{possible}。",
            "PractitionerRole.extension",
        )
    return moves[event]


def _task(
    role: Resource, state: str, actor: str, now: datetime.datetime, reason: str = ""
) -> dict[str, Any]:
    doctor = role["practitioner"]["reference"]
    task: dict[str, Any] = {
        "resourceType": "Task",
        "id": f"{doctor.partition('/')[2]}{_TASK_SUFFIX}",
        "status": _TASK.get(state, "completed"),
        "intent": "order",
        "code": {"text": "register-family-doctor"},
        "focus": {"reference": f"PractitionerRole/{role['id']}"},
        "authoredOn": now.isoformat(),
        "requester": content.who(actor),
    }
    if reason:
        task["statusReason"] = {"text": reason}
    return task


def _told(role: Resource, activity: str, actor: str, now: datetime.datetime) -> Put:
    stamp = now.strftime("%Y%m%d%H%M%S%f")
    provenance: dict[str, Any] = {
        "resourceType": "Provenance",
        "id": f"{role['id'][:40]}-{stamp}",
        "target": [{"reference": f"PractitionerRole/{role['id']}"}],
        "recorded": now.isoformat(),
        "activity": {"coding": [{"system": ACTIVITY, "code": activity}]},
        "agent": [{"who": content.who(actor)}],
    }
    return Put(provenance)
