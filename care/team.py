"""家庭医生团队: a leader's team, its service area, and invitations that are answered."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from care.contract.surroundings import SERVICE_AREA, members_at
from care.effects import Put, Resource, refuse
from conformance.cphc import BASE
from conformance.problem import BusinessRule

ROLES = f"{BASE}/CodeSystem/cphc-fd-role"
CATEGORY = f"{BASE}/CodeSystem/cphc-team-category"


def activate(
    team_id: str,
    *,
    leader: str,
    name: str,
    organization: str,
    areas: Sequence[str],
    is_qualified: bool,
    now: datetime.datetime,
) -> Put:
    """Open a team with its leader; only one who may sign leads a team."""
    if not is_qualified:
        raise refuse(
            "leader-not-qualified",
            "The leader's registration as a family doctor is not approved",
            "团队长的家庭医生登记尚未审核通过",
            "Register and review the doctor first (Practitioner/$register-family-doctor).",
            "请先登记并审核该医生（Practitioner/$register-family-doctor）。",
            "Parameters.parameter.where(name = 'leader')",
        )
    team: dict[str, Any] = {
        "resourceType": "CareTeam",
        "id": team_id,
        "status": "active",
        "category": [{"coding": [{"system": CATEGORY, "code": "fd-team"}]}],
        "name": name,
        "participant": [_participant(leader, "leader", now)],
        "managingOrganization": [{"reference": organization}],
    }
    if areas:
        team["extension"] = [{"url": SERVICE_AREA, "valueCode": one} for one in areas]
    return Put(team, is_new=True)


def invite(
    team: Resource, *, doctor: str, role: str, actor: str, task_id: str, now: datetime.datetime
) -> Put:
    """Ask a doctor to join; he takes part when he has accepted."""
    leader = leader_of(team, now)
    if "/" in actor and actor != leader:
        raise _refused(
            "invite-leader",
            ("Only the leader of the team invites", "只有团队长可以邀请成员"),
            (f"Let {leader} invite.", f"请由 {leader} 发出邀请。"),
        )
    if doctor in members_at(team, now):
        raise _refused(
            "invite-member",
            ("The doctor takes part in the team already", "该医生已是团队成员"),
            ("Invite somebody else.", "请邀请其他医生。"),
        )
    return Put(
        {
            "resourceType": "Task",
            "id": task_id,
            "status": "requested",
            "intent": "proposal",
            "code": {"text": "invite", "coding": [{"system": ROLES, "code": role}]},
            "focus": {"reference": f"CareTeam/{team['id']}"},
            "authoredOn": now.isoformat(),
            "requester": {"reference": leader} if leader else {"display": actor},
            "owner": {"reference": doctor},
        },
        is_new=True,
    )


def answer(
    team: Resource, task: Resource, *, accepts: bool, actor: str, now: datetime.datetime
) -> list[Put]:
    """Accept or decline an invitation; who accepts takes part from now on."""
    doctor = str(task.get("owner", {}).get("reference", ""))
    if task.get("status") != "requested":
        raise _refused(
            "invitation-closed",
            (f"The invitation is {task.get('status')}", f"该邀请已处于 {task.get('status')} 状态"),
            ("Ask the leader for another one.", "请团队长重新邀请。"),
        )
    if "/" in actor and actor != doctor:
        raise _refused(
            "invitation-other",
            ("The invitation is for somebody else", "该邀请的对象是他人"),
            (f"Let {doctor} answer.", f"请由 {doctor} 答复。"),
        )
    answered = {**task, "status": "completed" if accepts else "rejected"}
    if not accepts:
        return [Put(answered)]
    coding: Mapping[str, Any] = next(iter(task["code"].get("coding", ())), {})
    joined = _participant(doctor, str(coding.get("code", "assistant")), now)
    others = [
        one
        for one in team.get("participant", ())
        if one.get("member", {}).get("reference") != doctor or "extension" in one
    ]
    return [Put({**team, "participant": [*others, joined]}), Put(answered)]


def leader_of(team: Resource, now: datetime.datetime) -> str:
    """Return who leads a team at an instant, "" where nobody does."""
    members = members_at(team, now)
    for one in team.get("participant", ()):
        codes = {c.get("code") for role in one.get("role", ()) for c in role.get("coding", ())}
        member = str(one.get("member", {}).get("reference", ""))
        if "leader" in codes and member in members:
            return member
    return ""


def _participant(member: str, role: str, now: datetime.datetime) -> dict[str, Any]:
    return {
        "role": [{"coding": [{"system": ROLES, "code": role}]}],
        "member": {"reference": member},
        "period": {"start": now.isoformat()},
    }


def _refused(key: str, texts: tuple[str, str], fixes: tuple[str, str]) -> BusinessRule:
    return refuse(key, *texts, *fixes)
