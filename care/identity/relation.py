"""家属关系: a relative may act for a resident once both have confirmed it by their telephones.

Each side is sent a code of six digits. The Task that waits for them keeps digests only, which are
made with a secret of the site, and how often was tried; confirmed by both, it becomes a Consent.
"""

import datetime
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from care.contract.surroundings import require_alive
from care.effects import Effect, Put, Resource, refuse
from care.identity.verification import ACTIVITY
from care.reminder import address_of
from conformance.cphc import BASE
from conformance.problem import BusinessRule

SCOPES = f"{BASE}/CodeSystem/cphc-proxy-scope"
ALL_SCOPES = ("view", "book", "pay", "fill")
CONFIRM = "confirm-relation"
SIDES = ("resident", "relative")
LASTS = datetime.timedelta(minutes=10)
MOST_TRIES = 5
"""Wrong codes of one side; then both are sent anew."""
MOST_REQUESTS = 5
"""Of one relation in a day: each costs two messages, and gives as many tries."""
_MOBILE = re.compile(r"(?:\+?86)?(1\d{10})", re.ASCII)
_CONSENT_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
_CATEGORY = "http://loinc.org"
_WORDS = {"resident": "居民", "relative": "家属"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be confirmed: for which scopes, until when (None: until it is taken back)."""

    scopes: tuple[str, ...]
    until: datetime.date | None = None


def phones_of(resident: Resource, relative: Resource) -> dict[str, str]:
    """Return the mobile number of each side; refuse where they cannot both be asked."""
    require_alive(resident)
    if relative.get("active") is False:
        raise refuse(
            "relation-inactive",
            "The relation is not active",
            "该家属关系已停用",
            "Set RelatedPerson.active to true, or register the relative anew.",
            "请启用该家属关系或重新登记。",
            "RelatedPerson.active",
        )
    found = {}
    for side, person in zip(SIDES, (resident, relative), strict=True):
        number = _MOBILE.fullmatch(re.sub(r"[ \-]", "", address_of(person, "sms")))
        if number is None:
            kind = "Patient" if side == "resident" else "RelatedPerson"
            raise refuse(
                "relation-phone",
                f"The {side} has no mobile number on record, so nobody can be asked",
                f"{_WORDS[side]}档案中没有可用的手机号",
                f"Complete {kind}.telecom (system phone, use mobile), or record the Consent with "
                "the team in person.",
                f"请补全 {kind}.telecom 的手机号，或由团队现场登记授权。",
                f"{kind}.telecom",
            )
        found[side] = number[1]
    if len({*found.values()}) == 1:
        raise refuse(
            "relation-same-phone",
            "Both sides have the same number, so one person would confirm for both",
            "双方手机号相同，无法由双方分别确认",
            "Correct one of the numbers, or record the Consent with the team in person.",
            "请更正其中一方的手机号，或由团队现场登记授权。",
            "RelatedPerson.telecom",
        )
    return found


def require_wish(wish: Wish, today: datetime.date) -> None:
    """Refuse scopes that are none, and an end that is over."""
    if not wish.scopes or set(wish.scopes) - set(ALL_SCOPES):
        raise refuse(
            "relation-scope",
            "The scopes are none of what a relative may do",
            "授权范围无效",
            f"Give scope once or more: {', '.join(ALL_SCOPES)}.",
            f"请给出一个或多个 scope：{'、'.join(ALL_SCOPES)}。",
            "Parameters.parameter.where(name = 'scope')",
        )
    if wish.until is not None and wish.until < today:
        raise refuse(
            "relation-until",
            "The end of the relation is over already",
            "授权截止日期已过",
            "Give a day from today on as until, or leave it out.",
            "请将 until 设为今天或以后，或不填。",
            "Parameters.parameter.where(name = 'until')",
        )


def waiting(
    relative: Resource,
    wish: Wish,
    digests: Mapping[str, str],
    *,
    task_id: str,
    actor: str,
    now: datetime.datetime,
) -> Put:
    """Return the Task that waits for both codes."""
    values: list[tuple[str, str, Any]] = [("scope", "valueCode", one) for one in wish.scopes]
    if wish.until is not None:
        values.append(("until", "valueDate", wish.until.isoformat()))
    values += [(f"{side}-digest", "valueString", digests[side]) for side in SIDES]
    task = {
        "resourceType": "Task",
        "id": task_id,
        "status": "requested",
        "intent": "order",
        "code": {
            "coding": [{"system": ACTIVITY, "code": CONFIRM}],
            "text": "家属关系待双方确认 (both sides confirm by telephone)",
        },
        "focus": {"reference": f"RelatedPerson/{relative['id']}"},
        "for": {"reference": relative["patient"]["reference"]},
        "authoredOn": now.isoformat(),
        "requester": {"reference": actor} if "/" in actor else {"display": actor},
        "restriction": {"period": {"end": (now + LASTS).isoformat()}},
        "input": [{"type": {"text": name}, kind: value} for name, kind, value in values],
    }
    return Put(task, is_new=True)


def unsent(task: Resource, reason: str) -> Put:
    """Return the Task as failed, because the codes did not leave."""
    kept = {key: value for key, value in task.items() if key != "meta"}
    return Put({**kept, "status": "failed", "statusReason": {"text": reason}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What came of codes: what is to be written, and what is refused beside it."""

    effects: tuple[Effect, ...]
    refusal: BusinessRule | None = None


def confirm(
    task: Resource,
    resident: Resource,
    digests: Mapping[str, str],
    *,
    consent_id: str,
    actor: str,
    now: datetime.datetime,
) -> Confirmed:
    """Take the codes of one side or both, as digests; the last one makes the Consent.

    A wrong one counts as a try, so it is written although it is refused.
    """
    _require_waiting(task, now)
    require_alive(resident)
    notes: dict[str, Any] = {
        one["type"]["text"]: next(v for k, v in one.items() if k.startswith("value"))
        for one in task.get("output", ())
    }
    wrong = []
    for side, digest in digests.items():
        if hmac.compare_digest(_kept(task, side), digest):
            notes.setdefault(f"{side}-confirmed", now.isoformat())
        else:
            notes[f"{side}-tries"] = _tries(notes, side) + 1
            wrong.append(side)
    is_spent = any(_tries(notes, side) >= MOST_TRIES for side in SIDES)
    is_done = not wrong and all(f"{side}-confirmed" in notes for side in SIDES)
    status = "failed" if is_spent else "completed" if is_done else "in-progress"
    changed = {key: value for key, value in task.items() if key != "meta"}
    changed |= {"status": status, "lastModified": now.isoformat(), "output": _outputs(notes)}
    if wrong:
        left = MOST_TRIES - max(_tries(notes, side) for side in wrong)
        return Confirmed(effects=(Put(changed),), refusal=_wrong(wrong, left))
    made = _consent(task, consent_id, actor, now) if is_done else ()
    return Confirmed(effects=(Put(changed), *made))


def _kept(task: Resource, side: str) -> str:
    """Return the digest that a side's code must have."""
    named = (one for one in task["input"] if one["type"]["text"] == f"{side}-digest")
    return str(next(named)["valueString"])


def _tries(notes: Mapping[str, Any], side: str) -> int:
    return int(notes.get(f"{side}-tries", 0))


def _outputs(notes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "type": {"text": name},
            "valueInteger" if name.endswith("-tries") else "valueDateTime": value,
        }
        for name, value in notes.items()
    ]


