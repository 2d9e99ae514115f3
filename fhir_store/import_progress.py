"""Which stretches of a file have been imported; noted in the commit of their resources."""

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

Connection = AsyncConnection[Any]

# done_stretches: what of a file is in
DONE_STRETCHES = """
SELECT start_at, lines, written, failed FROM import_stretch WHERE source = %(source)s"""

# note_stretch: one more is in; a repeated import counts anew
NOTE_STRETCH = """
INSERT INTO import_stretch (source, start_at, lines, written, failed)
VALUES (%(source)s, %(start)s, %(lines)s, %(written)s, %(failed)s)
    ON CONFLICT (source, start_at) DO UPDATE
   SET lines = excluded.lines, written = excluded.written, failed = excluded.failed,
       done_at = now()"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Lines seen, resources written (unchanged ones are not), lines refused."""

    lines: int = 0
    written: int = 0
    failed: int = 0


async def done_stretches(connection: Connection, source: bytes) -> dict[int, Counts]:
    """Return the finished stretches of a file by their start."""
    cursor = await connection.execute(DONE_STRETCHES, {"source": source})
    return {
        start: Counts(lines=lines, written=written, failed=failed)
        for start, lines, written, failed in await cursor.fetchall()
    }


async def note_stretch(connection: Connection, source: bytes, start: int, counts: Counts) -> None:
    """Note in the caller's transaction that a stretch is in."""
    await connection.execute(
        NOTE_STRETCH,
        {
            "source": source,
            "start": start,
            "lines": counts.lines,
            "written": counts.written,
            "failed": counts.failed,
        },
    )
