"""A service is done: its Task completed with the proof that the item asks, or reopened."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from care.contract import content
from care.effects import Effect, Hold, LetGo, Put, Resource, refuse
from care.fulfilment.schedule import business_status
from care.periods import day_of
from conformance.cphc import BASE
from conformance.problem import Issue

EVIDENCE_CLAIM = "service-evidence"
"""The claim that a source (visit, procedure, form) fulfils one Task at most."""
SOURCE_USED = Issue(
    code="conflict",
    key="service-source-used",
    text_en="The record fulfils another service already",
    text_zh="该服务记录已用于其他履约任务",
    fix_en="Name another record, or leave the other service as it is.",
    fix_zh="请指定其他服务记录。",
    expression="Task.output",
)
OPEN = frozenset({"requested", "received", "accepted", "ready", "in-progress", "on-hold"})
_SKEW = datetime.timedelta(minutes=5)

PROOFS: Mapping[str, tuple[str, str]] = {
    "output": ("source, the visit, procedure or form", "source（就诊、操作或表单）"),
    "id-card": ("idCard, the number that was read", "idCard（读取的证件号码）"),
    "photo": ("photo, a DocumentReference", "photo（现场照片 DocumentReference）"),
    "location": ("location, latitude and longitude", "location（经纬度）"),
    "signature": ("signature, the resident's", "signature（居民签名）"),
}
"""What `cphc-evidence-rule` may ask, and how `$complete-service` takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is given for a service; references are `Type/id`, `id_card` the number as read."""

    performed: datetime.datetime
    source: str | None = None
    id_card: str | None = None
    photo: str | None = None
    location: str | None = None
    signature: Mapping[str, Any] | None = None
    note: str | None = None

    def given(self) -> frozenset[str]:
        """Return the codes of the rules that this meets."""
        has = {
            "output": self.source,
            "id-card": self.id_card,
            "photo": self.photo,
            "location": self.location,
            "signature": self.signature,
        }
        return frozenset(code for code, value in has.items() if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Who completes, when, for whom; `asked` is what the item's evidence rule asks."""

    now: datetime.datetime
    actor: str
    resident: Resource
    asked: frozenset[str]
    provenance_id: str


def period_of_task(task: Resource) -> tuple[datetime.date, datetime.date]:
    """Return first and last day on which a service Task is due."""
    period = task["restriction"]["period"]
    return (
        datetime.date.fromisoformat(period["start"][:10]),
        datetime.date.fromisoformat(period["end"][:10]),
    )


def is_service_task(task: Resource) -> bool:
    """Say whether a Task is a service that a package promised."""
    return "instantiatesCanonical" in task and "period" in task.get("restriction", {})


def complete(situation: Situation, task: Resource, proof: Proof) -> tuple[Effect, ...]:
    """Complete a service with its proof, or refuse with what is missing."""
    _require_open(task)
    _require_time(situation, task, proof)
    missing = sorted(situation.asked - proof.given())
    if missing:
        known = [PROOFS.get(code, (code, code)) for code in missing]
        raise refuse(
            "evidence-missing",
            f"The service asks for more proof: {', '.join(missing)}",
            f"该服务的凭证不全：{', '.join(missing)}",
            f"Send {', '.join(en for en, _ in known)}.",
            f"请补充{'、'.join(zh for _, zh in known)}。",
            "Task.output",
        )
    if proof.id_card and proof.id_card not in _numbers_of(situation.resident):
        raise refuse(
            "evidence-of-another",
            "The identity card that was read is not the resident's",
            "读取的证件不是该居民的证件",
            "Choose the resident whose card it is, or correct Patient.identifier.",
            "请选择证件对应的居民，或更正居民档案中的证件号码。",
            "Patient.identifier",
        )
    own = content.reference_to(task)
    effects: list[Effect] = []
    if proof.source:
        effects.append(Hold(kind=EVIDENCE_CLAIM, key=proof.source, holder=own, taken=SOURCE_USED))
    effects.append(Put(completed(task, proof.performed, proof)))
    effects.append(_provenance(situation, task, proof))
    return tuple(effects)


def completed(task: Resource, performed: datetime.datetime, proof: Proof) -> dict[str, Any]:
    """Return the Task as done; after its period it is 过访 (late)."""
    _, end = period_of_task(task)
    is_late = day_of(performed) > end
    outputs = [
        {"type": {"text": text}, "valueReference": {"reference": reference}}
        for text, reference in (
            ("服务记录 (record)", proof.source),
            ("现场照片 (photo)", proof.photo),
        )
        if reference
    ]
    done: dict[str, Any] = {
        **{key: value for key, value in task.items() if key not in ("meta", "output")},
        "status": "completed",
        "businessStatus": business_status("late" if is_late else "done"),
        "executionPeriod": {"start": performed.isoformat(), "end": performed.isoformat()},
    }
    if outputs:
        done["output"] = outputs
    if proof.note:
        done["note"] = [*task.get("note", ()), {"text": proof.note}]
    return done


