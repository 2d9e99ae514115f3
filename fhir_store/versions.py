"""Reads: current versions, many at once; single old versions; histories. Bytes, never parsed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from fhir_store.arrays import Int8s
from fhir_store.borrowed import Borrowed
from fhir_store.failures import gone, not_found, translated_failures
from fhir_store.keys import resource_key
from fhir_store.operations import METHODS, Version
from fhir_store.resource_types import TYPE_IDS, TYPES

Connection = AsyncConnection[Any]
Key = tuple[str, str]
Permitted = tuple[str, dict[str, Any]]
RID = "«rid»"  # stands for the resource in a condition that is used more than once
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# read_current: the current versions (or tombstones) of many resources
READ_CURRENT = """
SELECT tid, fid, ver, lu, op::text, body
  FROM resource WHERE rkey = ANY(%(rkeys)b::int8[])"""

# read_version: one version, current or superseded
READ_VERSION = """
SELECT r.tid, r.fid, r.ver, r.lu, r.op::text, r.body
  FROM resource r WHERE r.tid = %(tid)s AND r.fid = %(fid)s AND r.ver = %(ver)s
UNION ALL
SELECT h.tid, r.fid, h.ver, h.lu, h.op::text, h.body
  FROM resource r JOIN resource_history h ON h.rid = r.rid
 WHERE r.tid = %(tid)s AND r.fid = %(fid)s AND h.ver = %(ver)s"""

# history: newest first, current rows merged with superseded ones, each by its own index
_HISTORY = """
SELECT r.tid, r.fid, v.ver, v.lu, v.op::text, v.body, v.rid
  FROM ((SELECT rid, ver, lu, op, body FROM resource r
          WHERE {scope} AND {permitted_r} AND (lu, rid) <= (%(lu)s, %(rid)s)
            AND (lu, rid, ver) < (%(lu)s, %(rid)s, %(ver)s)
            AND lu >= %(since)s AND {at_current}
          ORDER BY lu DESC, rid DESC LIMIT %(limit)s)
        UNION ALL
        (SELECT rid, ver, lu, op, body FROM resource_history h
          WHERE {scope} AND {permitted_h} AND (lu, rid, ver) < (%(lu)s, %(rid)s, %(ver)s)
            AND lu >= %(since)s AND {at_superseded}
          ORDER BY lu DESC, rid DESC, ver DESC LIMIT %(limit)s)) v
  JOIN resource r ON r.rid = v.rid
 ORDER BY v.lu DESC, v.rid DESC, v.ver DESC LIMIT %(limit)s"""

_SCOPES: dict[str, LiteralString] = {
    "instance": "rid = (SELECT rid FROM resource WHERE tid = %(tid)s AND fid = %(fid)s)",
    "type": "tid = %(tid)s",
    "system": "true",
}
# A version is current from its own time until that of the next one.
_AT_CURRENT: LiteralString = "lu < %(at_end)s"
_AT_SUPERSEDED: LiteralString = """lu < %(at_end)s AND %(at_start)s < coalesce(
                (SELECT n.lu FROM resource_history n WHERE n.rid = h.rid AND n.ver = h.ver + 1),
                (SELECT c.lu FROM resource c WHERE c.rid = h.rid))"""


def reference_key(reference: str) -> Key:
    """Return type and id of a reference `Type/id`."""
    type_, _, id_ = reference.partition("/")
    return type_, id_


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

    versions: Sequence[Version]
    next: Place | None


_Reader = asyncio.Future[Version | None]


class PointReads:
    """Reads of single resources; those that arrive in one tick of the loop share a statement."""

    def __init__(self, pool: AsyncConnectionPool[Connection], *, at_once: int = 2) -> None:
        self._pool = pool
        self._at_once = at_once
        self._waiting: dict[Key, list[_Reader]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def read(self, type_: str, id_: str) -> Version:
        """Return the current version; NotFound where nothing is, Gone for a tombstone."""
        if type_ not in TYPE_IDS:
            raise not_found(type_, id_)
        loop = asyncio.get_running_loop()
        # A future of one's own: who goes away takes nothing from the others.
        reader: _Reader = loop.create_future()
        self._waiting.setdefault((type_, id_), []).append(reader)
        if not self._is_due and len(self._running) < self._at_once:
            self._is_due = True
            loop.call_soon(self._send)
        found = await reader
        if found is None:
            raise not_found(type_, id_)
        if found.deleted:
            raise gone(type_, id_)
        return found

    def _send(self) -> None:
        self._is_due = False
        waiting, self._waiting = self._waiting, {}
        if waiting:
            task = asyncio.get_running_loop().create_task(self._fetch(waiting))
            self._running.add(task)
            task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._waiting and not self._is_due:
            self._send()

    async def _fetch(self, waiting: dict[Key, list[_Reader]]) -> None:
        try:
            with translated_failures():
                async with Borrowed(self._pool) as connection:
                    found = await read_current(connection, list(waiting))
        except BaseException as failure:
            for readers in waiting.values():
                for reader in readers:
                    if not reader.done():
                        reader.set_exception(failure)
                        reader.exception()  # nobody may be waiting any more
            if not isinstance(failure, Exception):
                raise
            return
        for key, readers in waiting.items():
            version = found.get(key)
            for reader in readers:
                if not reader.done():
                    reader.set_result(version)


async def read_current(connection: Connection, wanted: Sequence[Key]) -> dict[Key, Version]:
    """Return the current versions of (type, id) pairs, tombstones included, in one statement."""
    rkeys = Int8s(resource_key(*key) for key in wanted)
    cursor = await connection.execute(READ_CURRENT, {"rkeys": rkeys}, prepare=True)
    found = {}
    for row in await cursor.fetchall():
        version = _version(row)
        found[version.type, version.id] = version
    return found


async def vread(connection: Connection, type_: str, id_: str, version: int) -> Version:
    """Return one version; NotFound, or Gone where the version is a deletion."""
    if type_ not in TYPE_IDS or not 0 < version < 2**31:
        raise not_found(type_, id_)
    cursor = await connection.execute(
        READ_VERSION, {"tid": TYPE_IDS[type_], "fid": id_, "ver": version}, prepare=True
    )
    row = await cursor.fetchone()
    if row is None:
        raise not_found(type_, f"{id_}/_history/{version}")
    found = _version(row)
    if found.deleted:
        raise gone(type_, id_)
    return found


async def history(
    connection: Connection, query: HistoryQuery, *, permitted: Permitted | None = None
) -> HistoryPage:
    """Return one page of versions; a history of what never was is NotFound.

    `permitted` is a condition in SQL on the resource `RID`, with its values; None is no condition.
    """
    if query.type is not None and query.type not in TYPE_IDS:
        raise not_found(query.type, query.id or "")
    after = query.after or Place(
        last_updated=datetime.max.replace(tzinfo=UTC), rid=2**62, version=0
    )
    start, end = query.at or (None, None)
    cursor = await connection.execute(
        _history_statement(query, "true" if permitted is None else permitted[0]).encode(),
        {
            **(permitted[1] if permitted else {}),
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
    return HistoryPage(versions=[_version(row[:6]) for row in shown], next=next_)


def _history_statement(query: HistoryQuery, permitted: str = "true") -> str:
    scope = "instance" if query.id is not None else "type" if query.type is not None else "system"
    return (
        _HISTORY.replace("{scope}", _SCOPES[scope])
        .replace("{at_current}", _AT_CURRENT if query.at else "true")
        .replace("{at_superseded}", _AT_SUPERSEDED if query.at else "true")
        .replace("{permitted_r}", permitted.replace(RID, "r.rid"))
        .replace("{permitted_h}", permitted.replace(RID, "h.rid"))
    )


def _version(row: tuple[Any, ...]) -> Version:
    tid, fid, version, last_updated, op, body = row
    return Version(
        type=TYPES[tid - 1],
        id=fid,
        version=version,
        last_updated=last_updated,
        deleted=op == "d",
        body=(body or "").encode(),
        method=METHODS[op],
    )
