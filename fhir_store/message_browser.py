"""Messages found by any filter, always by an index, and what is known of each.

Kinds (channel, event, state) are few and stand together in one index (`inbox_browse`), so every
combination of those filters is a short walk in each kind that it allows. Numbers grow with time:
a time becomes a bound of the number, with some slack for commits that overtook each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from conformance.problem import Issue, NotFound
from fhir_store.named_rows import Row, named_rows

Connection = AsyncConnection[Any]

SLACK = timedelta(seconds=10)
"""How far the order of numbers may differ from the order of times."""

_MOST_NUMBERS = 200
_MOST_KEYS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """What is looked for; None asks for nothing. Times are aware, `until` is excluded.

    `event` is a message type (`ADT`) or a type with its trigger (`ADT^A08`). `numbers` are a
    patient's identifiers, as they stand in front of `^` in the order key. `before` is the number of
    the last entry of the page before.
    """

    channel: str | None = None
    event: str | None = None
    state: str | None = None
    control_id: str | None = None
    numbers: Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    limit: int = 50


_COLUMNS = """i.id, i.channel, i.sender, i.facility, i.control_id, i.event, i.order_key,
       i.also_keys,
       i.state, i.waits_for, i.is_id_reused, i.attempts, i.received_at, i.finished_at, i.trace_id,
       i.peer, length(i.raw) as bytes, i.issues"""

# What every road asks of an entry itself.
_FILTER = """(%(channel)s::text is null or i.channel = %(channel)s)
   and (%(state)s::text is null or i.state = %(state)s)
   and (%(event)s::text is null or i.event = %(event)s or starts_with(i.event, %(event)s || '^'))
   and i.id >= %(low)s and i.id < %(high)s
   and (%(since)s::timestamptz is null or i.received_at >= %(since)s)
   and (%(until)s::timestamptz is null or i.received_at < %(until)s)"""

# by control id: the unique index begins with it
BY_CONTROL_ID = f"""
select {_COLUMNS} from inbox i
 where i.control_id = %(control_id)s and {_FILTER}
   and (%(keys)s::text[] is null or i.order_key = any(%(keys)s) or i.also_keys && %(keys)s::text[])
 order by i.id desc limit %(limit)s"""  # noqa: S608 - made of constants

# keys of numbers: every order key that begins with one of the numbers, by hops through the index
KEYS_OF_NUMBERS = """
select k.key
  from unnest(%(numbers)s::text[]) as n (number)
 cross join lateral (
       with recursive hop as (
         (select order_key as key from inbox
           where order_key >= n.number || '^' and order_key < n.number || '_'
           order by order_key limit 1)
          union all
         (select (select order_key from inbox
                   where order_key > hop.key and order_key < n.number || '_'
                   order by order_key limit 1)
            from hop where hop.key is not null))
       select key from hop where key is not null limit %(most)s) k
 limit %(most)s"""

# by keys: the newest of each key; a merge stands under either of its patients
BY_KEYS = f"""
with found as (
  select f.id from unnest(%(keys)s::text[]) as k (key)
   cross join lateral (
         select i.id from inbox i where i.order_key = k.key and {_FILTER}
          order by i.id desc limit %(limit)s) f
   union
  select i.id from inbox i
   where i.also_keys && %(keys)s::text[] and i.also_keys is not null and {_FILTER})
select {_COLUMNS} from found f join inbox i on i.id = f.id
 order by i.id desc limit %(limit)s"""  # noqa: S608 - made of constants

# kinds: what there is of channels, events and states, by hops through the index
KINDS = """
with recursive kinds as (
  (select channel, event, state from inbox order by channel, event, state limit 1)
   union all
  select n.channel, n.event, n.state
    from kinds k
   cross join lateral (
         select i.channel, i.event, i.state from inbox i
          where (i.channel, i.event, i.state) > (k.channel, k.event, k.state)
          order by i.channel, i.event, i.state limit 1) n)
select channel, event, state from kinds"""

# by kinds: the newest numbers of each kind that is asked for, and of those the newest
BY_KINDS = f"""
with found as (
  select f.id
    from unnest(%(channels)s::text[], %(events)s::text[], %(states)s::text[])
      as k (channel, event, state)
   cross join lateral (
         select i.id from inbox i
          where i.channel = k.channel and i.event = k.event and i.state = k.state
            and i.id >= %(low)s and i.id < %(high)s
            and (%(since)s::timestamptz is null or i.received_at >= %(since)s)
            and (%(until)s::timestamptz is null or i.received_at < %(until)s)
          order by i.id desc limit %(limit)s) f
   order by f.id desc limit %(limit)s)
select {_COLUMNS} from found f join inbox i on i.id = f.id order by i.id desc"""  # noqa: S608

# first at: the number of the first entry that came at or after a time, by halving
FIRST_AT = """
with recursive step as (
  select coalesce(min(id), 0) as low, coalesce(max(id), 0) + 1 as high from inbox
   union all
  select case when found.is_late then s.low else coalesce(found.id, s.high - 1) + 1 end,
         case when found.is_late then (s.low + s.high) / 2 else s.high end
    from step s
   cross join lateral (
         select i.id, i.received_at >= %(at)s as is_late from inbox i
          where i.id >= (s.low + s.high) / 2 order by i.id limit 1) found
   where s.low < s.high)
