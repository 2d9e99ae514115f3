"""The audit as FHIR AuditEvents: read by id, or listed newest first.

http://hl7.org/fhir/R4/auditevent.html
"""

import base64
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
ACTIONS = {"create": "C", "update": "U", "patch": "U", "delete": "D"}  # all else reads: R

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
    txid, _, seq = id_.partition("-")
    if not (txid.isdecimal() and seq.isdecimal() and len(id_) <= 36):
        raise not_found("AuditEvent", id_)
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
    entity = _entity(tid, fid, ver, trace_id, detail)
    return {
        "resourceType": "AuditEvent",
        "id": f"{txid}-{seq}",
        "type": {"system": EVENT_TYPES, "code": "rest", "display": "RESTful Operation"},
        "subtype": [{"system": INTERACTIONS, "code": action}],
        "action": ACTIONS.get(action, "R"),
        "recorded": to_instant(at),
        "outcome": str(outcome),
        "agent": [{"who": _who(actor), "requestor": True}],
        "source": {"observer": {"display": source or "qiao"}},
        **({"entity": [entity]} if entity else {}),
    }


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
