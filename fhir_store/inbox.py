"""What came in: raw messages, committed before their acknowledgement leaves.

Concurrent messages share a commit (`inbox_writer.py`). A resend finds the stored acknowledgement;
the same control id with another body is a second entry, flagged.
"""

import json
import zlib
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection

from conformance.problem import Issue, Unavailable
from fhir_store import arrays
from fhir_store.prepared import PreparedConnection, Value

Connection = AsyncConnection[Any]

LANES = 16
"""Lanes of the inbox, for ever: the number is stored with each entry."""

STATES = ("received", "claimed", "translated", "unmapped", "held", "parked", "skipped")


class NewEntry(Struct, frozen=True, kw_only=True):
    """A message as it shall be kept, with the acknowledgement it shall get.

    `content_hash` is taken with MSH-7 blanked. `also_keys` are further order keys of a merge.
    `ack_if_reused` is stored and answered instead, and the entry held, where the control id is
    known with another body; None processes such a message like any other.
    """

    channel: str
    sender: str
    facility: str
    control_id: str
    content_hash: bytes
    event: str
    order_key: str
    also_keys: Sequence[str] = ()
    state: str = "received"
    trace_id: str
    peer: str
    raw: bytes
    ack: bytes
    ack_if_reused: bytes | None = None
    issues: Sequence[Issue] = ()


class Kept(Struct, frozen=True, kw_only=True):
    """What the database holds of a message: its entry, its acknowledgement, and how it came."""

    id: int
    trace_id: str
    ack: bytes
    is_resend: bool
    is_id_reused: bool


def lane_of(order_key: str, trace_id: str) -> int:
    """Return the lane of a key; without one any lane will do."""
    return zlib.crc32((order_key or trace_id).encode()) % LANES


# `reused` in words: the sender has used this control id before for another body. Only the control
# id can be looked up by an index: on an empty table the planner would take any that has a column
# of these, and keep to it when the channel has a million messages. Without the OFFSET the planner
# looks it up again wherever it is used.
_KEEP = """
insert into inbox (channel, sender, facility, control_id, content_hash, event, order_key,
                   also_keys, lane, state, is_id_reused, trace_id, peer, raw, ack, issues)
select channel, sender, facility, control_id, content_hash, event, order_key,
       string_to_array(also_keys, chr(31)), lane,
       case when reused and ack_if_reused is not null then 'held' else state end, reused,
       trace_id, peer, raw, case when reused then coalesce(ack_if_reused, ack) else ack end,
       issues::jsonb
  from (select g.*, coalesce((
                 select true from inbox i
                  where i.control_id = g.control_id and i.channel || '' = g.channel
                    and i.sender = g.sender and i.facility = g.facility
                    and i.content_hash <> g.content_hash
                  limit 1), false) as reused
          from {source} offset 0) as given
    on conflict (control_id, channel, sender, facility, content_hash) do nothing
returning id, trace_id, is_id_reused"""

_STORED = """
select i.id, i.trace_id, i.ack, i.is_id_reused
  from inbox i
 where i.control_id = $1::text and i.channel || '' = $2::text and i.sender = $3::text
   and i.facility = $4::text and i.content_hash = $5::bytea"""

_PARAMETERS = {
    "channel": "text", "sender": "text", "facility": "text", "control_id": "text",
    "content_hash": "bytea", "event": "text", "order_key": "text", "also_keys": "text",
    "lane": "int4", "state": "text", "trace_id": "text", "peer": "text", "raw": "bytea",
    "ack": "bytea", "ack_if_reused": "bytea", "issues": "text",
}  # fmt: skip


def _one() -> str:
    # Arrays of one cost more to send and to read than the row.
    columns = (f"${n}::{kind} as {name}" for n, (name, kind) in enumerate(_PARAMETERS.items(), 1))
    return _KEEP.format(source=f"(select {', '.join(columns)}) as g")


def _many() -> str:
    arrays = (f"${n}::{kind}[]" for n, kind in enumerate(_PARAMETERS.values(), 1))
    return _KEEP.format(source=f"unnest({', '.join(arrays)}) as g ({', '.join(_PARAMETERS)})")


_STATEMENTS = {b"keep_one": _one(), b"keep_many": _many(), b"stored": _STORED}


async def prepare(connection: Connection) -> PreparedConnection:
    """Make a connection one that keeps messages, and nothing else from now on."""
    await connection.set_autocommit(True)
    # The statements are planned once, on a table that may then still be empty.
    await connection.execute("set enable_seqscan = off")
    prepared = PreparedConnection(connection)
    try:
        for name, statement in _STATEMENTS.items():
            await prepared.prepare(name, statement)
    except BaseException:
        await prepared.close()
        raise
    return prepared


