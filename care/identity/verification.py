"""实名认证: to which level somebody's identity was verified, and by what evidence."""

import datetime
from dataclasses import dataclass
from typing import Any

from care.effects import Put, Resource, refuse
from care.names import written
from conformance.cphc import BASE
from conformance.identity_numbers import ID_CARD_SYSTEM

LEVEL = f"{BASE}/StructureDefinition/cphc-verification-level"
ACTIVITY = f"{BASE}/CodeSystem/cphc-identity-activity"
_LEVELS = ("0", "1", "2", "3", "4")
NUMBER_AND_NAME = 2
PROVEN = 3  # from here on somebody was seen: by a camera or in person
PROOF = "identity-proof"
MOST_PROOFS = 10
"""Comparisons of one person in a day."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a service found: `is_same` None where it could not say; `similarity` 0 to 100.

    `reference` is the service's own number of the comparison, `code` its own result.
    """

    is_same: bool | None
    code: str
    detail: str = ""
    similarity: float | None = None
    reference: str = ""


def facts_of(person: Resource) -> tuple[str, str]:
    """Return the official name and the ID card that are compared; refuse where one is absent."""
    names = [one for one in person.get("name", ()) if one.get("use") not in ("nickname", "old")]
    name: Resource = next(iter(names), {})
    text = written(name)
    number = next(
        (
            str(one["value"])
            for one in person.get("identifier", ())
            if one.get("system") == ID_CARD_SYSTEM and one.get("value") and one.get("use") != "old"
        ),
        "",
    )
    if text and number:
        return text, number
    raise refuse(
        "identity-facts",
        "The record lacks the name or the ID card number that would be compared",
        "档案缺少姓名或身份证号，无法核验",
        f"Complete {person['resourceType']}.name and identifier ({ID_CARD_SYSTEM}).",
        f"请补全 {person['resourceType']} 的姓名与身份证号（{ID_CARD_SYSTEM}）。",
        f"{person['resourceType']}.identifier",
    )


def proven(
    person: Resource,
    proof: Proof,
    *,
    by_photo: bool,
    document_id: str,
    actor: str,
    now: datetime.datetime,
) -> list[Put]:
    """Keep what a comparison found, and raise the level where it is the same person.

    The photo is not kept: the document names the result, the similarity and the service's number.
    """
    document = Put(_told(person, proof, by_photo=by_photo, id_=document_id, now=now), is_new=True)
    if not proof.is_same:
        return [document]
    level = max(PROVEN if by_photo else NUMBER_AND_NAME, level_of(person))
    evidence = f"DocumentReference/{document_id}"
    return [
        document,
        *verify(person, str(level), evidence=evidence, reason="", actor=actor, now=now),
    ]


def _told(
    person: Resource, proof: Proof, *, by_photo: bool, id_: str, now: datetime.datetime
) -> Resource:
    own = {"reference": f"{person['resourceType']}/{person['id']}"}
    subject = person["patient"] if person["resourceType"] == "RelatedPerson" else own
    what = "人脸比对 (face)" if by_photo else "姓名与身份证号 (name and number)"
    words = "一致 (same person)" if proof.is_same else f"不一致 (not the same) {proof.detail}"
    seen = "" if proof.similarity is None else f", similarity {proof.similarity:g}"
    text = f"{what}: {words}; {proof.code}{seen}, {proof.reference}"
    return {
        "resourceType": "DocumentReference",
        "id": id_,
        "status": "current",
        "type": {"coding": [{"system": ACTIVITY, "code": PROOF}], "text": "实名核验记录"},
        "subject": subject,
        "date": now.isoformat(),
        "description": text.strip(),
        "content": [{"attachment": {"title": text.strip()}}],
        "context": {"related": [own]},
    }
