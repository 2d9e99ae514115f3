"""Work that follows the writes: what was written since the last step, in the order of commits.

The place of a follower stands in `search_progress` and moves in the transaction of its work, so a
process that is killed leaves both or neither: every write is followed exactly once. Only finished
transactions below the horizon are seen, so none is skipped; steps of several processes take turns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from fhir_store.resource_types import TYPE_IDS, TYPES

Connection = AsyncConnection[Any]

# take_turn: one process at a time, and where the last one stopped
TAKE_TURN = """
SELECT txid, rid FROM search_progress WHERE name = %(name)s FOR UPDATE SKIP LOCKED"""

# next_written: current resources by the commit of their last write; bodies of the wanted types
NEXT_WRITTEN = """
SELECT w.rid, w.txid, w.tid, r.fid, r.del, r.ver,
       CASE WHEN w.tid = ANY(%(tids)s) AND NOT r.del THEN r.body END
  FROM (SELECT rid, txid, tid FROM resource
         WHERE (txid, rid) > (%(txid)s, %(rid)s) AND txid < change_horizon()
         ORDER BY txid, rid LIMIT %(look)s) w
  JOIN resource r ON r.rid = w.rid
 ORDER BY w.txid, w.rid"""

# note_place: where the next step goes on
NOTE_PLACE = """
UPDATE search_progress SET txid = %(txid)s, rid = %(rid)s WHERE name = %(name)s"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The last write that was followed."""

    txid: int
    rid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A resource of a wanted type as it is now; `body` is empty where it is deleted."""

    type: str
    id: str
    version: int
    body: bytes


async def take_turn(connection: Connection, name: str) -> Place | None:
    """Return where a follower stands and keep others away; None where another is at work."""
    cursor = await connection.execute(TAKE_TURN, {"name": name}, prepare=True)
    row = await cursor.fetchone()
    return None if row is None else Place(txid=row[0], rid=row[1])


async def next_written(
    connection: Connection, place: Place, types: Sequence[str], *, look: int, most: int
) -> tuple[list[Followed], Place, int]:
    """Return what of these types was written after a place, `most` at most, and the new place.

    `look` bounds the writes of any type that are looked at; the third value says how many were.
    """
    wanted = [TYPE_IDS[type_] for type_ in types]
    values = {"tids": wanted, "txid": place.txid, "rid": place.rid, "look": look}
    cursor = await connection.execute(NEXT_WRITTEN, values, prepare=False)
    found: list[Followed] = []
    looked = 0
    for rid, txid, tid, fid, _, version, body in await cursor.fetchall():
        looked += 1
        place = Place(txid=txid, rid=rid)
        if tid in wanted:
            text = (body or "").encode()
            found.append(Followed(type=TYPES[tid - 1], id=fid, version=version, body=text))
            if len(found) == most:
                break
    return found, place, looked


async def take_written(
    connection: Connection, name: str, types: Sequence[str], *, look: int, most: int
) -> tuple[list[Followed], int]:
    """Take the turn, return what was written since the follower's last step, and move its place.

    Nothing where another process is at work. The new place counts, like the work that the caller
    does in the same transaction, from its commit on; what `look` and `most` bound is told by
    `next_written`, whose count of looks is the second value.
    """
    place = await take_turn(connection, name)
    if place is None:
        return [], 0
    found, place, looked = await next_written(connection, place, types, look=look, most=most)
    if looked:
        await note_place(connection, name, place)
    return found, looked


async def note_place(connection: Connection, name: str, place: Place) -> None:
    """Keep the new place; it counts from the commit of the caller's transaction on."""
    values = {"name": name, "txid": place.txid, "rid": place.rid}
    await connection.execute(NOTE_PLACE, values, prepare=True)
