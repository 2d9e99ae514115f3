"""What became of attempts to reach people, and who has signed on already."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from fhir_store.arrays import Int8s
from fhir_store.digests import lock_number

Connection = AsyncConnection[Any]

# take_outcomes: open attempts whose delivery is over, or has waited too long for its channel
TAKE_OUTCOMES = """
SELECT c.holder, o.id, o.state, o.code, o.detail
  FROM claim c
  JOIN outbox o ON o.source_type = 'Communication' AND o.source_id = split_part(c.holder, '/', 2)
 WHERE c.kind = %(kind)s
   AND (o.state IN ('accepted', 'settled', 'refused', 'withdrawn', 'superseded')
        OR o.state IN ('waiting', 'deferred', 'unknown') AND o.created_at < %(before)s)
 ORDER BY o.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""

# withdraw: a delivery that has certainly not been sent is not sent any more
WITHDRAW = """
UPDATE outbox SET state = 'withdrawn', settled_at = now(), lease_until = NULL
 WHERE id = ANY(%(ids)s) AND state IN ('waiting', 'deferred', 'unknown')"""

# followed: keys that somebody holds beyond an instant
FOLLOWED = """
SELECT u.number FROM unnest(%(ks)b::int8[], %(ends)s::timestamptz[])
       WITH ORDINALITY AS u (k, at, number)
 WHERE EXISTS (SELECT 1 FROM claim c
                WHERE int8range(c.k, c.k, '[]') && int8range(u.k, u.k, '[]')
                  AND c.period && tstzrange(u.at, NULL))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a delivery came to; `holder` is the Communication."""

    holder: str
    id: int
    state: str
    code: str
    detail: str


async def take_outcomes(
    connection: Connection, kind: str, *, now: datetime, patience: timedelta, limit: int
) -> list[Outcome]:
    """Return attempts that are over, kept from other processes.

    One that has waited longer than `patience` is withdrawn, so that another channel may be tried.
    """
    async with connection.cursor(row_factory=class_row(Outcome)) as cursor:
        values = {"kind": kind, "before": now - patience, "limit": limit}
        await cursor.execute(TAKE_OUTCOMES, values, prepare=False)
        found = await cursor.fetchall()
    late = [one.id for one in found if one.state in ("waiting", "deferred", "unknown")]
    if late:
        await connection.execute(WITHDRAW, {"ids": late}, prepare=False)
    return found


async def followed(
    connection: Connection, kind: str, ends: Sequence[tuple[str, datetime]]
) -> frozenset[str]:
    """Return those keys of a kind that are held beyond the instant beside them."""
    values = {
        "ks": Int8s(lock_number("claim", kind, key) for key, _ in ends),
        "ends": [end for _, end in ends],
    }
    cursor = await connection.execute(FOLLOWED, values, prepare=False)
    return frozenset(ends[number - 1][0] for (number,) in await cursor.fetchall())
