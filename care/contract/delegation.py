"""Delegation (委托): another doctor or team stands in for a while, and no longer.

Authority is read from `CareTeam.participant.period` at the time of each request, so a delegation
ends by itself; ending it by job or by hand only writes history.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from care.contract import content
from care.contract.states import Event, require_lawful
from care.contract.steps import decide
from care.contract.surroundings import (
    DELEGATED_FROM,
    Surroundings,
    members_at,
    require_alive,
    require_staff,
)
from care.effects import Decision, Hold, LetGo, Put, Resource, refuse
from care.periods import holds_at
from conformance.cphc import BASE

KIND = "delegation"
"""The claim by which a delegation whose time is over is found."""
LONGEST = datetime.timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """Who (`Practitioner/id`) is stood in for by whom (Practitioner or CareTeam), and when."""

    from_: str
    to: str
    start: datetime.datetime
    end: datetime.datetime
    kind: str = "leave"
    scope: str = ""


def delegate(around: Surroundings, contract: Resource, delegation: Delegation) -> Decision:
    """Let somebody take part in the contract's team on behalf of a member, for a while."""
    require_lawful(contract, Event.DELEGATE)
    require_staff(around, "$delegate")
    require_alive(around.resident)
    _require_possible(around, delegation)
    own_id = around.new_id()
    period = {"start": delegation.start.isoformat(), "end": delegation.end.isoformat()}
    extensions = [{"url": DELEGATED_FROM, "valueReference": {"reference": delegation.from_}}]
    if delegation.scope:
        extensions.append(content.extension("delegation-scope", "valueString", delegation.scope))
    participant = {
        "id": own_id,
        "extension": extensions,
        "member": {"reference": delegation.to},
        "period": period,
    }
    team = {**_bare(around.team), "participant": [*around.team["participant"], participant]}
    more = {
        "restriction": {"period": period},
        "reasonCode": {"coding": [{"system": _KINDS, "code": delegation.kind}]},
    }
    task = content.task(around, "delegate", contract, "in-progress", id_=own_id, more=more)
    task = Put({**task.resource, "owner": {"reference": delegation.to}})
    claim = Hold(
        kind=KIND,
        key=f"Task/{own_id}",
        holder=f"Task/{own_id}",
        start=delegation.start,
        end=delegation.end,
    )
    return decide(around, contract, "delegate", [Put(team), task], more=[claim])


def cancel(around: Surroundings, contract: Resource, task: Resource, reason: str = "") -> Decision:
    """Take a delegation back before its time: authority ends at this instant."""
    if task.get("status") != "in-progress":
        raise refuse(
            "delegation-over",
            "The delegation is over already",
            "该委托已结束",
            "Nothing is to be done; read Task.status.",
            "无需操作，请查看 Task.status。",
            "Task.status",
        )
    team = _bare(around.team)
    team["participant"] = [_ended(one, task, around.now) for one in team["participant"]]
    changed = {**_bare(task), "status": "cancelled", "lastModified": around.now.isoformat()}
    if reason:
        changed["statusReason"] = {"text": reason}
    free = LetGo(kind=KIND, holder=content.reference_to(task))
    return decide(around, contract, "delegate", [Put(team), Put(changed)], more=[free])


def close(around_now: datetime.datetime, task: Resource) -> tuple[Put | LetGo, ...]:
    """Return what the history shows when a delegation has ended by itself."""
    done = {**_bare(task), "status": "completed", "lastModified": around_now.isoformat()}
    return (LetGo(kind=KIND, holder=content.reference_to(task)), Put(done))


def is_running(participant: Mapping[str, Any], now: datetime.datetime) -> bool:
    """Say whether a participant of a team is a delegation that runs at this instant."""
    urls = {one.get("url") for one in participant.get("extension", ())}
    return DELEGATED_FROM in urls and holds_at(participant.get("period", {}), now)


def _require_possible(around: Surroundings, delegation: Delegation) -> None:
    if delegation.from_ not in members_at(around.team, around.now):
        raise refuse(
            "delegation-from",
            "Who delegates takes no part in the contract's team",
            "委托人不是本团队成员",
            "Name a member of the team in `from`.",
            "请在 from 中指定本团队成员。",
            "CareTeam.participant.member",
        )
    kind, _, id_ = delegation.to.partition("/")
    is_self = delegation.to in (delegation.from_, content.reference_to(around.team))
    if kind not in ("Practitioner", "CareTeam") or not id_ or is_self:
        raise refuse(
            "delegation-to",
            "Delegation goes to another doctor (Practitioner) or team (CareTeam)",
            "受托人须为另一医生（Practitioner）或团队（CareTeam）",
            "Name another Practitioner/id or CareTeam/id in `to`.",
            "请在 to 中指定其他 Practitioner/id 或 CareTeam/id。",
            "CareTeam.participant.member",
        )
    lasts = delegation.end - delegation.start
    if delegation.end <= around.now or not datetime.timedelta(0) < lasts <= LONGEST:
        raise refuse(
            "delegation-period",
            f"A delegation ends in the future and lasts {LONGEST.days} days at most",
            f"委托须在将来结束，且不超过 {LONGEST.days} 天",
            "Correct start and end.",
            "请更正起止时间。",
            "CareTeam.participant.period",
        )


def _ended(participant: Resource, task: Resource, now: datetime.datetime) -> Resource:
    if participant.get("id") != task["id"]:
        return participant
    period = participant["period"]
    start = min(datetime.datetime.fromisoformat(period["start"]), now)
    return {**participant, "period": {"start": start.isoformat(), "end": now.isoformat()}}


def _bare(resource: Resource) -> dict[str, Any]:
    return {k: v for k, v in resource.items() if k != "meta"}


_KINDS = f"{BASE}/CodeSystem/cphc-delegation-type"
