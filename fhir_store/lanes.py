"""In which order entries of the inbox are worked on: lanes, keys, and who waits behind whom.

A lane belongs to the transaction that holds its advisory lock, so a worker that dies gives it
back by dying. Within a lane entries go by number. A stuck entry (parked, held, or backing off)
stops its order keys and nothing else; a merge (A40) stops the keys of both records.

No statement here is prepared: a plan made while the queue is short is ruinous when it is long.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from msgspec import Struct
from psycopg import AsyncConnection
from psycopg.rows import class_row

from conformance.problem import Issue
from fhir_store.arrays import Byteas, Int8s, Texts
from fhir_store.inbox import LANES, issues_to_json, lane_of

Connection = AsyncConnection[Any]

SURE_BATCH = 100
MOST_BATCH_BYTES = 256 * 1024
"""Beyond `SURE_BATCH` entries a batch grows while its messages are no more than this: what a commit
locks and keeps in memory follows the size of the messages, what it costs by itself does not."""

LOCK_CLASS = 0x51A0
"""First half of the lanes' advisory locks; the second is the lane."""


class Entry(Struct, frozen=True, kw_only=True):
    """An open entry as a worker gets it."""

    id: int
    channel: str
    event: str
    control_id: str
    order_key: str
    also_keys: Sequence[str] | None
    lane: int
    state: str
    attempts: int
    has_backed_off: bool
    trace_id: str
    raw: bytes

    @property
    def keys(self) -> tuple[str, ...]:
        """Every order key this entry stands for; none where no order is asked."""
        return tuple(key for key in (self.order_key, *(self.also_keys or ())) if key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """An entry that stops later ones of its keys.

    `waits_for` is the entry whose end frees them, None where the next look is soon enough.
    """

    id: int
    keys: tuple[str, ...]
    waits_for: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do with a lane's next entries: run in this order, or set behind a stuck one."""

    run: list[Entry] = field(default_factory=list)
    waiting: dict[int, int] = field(default_factory=dict)


def plan_batch(entries: Sequence[Entry], stuck: Sequence[Stuck]) -> Plan:
    """Say which of a lane's entries may run now; `entries` are in order of their number."""
    plan = Plan()
    stops: dict[str, list[Stuck]] = {}
    for one in sorted(stuck, key=lambda one: one.id):
        _stop(stops, one)
    for entry in entries:
        before = [one for key in entry.keys for one in stops.get(key, ()) if one.id < entry.id]
        first = min(before, key=lambda one: one.id, default=None)
        if first is not None:
            if first.waits_for is not None:
                plan.waiting[entry.id] = first.waits_for
            _stop(stops, Stuck(id=entry.id, keys=entry.keys, waits_for=first.waits_for))
        else:
            plan.run.append(entry)
            if entry.has_backed_off:
                # Others already wait behind it with lower numbers than the rest of this batch.
                _stop(stops, Stuck(id=entry.id, keys=entry.keys, waits_for=None))
    return plan


def _stop(stops: dict[str, list[Stuck]], one: Stuck) -> None:
    for key in one.keys:
        stops.setdefault(key, []).append(one)


# CASE keeps the order: the lock is tried only on lanes that have something to do.
_LOCK = """
select lane from unnest(%s::int4[]) with ordinality as l (lane, preference)
 where case when exists (
              select 1 from inbox i
               where i.lane = l.lane and i.state in ('received', 'claimed')
                 and i.waits_for is null and (i.due_at is null or i.due_at <= now())
               limit 1)
            then pg_try_advisory_xact_lock(%s, l.lane) else false end
 order by preference limit %s
"""

# Each lane by its own index: a list of lanes would have all their open entries sorted.
_OPEN = """
select e.*
  from unnest(%(lanes)s::int4[]) as l (lane)
 cross join lateral (
       select id, channel, event, control_id, order_key, also_keys, i.lane, state, attempts,
              due_at is not null as has_backed_off, trace_id, raw
         from inbox i
        where i.lane = l.lane and state in ('received', 'claimed') and waits_for is null
          and (due_at is null or due_at <= now())
        order by id limit %(limit)s) e
 order by id limit %(limit)s
"""

_STUCK = """
select id, array_prepend(order_key, coalesce(also_keys, '{}')) as keys,
       case when waits_for is not null then waits_for
            when state in ('held', 'parked') or due_at > now() then id end as waits_for
  from inbox
 where order_key = any(%(keys)s) and id < %(last)s
   and (state in ('held', 'parked')
        or state in ('received', 'claimed') and (waits_for is not null or due_at > now()))
union all
select id, array_prepend(order_key, also_keys) as keys,
       case when waits_for is not null then waits_for
            when state in ('held', 'parked') or due_at > now() then id end as waits_for
  from inbox
 where also_keys is not null and state in ('received', 'claimed', 'held', 'parked')
   and id < %(last)s
   and (lane <> all(%(lanes)s) or state in ('held', 'parked') or waits_for is not null
        or due_at > now())
union all
select id, array[order_key] as keys, null as waits_for
  from inbox
 where order_key = any(%(others)s) and id < %(last)s and lane <> all(%(lanes)s)
   and state in ('received', 'claimed')
"""


async def take_batch(
    connection: Connection, *, prefer: Sequence[int], limit: int, most_lanes: int = 1
) -> tuple[list[int], Plan] | None:
    """Lock lanes that have work, until the transaction ends, and plan their next entries.

    `prefer` lists lanes in the order to try them; as many as `most_lanes` are taken. There are at
    most `limit` entries, and of large messages `SURE_BATCH`. None where no lane is free with work;
    an empty plan where all of it must wait.
    """
    cursor = await connection.execute(_LOCK, (list(prefer), LOCK_CLASS, most_lanes), prepare=False)
    taken = [int(row[0]) for row in await cursor.fetchall()]
    if not taken:
        return None
    # A statement of its own: what the lanes' last holder committed must be visible.
    async with connection.cursor(row_factory=class_row(Entry)) as rows:
        await rows.execute(_OPEN, {"lanes": taken, "limit": limit}, binary=True, prepare=False)
        entries = await rows.fetchall()
    entries = of_bearable_size(entries)
    entries = await _with_other_lanes(connection, taken, entries)
    if not entries:
        return taken, Plan()
    stuck = await _find_stuck(connection, taken, entries)
    return taken, plan_batch(entries, stuck)


def of_bearable_size(entries: list[Entry]) -> list[Entry]:
    """Return the first entries: `SURE_BATCH`, and more as long as their messages are small."""
    sizes = itertools.accumulate(len(entry.raw) for entry in entries)
    small = sum(1 for _ in itertools.takewhile(lambda size: size <= MOST_BATCH_BYTES, sizes))
    return entries[: max(SURE_BATCH, small)]


async def _with_other_lanes(
    connection: Connection, taken: Sequence[int], entries: list[Entry]
) -> list[Entry]:
    """Lock the other lanes of merges; cut before a merge whose lane somebody else works on."""
    held = set(taken)
    for position, entry in enumerate(entries):
        wanted = {lane_of(key, "") for key in entry.also_keys or () if key} - held
        for other in sorted(wanted):
            cursor = await connection.execute(
                "select pg_try_advisory_xact_lock(%s, %s)", (LOCK_CLASS, other), prepare=False
            )
            row = await cursor.fetchone()
            if row is None or not row[0]:
                return entries[:position]
            held.add(other)
    return entries


async def _find_stuck(
    connection: Connection, taken: Sequence[int], entries: list[Entry]
) -> list[Stuck]:
    keys = sorted({key for entry in entries for key in entry.keys})
    others = sorted({key for entry in entries for key in entry.also_keys or () if key})
    cursor = await connection.execute(
        _STUCK,
        {"keys": keys, "others": others, "lanes": list(taken), "last": entries[-1].id},
        prepare=False,
    )
    return [
        Stuck(id=row[0], keys=tuple(key for key in row[1] if key), waits_for=row[2])
        for row in await cursor.fetchall()
    ]


class Finished(Struct, frozen=True, kw_only=True):
    """How an entry ended: `translated` with what it wrote and its trace, or `unmapped`."""

    entry: Entry
    state: str
    written: Sequence[str] = ()
    trace: bytes = b""
    issues: Sequence[Issue] = ()


_FINISH = """
update inbox i set state = f.state, finished_at = now(), due_at = null,
       issues = coalesce(f.issues::jsonb, i.issues)
  from unnest(%(ids)b::int8[], %(states)b::text[], %(issues)b::text[]) as f (id, state, issues)
 where i.id = f.id"""

_TRACE = """
insert into inbox_trace (inbox_id, written, trace)
select unnest(%(ids)b::int8[]), string_to_array(unnest(%(written)b::text[]), chr(31)),
       unnest(%(traces)b::bytea[])
    on conflict (inbox_id) do update set written = excluded.written, trace = excluded.trace"""


async def finish(connection: Connection, finished: Sequence[Finished]) -> None:
    """Close entries; those that waited behind a backing-off one are free again."""
    if not finished:
        return
    await connection.execute(
        _FINISH,
        {
            "ids": Int8s(one.entry.id for one in finished),
            "states": Texts(one.state for one in finished),
            "issues": Texts(issues_to_json(one.issues) if one.issues else None for one in finished),
        },
        prepare=False,
    )
    traced = [one for one in finished if one.trace or one.written]
    if traced:
        await connection.execute(
            _TRACE,
            {
                "ids": Int8s(one.entry.id for one in traced),
                "written": Texts("\x1f".join(one.written) for one in traced),
                "traces": Byteas(one.trace for one in traced),
            },
            prepare=True,
        )
    await release(connection, [one.entry.id for one in finished if one.entry.has_backed_off])


async def park(
    connection: Connection, entry: Entry, issues: Sequence[Issue], *, state: str = "parked"
) -> None:
    """Stop an entry and its keys until a person replays or skips it (`parked` or `held`)."""
    await connection.execute(
        """update inbox set state = %s, due_at = null, attempts = attempts + 1, issues = %s
            where id = %s""",
        (state, issues_to_json(issues), entry.id),
        prepare=False,
    )


async def back_off(
    connection: Connection, entry: Entry, issues: Sequence[Issue], wait: timedelta
) -> None:
    """Leave an entry where it stands for a while; its keys wait with it."""
    await connection.execute(
        """update inbox set state = 'received', due_at = now() + %s, attempts = attempts + 1,
                  issues = %s
            where id = %s""",
        (wait, issues_to_json(issues), entry.id),
        prepare=False,
    )


async def note_attempts(connection: Connection, entries: Iterable[Entry]) -> None:
    """Count an attempt before it begins, so that an entry that kills its worker is found."""
    await connection.execute(
        "update inbox set state = 'claimed', attempts = attempts + 1 where id = any(%s)",
        ([entry.id for entry in entries],),
        prepare=False,
    )


async def set_behind(connection: Connection, waiting: Mapping[int, int]) -> None:
    """Take entries out of the open ones until the stuck one they stand behind has ended."""
    if waiting:
        await connection.execute(
            """update inbox i set waits_for = w.stuck
                 from unnest(%s::int8[], %s::int8[]) as w (id, stuck) where i.id = w.id""",
            (list(waiting), list(waiting.values())),
            prepare=False,
        )


async def release(connection: Connection, ended: Iterable[int]) -> None:
    """Open again what stood behind these entries, in its original order."""
    ids = list(ended)
    if ids:
        await connection.execute(
            "update inbox set waits_for = null where waits_for = any(%s)", (ids,), prepare=False
        )


async def lock_lane(connection: Connection, lane: int) -> None:
    """Wait for a lane; for moves by hand, which must not meet a batch."""
    await connection.execute(
        "select pg_advisory_xact_lock(%s, %s)", (LOCK_CLASS, lane), prepare=False
    )


def lanes_from(start: int) -> list[int]:
    """Return all lanes, beginning with `start`, so that no lane is always last."""
    return [(start + step) % LANES for step in range(LANES)]
