"""The audit as FHIR AuditEvents: read by id, or listed newest first.

http://hl7.org/fhir/R4/auditevent.html
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection

from fhir_store.body import to_instant
from fhir_store.failures import not_found
from fhir_store.resource_types import TYPE_IDS, TYPES

Connection = AsyncConnection[Any]
INTERACTIONS = "http://hl7.org/fhir/restful-interaction"
EVENT_TYPES = "http://terminology.hl7.org/CodeSystem/audit-event-type"
OWN_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,17}")
"""The ids of these events, which no client may use: the transaction and the place in it."""
BREAK_GLASS = "break-glass"
"""The action of an emergency access; its detail is the reason."""
_PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
MOVES = frozenset(
    {"inbox-replay", "inbox-skip", "outbox-requeue", "outbox-settle", "outbox-withdraw"}
)
"""What people do to the queues by hand (`queue_desk`); the detail is the reason."""
ACTIONS = {
    "create": "C",
    "update": "U",
    "patch": "U",
    "delete": "D",
    **dict.fromkeys(MOVES, "E"),
}  # all else reads: R

# read_event: one audit row
READ_EVENT = """
SELECT txid, seq, at, actor, trace_id, source, action, tid, fid, ver, outcome, detail
  FROM audit WHERE txid = %(txid)s AND seq = %(seq)s"""

# list_events: newest first; each given filter narrows
LIST_EVENTS: LiteralString = """
SELECT txid, seq, at, actor, trace_id, source, action, tid, fid, ver, outcome, detail
  FROM audit WHERE (txid, seq) < (%(txid)s, %(seq)s) {filters}
 ORDER BY txid DESC, seq DESC LIMIT %(limit)s"""
_FILTERS: dict[str, LiteralString] = {
    "entity": "AND fid = %(fid)s AND tid = %(tid)s",
    "actor": "AND actor = %(actor)s",
    "action": "AND action = %(action)s",
    "subtypes": "AND action = ANY(%(subtypes)s::text[])",
    "besides": "AND action <> ALL(%(besides)s::text[])",
    "outcomes": "AND outcome = ANY(%(outcomes)s::int4[])",
    "since": "AND at >= %(since)s",
    "until": "AND at < %(until)s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which events: of one resource (type, id), one actor, one action, in a time [since, until).

    `subtypes` are the actions wanted, `besides` those not wanted, `outcomes` the codes wanted.
    """

    entity: tuple[str, str] | None = None
    actor: str | None = None
    action: str | None = None
    subtypes: Sequence[str] | None = None
    besides: Sequence[str] | None = None
    outcomes: Sequence[int] | None = None
    since: datetime | None = None
    until: datetime | None = None
    count: int = 50
    after: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """AuditEvents newest first; `next` is where the following page begins, None at the end."""

    events: Sequence[dict[str, Any]]
    next: tuple[int, int] | None


async def read_event(connection: Connection, id_: str) -> dict[str, Any]:
    """Return the AuditEvent with this id; NotFound where there is none."""
    if not OWN_ID.fullmatch(id_):
        raise not_found("AuditEvent", id_)
    txid, _, seq = id_.partition("-")
    cursor = await connection.execute(READ_EVENT, {"txid": int(txid), "seq": int(seq)})
    row = await cursor.fetchone()
    if row is None:
        raise not_found("AuditEvent", id_)
    return _event(row)


async def list_events(connection: Connection, query: AuditQuery) -> AuditPage:
    """Return one page of AuditEvents."""
    given = [part for name, part in _FILTERS.items() if getattr(query, name) is not None]
    type_, fid = query.entity or (None, None)
    txid, seq = query.after or (2**62, 0)
    cursor = await connection.execute(
        LIST_EVENTS.replace("{filters}", " ".join(given)),
        {
            "txid": txid,
            "seq": seq,
            "tid": TYPE_IDS.get(type_ or "", 0),
            "fid": fid,
            "actor": query.actor,
            "action": query.action,
            "subtypes": list(query.subtypes or ()),
            "besides": list(query.besides or ()),
            "outcomes": list(query.outcomes or ()),
            "since": query.since,
            "until": query.until,
            "limit": query.count + 1,
        },
    )
    rows = await cursor.fetchall()
    shown = rows[: query.count]
    is_more = len(rows) > len(shown)
    return AuditPage(
        events=[_event(row) for row in shown],
        next=(shown[-1][0], shown[-1][1]) if is_more and shown else None,
    )


def _event(row: tuple[Any, ...]) -> dict[str, Any]:
    txid, seq, at, actor, trace_id, source, action, tid, fid, ver, outcome, detail = row
    is_move = action in MOVES
    entity = _entity(tid, fid, ver, trace_id, None if is_move else detail)
    if is_move and not entity:
        entity = {"name": source, "detail": [{"type": "trace", "valueString": trace_id}]}
    return {
        "resourceType": "AuditEvent",
        "id": f"{txid}-{seq}",
        "type": {"system": EVENT_TYPES, "code": "rest", "display": "RESTful Operation"},
        "subtype": [{"code": action} if is_move else {"system": INTERACTIONS, "code": action}],
        "action": ACTIONS.get(action, "R"),
        "recorded": to_instant(at),
        "outcome": str(outcome),
        **(_purpose(detail) if action == BREAK_GLASS else {}),
        **({"purposeOfEvent": [{"text": detail}]} if is_move and detail else {}),
        "agent": [{"who": _who(actor), "requestor": True}],
        "source": {"observer": {"display": source or "qiao"}},
        **({"entity": [entity]} if entity else {}),
    }


def _purpose(reason: str | None) -> dict[str, Any]:
    coding = [{"system": _PURPOSES, "code": "BTG", "display": "break the glass"}]
    return {"purposeOfEvent": [{"coding": coding, "text": reason or ""}]}


def _who(actor: str) -> dict[str, str]:
    type_, _, id_ = actor.partition("/")
    if type_ in TYPE_IDS and id_:
        return {"reference": actor}
    return {"display": actor}


def _entity(
    tid: int | None, fid: str | None, ver: int | None, trace_id: str, detail: str | None
) -> dict[str, Any]:
    entity: dict[str, Any] = {}
    if tid and fid:
        reference = f"{TYPES[tid - 1]}/{fid}"
        entity["what"] = {"reference": f"{reference}/_history/{ver}" if ver else reference}
    elif detail:
        # R4 keeps a search as base64 of what was asked.
        entity["query"] = base64.b64encode(detail.encode()).decode()
    if tid:
        entity["name"] = TYPES[tid - 1]
    if entity.get("query") and "name" in entity:
        del entity["name"]  # sev-1: an entity has a name or a query, not both
    if entity and trace_id:
        entity["detail"] = [{"type": "trace", "valueString": trace_id}]
    return entity
