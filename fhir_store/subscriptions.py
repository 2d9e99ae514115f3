"""Subscribers, the changes they hear of, their numbered events, and how far each was told.

Changes are read from the audit, which has a row for every version, in the order of commits.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from fhir_store.following import Place
from fhir_store.named_rows import Row, named_rows
from fhir_store.resource_types import TYPE_IDS, TYPES

Connection = AsyncConnection[Any]
_WRITES = ("create", "update", "patch", "delete")

# next_changes: the versions that were written, in the order of their commits
NEXT_CHANGES = """
SELECT txid, seq, at, actor, action, tid, fid, ver, detail FROM audit
 WHERE (txid, seq) > (%(txid)s, %(seq)s) AND txid < change_horizon()
 ORDER BY txid, seq LIMIT %(look)s"""

# two_versions: a version and the one before it, whether superseded or current
TWO_VERSIONS = """
SELECT w.number, v.ver, v.body
  FROM unnest(%(tids)s::int4[], %(fids)s::text[], %(vers)s::int4[])
       WITH ORDINALITY AS w (tid, fid, ver, number)
  JOIN resource r ON r.tid = w.tid AND r.fid = w.fid
  JOIN LATERAL (SELECT r.ver, r.body WHERE r.ver IN (w.ver, w.ver - 1)
                UNION ALL
                SELECT h.ver, h.body FROM resource_history h
                 WHERE h.rid = r.rid AND h.ver IN (w.ver, w.ver - 1)) v ON true"""

# subscribers, subscribers_named: as they stand
SUBSCRIBERS = """
SELECT fid, state, resource, caller, last_number, delivered, failures, fence, heartbeat, said_at
  FROM subscriber WHERE state <> 'off'"""
SUBSCRIBERS_NAMED = """
SELECT fid, state, resource, caller, last_number, delivered, failures, fence, heartbeat, said_at
  FROM subscriber WHERE fid = ANY(%(fids)s) ORDER BY fid"""

# claim_subscribers: those to whom something is to be said; nobody else says it for `lease`
CLAIM_SUBSCRIBERS = """
WITH picked AS (
  SELECT fid FROM subscriber
   WHERE state <> 'off' AND resource #>> '{channel,type}' = 'rest-hook' AND due_at <= now()
     AND (lease_until IS NULL OR lease_until < now())
     AND (state = 'requested' OR delivered < last_number
          OR heartbeat > 0 AND said_at < now() - heartbeat * interval '1 second')
   ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UPDATE subscriber s SET lease_until = now() + %(lease)s, fence = s.fence + 1
  FROM picked WHERE s.fid = picked.fid
RETURNING s.fid, s.state, s.resource, s.caller, s.last_number, s.delivered, s.failures, s.fence,
          s.heartbeat, s.said_at"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One version that was written: by whom, of what; `deleted` for a tombstone."""

    place: Place
    at: datetime
    actor: str
    type: str
    id: str
    version: int
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """A subscriber as it stands; `fence` must be current for its settling to count."""

    fid: str
    state: str
    resource: Mapping[str, Any]
    caller: Mapping[str, Any]
    last_number: int
    delivered: int
    failures: int
    fence: int
    heartbeat: int
    said_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One numbered event of a subscriber; `ver` None stands for what is current."""

    number: int
    at: datetime
    type: str
    id: str
    ver: int | None
    dead: str | None = None


async def next_changes(
    connection: Connection, place: Place, *, look: int
) -> tuple[list[Change], Place, int]:
    """Return the versions written after a place, and the new place, of `look` audit rows."""
    values = {"txid": place.txid, "seq": place.rid, "look": look}
    cursor = await connection.execute(NEXT_CHANGES, values, prepare=False)
    rows = await cursor.fetchall()
    changes = []
    for txid, seq, at, actor, action, tid, fid, ver, detail in rows:
        place = Place(txid=txid, rid=seq)
        if action in _WRITES and tid is not None and ver and detail != "unchanged":
            changes.append(
                Change(
                    place=place,
                    at=at,
                    actor=actor,
                    type=TYPES[tid - 1],
                    id=fid,
                    version=ver,
                    deleted=action == "delete",
                )
            )
    return changes, place, len(rows)


async def two_versions(
    connection: Connection, changes: Sequence[Change]
) -> list[tuple[bytes, bytes]]:
    """Return for each change the bodies (before, after); empty where there is none."""
    cursor = await connection.execute(
        TWO_VERSIONS,
        {
            "tids": [TYPE_IDS[one.type] for one in changes],
            "fids": [one.id for one in changes],
            "vers": [one.version for one in changes],
        },
        prepare=False,
    )
    found = {(number, ver): body for number, ver, body in await cursor.fetchall()}
    return [
        (
            (found.get((n, one.version - 1)) or "").encode(),
            (found.get((n, one.version)) or "").encode(),
        )
        for n, one in enumerate(changes, 1)
    ]


async def note_caller(connection: Connection, fid: str, caller: Mapping[str, Any]) -> None:
    """Remember in the caller's transaction who asks for a Subscription."""
    await connection.execute(
        "INSERT INTO subscription_caller (fid, caller) VALUES (%s, %s::jsonb)"
        " ON CONFLICT (fid) DO UPDATE SET caller = excluded.caller",
        (fid, json.dumps(caller)),
    )


async def caller_of(connection: Connection, fid: str) -> Mapping[str, Any] | None:
    """Return who asked for a Subscription; None where it did not come over HTTP."""
    cursor = await connection.execute(
        "SELECT caller FROM subscription_caller WHERE fid = %s", (fid,)
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def put_subscriber(
    connection: Connection,
    fid: str,
    *,
    state: str,
    resource: Mapping[str, Any],
    caller: Mapping[str, Any],
    heartbeat: int,
) -> None:
    """Take a subscriber, or one again as it is asked for now; its events stay."""
    await connection.execute(
        "INSERT INTO subscriber (fid, state, resource, caller, heartbeat)"
        " VALUES (%s, %s, %s::jsonb, %s::jsonb, %s)"
        " ON CONFLICT (fid) DO UPDATE SET state = excluded.state, resource = excluded.resource,"
        " caller = excluded.caller, heartbeat = excluded.heartbeat, failures = 0, due_at = now()",
        (fid, state, json.dumps(resource), json.dumps(caller), heartbeat),
    )


async def end_subscriber(connection: Connection, fid: str) -> None:
    """Tell a subscriber nothing more; its events may still be asked for."""
    await connection.execute("UPDATE subscriber SET state = 'off' WHERE fid = %s", (fid,))


async def subscribers(connection: Connection) -> list[Subscriber]:
    """Return all to whom events are told."""
    async with connection.cursor(row_factory=class_row(Subscriber)) as cursor:
        await cursor.execute(SUBSCRIBERS)
        return await cursor.fetchall()


async def subscribers_named(connection: Connection, fids: Sequence[str]) -> list[Subscriber]:
    """Return those of these Subscriptions that have become subscribers."""
    async with connection.cursor(row_factory=class_row(Subscriber)) as cursor:
        await cursor.execute(SUBSCRIBERS_NAMED, {"fids": list(fids)})
        return await cursor.fetchall()


async def add_events(connection: Connection, fid: str, events: Sequence[Event]) -> None:
    """Keep events of a subscriber under the next numbers; their own are not looked at."""
    cursor = await connection.execute(
        "UPDATE subscriber SET last_number = last_number + %s WHERE fid = %s RETURNING last_number",
        (len(events), fid),
    )
    row = await cursor.fetchone()
    if row is None:
        return
    first = row[0] - len(events) + 1
    async with connection.cursor() as inserting:
        await inserting.executemany(
            "INSERT INTO subscription_event (fid, number, at, type, id, ver)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [(fid, first + n, e.at, e.type, e.id, e.ver) for n, e in enumerate(events)],
        )


async def events_of(
    connection: Connection, fid: str, *, after: int, until: int | None = None, limit: int
) -> list[Event]:
    """Return events of a subscriber in their order."""
    async with connection.cursor(row_factory=class_row(Event)) as cursor:
        await cursor.execute(
            "SELECT number, at, type, id, ver, dead FROM subscription_event"
            " WHERE fid = %s AND number > %s AND number <= %s ORDER BY number LIMIT %s",
            (fid, after, until if until is not None else 2**62, limit),
        )
        return await cursor.fetchall()


async def claim_subscribers(
    connection: Connection, *, limit: int, lease: timedelta
) -> list[Subscriber]:
    """Take those to whom something is to be said now."""
    async with connection.cursor(row_factory=class_row(Subscriber)) as cursor:
        values = {"limit": limit, "lease": lease}
        await cursor.execute(CLAIM_SUBSCRIBERS, values, prepare=False)
        return await cursor.fetchall()


async def settle_told(connection: Connection, one: Subscriber, delivered: int) -> bool:
    """Note that a subscriber took everything up to a number; False where another worker has it."""
    cursor = await connection.execute(
        "UPDATE subscriber SET delivered = %s, failures = 0, due_at = now(), lease_until = NULL,"
        " said_at = now(), detail = '', state = CASE state WHEN 'off' THEN state ELSE 'active' END"
        " WHERE fid = %s AND fence = %s",
        (delivered, one.fid, one.fence),
    )
    return cursor.rowcount == 1


async def settle_failed(
    connection: Connection, one: Subscriber, *, wait: timedelta, detail: str, is_error: bool
) -> bool:
    """Note that a subscriber could not be told, and when to try again; nothing is passed over."""
    cursor = await connection.execute(
        "UPDATE subscriber SET failures = failures + 1, due_at = now() + %s, lease_until = NULL,"
        " detail = %s, state = CASE WHEN %s AND state = 'active' THEN 'error' ELSE state END"
        " WHERE fid = %s AND fence = %s",
        (wait, detail, is_error, one.fid, one.fence),
    )
    return cursor.rowcount == 1


async def note_heard(connection: Connection, fid: str, number: int) -> None:
    """Note that a subscriber heard everything up to a number over its WebSocket."""
    await connection.execute(
        "UPDATE subscriber SET delivered = greatest(delivered, %s), said_at = now(),"
        " state = CASE state WHEN 'off' THEN state ELSE 'active' END WHERE fid = %s",
        (number, fid),
    )


async def bury(connection: Connection, fid: str, numbers: Iterable[int], reason: str) -> None:
    """Put events that a subscriber refused into its dead letter."""
    await connection.execute(
        "UPDATE subscription_event SET dead = %s WHERE fid = %s AND number = ANY(%s)",
        (reason, fid, list(numbers)),
    )


async def prune_events(connection: Connection, *, older: timedelta) -> int:
    """Forget events that were told long ago, and tokens that have run out."""
    await connection.execute("DELETE FROM subscription_token WHERE expires_at < now()")
    cursor = await connection.execute(
        "DELETE FROM subscription_event e USING subscriber s"
        " WHERE s.fid = e.fid AND e.at < now() - %s AND e.number <= s.delivered",
        (older,),
    )
    return cursor.rowcount


async def keep_token(
    connection: Connection, token: str, fids: Sequence[str], *, lasts: timedelta
) -> datetime:
    """Keep a token for the WebSocket and return when it ends; only its digest is kept."""
    cursor = await connection.execute(
        "INSERT INTO subscription_token (digest, fids, expires_at) VALUES (%s, %s, now() + %s)"
        " RETURNING expires_at",
        (_digest(token), list(fids), lasts),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


async def take_token(connection: Connection, token: str) -> list[str]:
    """Return the Subscriptions a token stands for, and let it stand for none from now on."""
    cursor = await connection.execute(
        "DELETE FROM subscription_token WHERE digest = %s AND expires_at > now() RETURNING fids",
        (_digest(token),),
    )
    row = await cursor.fetchone()
    return [] if row is None else list(row[0])


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def list_subscribers(connection: Connection) -> list[Row]:
    """Return all subscribers for people, those with trouble first."""
    return await named_rows(
        connection,
        "SELECT fid, state, last_number, delivered, failures, due_at, detail,"
        " (SELECT count(*) FROM subscription_event e WHERE e.fid = s.fid"
        "   AND e.dead IS NOT NULL) AS dead"
        " FROM subscriber s ORDER BY failures DESC, fid LIMIT 1000",
        {},
    )


async def list_dead(connection: Connection, fid: str) -> list[Row]:
    """Return the dead letter of a subscriber for people."""
    return await named_rows(
        connection,
        "SELECT number, at, type, id, ver, dead FROM subscription_event"
        " WHERE fid = %(fid)s AND dead IS NOT NULL ORDER BY number LIMIT 1000",
        {"fid": fid},
    )


async def tell_again(connection: Connection, fid: str, since: int) -> int:
    """Put a subscriber back before an event; returns how many there are of that name, 0 or 1."""
    async with connection.transaction():
        await connection.execute(
            "UPDATE subscription_event SET dead = NULL WHERE fid = %s AND number >= %s",
            (fid, since),
        )
        cursor = await connection.execute(
            "UPDATE subscriber SET delivered = greatest(0, least(last_number, %s - 1)),"
            " fence = fence + 1, lease_until = NULL, failures = 0, due_at = now() WHERE fid = %s",
            (since, fid),
        )
        return cursor.rowcount
