"""Who refers to a resource, and who holds a claim on it: what has to move when it is merged."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from fhir_store.arrays import Int4s
from fhir_store.failures import translated_failures
from fhir_store.keys import resource_key
from fhir_store.resource_types import TYPE_IDS, TYPES

Connection = AsyncConnection[Any]

# referrers: current resources of other types with an indexed reference, oldest first
_REFERRERS = b"""
SELECT DISTINCT r.rid, r.tid, r.fid
  FROM ix_ref x JOIN resource r ON r.rid = x.rid
 WHERE x.tgt = %(tgt)s AND NOT r.del AND r.tid <> ALL(%(besides)b::int4[])
 ORDER BY r.rid LIMIT %(limit)s"""

# claims: what is held on a key, in the order it was taken
_CLAIMS = b"""
SELECT kind, holder, lower(period), upper(period) FROM claim WHERE key = %(key)s
 ORDER BY kind, lower(period)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A claim on a key: of which kind, by whom, from when to when (None is open)."""

    kind: str
    holder: str
    period: tuple[datetime | None, datetime | None]


async def referrers_of(
    connection: Connection, reference: str, *, besides: Collection[str], limit: int
) -> list[tuple[str, str]]:
    """Return (type, id) of resources that refer to `Type/id` where searches can see it."""
    type_, _, id_ = reference.partition("/")
    with translated_failures():
        cursor = await connection.execute(
            _REFERRERS,
            {
                "tgt": resource_key(type_, id_),
                "besides": Int4s(TYPE_IDS[one] for one in besides),
                "limit": limit,
            },
        )
        return [(TYPES[tid - 1], fid) for _, tid, fid in await cursor.fetchall()]


async def claims_on(connection: Connection, key: str) -> list[Held]:
    """Return what is claimed on a key."""
    with translated_failures():
        cursor = await connection.execute(_CLAIMS, {"key": key})
        return [
            Held(kind=kind, holder=holder, period=(start, end))
            for kind, holder, start, end in await cursor.fetchall()
        ]
