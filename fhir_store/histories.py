"""Histories: versions newest first, of one resource, of a type, or of all, page by page.

Of a type or of all, an index is read in the order of time where a caller may see everything; where
it is some resources' record (a resident's own), the versions of these are read, so that the others'
number does not count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection

from fhir_store.failures import not_found
from fhir_store.operations import Version
from fhir_store.resource_types import TYPE_IDS
from fhir_store.search import nodes as n
from fhir_store.search.plan import most_gathered
from fhir_store.search.sets import gather, is_gatherable
from fhir_store.search.sql import Sql, probe
from fhir_store.search.visible import Visible
from fhir_store.versions import read_current, version_of

Connection = AsyncConnection[Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 2**31 - 1

# history: current rows merged with superseded ones, each read by its own index
_MERGED: LiteralString = """
SELECT r.tid, r.fid, v.ver, v.lu, v.op::text, v.body, v.rid
  FROM ({parts}) v JOIN resource r ON r.rid = v.rid
 ORDER BY v.lu DESC, v.rid DESC, v.ver DESC LIMIT %(limit)s"""

# One resource: its versions are in the order of their numbers. What was current in a span begins
# with the last version from before it.
_ONE: LiteralString = """
WITH o AS MATERIALIZED (
  SELECT r.rid, {first} AS first FROM resource r
   WHERE r.tid = %(tid)s AND r.fid = %(fid)s AND {permitted})"""
_FIRST_AT: LiteralString = """CASE WHEN r.lu <= %(at_start)s THEN r.ver ELSE coalesce(
         (SELECT b.ver FROM resource_history b WHERE b.rid = r.rid AND b.lu <= %(at_start)s
           ORDER BY b.ver DESC LIMIT 1), 0) END"""
_OF_ONE: tuple[LiteralString, LiteralString] = (
    """(SELECT c.rid, c.ver, c.lu, c.op, c.body FROM o JOIN resource c ON c.rid = o.rid
          WHERE c.ver < %(ver)s AND c.ver >= o.first AND c.lu >= %(since)s AND {at})""",
    """(SELECT x.* FROM o CROSS JOIN LATERAL (
         SELECT h.rid, h.ver, h.lu, h.op, h.body FROM resource_history h
          WHERE h.rid = o.rid AND h.ver < %(ver)s AND h.ver >= o.first
            AND h.lu >= %(since)s AND {at}
          ORDER BY h.ver DESC LIMIT %(limit)s) x)""",
)

# Many: rows of a walk or of a set, each in an order that stops at the limit. A walk of one type
# bears the type in its bounds and order, so that no other index will do.
_CURRENT: LiteralString = """(SELECT r.rid, r.ver, r.lu, r.op, r.body FROM {source}
          WHERE {where} AND ({tid}r.lu, r.rid) <= ({of}%(lu)s, %(rid)s)
            AND (r.lu, r.rid, r.ver) < (%(lu)s, %(rid)s, %(ver)s)
            AND ROW({tid}r.lu) >= ROW({of}%(since)s) AND {at}
          ORDER BY {order}r.lu DESC, r.rid DESC LIMIT %(limit)s)"""
_SUPERSEDED: LiteralString = """(SELECT h.rid, h.ver, h.lu, h.op, h.body FROM {source}
          WHERE {where} AND ({tid}h.lu, h.rid, h.ver) < ({of}%(lu)s, %(rid)s, %(ver)s)
            AND ROW({tid}h.lu) >= ROW({of}%(since)s) AND {at}
          ORDER BY {order} LIMIT %(limit)s)"""
# What a caller may see, if it is little: the set `m`. The set of much is not read whole.
_FEW: LiteralString = """
WITH c AS MATERIALIZED (SELECT g.rid FROM ({set}) g LIMIT {most} + 1),
     k AS MATERIALIZED (SELECT count(*) AS met FROM c),
     m AS MATERIALIZED (SELECT DISTINCT c.rid FROM c, k WHERE k.met <= {most})"""
_IF_MANY: LiteralString = " AND (SELECT k.met FROM k) > {most}"
_BY_TIME: LiteralString = "h.lu DESC, h.rid DESC, h.ver DESC"
_OF_EACH: LiteralString = """(SELECT x.* FROM {keys} CROSS JOIN LATERAL {rows} x
          ORDER BY x.lu DESC, x.rid DESC, x.ver DESC LIMIT %(limit)s)"""

# A version is current from its own time until that of the next one.
_AT_CURRENT: LiteralString = "r.lu < %(at_end)s"
_AT_SUPERSEDED: LiteralString = """h.lu < %(at_end)s AND %(at_start)s < coalesce(
                (SELECT n.lu FROM resource_history n WHERE n.rid = h.rid AND n.ver = h.ver + 1),
                (SELECT c.lu FROM resource c WHERE c.rid = h.rid))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page of history ended: the last version shown."""

    last_updated: datetime
    rid: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """Which versions: of one resource, of a type, or of all; `at` is a span [start, end)."""

    type: str | None = None
    id: str | None = None
    since: datetime | None = None
    at: tuple[datetime, datetime] | None = None
    count: int = 50
    after: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Versions newest first; `next` is where the following page begins, None at the end."""

    versions: list[Version]
    next: Place | None


