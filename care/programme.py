"""Programmes of care (慢病管理, 家庭病床): applied for, decided, followed by a plan, closed.

An EpisodeOfCare carries the programme as `type` (`cphc-programme-type`) and the team; it is
`planned` while it is applied for, `active` once approved, then `finished` (or `cancelled` where it
was refused). Visits name it in `Encounter.episodeOfCare`.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from care.contract import content
from care.contract.surroundings import require_alive
from care.effects import Effect, Hold, LetGo, Put, Resource, refuse
from care.periods import day_of
from conformance.cphc import BASE
from conformance.problem import Issue

PROGRAMMES = {
    "htn": "高血压患者健康管理", "dm2": "2型糖尿病患者健康管理", "smi": "严重精神障碍患者管理",
    "tb": "肺结核患者健康管理", "pregnancy": "孕产妇健康管理", "elderly": "老年人健康管理",
    "child": "0～6岁儿童健康管理", "home-bed": "家庭病床",
}  # fmt: skip
TYPE = f"{BASE}/CodeSystem/cphc-programme-type"
WORK = f"{BASE}/CodeSystem/cphc-programme-task"
ENROLMENT = "programme"
"""The claim that a resident is in a programme once."""
_ENROLLED = Issue(
    code="conflict",
    key="programme-enrolled",
    text_en="The resident is in this programme already, or has applied for it",
    text_zh="该居民已纳入或已申请该管理项目",
    fix_en="Read EpisodeOfCare?patient=…&status=planned,active; close it with $close-programme.",
    fix_zh="请查询 EpisodeOfCare?patient=…&status=planned,active，可用 $close-programme 结案。",
    expression="EpisodeOfCare.type",
)
_OPEN = frozenset({"planned", "waitlist", "active", "onhold"})
_YEAR = datetime.timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When and by whom something is done; `actor` is `Type/id` or a name."""

    now: datetime.datetime
    actor: str
    is_lay: bool = False  # a resident, a relative or their app

    @property
    def stamp(self) -> str:
        """Return the instant as FHIR writes it."""
        return self.now.isoformat(timespec="seconds")


def apply_for(
    moment: Moment, resident: Resource, team: Resource, *, id_: str, programme: str, reason: str
) -> list[Effect]:
    """Apply for a programme: the episode is planned and the team has a Task to review it."""
    if programme not in PROGRAMMES:
        raise refuse(
            "programme-unknown",
            f"{programme!r} is no programme",
            f"{programme!r} 不是管理项目",
            f"Give one of {', '.join(sorted(PROGRAMMES))}.",
            f"可用：{'、'.join(sorted(PROGRAMMES))}。",
            "EpisodeOfCare.type",
        )
    require_alive(resident)
    own = f"EpisodeOfCare/{id_}"
    patient = content.reference_to(resident)
    episode: dict[str, Any] = {
        "resourceType": "EpisodeOfCare",
        "id": id_,
        "status": "planned",
        "statusHistory": [{"status": "planned", "period": {"start": moment.stamp}}],
        "type": [{"coding": [_coding(programme)]}],
        "patient": {"reference": patient},
        "team": [{"reference": content.reference_to(team)}],
    }
    for organization in team.get("managingOrganization", ())[:1]:
        episode["managingOrganization"] = organization
    task = {
        "resourceType": "Task",
        "id": _task_id(id_),
        "status": "requested",
        "intent": "order",
        "code": {"coding": [{"system": WORK, "code": "review-programme"}]},
        "focus": {"reference": own},
        "for": {"reference": patient},
        "owner": {"reference": content.reference_to(team)},
        "authoredOn": moment.stamp,
        **({"description": reason} if reason else {}),
    }
    return [*enrolments(episode), Put(episode), Put(task), _who(moment, own, "apply", reason)]


def decide(
    moment: Moment, episode: Resource, task: Resource, services: Iterable[Resource], *,
    verdict: str, reason: str,
) -> list[Effect]:  # fmt: skip
    """Approve an application, with a plan of the resident's open services, or reject it."""
    _require_staff(moment)
    _require(episode, "planned")
    if verdict not in ("approve", "reject") or (verdict == "reject" and not reason):
        raise refuse(
            "programme-verdict",
            "The verdict is neither approve nor reject, or a rejection has no reason",
            "结论应为 approve 或 reject；不同意时须说明原因",
            "Give verdict approve, or reject with reason.",
            "请给出 verdict（approve 或 reject 并附 reason）。",
            "Parameters.parameter.where(name = 'verdict')",
        )
    own = content.reference_to(episode)
    if verdict == "reject":
        ended = _became(moment, episode, "cancelled")
        done = {**_bare(task), "status": "rejected", "statusReason": {"text": reason}}
        let_go = LetGo(kind=ENROLMENT, holder=own)
        return [let_go, Put(ended), Put(done), _who(moment, own, "reject", reason)]
    begun = _became(moment, episode, "active")
    begun["period"] = {"start": moment.stamp}
    plan = _plan(moment, begun, list(services))
    begun_task = {**_bare(task), "status": "completed"}
    return [Put(begun), Put(begun_task), Put(plan), _who(moment, own, "approve", reason)]


