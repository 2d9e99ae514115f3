"""What is owed to others: one row per source version, destination and part, until it is settled.

A row is written in the commit that owes it. `claimed` has certainly not been sent, `inflight` may
have been: a worker that dies leaves the first to be taken again and the second to be asked about.

No statement here that looks for rows is prepared: a plan made while the queue is short is ruinous
when it is long.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection
from psycopg.rows import class_row

from fhir_store.arrays import Byteas, Int4s, Texts

Connection = AsyncConnection[Any]

STATES = (
    "waiting", "claimed", "inflight", "accepted", "deferred",
    "refused", "unknown", "settled", "superseded", "withdrawn",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One thing owed to one destination.

    `order_key` is whose order is kept there (default: the source resource); `depends_on` are the
    order keys of parents, with blanks between, that the destination must have taken first. One that
    nothing is owed for, or that was withdrawn, is not waited for. `is_latest_only` lets a
    newer version replace one that has not been sent. `payload` is given where it is known at
    once; otherwise it is made at delivery.
    """

    destination: str
    part: str = ""
    order_key: str | None = None
    depends_on: str | None = None
    is_latest_only: bool = False
    payload: bytes | None = None
    content_type: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class OutboxRow(Struct, frozen=True, kw_only=True):
    """A delivery with the version it is owed for."""

    source_type: str
    source_id: str
    source_version: int
    delivery: Delivery
    trace_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A claimed row; `attempts` is also the fence that keeps a late worker from settling it."""

    id: int
    source_type: str
    source_id: str
    source_version: int
    destination: str
    part: str
    order_key: str
    key: str
    attempts: int
    trace_id: str
    content_type: str
    payload: bytes | None
    facts: Mapping[str, str]
    created_at: datetime
    is_outdated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one attempt: the next state, the partner's words, and when to look again."""

    state: str
    code: str = ""
    detail: str = ""
    reference: str = ""
    receipt: bytes = b""
    wait: timedelta | None = None


_INSERT = """
insert into outbox (source_type, source_id, source_version, destination, part, order_key,
                    depends_on, is_latest_only, trace_id, content_type, payload, is_given, facts)
select t, i, v, d, p, k, n, l, x, c, b, b is not null, f::jsonb
  from unnest(%s::text[], %s::text[], %s::int4[], %s::text[], %s::text[], %s::text[], %s::text[],
              %s::bool[], %s::text[], %s::text[], %s::bytea[], %s::text[])
       with ordinality as u (t, i, v, d, p, k, n, l, x, c, b, f, ordinal)
 order by n is not null, ordinal
    on conflict (source_type, source_id, source_version, destination, part) do nothing
"""


