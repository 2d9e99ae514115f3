"""What a resident is told of a service without anybody asking: that it is due, that it is done.

An item says so by extension `service-notice` (`due`, `done`, or both), and by `notice-repeat` how
often the first is said again; its Tasks carry both, so that whoever writes a Task is followed.
"""

import datetime
import uuid
from typing import Any

from care.contract import content
from care.effects import Resource
from care.fulfilment.completing import is_service_task, period_of_task
from care.periods import LOCAL
from care.reminder import REPEAT, STOP_RULE, TEMPLATE_TYPE
from conformance.cphc import BASE

NOTICE = f"{BASE}/StructureDefinition/cphc-service-notice"
_NAMES = uuid.UUID("5b3f7a52-2a51-5c07-9a8e-3f0f4a2d9c10")
_MORNING = datetime.time(9)


def requests_of(task: Resource, now: datetime.datetime) -> list[dict[str, Any]]:
    """Return the CommunicationRequests that a Task as it stands asks for, one at most.

    Their ids follow from the Task: what has been said is not said a second time.
    """
    if not is_service_task(task) or "for" not in task:
        return []
    begin, end = period_of_task(task)
    title = str(task.get("description") or "服务")
    wanted = {one.get("valueCode") for one in task.get("extension", ()) if one.get("url") == NOTICE}
    if task.get("status") == "ready" and "due" in wanted:
        words = f"您的家庭医生签约服务“{title}”请在 {begin} 至 {end} 期间完成，可联系签约团队预约。"
        morning = datetime.datetime.combine(begin, _MORNING, LOCAL)
        about = {"about": [{"reference": content.reference_to(task)}]}
        return [
            _request(task, "service-due", words, max(morning, now), now, {**about, **_how(task)})
        ]
    if task.get("status") == "completed" and "done" in wanted:
        day = str(task.get("executionPeriod", {}).get("end") or now.isoformat())[:10]
        words = f"您的家庭医生签约服务“{title}”已于 {day} 完成。"
        return [_request(task, "service-done", words, now, now, {})]
    return []


def _how(task: Resource) -> dict[str, Any]:
    """Return how often it is said: as the item repeats it, until the service is done."""
    repeats = [one for one in task.get("extension", ()) if one.get("url") == REPEAT]
    if not repeats:
        return {}
    return {"extension": [*repeats, {"url": STOP_RULE, "valueCode": "until-done"}]}


def _request(
    task: Resource,
    kind: str,
    words: str,
    at: datetime.datetime,
    now: datetime.datetime,
    more: dict[str, Any],
) -> dict[str, Any]:
    own = content.reference_to(task)
    return {
        "resourceType": "CommunicationRequest",
        "id": str(uuid.uuid5(_NAMES, f"{own} {kind}")),
        # With its contract an unsent message ends, too.
        "basedOn": [*task.get("basedOn", ()), {"reference": own}],
        "status": "active",
        "category": [{"coding": [{"system": TEMPLATE_TYPE, "code": kind}]}],
        "priority": "routine",
        "subject": task["for"],
        "payload": [{"contentString": words}],
        "occurrenceDateTime": at.astimezone(LOCAL).isoformat(timespec="seconds"),
        "authoredOn": now.astimezone(LOCAL).isoformat(timespec="seconds"),
        **more,
    }
