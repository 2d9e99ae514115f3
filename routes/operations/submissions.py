"""`[type]/[id]/$submissions`: what is owed to partners about a resource, as Tasks with receipts."""

from collections.abc import Mapping
from typing import Any

from conformance import resource_json
from conformance.cphc.operations import definition_of
from fhir_store.queue_desk import list_outbox
from routes.answer import Answer
from routes.hub import Hub
from routes.interactions.read import version_asked_for
from routes.operations.parameters import parameters_in
from routes.registry import Operation as Promise
from routes.request import Request

TYPES = ("Contract", "Patient", "CareTeam", "Practitioner", "Organization")
CODE = {"text": "submit"}
MOST = 500  # deliveries about one resource, the newest
_WORDS: Mapping[str, tuple[str, str]] = {
    "waiting": ("requested", "queued (待上报)"),
    "claimed": ("requested", "queued (待上报)"),
    "deferred": ("requested", "queued (待上报)"),
    "inflight": ("in-progress", "sent (已发送)"),
    "unknown": ("in-progress", "unknown (结果未知)"),
    "accepted": ("completed", "accepted (已接收)"),
    "settled": ("completed", "confirmed (已确认)"),
    "refused": ("failed", "rejected (被退回)"),
    "superseded": ("cancelled", "superseded (已被新版本取代)"),
    "withdrawn": ("cancelled", "withdrawn (已撤回)"),
}
"""State of a delivery -> Task.status and the word for it."""


def submissions_operation() -> Promise:
    """Return the operation as the registry wants it."""
    return Promise(
        code="submissions",
        definition=definition_of(TYPES[0], "submissions"),
        levels=frozenset({"instance"}),
        types=frozenset(TYPES),
        handler=submissions,
    )


async def submissions(hub: Hub, request: Request) -> Answer:
    """Return a Task for each delivery about the resource, oldest first, to who may read it."""
    parameters_in(hub, request)
    await version_asked_for(hub, request)
    own = f"{request.address.type}/{request.address.id}"
    async with hub.store.pool.connection() as connection:
        newest = await list_outbox(connection, order_key=own, limit=MOST)
    rows = newest[::-1]
    entries = [
        {
            "fullUrl": f"{request.base}/{own}/$submissions#{row['id']}",
            "resource": task_of(row),
            "search": {"mode": "match"},
        }
        for row in rows
    ]
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(rows), "entry": entries}
    if not entries:
        del bundle["entry"]
    return Answer(status=200, body=resource_json.dump(bundle), kind="resource")


def task_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a delivery as a Task: the version it is about, its state, the partner's receipt."""
    status, word = _WORDS[row["state"]]
    focus = f"{row['source_type']}/{row['source_id']}/_history/{row['source_version']}"
    task: dict[str, Any] = {
        "resourceType": "Task",
        "id": f"submission-{row['id']}",
        "status": status,
        "businessStatus": {"text": word},
        "intent": "order",
        "code": CODE,
        "focus": {"reference": focus},
        "authoredOn": row["created_at"].isoformat(),
        "lastModified": (row["settled_at"] or row["sent_at"] or row["created_at"]).isoformat(),
        "owner": {"display": row["destination"]},
        "input": [{"type": {"text": "msgId"}, "valueString": row["key"]}],
    }
    if row["part"]:
        task["description"] = row["part"]
    if row["detail"]:
        task["statusReason"] = {"text": f"{row['code']}: {row['detail']}"}
    if row["depends_on"] and status == "requested":
        waits = [{"type": {"text": "waits-for"}, "valueString": row["depends_on"]}]
        task["input"] = [*task["input"], *waits]
    if row["reference"]:
        receipt = {"type": {"text": "registrationNo"}, "valueString": row["reference"]}
        task["output"] = [receipt]
    return task