def _consent(
    task: Resource, consent_id: str, actor: str, now: datetime.datetime
) -> Sequence[Effect]:
    inputs = task["input"]
    scopes = [str(one["valueCode"]) for one in inputs if one["type"]["text"] == "scope"]
    until = next((one["valueDate"] for one in inputs if one["type"]["text"] == "until"), None)
    actors = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
    provision: dict[str, Any] = {
        "type": "permit",
        "actor": [{"role": {"coding": [{"system": actors, "code": "IRCP"}]},
                   "reference": dict(task["focus"])}],
        "action": [{"coding": [{"system": SCOPES, "code": one}]} for one in scopes],
    }  # fmt: skip
    if until is not None:
        provision["period"] = {"start": now.isoformat(), "end": until}
    consent: dict[str, Any] = {
        "resourceType": "Consent",
        "id": consent_id,
        "status": "active",
        "scope": {"coding": [{"system": _CONSENT_SCOPE, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": _CATEGORY, "code": "59284-0"}]}],
        "patient": dict(task["for"]),
        "dateTime": now.isoformat(),
        "policyRule": {"text": "家属关系经双方手机验证码确认 (confirmed by both telephones)"},
        "verification": [
            {"verified": True, "verifiedWith": dict(task[who]), "verificationDate": now.isoformat()}
            for who in ("for", "focus")
        ],
        "provision": provision,
    }
    told = {
        "resourceType": "Provenance",
        "id": f"{consent_id}-told",
        "target": [{"reference": f"Consent/{consent_id}"}],
        "recorded": now.isoformat(),
        "activity": {"coding": [{"system": ACTIVITY, "code": CONFIRM}]},
        "agent": [{"who": {"reference": actor} if "/" in actor else {"display": actor}}],
        "entity": [{"role": "source", "what": {"reference": f"Task/{task['id']}"}}],
    }
    return Put(consent, is_new=True), Put(told, is_new=True)


def _require_waiting(task: Resource, now: datetime.datetime) -> None:
    codes = [one.get("code") for one in task.get("code", {}).get("coding", ())]
    end = task.get("restriction", {}).get("period", {}).get("end")
    is_open = CONFIRM in codes and task.get("status") in ("requested", "in-progress")
    if not is_open or end is None or datetime.datetime.fromisoformat(end) <= now:
        raise refuse(
            "relation-over",
            "These codes are used, spent or older than ten minutes",
            "验证码已使用、已失效或超过 10 分钟",
            "Ask for new ones with $request-relation.",
            "请用 $request-relation 重新获取验证码。",
            "Parameters.parameter.where(name = 'task')",
        )


def _wrong(sides: Sequence[str], left: int) -> BusinessRule:
    who = " and ".join(f"the {side}" for side in sides)
    named = "、".join(_WORDS[side] for side in sides)
    fix = (
        f"Enter the code of the message again; {left} tries are left.",
        f"请重新输入短信中的验证码，还可尝试 {left} 次。",
    )
    if left <= 0:
        fix = (
            "Ask for new codes with $request-relation.",
            "请用 $request-relation 重新获取验证码。",
        )
    return refuse(
        "relation-code",
        f"The code of {who} is not the one that was sent",
        f"{named}的验证码不正确",
        *fix,
        f"Parameters.parameter.where(name = '{sides[0]}Code')",
    )
