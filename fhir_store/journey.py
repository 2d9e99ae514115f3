"""Where one message stands, from its inbox entry to the partner's receipt."""

from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

# journey: the newest message under a control id, what it wrote, and the first delivery owed for it
JOURNEY = """
select i.id as entry, i.state, i.trace_id, i.received_at, i.finished_at as done_at,
       t.written, o.id as delivery, o.destination, o.state as delivery_state, o.attempts,
       o.created_at as owed_at, o.sent_at, o.settled_at, o.code, o.detail, o.reference
  from inbox i
  left join inbox_trace t on t.inbox_id = i.id
  left join lateral (select * from outbox where trace_id = i.trace_id order by id limit 1) o on true
 where i.control_id = %(control_id)s
 order by i.id desc
 limit 1"""


async def journey(connection: AsyncConnection[Any], control_id: str) -> dict[str, Any] | None:
    """Return the stations of a message with their times; None where nothing is known of it."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(JOURNEY, {"control_id": control_id})
        return await cursor.fetchone()
