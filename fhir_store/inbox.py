"""What came in: raw messages, committed before their acknowledgement leaves.

Concurrent messages share a commit (`InboxWriter`). A resend finds the stored acknowledgement; the
same control id with another body is a second entry, flagged.
"""

import asyncio
import json
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from conformance.problem import Issue, Unavailable
from fhir_store.arrays import Byteas, Int4s, Texts

Connection = AsyncConnection[Any]

LANES = 16
"""Lanes of the inbox, for ever: the number is stored with each entry."""

STATES = ("received", "claimed", "translated", "unmapped", "held", "parked", "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
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
# of these, and keep to it when the channel has a million messages.
_REUSED = """coalesce((
           select true from inbox i
            where i.control_id = {0}control_id{1} and i.channel || '' = {0}channel{1}
              and i.sender = {0}sender{1} and i.facility = {0}facility{1}
              and i.content_hash <> {0}content_hash{1}
            limit 1), false) as reused"""

_COLUMNS = """insert into inbox (channel, sender, facility, control_id, content_hash, event,
                   order_key, also_keys, lane, state, is_id_reused, trace_id, peer,
                   raw, ack, issues)"""

_KNOWN = """
    on conflict (control_id, channel, sender, facility, content_hash) do nothing
returning id, trace_id, is_id_reused"""

_INSERT = f"""
with given as (
  select g.*, {_REUSED.format("g.", "")}
    from unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::text[],
                %b::text[], %b::text[], %b::int4[], %b::text[], %b::text[], %b::text[],
                %b::bytea[], %b::bytea[], %b::bytea[], %b::text[])
      as g (channel, sender, facility, control_id, content_hash, event, order_key, also_keys,
            lane, state, trace_id, peer, raw, ack, ack_if_reused, issues))
{_COLUMNS}
select channel, sender, facility, control_id, content_hash, event, order_key,
       string_to_array(also_keys, chr(31)), lane,
       case when reused and ack_if_reused is not null then 'held' else state end, reused,
       trace_id, peer, raw, case when reused then coalesce(ack_if_reused, ack) else ack end,
       issues::jsonb
  from given{_KNOWN}"""  # noqa: S608 - made of constants

# The same for one message: arrays of one cost more to send than the row.
_INSERT_ONE = f"""
{_COLUMNS}
select %(channel)b, %(sender)b, %(facility)b, %(control_id)b, %(content_hash)b, %(event)b,
       %(order_key)b, string_to_array(%(also_keys)b::text, chr(31)), %(lane)b,
       case when reused and %(ack_if_reused)b::bytea is not null then 'held' else %(state)b end,
       reused, %(trace_id)b, %(peer)b, %(raw)b,
       case when reused then coalesce(%(ack_if_reused)b::bytea, %(ack)b) else %(ack)b end,
       %(issues)b::text::jsonb
  from (select {_REUSED.format("%(", ")b")}) as known{_KNOWN}"""  # noqa: S608 - made of constants

_STORED = """
select i.id, i.trace_id, i.ack, i.is_id_reused
  from inbox i
 where i.control_id = %b and i.channel || '' = %b and i.sender = %b and i.facility = %b
   and i.content_hash = %b
"""


async def keep(connection: Connection, entries: Sequence[NewEntry]) -> list[Kept]:
    """Insert the messages in one statement, or find them where they came before.

    No two of `entries` may have the same sender and control id; the connection knows our arrays.
    """
    insert = _INSERT_ONE if len(entries) == 1 else _INSERT
    values = _row_of(entries[0]) if len(entries) == 1 else _arrays_of(entries)
    cursor = await connection.execute(insert, values)
    new = {row[1]: (row[0], row[2]) for row in await cursor.fetchall()}
    kept = []
    for entry in entries:
        found = new.get(entry.trace_id)
        if found is None:
            kept.append(await _stored(connection, entry))
            continue
        id_, is_reused = found
        ack = (entry.ack_if_reused or entry.ack) if is_reused else entry.ack
        kept.append(
            Kept(
                id=id_,
                trace_id=entry.trace_id,
                ack=ack,
                is_resend=False,
                is_id_reused=is_reused,
            )
        )
    return kept


def _row_of(entry: NewEntry) -> dict[str, Any]:
    return {
        "channel": entry.channel,
        "sender": entry.sender,
        "facility": entry.facility,
        "control_id": entry.control_id,
        "content_hash": entry.content_hash,
        "event": entry.event,
        "order_key": entry.order_key,
        "also_keys": "\x1f".join(entry.also_keys) or None,
        "lane": lane_of(entry.order_key, entry.trace_id),
        "state": entry.state,
        "trace_id": entry.trace_id,
        "peer": entry.peer,
        "raw": entry.raw,
        "ack": entry.ack,
        "ack_if_reused": entry.ack_if_reused,
        "issues": issues_to_json(entry.issues) if entry.issues else None,
    }


def _arrays_of(entries: Sequence[NewEntry]) -> tuple[Any, ...]:
    return (
        Texts(e.channel for e in entries),
        Texts(e.sender for e in entries),
        Texts(e.facility for e in entries),
        Texts(e.control_id for e in entries),
        Byteas(e.content_hash for e in entries),
        Texts(e.event for e in entries),
        Texts(e.order_key for e in entries),
        Texts("\x1f".join(e.also_keys) or None for e in entries),
        Int4s(lane_of(e.order_key, e.trace_id) for e in entries),
        Texts(e.state for e in entries),
        Texts(e.trace_id for e in entries),
        Texts(e.peer for e in entries),
        Byteas(e.raw for e in entries),
        Byteas(e.ack for e in entries),
        Byteas(e.ack_if_reused for e in entries),
        Texts(issues_to_json(e.issues) if e.issues else None for e in entries),
    )


async def _stored(connection: Connection, entry: NewEntry) -> Kept:
    """Return what was kept when this message came before."""
    cursor = await connection.execute(
        _STORED,
        (entry.control_id, entry.channel, entry.sender, entry.facility, entry.content_hash),
    )
    row = await cursor.fetchone()
    if row is None:  # deleted between the two statements: nothing is promised, the sender resends
        raise Unavailable(_away("inbox-gone"))
    return Kept(id=row[0], trace_id=row[1], ack=row[2], is_resend=True, is_id_reused=row[3])


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


Identity = tuple[str, str, str, str]


class InboxWriter:
    """Keeps messages of all connections; those that come while a commit runs share the next one.

    `writers` commits may run at a time, each on a connection of its own. `on_kept` is called
    after each commit that brought something new.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        *,
        on_kept: Callable[[], None] = lambda: None,
        writers: int = 2,
        batch: int = 200,
    ) -> None:
        self._pool = pool
        self._on_kept = on_kept
        self._idle = writers
        self._batch = batch
        self._free: list[Connection] = []
        self._pending: deque[tuple[NewEntry, asyncio.Future[Kept]]] = deque()
        self._in_commit: set[Identity] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def keep(self, entry: NewEntry) -> Kept:
        """Return once the message is committed; raises `Unavailable` where it could not be."""
        future: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, future))
        await self._commit()
        return await future

    async def close(self) -> None:
        """Finish what is under way and give the connections back."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._free:
            connection = self._free.pop()
            await connection.execute("reset enable_seqscan")
            await self._pool.putconn(connection)

    async def _commit(self) -> None:
        """Commit one batch if a writer is idle; what comes meanwhile is left to a task."""
        batch = self._take() if self._idle else []
        if not batch:
            return
        self._idle -= 1
        identities = {_identity(entry) for entry, _ in batch}
        try:
            kept = await self._write([entry for entry, _ in batch])
        except asyncio.CancelledError:
            _fail(batch, Unavailable(_away("inbox-stopped")))
            raise
        except (psycopg.Error, PoolTimeout, Unavailable, OSError):
            _fail(batch, Unavailable(_away("inbox-away")))
        else:
            for (_, future), one in zip(batch, kept, strict=True):
                if future.done():
                    continue
                if isinstance(one, Kept):
                    future.set_result(one)
                else:
                    future.set_exception(one)
            if any(isinstance(one, Kept) and not one.is_resend for one in kept):
                self._on_kept()
        finally:
            self._idle += 1
            self._in_commit -= identities
            if self._pending:
                task = asyncio.get_running_loop().create_task(self._commit())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _take(self) -> list[tuple[NewEntry, asyncio.Future[Kept]]]:
        """Take the next batch; a control id that is already in a commit waits for its end."""
        batch: list[tuple[NewEntry, asyncio.Future[Kept]]] = []
        later: list[tuple[NewEntry, asyncio.Future[Kept]]] = []
        while self._pending and len(batch) < self._batch:
            waiting = self._pending.popleft()
            identity = _identity(waiting[0])
            if identity in self._in_commit:
                later.append(waiting)
            else:
                self._in_commit.add(identity)
                batch.append(waiting)
        self._pending.extendleft(reversed(later))
        return batch

    async def _write(self, entries: list[NewEntry]) -> list[Kept | Exception]:
        connection = self._free.pop() if self._free else None
        if connection is None:
            connection = await self._pool.getconn()
            await connection.set_autocommit(True)
            # The statement is planned once, on a table that may then still be empty.
            await connection.execute("set enable_seqscan = off")
        try:
            kept = await self._keep_each(connection, entries)
        except BaseException:
            # A connection in doubt is closed, so that the pool makes a new one.
            await connection.close()
            await self._pool.putconn(connection)
            raise
        self._free.append(connection)
        return kept

    async def _keep_each(
        self, connection: Connection, entries: list[NewEntry]
    ) -> list[Kept | Exception]:
        """Keep all in one commit, or one by one where the database refuses one of them."""
        try:
            return list(await keep(connection, entries))
        except psycopg.DataError as refused:
            if len(entries) == 1:
                return [refused]
        return [one for entry in entries for one in await self._keep_each(connection, [entry])]


def _identity(entry: NewEntry) -> Identity:
    return (entry.channel, entry.sender, entry.facility, entry.control_id)


def _fail(batch: list[tuple[NewEntry, asyncio.Future[Kept]]], problem: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(problem)


def _away(key: str) -> Issue:
    return Issue(
        code="transient",
        key=key,
        text_en="The message could not be kept",
        text_zh="报文未能保存",
        fix_en="Send it again; nothing was acknowledged.",
        fix_zh="请重新发送；该报文尚未确认。",
    )
