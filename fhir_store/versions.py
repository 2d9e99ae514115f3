"""Reads: current versions, many at once; single old versions. Bytes, never parsed."""

import asyncio
from collections.abc import Sequence
from typing import Any

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
RID = "«rid»"  # stands for the resource in a condition that is used more than once

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


def reference_key(reference: str) -> Key:
    """Return type and id of a reference `Type/id`."""
    type_, _, id_ = reference.partition("/")
    return type_, id_


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
        version = version_of(row)
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
    found = version_of(row)
    if found.deleted:
        raise gone(type_, id_)
    return found


def version_of(row: tuple[Any, ...]) -> Version:
    """Return the version of a row (tid, fid, ver, lu, op, body)."""
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
