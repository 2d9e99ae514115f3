"""The queues as a person sees and moves them: list, show, replay, skip, requeue, figures.

Every move by hand is written, in its own commit and with the reason given, to `queue_audit` (what
`show` lists) and to the audit that is sealed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import AsyncConnection

from conformance.problem import BusinessRule, Issue, NotFound
from fhir_store.flush import ACTOR_CHARACTERS
from fhir_store.lanes import lock_lane, release
from fhir_store.named_rows import Row, named_rows
from fhir_store.resource_types import TYPE_IDS

Connection = AsyncConnection[Any]

_INBOX_COLUMNS = """
 id, channel, sender, facility, control_id, event, order_key, also_keys, lane, state, waits_for,
 is_id_reused, attempts, due_at, received_at, finished_at, trace_id, peer, length(raw) as bytes,
 issues"""
_OUTBOX_COLUMNS = """
 id, source_type, source_id, source_version, destination, part, order_key, depends_on, state, key,
 attempts, due_at, created_at, sent_at, settled_at, trace_id, content_type,
 length(payload) as bytes, code, detail, reference"""


async def list_inbox(
    connection: Connection,
    *,
    state: str | None = None,
    channel: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Row]:
    """Return entries, newest first, finished ones included."""
    return await named_rows(
        connection,
        f"""select {_INBOX_COLUMNS} from inbox
             where (%(state)s::text is null or state = %(state)s)
               and (%(channel)s::text is null or channel = %(channel)s)
               and (%(before)s::int8 is null or id < %(before)s)
             order by id desc limit %(limit)s""",  # noqa: S608
        {"state": state, "channel": channel, "before": before, "limit": limit},
    )


async def show_inbox(connection: Connection, id_: int) -> Row:
    """Return one entry whole: raw bytes, acknowledgement, trace, what it wrote, hand moves."""
    rows = await named_rows(
        connection,
        f"""select {_INBOX_COLUMNS}, raw, ack,
                   (select written from inbox_trace t where t.inbox_id = i.id) as written,
                   (select trace from inbox_trace t where t.inbox_id = i.id) as trace
              from inbox i where id = %(id)s""",  # noqa: S608
        {"id": id_},
    )
    if not rows:
        raise NotFound(_no_entry("inbox", id_))
    return {**rows[0], "moves": await _moves(connection, "inbox", id_)}


async def replay(connection: Connection, id_: int, *, actor: str, reason: str = "") -> int:
    """Open a stuck entry and those behind it again; return how many will run, in their order."""
    entry = await _lock_entry(connection, id_)
    if entry["state"] not in ("parked", "held", "unmapped", "skipped"):
        raise BusinessRule(_wrong_state("inbox", id_, entry["state"], "replay"))
    if entry["bytes"] == 0:
        raise BusinessRule(_let_go(id_))
    cursor = await connection.execute(
        "select count(*) from inbox where waits_for = %s", (id_,), prepare=False
    )
    row = await cursor.fetchone()
    await connection.execute(
        """update inbox set state = 'received', due_at = null, attempts = 0, finished_at = null
            where id = %s""",
        (id_,),
        prepare=False,
    )
    await release(connection, [id_])
    await _note(connection, "inbox", id_, "replay", actor, reason, of=entry)
    return 1 + int(row[0] if row else 0)


async def skip(connection: Connection, id_: int, *, actor: str, reason: str) -> int:
    """Give a stuck entry up for good; return how many were waiting behind it."""
    if not reason.strip():
        raise BusinessRule(_no_reason())
    entry = await _lock_entry(connection, id_)
    if entry["state"] not in ("parked", "held", "unmapped", "received", "claimed"):
        raise BusinessRule(_wrong_state("inbox", id_, entry["state"], "skip"))
    cursor = await connection.execute(
        "select count(*) from inbox where waits_for = %s", (id_,), prepare=False
    )
    row = await cursor.fetchone()
    await connection.execute(
        """update inbox set state = 'skipped', due_at = null, waits_for = null,
                  finished_at = now() where id = %s""",
        (id_,),
        prepare=False,
    )
    await release(connection, [id_])
    await _note(connection, "inbox", id_, "skip", actor, reason, of=entry)
    return int(row[0] if row else 0)


async def list_outbox(
    connection: Connection,
    *,
    state: str | None = None,
    destination: str | None = None,
    trace_id: str | None = None,
    order_key: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Row]:
    """Return deliveries, newest first, finished ones included; `order_key` is `Type/id`."""
    return await named_rows(
        connection,
        f"""select {_OUTBOX_COLUMNS} from outbox
             where (%(state)s::text is null or state = %(state)s)
               and (%(destination)s::text is null or destination = %(destination)s)
               and (%(trace_id)s::text is null or trace_id = %(trace_id)s)
               and (%(order_key)s::text is null or order_key = %(order_key)s)
               and (%(before)s::int8 is null or id < %(before)s)
             order by id desc limit %(limit)s""",  # noqa: S608
        {
            "state": state,
            "destination": destination,
            "trace_id": trace_id,
            "order_key": order_key,
            "before": before,
            "limit": limit,
        },
    )


async def show_outbox(connection: Connection, id_: int) -> Row:
    """Return one delivery whole: payload, raw receipt, hand moves."""
    rows = await named_rows(
        connection,
        f"select {_OUTBOX_COLUMNS}, payload, receipt, facts from outbox where id = %(id)s",  # noqa: S608
        {"id": id_},
    )
    if not rows:
        raise NotFound(_no_entry("outbox", id_))
    return {**rows[0], "moves": await _moves(connection, "outbox", id_)}


Move = Literal["requeue", "settle", "withdraw"]
_MOVES: Mapping[str, tuple[str, frozenset[str]]] = {
    "requeue": ("waiting", frozenset({"refused", "unknown", "deferred", "withdrawn", "waiting"})),
    "settle": ("settled", frozenset({"unknown", "refused"})),
    "withdraw": ("withdrawn", frozenset({"waiting", "deferred", "refused", "unknown"})),
}


async def move_outbox(
    connection: Connection, id_: int, move: Move, *, actor: str, reason: str = ""
) -> None:
    """Send a delivery again, settle it by a person's word, or take it back.

    A delivery that may have been taken (`unknown`) moves only with a reason.
    """
    target, allowed = _MOVES[move]
    rows = await named_rows(
        connection,
        """select state, trace_id, destination, source_type, source_id, source_version
             from outbox where id = %(id)s for update""",
        {"id": id_},
    )
    if not rows:
        raise NotFound(_no_entry("outbox", id_))
    state = rows[0]["state"]
    if state not in allowed:
        raise BusinessRule(_wrong_state("outbox", id_, state, move))
    if (state == "unknown" or move != "requeue") and not reason.strip():
        raise BusinessRule(_no_reason())
    # What was refused must not go unchanged: its document is made anew. What may have been taken
    # goes as it was.
    await connection.execute(
        """update outbox set state = %(target)s, due_at = now(), lease_until = null,
                  attempts = attempts + 1,
                  payload = case when state = 'refused' and not is_given then null
                                 else payload end,
                  settled_at = case when %(target)s = 'waiting' then null else now() end
            where id = %(id)s""",
        {"target": target, "id": id_},
        prepare=False,
    )
    await _note(connection, "outbox", id_, move, actor, reason, of=rows[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """How full the queues are: by (channel, state), (destination, state), and ages in seconds."""

    inbox_depth: Mapping[tuple[str, str], int]
    inbox_oldest_seconds: Mapping[str, float]
    parked_keys: Mapping[str, int]
    outbox_depth: Mapping[tuple[str, str], int]
    outbox_oldest_seconds: Mapping[str, float]


async def read_figures(connection: Connection) -> QueueFigures:
    """Count what is unfinished; reads the partial indexes, not the tables."""
    inbox = await named_rows(
        connection,
        """select channel, case when waits_for is null then state else 'waiting' end as state,
                  count(*) as count,
                  extract(epoch from now() - min(received_at))::float8 as oldest,
                  count(distinct order_key) as keys
             from inbox where state in ('received', 'claimed') and waits_for is null
                or state in ('unmapped', 'held', 'parked', 'skipped') or waits_for is not null
            group by 1, 2""",
        {},
    )
    outbox = await named_rows(
        connection,
        """select destination, state, count(*) as count,
                  extract(epoch from now() - min(created_at))::float8 as oldest
             from outbox
            where state in ('waiting', 'claimed', 'inflight', 'deferred', 'unknown', 'refused')
            group by 1, 2""",
        {},
    )
    ages: dict[str, float] = {}
    for row in inbox:
        if row["state"] in ("received", "claimed", "waiting"):
            ages[row["channel"]] = max(ages.get(row["channel"], 0.0), row["oldest"])
    owed: dict[str, float] = {}
    for row in outbox:
        if row["state"] != "refused":
            owed[row["destination"]] = max(owed.get(row["destination"], 0.0), row["oldest"])
    return QueueFigures(
        inbox_depth={(row["channel"], row["state"]): row["count"] for row in inbox},
        inbox_oldest_seconds=ages,
        parked_keys={row["channel"]: row["keys"] for row in inbox if row["state"] == "parked"},
        outbox_depth={(row["destination"], row["state"]): row["count"] for row in outbox},
        outbox_oldest_seconds=owed,
    )


async def _lock_entry(connection: Connection, id_: int) -> Row:
    rows = await named_rows(connection, "select lane from inbox where id = %(id)s", {"id": id_})
    if not rows:
        raise NotFound(_no_entry("inbox", id_))
    await lock_lane(connection, rows[0]["lane"])
    found = await named_rows(
        connection,
        """select state, length(raw) as bytes, trace_id, channel from inbox
            where id = %(id)s for update""",
        {"id": id_},
    )
    return found[0]


async def _moves(connection: Connection, queue: str, id_: int) -> Sequence[Row]:
    return await named_rows(
        connection,
        """select at, action, actor, reason from queue_audit
            where queue = %(queue)s and entry = %(id)s order by id""",
        {"queue": queue, "id": id_},
    )


# Also a row of the audit, which is sealed with all others: `queue_audit` alone could be edited.
_AUDIT_MOVE = """
insert into audit (at, actor, trace_id, source, action, tid, fid, ver, detail)
values (now(), %(actor)s, %(trace_id)s, %(source)s, %(action)s, %(tid)s, %(fid)s, %(ver)s,
        %(detail)s)
