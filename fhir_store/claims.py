"""Claims: taken and given up in a commit, and found by time.

A claim is held as long as something is active, so these finders read what is due and nothing else,
however much has ended in earlier years.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from fhir_store.arrays import Int8s, Texts
from fhir_store.digests import lock_number
from fhir_store.failures import claim_taken
from fhir_store.operations import Claim, Release

Connection = AsyncConnection[Any]

# take_over: claims that are over; rows that another process works on are left to it
TAKE_OVER = """
SELECT holder, key, lower(period), upper(period) FROM claim
 WHERE kind = %(kind)s AND upper(period) <= %(now)s
   AND (upper(period), holder) > (%(at)s, %(after)s)
 ORDER BY upper(period), holder LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""

# take_begun: claims that have begun, the same way
TAKE_BEGUN = """
SELECT holder, key, lower(period), upper(period) FROM claim
 WHERE kind = %(kind)s AND lower(period) <= %(now)s
   AND (lower(period), holder) > (%(at)s, %(after)s)
 ORDER BY lower(period), holder LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""

# ending_between: claims that end in a span and that no later claim on the same key follows
ENDING_BETWEEN = """
SELECT c.holder, c.key, lower(c.period), upper(c.period) FROM claim c
 WHERE c.kind = %(kind)s AND upper(c.period) >= %(start)s AND upper(c.period) < %(end)s
   AND (upper(c.period), c.holder) > (%(at)s, %(after)s)
   AND NOT EXISTS (SELECT 1 FROM claim f
                    WHERE int8range(f.k, f.k, '[]') && int8range(c.k, c.k, '[]')
                      AND f.period && tstzrange(upper(c.period), NULL))
 ORDER BY upper(c.period), c.holder LIMIT %(limit)s"""

# take_claims: hold keys during periods unless somebody does, who is waited for
TAKE_CLAIMS = """
INSERT INTO claim (k, kind, key, period, holder)
SELECT k, kind, key, tstzrange(low, high, '[)'), holder
  FROM unnest(%(k)s, %(kind)s::text[], %(key)s::text[], %(low)s::timestamptz[],
              %(high)s::timestamptz[], %(holder)s::text[]) WITH ORDINALITY
       AS c (k, kind, key, low, high, holder, place)
 ORDER BY place
    ON CONFLICT ON CONSTRAINT claim_once DO NOTHING
RETURNING kind, key, holder"""

# release_claims: what holders give up
RELEASE_CLAIMS = """
DELETE FROM claim c
 USING unnest(%(holder)s::text[], %(kind)s::text[], %(key)s::text[]) AS g (holder, kind, key)
 WHERE c.holder = g.holder AND c.kind = g.kind AND (g.key IS NULL OR c.key = g.key)"""

_FIRST = datetime.fromisoformat("0001-01-02T00:00:00+00:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claim: who holds which key, from when until when (None is open)."""

    holder: str
    key: str
    start: datetime | None
    end: datetime | None


async def carry_out(connection: Connection, operations: Sequence[Claim | Release]) -> None:
    """Take and give up claims in order, those of a kind that stand together in one statement.

    Raises EditConflict where somebody else holds one; then some may have been taken or given up.
    """
    for is_release, some in itertools.groupby(operations, lambda one: isinstance(one, Release)):
        if is_release:
            await _release(connection, [one for one in some if isinstance(one, Release)])
        else:
            await _take(connection, [one for one in some if isinstance(one, Claim)])


def may_stop_half_way(operations: Sequence[Claim | Release]) -> bool:
    """Say whether `carry_out` may have done something when it raises."""
    return len(operations) > 1 and any(isinstance(one, Claim) for one in operations)


async def _take(connection: Connection, claims: Sequence[Claim]) -> None:
    periods = [one.period or (None, None) for one in claims]
    values = {
        "k": Int8s(lock_number("claim", one.kind, one.key) for one in claims),
        "kind": Texts(one.kind for one in claims),
        "key": Texts(one.key for one in claims),
        "low": [low for low, _ in periods],
        "high": [high for _, high in periods],
        "holder": Texts(one.holder for one in claims),
    }
    cursor = await connection.execute(TAKE_CLAIMS, values, prepare=True)
    taken = Counter(await cursor.fetchall())
    for one in claims:
        taken[(one.kind, one.key, one.holder)] -= 1
        if taken[(one.kind, one.key, one.holder)] < 0:
            raise claim_taken(one.kind, one.taken)


async def _release(connection: Connection, releases: Sequence[Release]) -> None:
    values = {
        "holder": Texts(one.holder for one in releases),
        "kind": Texts(one.kind for one in releases),
        "key": Texts(one.key for one in releases),
    }
    await connection.execute(RELEASE_CLAIMS, values, prepare=True)


async def take_over(
    connection: Connection, kind: str, now: datetime, limit: int, after: Claimed | None = None
) -> list[Claimed]:
    """Return claims whose period is over, the longest over first, kept from other processes.

    `after` goes on behind one that was returned before, for those that cannot be released.
    """
    at = after.end if after is not None and after.end is not None else _FIRST
    return await _claims(connection, TAKE_OVER, kind, limit, after, at, now=now)


async def take_begun(
    connection: Connection, kind: str, now: datetime, limit: int, after: Claimed | None = None
) -> list[Claimed]:
    """Return claims whose period has begun, the longest begun first, kept from other processes."""
    at = after.start if after is not None and after.start is not None else _FIRST
    return await _claims(connection, TAKE_BEGUN, kind, limit, after, at, now=now)


async def ending_between(
    connection: Connection,
    kind: str,
    start: datetime,
    end: datetime,
    limit: int,
    after: Claimed | None = None,
) -> list[Claimed]:
    """Return claims that end from `start` on and before `end` and that nobody has followed up."""
    at = after.end if after is not None and after.end is not None else _FIRST
    return await _claims(connection, ENDING_BETWEEN, kind, limit, after, at, start=start, end=end)


async def _claims(
    connection: Connection,
    statement: str,
    kind: str,
    limit: int,
    after: Claimed | None,
    at: datetime,
    **values: datetime,
) -> list[Claimed]:
    holder = after.holder if after is not None else ""
    wanted = {"kind": kind, "limit": limit, "at": at, "after": holder, **values}
    rows: Sequence[tuple[Any, ...]] = await (
        await connection.execute(statement.encode(), wanted, prepare=False)
    ).fetchall()
    return [Claimed(holder=h, key=k, start=start, end=end) for h, k, start, end in rows]
