"""实名认证: to which level somebody's identity was verified, and by what evidence."""

import datetime
from typing import Any

from care.effects import Put, Resource, refuse
from conformance.cphc import BASE

LEVEL = f"{BASE}/StructureDefinition/cphc-verification-level"
ACTIVITY = f"{BASE}/CodeSystem/cphc-identity-activity"
_LEVELS = ("0", "1", "2", "3", "4")
PROVEN = 3  # from here on somebody was seen: by a camera or in person


def level_of(person: Resource) -> int:
    """Return the level of a Patient or RelatedPerson, 0 where nothing was verified."""
    for one in person.get("extension", ()):
        if one.get("url") == LEVEL and one.get("valueCode") in _LEVELS:
            return int(one["valueCode"])
    return 0


def verify(
    person: Resource,
    level: str,
    *,
    evidence: str | None,
    reason: str,
    actor: str,
    now: datetime.datetime,
) -> list[Put]:
    """Set the level: what was seen needs evidence, what is taken back needs a reason."""
    if level not in _LEVELS:
        raise refuse(
            "verification-level",
            f"{level!r} is no level of verification",
            f"{level!r} 不是身份核验级别",
            "Give 0 (not verified) to 4 (in person).",
            "请给出 0（未核验）至 4（现场核验）。",
            "Parameters.parameter.where(name = 'level')",
        )
    if int(level) >= PROVEN and evidence is None:
        raise refuse(
            "verification-evidence",
            "Levels 3 and 4 need evidence",
            "3 级和 4 级核验须有凭证",
            "Store the result of the comparison or the scan as DocumentReference and name it.",
            "请将比对结果或扫描件存为 DocumentReference 并在 evidence 中引用。",
            "Parameters.parameter.where(name = 'evidence')",
        )
    if int(level) < level_of(person) and not reason:
        raise refuse(
            "verification-lowered",
            "A lower level needs its reason",
            "降低核验级别须说明原因",
            "Give the reason.",
            "请填写原因。",
            "Parameters.parameter.where(name = 'reason')",
        )
    others = [one for one in person.get("extension", ()) if one.get("url") != LEVEL]
    changed = {**person, "extension": [*others, {"url": LEVEL, "valueCode": level}]}
    agent = {"reference": actor} if "/" in actor else {"display": actor}
    told: dict[str, Any] = {
        "resourceType": "Provenance",
        "id": f"verify-{person['id'][:36]}-{now.strftime('%Y%m%d%H%M%S%f')}",
        "target": [{"reference": f"{person['resourceType']}/{person['id']}"}],
        "recorded": now.isoformat(),
        "activity": {"coding": [{"system": ACTIVITY, "code": "verify"}], "text": reason or level},
        "agent": [{"who": agent}],
    }
    if evidence is not None:
        told["entity"] = [{"role": "source", "what": {"reference": evidence}}]
    return [Put(changed), Put(told)]