"""


async def _note(
    connection: Connection, queue: str, id_: int, move: str, actor: str, reason: str, *, of: Row
) -> None:
    await connection.execute(
        """insert into queue_audit (queue, entry, action, actor, reason)
           values (%s, %s, %s, %s, %s)""",
        (queue, id_, move, actor, reason),
        prepare=False,
    )
    tid = TYPE_IDS.get(of.get("source_type", ""))
    await connection.execute(
        _AUDIT_MOVE,
        {
            "actor": actor[:ACTOR_CHARACTERS],
            "trace_id": of["trace_id"],
            "source": f"{of.get('channel') or of['destination']}/{id_}",
            "action": f"{queue}-{move}",
            "tid": tid,
            "fid": of["source_id"] if tid else None,
            "ver": of["source_version"] if tid else None,
            "detail": reason or None,
        },
        prepare=False,
    )


def _let_go(id_: int) -> Issue:
    return Issue(
        code="business-rule",
        key="inbox-let-go",
        text_en=f"The bytes of entry {id_} are no longer kept, so it cannot be worked on again",
        text_zh=f"条目 {id_} 的报文内容已按保存期限清除，无法重新处理",
        fix_en="Ask the sender to send the message again under a new MSH-10.",
        fix_zh="请发送方以新的 MSH-10 重新发送该报文。",
    )


def _no_entry(queue: str, id_: int) -> Issue:
    return Issue(
        code="not-found",
        key=f"{queue}-no-entry",
        text_en=f"There is no {queue} entry {id_}",
        text_zh=f"{queue} 中没有编号 {id_} 的条目",
        fix_en=f"See `qiao {queue} list`.",
        fix_zh=f"请查看 `qiao {queue} list`。",
    )


def _wrong_state(queue: str, id_: int, state: str, move: str) -> Issue:
    return Issue(
        code="business-rule",
        key=f"{queue}-wrong-state",
        text_en=f"Entry {id_} is {state}; {move} does not apply",
        text_zh=f"条目 {id_} 的状态为 {state}，不能执行 {move}",
        fix_en=f"See `qiao {queue} show {id_}`.",
        fix_zh=f"请查看 `qiao {queue} show {id_}`。",
    )


def _no_reason() -> Issue:
    return Issue(
        code="business-rule",
        key="reason-required",
        text_en="This needs a reason, which is kept in the audit",
        text_zh="此操作需要说明原因，并记入审计",
        fix_en="Add --reason TEXT.",
        fix_zh="请加上 --reason 说明。",
    )