def close(moment: Moment, episode: Resource, plan: Resource | None, *, reason: str) -> list[Effect]:
    """Close an active programme, and its plan with it."""
    _require_staff(moment)
    _require(episode, "active")
    if not reason:
        raise refuse(
            "programme-reason",
            "Closing a programme needs its reason",
            "结案须说明原因",
            "Give reason.",
            "请填写 reason。",
            "Parameters.parameter.where(name = 'reason')",
        )
    own = content.reference_to(episode)
    ended = _became(moment, episode, "finished")
    ended["period"] = {**episode.get("period", {}), "end": moment.stamp}
    effects: list[Effect] = [LetGo(kind=ENROLMENT, holder=own), Put(ended)]
    if plan is not None and plan.get("status") == "active":
        effects.append(Put({**_bare(plan), "status": "completed"}))
    return [*effects, _who(moment, own, "close", reason)]


def enrolments(episode: Resource | None) -> tuple[Hold, ...]:
    """Return the claims of an episode that is open: each programme of ours once for a resident."""
    if episode is None or episode.get("status") not in _OPEN:
        return ()
    patient = str(episode.get("patient", {}).get("reference", ""))
    codes = {
        str(coding.get("code"))
        for type_ in episode.get("type", ())
        for coding in type_.get("coding", ())
        if coding.get("system") == TYPE
    }
    own = content.reference_to(episode)
    return tuple(
        Hold(kind=ENROLMENT, key=f"{patient} {code}", holder=own, taken=_ENROLLED)
        for code in sorted(codes)
        if patient.startswith("Patient/")
    )


def claims_of_change(before: Resource | None, after: Resource | None) -> tuple[Hold | LetGo, ...]:
    """Return what a change of an EpisodeOfCare claims and gives up, whoever writes it.

    `before` and `after` are None where there is none.
    """
    held, wanted = enrolments(before), enrolments(after)
    if held == wanted:
        return ()
    given_up = (LetGo(kind=ENROLMENT, holder=held[0].holder),) if held else ()
    return (*given_up, *wanted)


def task_key(episode_id: str) -> tuple[str, str]:
    """Return type and id of the Task that reviews an application."""
    return "Task", _task_id(episode_id)


def plan_key(episode_id: str) -> tuple[str, str]:
    """Return type and id of a programme's CarePlan."""
    return "CarePlan", f"plan-{episode_id}"[:64]


def _plan(moment: Moment, episode: Resource, services: list[Resource]) -> dict[str, Any]:
    code = str(_code_of(episode))
    today = day_of(moment.now)
    plan: dict[str, Any] = {
        "resourceType": "CarePlan",
        "id": plan_key(episode["id"])[1],
        "status": "active",
        "intent": "plan",
        "title": f"{PROGRAMMES[code]}年度计划",
        "category": [{"coding": [_coding(code)]}],
        "subject": episode["patient"],
        "period": {"start": today.isoformat(), "end": (today + _YEAR).isoformat()},
        "created": moment.stamp,
        "careTeam": episode["team"],
        "supportingInfo": [{"reference": content.reference_to(episode)}],
    }
    activities = [{"reference": {"reference": content.reference_to(one)}} for one in services]
    return {**plan, "activity": activities} if activities else plan


def _became(moment: Moment, episode: Resource, status: str) -> dict[str, Any]:
    """Return the episode in its next status, with the history that R4 asks for."""
    history = [dict(one) for one in episode.get("statusHistory", ())]
    if history:
        history[-1]["period"] = {**history[-1].get("period", {}), "end": moment.stamp}
    history.append({"status": status, "period": {"start": moment.stamp}})
    return {**_bare(episode), "status": status, "statusHistory": history}


def _who(moment: Moment, target: str, what: str, reason: str) -> Put:
    agent = {"reference": moment.actor} if "/" in moment.actor else {"display": moment.actor}
    id_ = target.partition("/")[2]
    return Put(
        {
            "resourceType": "Provenance",
            "id": f"{what}-{id_}"[:64],
            "target": [{"reference": target}],
            "recorded": moment.now.isoformat(),
            "activity": {"coding": [{"system": WORK, "code": what}], "text": reason or what},
            "agent": [{"who": agent}],
        }
    )


def _require(episode: Resource, status: str) -> None:
    if episode.get("status") != status or not episode.get("team") or _code_of(episode) is None:
        raise refuse(
            "programme-state",
            f"The programme is {episode.get('status')}, or was not applied for here",
            f"该管理项目处于 {episode.get('status')} 状态，或不是由申请产生",
            "Apply with EpisodeOfCare/$apply-for-programme; review what is planned, close what is "
            "active.",
            "请用 EpisodeOfCare/$apply-for-programme 申请；审核 planned 的，结案 active 的。",
            "EpisodeOfCare.status",
        )


def _require_staff(moment: Moment) -> None:
    if moment.is_lay:
        raise refuse(
            "staff-only",
            "This is for the team, not for the resident or relatives",
            "此操作须由签约团队办理",
            "Ask the team to do it.",
            "请联系签约团队办理。",
        )


def _code_of(episode: Resource) -> str | None:
    """Return the programme of an episode; None for one of another kind, written by other hands."""
    for concept in episode.get("type", ()):
        for coding in concept.get("coding", ()):
            if coding.get("system") == TYPE and coding.get("code") in PROGRAMMES:
                return str(coding["code"])
    return None


def _coding(programme: str) -> dict[str, str]:
    return {"system": TYPE, "code": programme, "display": PROGRAMMES[programme]}


def _bare(resource: Resource) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "meta"}


def _task_id(episode_id: str) -> str:
    return f"review-{episode_id}"[:64]
