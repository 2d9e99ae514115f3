"""Looks at service Tasks by patient and item, at who holds a source, and counts by team."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from conformance import resource_json
from conformance.search_parameters import parameters_of
from fhir_store.arrays import Int8s
from fhir_store.changes import microseconds_of
from fhir_store.digests import lock_number
from fhir_store.following import Place
from fhir_store.index_rows import code_word
from fhir_store.keys import cached_key_of, resource_key, system_number
from fhir_store.operations import Version
from fhir_store.resource_types import TYPES
from fhir_store.versions import RID

Connection = AsyncConnection[Any]
Resource = Mapping[str, Any]
Code = tuple[str, str]

# tasks_of_patients: Tasks of these residents with one of these codes, kept from other writers
TASKS_OF_PATIENTS = """
SELECT r.body FROM resource r
 WHERE r.rid IN (
        SELECT p.rid FROM ix_ref p
         WHERE p.tgt = ANY(%(patients)b::int8[]) AND p.pid = %(subject)s
           AND EXISTS (SELECT 1 FROM ix_token c
                        WHERE c.rid = p.rid AND c.h = ANY(%(codes)b::int8[])))
   AND NOT r.del
 ORDER BY r.rid FOR NO KEY UPDATE"""

# holders_of: who holds these keys of a kind
HOLDERS_OF = """
SELECT c.key, c.holder
  FROM unnest(%(ks)b::int8[]) AS u (k)
  JOIN claim c ON int8range(c.k, c.k, '[]') && int8range(u.k, u.k, '[]')
 WHERE c.kind = %(kind)s AND c.key = ANY(%(keys)s)"""

# due_tasks: open services of a team that are due, the earliest end first. The months are gone
# through in their order, each by its own key, only until the page is full.
DUE_TASKS = """
WITH page AS MATERIALIZED (
  SELECT x.hi, x.rid
    FROM unnest(%(keys)b::int8[]) WITH ORDINALITY AS m (h, number),
         LATERAL (SELECT d.hi, d.rid FROM ix_token t
                    JOIN ix_date d ON d.rid = t.rid AND d.h = %(due)s
                   WHERE t.h = m.h AND d.lo <= %(now)s AND (d.hi, d.rid) > (%(hi)s, %(rid)s)
                     AND {permitted}
                   ORDER BY d.hi, d.rid LIMIT %(limit)s) x
   LIMIT %(limit)s)
SELECT p.hi, p.rid, r.tid, r.fid, r.ver, r.lu, r.body
  FROM page p JOIN resource r ON r.rid = p.rid WHERE NOT r.del ORDER BY p.hi, p.rid"""

# service_counts: by period, item and state, of one team's Tasks that fall due in these periods
SERVICE_COUNTS = """
SELECT p.number, c.h, s.h, count(*), count(*) FILTER (WHERE d.hi < %(now)s)
  FROM ix_ref o
  JOIN ix_date d ON d.rid = o.rid AND d.h = %(due)s
  JOIN unnest(%(starts)b::int8[], %(ends)b::int8[]) WITH ORDINALITY AS p (lo, hi, number)
    ON d.lo >= p.lo AND d.lo < p.hi
  JOIN ix_token c ON c.rid = o.rid AND c.h = ANY(%(codes)b::int8[]) AND c.sid = %(sid)s
  JOIN ix_token s ON s.rid = o.rid AND s.h = ANY(%(states)b::int8[])
 WHERE o.tgt = %(tgt)s AND o.pid = %(owned)s AND {permitted}
 GROUP BY p.number, c.h, s.h"""

# codes_in_use: the codes of a system that stand in one search parameter, with a display
CODES_IN_USE = "SELECT code, display FROM code_dict WHERE pid = %(pid)s AND sid = %(sid)s"

DONE = "completed"
OPEN = ("requested", "received", "accepted", "ready", "in-progress", "on-hold")


async def tasks_of_patients(
    connection: Connection, patients: Iterable[str], codes: Iterable[Code]
) -> list[Resource]:
    """Return the Tasks of residents (`Patient/id`) with one of the codes, locked."""
    parameters = parameters_of("Task")
    keys = Int8s(sorted({resource_key(*one.split("/", 1)) for one in patients}))
    words = {cached_key_of(parameters["code"].number, "c", code_word(code)) for _, code in codes}
    cursor = await connection.execute(
        TASKS_OF_PATIENTS,
        {"patients": keys, "codes": Int8s(words), "subject": parameters["subject"].number},
        prepare=False,
    )
    return [resource_json.parse(body.encode()) for (body,) in await cursor.fetchall()]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuePlace:
    """Where a page of the worklist ended: the end of the last service's period, its number."""

    hi: int = -(2**62)
    rid: int = 0


