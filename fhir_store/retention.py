"""What the queues let go of: the bytes of finished messages first, their rows much later.

Only what is finished goes. Entries that wait for a worker or a person, deliveries that are owed,
refused or unknown, the audit, and every version of every resource stay.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg import AsyncConnection

Connection = AsyncConnection[Any]

_BATCH = 500  # rows a statement touches, so that no lock lasts

ENDED_ENTRIES = ["translated", "unmapped", "skipped"]
DONE_ENTRIES = ["translated", "skipped"]
"""Those nobody can want to work on again; a map may yet be added for an unmapped one."""
ENDED_DELIVERIES = ["accepted", "settled", "superseded", "withdrawn"]

# lock_retention: one process at a time
_LOCK = "select pg_try_advisory_xact_lock(7106310003)"

# drop_messages: bytes and trace of entries; the row with its names, times and answer stays. Each
# entry is looked at once, in the order of their numbers: what is not finished by then keeps its
# bytes until its row goes.
_DROP_MESSAGES = """
with place as (
  select rid from search_progress where name = 'retention inbox' for update),
walked as (
  select i.id, i.received_at < now() - %(age)s as is_old,
         i.finished_at < now() - %(age)s and i.state = any(%(states)s) as goes
    from inbox i, place where i.id > place.rid order by i.id limit %(batch)s),
passed as (
  select id, goes from walked
   where id < coalesce((select min(id) from walked where not is_old), 9223372036854775807)),
moved as (
  update search_progress set rid = (select max(id) from passed)
   where name = 'retention inbox' and exists (select from passed)),
traces as (
  delete from inbox_trace t using passed p where p.goes and t.inbox_id = p.id),
gone as (
  update inbox i set raw = ''::bytea from passed p where p.goes and i.id = p.id returning i.id)
select (select count(*) from passed), (select count(*) from gone)"""

# drop_payloads: what was sent and what came back; code, reference and times stay
_DROP_PAYLOADS = """
with place as (
  select rid from search_progress where name = 'retention outbox' for update),
walked as (
  select o.id, o.created_at < now() - %(age)s as is_old,
         o.settled_at < now() - %(age)s and o.state = any(%(states)s) as goes
    from outbox o, place where o.id > place.rid order by o.id limit %(batch)s),
passed as (
  select id, goes from walked
   where id < coalesce((select min(id) from walked where not is_old), 9223372036854775807)),
moved as (
  update search_progress set rid = (select max(id) from passed)
   where name = 'retention outbox' and exists (select from passed)),
gone as (
  update outbox o set payload = null, receipt = null from passed p
   where p.goes and o.id = p.id returning o.id)
select (select count(*) from passed), (select count(*) from gone)"""

# drop_entries: rows of entries
_DROP_ENTRIES = """
with old as (
  select id from inbox
   where received_at < now() - %(age)s and finished_at < now() - %(age)s
     and state = any(%(states)s)
   limit %(batch)s for update skip locked),
traces as (
  delete from inbox_trace t using old where t.inbox_id = old.id),
gone as (
  delete from inbox i using old where i.id = old.id returning i.id)
select count(*), count(*) from gone"""

# drop_deliveries: rows of deliveries
_DROP_DELIVERIES = """
with old as (
  select id from outbox
   where created_at < now() - %(age)s and settled_at < now() - %(age)s
     and state = any(%(states)s)
   limit %(batch)s for update skip locked),
gone as (
  delete from outbox o using old where o.id = old.id returning o.id)
select count(*), count(*) from gone"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many days after their end the bytes and the rows of the queues are kept; 0 is for ever.

    Counted from the end of an entry or delivery, whole days of 24 hours. What ended later after it
    came than its bytes are kept has them until its row goes.
    """

    message_days: int
    row_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """How much went."""

    messages: int = 0
    payloads: int = 0
    entries: int = 0
    deliveries: int = 0


async def let_go(connection: Connection, retention: Retention) -> LetGo | None:
    """Drop what is older, in short transactions; None where another process is at it."""
    message_age = timedelta(days=retention.message_days)
    row_age = timedelta(days=retention.row_days)
    counts = []
    for age, statement, states in (
        (message_age, _DROP_MESSAGES, DONE_ENTRIES),
        (message_age, _DROP_PAYLOADS, [s for s in ENDED_DELIVERIES if s != "withdrawn"]),
        (row_age, _DROP_ENTRIES, ENDED_ENTRIES),
        (row_age, _DROP_DELIVERIES, ENDED_DELIVERIES),
    ):
        count = await _repeat(connection, statement, age, states) if age else 0
        if count is None:
            return None
        counts.append(count)
    messages, payloads, entries, deliveries = counts
    return LetGo(messages=messages, payloads=payloads, entries=entries, deliveries=deliveries)


async def _repeat(
    connection: Connection, statement: str, age: timedelta, states: list[str]
) -> int | None:
    """Run a statement until it looks at less than a batch; None where the lock is taken."""
    count = 0
    while True:
        async with connection.transaction():
            cursor = await connection.execute(_LOCK)
            row = await cursor.fetchone()
            if row is None or not row[0]:
                return None
            values = {"age": age, "states": states, "batch": _BATCH}
            cursor = await connection.execute(statement.encode(), values, prepare=False)
            row = await cursor.fetchone()
        looked, gone = row or (0, 0)
        count += gone
        if looked < _BATCH:
            return count