select max(low) from step"""

# message: one entry whole, with its trace
MESSAGE = f"""
select {_COLUMNS}, i.raw, i.ack, t.written, t.trace
  from inbox i left join inbox_trace t on t.inbox_id = i.id
 where i.id = %(id)s"""  # noqa: S608 - made of constants

# sent: what was owed to partners because of a message
SENT = """
select id, source_type, source_id, source_version, destination, state, attempts, created_at,
       sent_at, settled_at, code, detail, reference, content_type, payload, receipt
  from outbox where trace_id = %(trace_id)s order by id limit 50"""

# stuck: parked and held entries, the oldest first, with how many wait behind each
STUCK = f"""
select {_COLUMNS}, (select count(*) from inbox w where w.waits_for = i.id) as waiting
  from inbox i
 where i.state = %(state)s and i.id > %(after)s
 order by i.id limit %(limit)s"""  # noqa: S608 - made of constants

# behind: the entries that wait for one, in their order
BEHIND = """
select id, control_id, event, received_at from inbox
 where waits_for = %(id)s order by id limit 100"""

# held raws: held entries with their bytes, the oldest first
HELD = """
select id, channel, control_id, event, received_at, raw from inbox
 where state = 'held' order by id limit %(limit)s"""


# raws: the bytes of some entries, the newest first
RAWS = "select id, channel, raw from inbox where id = any(%(ids)s) order by id desc"


async def find_messages(connection: Connection, wanted: MessageFilter) -> list[Row]:
    """Return the newest entries that the filter allows; one more than `limit` says there is more.

    `limit + 1` rows at most; no body is read.
    """
    values: dict[str, Any] = {
        "channel": wanted.channel,
        "event": wanted.event,
        "state": wanted.state,
        "control_id": wanted.control_id,
        "since": wanted.since,
        "until": wanted.until,
        "low": 0,
        "high": wanted.before or 2**62,
        "limit": wanted.limit + 1,
        "keys": None,
    }
    if wanted.since is not None:
        values["low"] = await _first_at(connection, wanted.since - SLACK)
    if wanted.until is not None:
        end = await _first_at(connection, wanted.until + SLACK)
        values["high"] = min(values["high"], end)
    if wanted.numbers is not None:
        values["keys"] = await _keys_of(connection, wanted.numbers)
    if wanted.control_id is not None:
        return await named_rows(connection, BY_CONTROL_ID, values)
    if wanted.numbers is not None:
        return await named_rows(connection, BY_KEYS, values) if values["keys"] else []
    kinds = [kind for kind in await read_kinds(connection) if _is_wanted(kind, wanted)]
    names = ("channel", "event", "state")
    values |= {f"{name}s": [kind[name] for kind in kinds] for name in names}
    return await named_rows(connection, BY_KINDS, values) if kinds else []


def _is_wanted(kind: Row, wanted: MessageFilter) -> bool:
    event = wanted.event
    return (
        wanted.channel in (None, kind["channel"])
        and wanted.state in (None, kind["state"])
        and (event is None or kind["event"] == event or kind["event"].startswith(f"{event}^"))
    )


async def read_kinds(connection: Connection) -> list[Row]:
    """Return every (channel, event, state) there is an entry of."""
    return await named_rows(connection, KINDS, {})


async def read_message(connection: Connection, id_: int) -> Row:
    """Return one entry whole; NotFound where there is none."""
    rows = await named_rows(connection, MESSAGE, {"id": id_})
    if not rows:
        raise NotFound(_no_message(id_))
    return rows[0]


async def read_raws(connection: Connection, ids: Sequence[int]) -> list[Row]:
    """Return number, channel and bytes of entries, the newest first."""
    return await named_rows(connection, RAWS, {"ids": list(ids)})


async def read_sent(connection: Connection, trace_id: str) -> list[Row]:
    """Return the deliveries that a message caused."""
    return await named_rows(connection, SENT, {"trace_id": trace_id})


async def read_stuck(
    connection: Connection, state: str, *, after: int = 0, limit: int = 200
) -> list[Row]:
    """Return entries in a state that waits for a person, the oldest first."""
    return await named_rows(connection, STUCK, {"state": state, "after": after, "limit": limit})


async def read_behind(connection: Connection, id_: int) -> list[Row]:
    """Return what waits behind an entry, in its order."""
    return await named_rows(connection, BEHIND, {"id": id_})


async def read_held(connection: Connection, limit: int = 500) -> list[Row]:
    """Return held entries with their bytes, the oldest first."""
    return await named_rows(connection, HELD, {"limit": limit})


async def _keys_of(connection: Connection, numbers: Sequence[str]) -> list[str]:
    values = {"numbers": list(numbers[:_MOST_NUMBERS]), "most": _MOST_KEYS}
    return [row["key"] for row in await named_rows(connection, KEYS_OF_NUMBERS, values)]


async def _first_at(connection: Connection, at: datetime) -> int:
    rows = await named_rows(connection, FIRST_AT, {"at": at})
    return int(rows[0]["max"] or 0)


def _no_message(id_: int) -> Issue:
    return Issue(
        code="not-found",
        key="inbox-no-entry",
        text_en=f"There is no message {id_}",
        text_zh=f"没有编号为 {id_} 的报文",
        fix_en="Look for it in the message browser.",
        fix_zh="请在报文浏览器中查找。",
    )