async def due_tasks(
    connection: Connection,
    *,
    keys: Sequence[str],
    on: datetime.datetime,
    after: DuePlace,
    count: int,
    permitted: tuple[str, dict[str, Any]] | None = None,
) -> tuple[list[Version], DuePlace | None]:
    """Return a page of open services that are due, and where the next one begins, None at the end.

    `keys` are values of the search parameter `due-team`, the earliest month first; `on` is the
    last instant at which a period must have begun.
    """
    parameters = parameters_of("Task")
    number = parameters["due-team"].number
    condition, values = permitted or ("true", {})
    cursor = await connection.execute(
        DUE_TASKS.replace("{permitted}", condition.replace(RID, "d.rid")).encode(),
        {
            **values,
            "keys": Int8s(cached_key_of(number, "c", code_word(key)) for key in keys),
            "due": cached_key_of(parameters["due"].number, "d"),
            "now": microseconds_of(on),
            "hi": after.hi,
            "rid": after.rid,
            "limit": count + 1,
        },
        prepare=False,
    )
    rows = await cursor.fetchall()
    shown = rows[:count]
    versions = [
        Version(type=TYPES[tid - 1], id=fid, version=ver, last_updated=lu, body=body.encode())
        for _, _, tid, fid, ver, lu, body in shown
    ]
    last = DuePlace(hi=shown[-1][0], rid=shown[-1][1]) if len(rows) > count else None
    return versions, last


async def holders_of(connection: Connection, kind: str, keys: Sequence[str]) -> dict[str, str]:
    """Return who holds each key of a kind; a key that nobody holds is left out."""
    numbers = Int8s(lock_number("claim", kind, key) for key in keys)
    values = {"ks": numbers, "kind": kind, "keys": list(keys)}
    cursor = await connection.execute(HOLDERS_OF, values, prepare=False)
    return dict(await cursor.fetchall())


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many services of one item fell due in one period: in all, done, open, overdue."""

    period: int
    code: str
    display: str
    promised: int
    done: int
    open: int
    overdue: int


async def service_counts(
    connection: Connection,
    *,
    team: str,
    system: str,
    due: int,
    periods: Sequence[tuple[datetime.datetime, datetime.datetime]],
    now: datetime.datetime,
    permitted: tuple[str, dict[str, Any]] | None = None,
) -> list[Count]:
    """Count the services of a team (`CareTeam/id`) by item and by the period they begin in.

    `system` is that of the items' codes, `due` the number of the search parameter on the due
    period; `permitted` is a condition in SQL on the resource `RID`, with its values.
    """
    parameters = parameters_of("Task")
    number, sid = parameters["code"].number, system_number(system)
    cursor = await connection.execute(CODES_IN_USE, {"pid": number, "sid": sid})
    names = {
        cached_key_of(number, "c", code): (code, display or "")
        for code, display in await cursor.fetchall()
    }
    status = parameters["status"].number
    states = {cached_key_of(status, "c", code): code for code in (DONE, *OPEN)}
    condition, values = permitted or ("true", {})
    statement = SERVICE_COUNTS.replace("{permitted}", condition.replace(RID, "o.rid"))
    cursor = await connection.execute(
        statement.encode(),
        {
            **values,
            "tgt": resource_key(*team.split("/", 1)),
            "owned": parameters["owner"].number,
            "due": cached_key_of(due, "d"),
            "starts": Int8s(microseconds_of(start) for start, _ in periods),
            "ends": Int8s(microseconds_of(end) for _, end in periods),
            "codes": Int8s(names),
            "sid": sid,
            "states": Int8s(states),
            "now": microseconds_of(now),
        },
        prepare=False,
    )
    found: dict[tuple[int, int], dict[str, int]] = {}
    for period, code, state, count, late in await cursor.fetchall():
        sums = found.setdefault((period - 1, code), {"promised": 0, "done": 0, "overdue": 0})
        sums["promised"] += count
        if states[state] == DONE:
            sums["done"] += count
        else:
            sums["overdue"] += late
    return sorted(
        (
            Count(
                period=period,
                code=names[code][0],
                display=names[code][1],
                promised=sums["promised"],
                done=sums["done"],
                open=sums["promised"] - sums["done"],
                overdue=sums["overdue"],
            )
            for (period, code), sums in found.items()
        ),
        key=lambda one: (one.period, one.code),
    )


# periods_begun: due periods that begin after a place and by an instant, the earliest first
PERIODS_BEGUN = """
SELECT d.lo, d.rid, r.fid FROM ix_date d JOIN resource r ON r.rid = d.rid
 WHERE d.h = %(due)s AND (d.lo, d.rid) > (%(lo)s, %(rid)s) AND d.lo <= %(now)s AND NOT r.del
 ORDER BY d.lo, d.rid LIMIT %(limit)s"""


async def periods_begun(
    connection: Connection, place: Place, now: datetime.datetime, *, limit: int
) -> tuple[list[str], Place]:
    """Return ids of Tasks whose due period has begun since a place, and the new place.

    The place holds the beginning in µs UTC and the number of the resource.
    """
    cursor = await connection.execute(
        PERIODS_BEGUN,
        {
            "due": cached_key_of(parameters_of("Task")["due"].number, "d"),
            "lo": place.txid,
            "rid": place.rid,
            "now": microseconds_of(now),
            "limit": limit,
        },
        prepare=False,
    )
    rows = await cursor.fetchall()
    if rows:
        place = Place(txid=rows[-1][0], rid=rows[-1][1])
    return [fid for _, _, fid in rows], place