async def history(connection: Connection, query: HistoryQuery, visible: Visible) -> HistoryPage:
    """Return one page of versions; a history of what never was is NotFound."""
    is_one = query.id is not None
    after = query.after or Place(
        last_updated=datetime.max.replace(tzinfo=UTC), rid=2**62, version=_LATEST if is_one else 0
    )
    start, end = query.at or (None, None)
    statement, values = _of_one(query, visible) if is_one else _of_many(query, visible)
    cursor = await connection.execute(
        statement.encode(),
        {
            **values,
            "tid": TYPE_IDS[query.type] if query.type else None,
            "fid": query.id,
            "lu": after.last_updated,
            "rid": after.rid,
            "ver": after.version,
            "since": query.since or _EPOCH,
            "at_start": start,
            "at_end": end,
            "limit": query.count + 1,
        },
        prepare=False,
    )
    rows = await cursor.fetchall()
    if not rows and query.type and query.id and not query.after:
        key = (query.type, query.id)
        if key not in await read_current(connection, [key]):
            raise not_found(*key)
    shown = rows[: query.count]
    next_ = None
    if len(rows) > len(shown) and shown:
        _, _, version, last_updated, _, _, rid = shown[-1]
        next_ = Place(last_updated=last_updated, rid=rid, version=version)
    return HistoryPage(versions=[version_of(row[:6]) for row in shown], next=next_)


def _of_one(query: HistoryQuery, visible: Visible) -> tuple[str, Mapping[str, Any]]:
    sql = Sql()
    permitted = "true" if visible.free else probe(visible.node, "r.rid", sql)
    head = _ONE.replace("{first}", _FIRST_AT if query.at else "0")
    at = "{}.lu < %(at_end)s" if query.at else "true"
    parts = [part.replace("{at}", at.format(row)) for part, row in zip(_OF_ONE, "ch", strict=True)]
    return head.replace("{permitted}", permitted) + _merged(parts), sql.values


def _of_many(query: HistoryQuery, visible: Visible) -> tuple[str, Mapping[str, Any]]:
    sql = Sql()
    own = "" if query.type is None else "%(tid)s::int4"
    if visible.is_all:
        return _merged(_walk(query, own)), sql.values
    parts = _of_types(query, visible.free, sql) if visible.free else []
    head, gate = "", ""
    if is_gatherable(visible.node):
        most = str(most_gathered(visible.node))
        sql.is_sampling = True
        head = _FEW.replace("{most}", most).replace("{set}", gather(visible.node, sql))
        sql.is_sampling = False
        gate = _IF_MANY.replace("{most}", most)
        parts += _of_set(query)
    if visible.node != n.NOTHING:
        tests = [f"{probe(visible.node, f'{row}.rid', sql)}{gate}" for row in "rh"]
        parts += _walk(query, own, (tests[0], tests[1]))
    return head + _merged(parts or _walk(query, own, ("false", "false"))), sql.values


def _merged(parts: list[str]) -> str:
    return _MERGED.replace("{parts}", " UNION ALL ".join(parts))


def _walk(
    query: HistoryQuery, tid: str = "", where: tuple[str, str] = ("true", "true")
) -> list[str]:
    """Return the rows in the order of time; of one type where `tid` is an expression."""
    current = _CURRENT.replace("{source}", "resource r").replace("{where}", where[0])
    superseded = _SUPERSEDED.replace("{source}", "resource_history h").replace("{where}", where[1])
    current = current.replace("{order}", "r.tid DESC, " if tid else "")
    superseded = superseded.replace("{order}", f"{'h.tid DESC, ' if tid else ''}{_BY_TIME}")
    bounds = f"{tid}, " if tid else ""
    return [
        _timed(part, query).replace("{tid}", f"{row}.tid, " if tid else "").replace("{of}", bounds)
        for part, row in ((current, "r"), (superseded, "h"))
    ]


def _of_types(query: HistoryQuery, tids: tuple[int, ...], sql: Sql) -> list[str]:
    """Return the rows of some types, each type's in the order of time."""
    keys = f"unnest({sql.int4s(tids)}) AS t(tid)"
    pattern = _OF_EACH.replace("{keys}", keys)
    return [pattern.replace("{rows}", walk) for walk in _walk(query, "t.tid")]


def _of_set(query: HistoryQuery) -> list[str]:
    """Return the rows of the resources in `m`: the old ones of each in the order of its numbers."""
    current = _CURRENT.replace("{source}", "m JOIN resource r ON r.rid = m.rid")
    current = current.replace("{where}", "true").replace("{order}", "")
    superseded = _SUPERSEDED.replace("{source}", "resource_history h")
    superseded = superseded.replace("{where}", "h.rid = m.rid").replace("{order}", "h.ver DESC")
    plain = [
        _timed(part.replace("{tid}", "").replace("{of}", ""), query)
        for part in (current, superseded)
    ]
    return [plain[0], _OF_EACH.replace("{keys}", "m").replace("{rows}", plain[1])]


def _timed(part: str, query: HistoryQuery) -> str:
    at = "true"
    if query.at:
        at = _AT_SUPERSEDED if "resource_history h" in part else _AT_CURRENT
    return part.replace("{at}", at)
