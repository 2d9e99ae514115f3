"""Keeps the words of `_text` and `_content` behind the writes, in the order of commits.

A step reads the next resources below the horizon of finished transactions, so none is missed;
how far it has come stands in `search_progress`. Steps of several processes take turns.
"""

from typing import Any

import orjson
from psycopg import AsyncConnection

from fhir_store.search.words import content_words, narrative_words

Connection = AsyncConnection[Any]
BATCH = 200

# take_turn: one process at a time, and where the last one stopped
_TAKE_TURN = b"""
SELECT txid, rid FROM search_progress WHERE name = 'text' FOR UPDATE SKIP LOCKED"""
# next_written: resources by commit, only those whose transactions are all finished
_NEXT = b"""
SELECT rid, txid, del, body FROM resource
 WHERE (txid, rid) > (%(txid)s, %(rid)s) AND txid < change_horizon()
 ORDER BY txid, rid LIMIT %(limit)s"""
_FORGET = b"DELETE FROM ix_text WHERE rid = %(rid)s"
_KEEP = b"""
INSERT INTO ix_text (rid, text, content)
VALUES (%(rid)s, array_to_tsvector(%(text)s::text[]), array_to_tsvector(%(content)s::text[]))
    ON CONFLICT (rid) DO UPDATE SET text = excluded.text, content = excluded.content"""
_NOTE = b"UPDATE search_progress SET txid = %(txid)s, rid = %(rid)s WHERE name = 'text'"
# lag: how many written resources have not been read yet, up to a limit
_LAG = b"""
SELECT count(*) FROM (SELECT 1 FROM resource r, search_progress p
 WHERE p.name = 'text' AND (r.txid, r.rid) > (p.txid, p.rid) LIMIT %(limit)s) x"""


async def index_words(connection: Connection, *, batch: int = BATCH) -> int:
    """Do one step in a transaction of its own; returns how many resources were read."""
    async with connection.transaction():
        cursor = await connection.execute(_TAKE_TURN)
        place = await cursor.fetchone()
        if place is None:
            return 0
        txid, rid = place
        values = {"txid": txid, "rid": rid, "limit": batch}
        rows = await (await connection.execute(_NEXT, values)).fetchall()
        for number, written, is_deleted, body in rows:
            if is_deleted:
                await connection.execute(_FORGET, {"rid": number})
                txid, rid = written, number
                continue
            resource = orjson.loads(body)
            words = {"text": narrative_words(resource), "content": content_words(resource)}
            await connection.execute(_KEEP, {"rid": number, **words})
            txid, rid = written, number
        if rows:
            await connection.execute(_NOTE, {"txid": txid, "rid": rid})
        return len(rows)


async def words_behind(connection: Connection, *, limit: int = 1000) -> int:
    """Return how many resources the words lag behind, at most `limit`."""
    cursor = await connection.execute(_LAG, {"limit": limit})
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])