async def insert_rows(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Put the rows into the caller's transaction; what is already owed is left as it is.

    Call it after the source rows are locked or written: order per key follows the row numbers.
    """
    if not rows:
        return
    owed = [row.delivery for row in rows]
    await connection.execute(
        _INSERT,
        (
            Texts(row.source_type for row in rows),
            Texts(row.source_id for row in rows),
            Int4s(row.source_version for row in rows),
            Texts(one.destination for one in owed),
            Texts(one.part for one in owed),
            Texts(row.delivery.order_key or f"{row.source_type}/{row.source_id}" for row in rows),
            Texts(one.depends_on for one in owed),
            [one.is_latest_only for one in owed],
            Texts(row.trace_id for row in rows),
            Texts(one.content_type for one in owed),
            Byteas(one.payload for one in owed),
            Texts(json.dumps(dict(one.facts)) if one.facts else "{}" for one in owed),
        ),
        prepare=True,
    )


# A row may go when nothing older of its key is open and the newest of each parent was taken.
# A scalar subquery, not NOT EXISTS: that becomes a join over all open rows for four of them.
_CLAIM = """
with picked as (
  select o.id
    from outbox o
   where o.destination = %(destination)s
     and o.state in ('waiting', 'claimed', 'deferred')
     and case o.state when 'claimed' then o.lease_until < now() else o.due_at <= now() end
     and (select true from outbox e
           where e.destination = o.destination and e.order_key = o.order_key and e.id < o.id
             and e.state in ('waiting', 'claimed', 'inflight', 'deferred', 'unknown')
           limit 1) is null
     and (o.depends_on is null or (
           select true from unnest(string_to_array(o.depends_on, ' ')) as parent (key)
            where not coalesce(
                  (select p.state in ('accepted', 'settled', 'withdrawn') from outbox p
                    where p.destination = o.destination and p.order_key = parent.key
                    order by p.id desc limit 1), true)
            limit 1) is null)
   order by o.id
   limit %(limit)s
     for update of o skip locked)
update outbox o
   set state = 'claimed', attempts = o.attempts + 1, lease_until = now() + %(lease)s
  from picked
 where o.id = picked.id
returning o.id, o.source_type, o.source_id, o.source_version, o.destination, o.part, o.order_key,
          o.key, o.attempts, o.trace_id, o.content_type, o.payload, o.facts, o.created_at,
          o.is_latest_only and exists (
            select 1 from outbox n
             where n.destination = o.destination and n.order_key = o.order_key
               and n.part = o.part and n.id > o.id and n.state = 'waiting') as is_outdated
"""


async def claim(
    connection: Connection, destination: str, *, limit: int, lease: timedelta
) -> list[Owed]:
    """Take up to `limit` rows that may go now, oldest first; nobody else gets them for `lease`."""
    async with connection.cursor(row_factory=class_row(Owed)) as cursor:
        await cursor.execute(
            _CLAIM, {"destination": destination, "limit": limit, "lease": lease}, prepare=False
        )
        return sorted(await cursor.fetchall(), key=lambda owed: owed.id)


async def supersede(connection: Connection, destination: str) -> int:
    """Settle every unsent row for which a newer one of its key and part stands there, too."""
    cursor = await connection.execute(
        """update outbox o set state = 'superseded', settled_at = now(), lease_until = null
            where o.destination = %s and o.is_latest_only and o.state in ('waiting', 'deferred')
              and exists (
                    select 1 from outbox n
                     where n.destination = o.destination and n.order_key = o.order_key
                       and n.part = o.part and n.id > o.id and n.state = 'waiting')""",
        (destination,),
        prepare=False,
    )
    return cursor.rowcount


async def mark_inflight(
    connection: Connection,
    owed: Owed,
    *,
    payload: bytes,
    content_type: str,
    facts: Mapping[str, str],
    lease: timedelta,
) -> bool:
    """Write down what is about to be sent; False where the claim has passed to somebody else."""
    cursor = await connection.execute(
        """update outbox set state = 'inflight', payload = %s, content_type = %s, facts = %s::jsonb,
                  sent_at = now(), lease_until = now() + %s
            where id = %s and attempts = %s and state = 'claimed'""",
        (payload, content_type, json.dumps(dict(facts)), lease, owed.id, owed.attempts),
        prepare=False,
    )
    return cursor.rowcount == 1


async def settle(connection: Connection, id_: int, attempts: int, outcome: Settlement) -> bool:
    """Write down what became of an attempt; False where it is no longer this attempt's row."""
    cursor = await connection.execute(
        """update outbox
              set state = %(state)s, code = %(code)s, detail = %(detail)s,
                  reference = case when %(reference)s = '' then reference else %(reference)s end,
                  receipt = coalesce(nullif(%(receipt)s, ''::bytea), receipt),
                  due_at = now() + coalesce(%(wait)s, '0'::interval), lease_until = null,
                  settled_at = case when %(state)s in ('waiting', 'deferred', 'unknown')
                                    then null else now() end
            where id = %(id)s and attempts = %(attempts)s
              and state in ('claimed', 'inflight', 'unknown')""",
        {
            "state": outcome.state,
            "code": outcome.code,
            "detail": outcome.detail,
            "reference": outcome.reference,
            "receipt": outcome.receipt,
            "wait": outcome.wait,
            "id": id_,
            "attempts": attempts,
        },
        prepare=False,
    )
    return cursor.rowcount == 1


async def renew(connection: Connection, ids: Iterable[int], *, lease: timedelta) -> None:
    """Keep rows that a living worker is busy with from being taken for lost."""
    await connection.execute(
        """update outbox set lease_until = now() + %s
            where id = any(%s) and state in ('claimed', 'inflight')""",
        (lease, list(ids)),
        prepare=False,
    )


async def expire_inflight(connection: Connection, destination: str) -> int:
    """Turn sends that nobody finished into `unknown`: they may have been taken."""
    cursor = await connection.execute(
        """update outbox set state = 'unknown', due_at = now(), lease_until = null,
                  detail = 'the sending process ended before an answer was kept'
            where destination = %s and state = 'inflight' and lease_until < now()""",
        (destination,),
        prepare=False,
    )
    return cursor.rowcount


async def claim_unknown(
    connection: Connection, destination: str, *, limit: int, lease: timedelta
) -> list[Owed]:
    """Take rows that are due to be asked about; nobody else asks for `lease`."""
    async with connection.cursor(row_factory=class_row(Owed)) as cursor:
        await cursor.execute(
            """with picked as (
                 select id from outbox
                  where destination = %s and state = 'unknown' and due_at <= now()
                  order by id limit %s for update skip locked)
               update outbox o set due_at = now() + %s, attempts = o.attempts + 1
                 from picked where o.id = picked.id
               returning o.id, o.source_type, o.source_id, o.source_version, o.destination,
                         o.part, o.order_key, o.key, o.attempts, o.trace_id, o.content_type,
                         o.payload, o.facts, o.created_at, false as is_outdated""",
            (destination, limit, lease),
            prepare=False,
        )
        return sorted(await cursor.fetchall(), key=lambda owed: owed.id)
