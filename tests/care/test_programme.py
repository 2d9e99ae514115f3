"""Programmes of care as pure rules: each step leaves valid resources, or is refused with advice."""

import datetime
from typing import Any

import pytest

from care import programme
from care.effects import Hold, LetGo, Put
from care.programme import Moment
from conformance.cphc.code_systems import code_systems
from conformance.problem import BusinessRule
from conformance.structure import require_valid

NOW = datetime.datetime(2026, 3, 1, 10, tzinfo=datetime.UTC)
STAFF = Moment(now=NOW, actor="Practitioner/d1")
RESIDENT = Moment(now=NOW, actor="Patient/p1", is_lay=True)
PATIENT = {"resourceType": "Patient", "id": "p1"}
TEAM = {"resourceType": "CareTeam", "id": "t1"}


def applied(code: str = "htn", patient: dict[str, Any] = PATIENT) -> list[Any]:
    return programme.apply_for(RESIDENT, patient, TEAM, id_="e1", programme=code, reason="")


def resources(effects: list[Any]) -> dict[str, Any]:
    found = {one.resource["resourceType"]: one.resource for one in effects if isinstance(one, Put)}
    for one in found.values():
        require_valid(one)
    return found


def refused(call: Any) -> str:
    with pytest.raises(BusinessRule) as no:
        call()
    (issue,) = no.value.issues
    assert issue.fix_en
    assert issue.fix_zh
    return issue.key


def test_the_programmes_are_those_of_the_code_system() -> None:
    (known,) = (one for one in code_systems() if one["url"] == programme.TYPE)
    assert {one["code"]: one["display"] for one in known["concept"]} == programme.PROGRAMMES


def test_a_programme_is_applied_for_approved_and_closed() -> None:
    made = resources(applied())
    episode, task = made["EpisodeOfCare"], made["Task"]
    service = {"resourceType": "Task", "id": "s1"}
    effects = programme.decide(STAFF, episode, task, [service], verdict="approve", reason="")
    begun = resources(effects)
    assert begun["EpisodeOfCare"]["status"] == "active"
    assert begun["CarePlan"]["activity"] == [{"reference": {"reference": "Task/s1"}}]
    ended = programme.close(STAFF, begun["EpisodeOfCare"], begun["CarePlan"], reason="迁出")
    assert resources(ended)["CarePlan"]["status"] == "completed"
    held = [one for one in applied() if isinstance(one, Hold)]
    let_go = [one for one in ended if isinstance(one, LetGo)]
    assert [(one.kind, one.holder) for one in held] == [(one.kind, one.holder) for one in let_go]


def test_what_cannot_be_is_refused_with_advice() -> None:
    made = resources(applied())
    episode, task = made["EpisodeOfCare"], made["Task"]

    def decided(moment: Moment = STAFF, verdict: str = "approve", **changed: Any) -> Any:
        told = {"verdict": verdict, "reason": ""}
        return programme.decide(moment, {**episode, **changed}, task, [], **told)

    assert refused(lambda: applied("x")) == "programme-unknown"
    assert refused(lambda: applied("htn", {**PATIENT, "deceasedBoolean": True})) == (
        "resident-deceased"
    )
    assert refused(lambda: decided(RESIDENT)) == "staff-only"
    assert refused(lambda: decided(verdict="reject")) == "programme-verdict"
    assert refused(lambda: decided(status="active")) == "programme-state"
    assert refused(lambda: decided(team=[])) == "programme-state"
    assert refused(lambda: decided(type=[{"text": "x"}])) == "programme-state"
    assert refused(lambda: programme.close(STAFF, episode, None, reason="x")) == "programme-state"
    active = {**episode, "status": "active"}
    assert refused(lambda: programme.close(STAFF, active, None, reason="")) == "programme-reason"
