"""Claims found by time: whose period is over, begins, or ends soon.

A claim is held as long as something is active, so these finders read what is due and nothing else,
however much has ended in earlier years.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

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

_FIRST = datetime.fromisoformat("0001-01-02T00:00:00+00:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claim: who holds which key, from when until when (None is open)."""

    holder: str
    key: str
    start: datetime | None
    end: datetime | None


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