async def keep(prepared: PreparedConnection, entries: Sequence[NewEntry]) -> list[Kept]:
    """Insert the messages in one statement, or find them where they came before.

    No two of `entries` may have the same sender and control id.
    """
    if len(entries) == 1:
        result = await prepared.run(b"keep_one", _row_of(entries[0]))
    else:
        result = await prepared.run(b"keep_many", _arrays_of(entries))
    new = {result.get_value(row, 1): row for row in range(result.ntuples)}
    kept = []
    for entry in entries:
        row = new.get(entry.trace_id.encode())
        if row is None:
            kept.append(await _stored(prepared, entry))
            continue
        is_reused = result.get_value(row, 2) == _TRUE
        ack = (entry.ack_if_reused or entry.ack) if is_reused else entry.ack
        kept.append(
            Kept(
                id=_number(result.get_value(row, 0)),
                trace_id=entry.trace_id,
                ack=ack,
                is_resend=False,
                is_id_reused=is_reused,
            )
        )
    return kept


def _row_of(entry: NewEntry) -> list[Value]:
    return [
        entry.channel.encode(),
        entry.sender.encode(),
        entry.facility.encode(),
        entry.control_id.encode(),
        entry.content_hash,
        entry.event.encode(),
        entry.order_key.encode(),
        "\x1f".join(entry.also_keys).encode() if entry.also_keys else None,
        lane_of(entry.order_key, entry.trace_id).to_bytes(4, "big"),
        entry.state.encode(),
        entry.trace_id.encode(),
        entry.peer.encode(),
        entry.raw,
        entry.ack,
        entry.ack_if_reused,
        issues_to_json(entry.issues).encode() if entry.issues else None,
    ]


def _arrays_of(entries: Sequence[NewEntry]) -> list[Value]:
    return [
        arrays.pack_texts([e.channel for e in entries]),
        arrays.pack_texts([e.sender for e in entries]),
        arrays.pack_texts([e.facility for e in entries]),
        arrays.pack_texts([e.control_id for e in entries]),
        arrays.pack_byteas([e.content_hash for e in entries]),
        arrays.pack_texts([e.event for e in entries]),
        arrays.pack_texts([e.order_key for e in entries]),
        arrays.pack_texts(["\x1f".join(e.also_keys) or None for e in entries]),
        arrays.pack_int4s([lane_of(e.order_key, e.trace_id) for e in entries]),
        arrays.pack_texts([e.state for e in entries]),
        arrays.pack_texts([e.trace_id for e in entries]),
        arrays.pack_texts([e.peer for e in entries]),
        arrays.pack_byteas([e.raw for e in entries]),
        arrays.pack_byteas([e.ack for e in entries]),
        arrays.pack_byteas([e.ack_if_reused for e in entries]),
        arrays.pack_texts([issues_to_json(e.issues) if e.issues else None for e in entries]),
    ]


async def _stored(prepared: PreparedConnection, entry: NewEntry) -> Kept:
    """Return what was kept when this message came before."""
    names = (entry.control_id, entry.channel, entry.sender, entry.facility)
    found = await prepared.run(b"stored", [*(n.encode() for n in names), entry.content_hash])
    if not found.ntuples:  # deleted between the two statements: the sender sends it again
        raise Unavailable(away("inbox-gone"))
    return Kept(
        id=_number(found.get_value(0, 0)),
        trace_id=(found.get_value(0, 1) or b"").decode(),
        ack=found.get_value(0, 2) or b"",
        is_resend=True,
        is_id_reused=found.get_value(0, 3) == _TRUE,
    )


_TRUE = b"\x01"


def _number(value: Value) -> int:
    return int.from_bytes(value or b"", "big")


async def keep_acks(connection: Connection, acks: Sequence[tuple[int, bytes]]) -> None:
    """Replace stored acknowledgements, by the number of the entry: its resend gets the new one."""
    if acks:
        await connection.execute(
            """update inbox i set ack = a.ack
                 from unnest(%b::int8[], %b::bytea[]) as a (id, ack) where i.id = a.id""",
            ([id_ for id_, _ in acks], [ack for _, ack in acks]),
            prepare=False,
        )


async def read_answers(connection: Connection, ids: Sequence[int]) -> dict[int, bytes]:
    """Return the acknowledgements of those entries that have ended or wait for a person."""
    cursor = await connection.execute(
        "select id, ack from inbox where id = any(%s) and state not in ('received', 'claimed')",
        (list(ids),),
        binary=True,
    )
    return dict(await cursor.fetchall())


def issues_to_json(issues: Sequence[Issue]) -> str:
    """Return issues as the JSON that stands in the tables."""
    return json.dumps([issue.to_fhir() for issue in issues], ensure_ascii=False)


def away(key: str) -> Issue:
    """Return what is said of a message that could not be kept; `key` says why."""
    return Issue(
        code="transient",
        key=key,
        text_en="The message could not be kept",
        text_zh="报文未能保存",
        fix_en="Send it again; nothing was acknowledged.",
        fix_zh="请重新发送；该报文尚未确认。",
    )