def reopened(task: Resource, now: datetime.datetime) -> tuple[Effect, ...]:
    """Return the Task to be done again, because what fulfilled it is gone or was about another."""
    begin, end = period_of_task(task)
    today = day_of(now)
    state = "not-due" if today < begin else "due" if today <= end else "overdue"
    again = {
        **{k: v for k, v in task.items() if k not in ("meta", "output", "executionPeriod")},
        "status": "requested" if state == "not-due" else "ready",
        "businessStatus": business_status(state),
    }
    return LetGo(kind=EVIDENCE_CLAIM, holder=content.reference_to(task)), Put(again)


def is_done_by(task: Resource, source: str) -> bool:
    """Say whether a Task stands as completed by this very source."""
    return task.get("status") == "completed" and any(
        one.get("valueReference", {}).get("reference") == source for one in task.get("output", ())
    )


def _require_open(task: Resource) -> None:
    if not is_service_task(task):
        raise refuse(
            "task-no-service",
            "The Task is no service of a package",
            "该任务不是服务包中的服务",
            "Take a Task from Task/$due-worklist.",
            "请从 Task/$due-worklist 中选择任务。",
            "Task.instantiatesCanonical",
        )
    if task.get("status") not in OPEN:
        raise refuse(
            "task-not-open",
            f"The service is {task.get('status')} already",
            f"该服务已处于 {task.get('status')} 状态",
            "Read the Task; delete the record that completed it if that was wrong.",
            "请查看该任务；如误完成，请删除其服务记录后重试。",
            "Task.status",
        )


def _require_time(situation: Situation, task: Resource, proof: Proof) -> None:
    begin, _ = period_of_task(task)
    if proof.performed > situation.now + _SKEW:
        raise refuse(
            "service-time",
            "A service cannot be done in the future",
            "服务时间不能晚于现在",
            "Set the clock of the device, and send performed with its time zone.",
            "请校准设备时钟，并在 performed 中带时区发送。",
            "Task.executionPeriod",
        )
    day = day_of(proof.performed)
    if day < begin:
        raise refuse(
            "service-too-early",
            f"The service is due from {begin}",
            f"该服务自 {begin} 起才应完成",
            "Complete the Task that is due on that day.",
            "请完成当日应做的任务。",
            "Task.restriction.period",
        )
    death = _day_of_death(situation.resident)
    if situation.resident.get("deceasedBoolean") or (death is not None and day > death):
        raise refuse(
            "resident-deceased",
            "The resident had died before the service",
            "服务时间在居民死亡之后",
            "Correct performed, or Patient.deceased if the record is wrong.",
            "请更正服务时间；如档案有误，请更正 Patient.deceased。",
            "Patient.deceased[x]",
        )


def _day_of_death(resident: Resource) -> datetime.date | None:
    text = str(resident.get("deceasedDateTime", ""))
    try:
        if len(text) <= 10:
            return datetime.date.fromisoformat((text + "-12-31")[:10]) if text else None
        return day_of(datetime.datetime.fromisoformat(text))
    except ValueError:
        return None


def _numbers_of(resident: Resource) -> frozenset[str]:
    return frozenset(str(one.get("value", "")) for one in resident.get("identifier", ()))


def _provenance(situation: Situation, task: Resource, proof: Proof) -> Put:
    said: dict[str, Any] = {
        "resourceType": "Provenance",
        "id": situation.provenance_id,
        "target": [{"reference": content.reference_to(task)}],
        "occurredDateTime": proof.performed.isoformat(),
        "recorded": situation.now.isoformat(),
        "activity": {"coding": [{"system": content.ACTIVITY, "code": "complete-service"}]},
        "agent": [{"who": content.who(situation.actor)}],
    }
    if proof.location:
        url = f"{BASE}/StructureDefinition/cphc-geolocation"
        said["extension"] = [{"url": url, "valueString": proof.location}]
    if proof.signature:
        said["signature"] = [dict(proof.signature)]
    sources = [one for one in (proof.source, proof.photo) if one]
    if sources:
        said["entity"] = [{"role": "source", "what": {"reference": one}} for one in sources]
    return Put(said)
