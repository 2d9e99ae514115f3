"""Who did what and when: notes of reads, and the seals that show any later change.

Audit rows of writes are committed with the write (`fhir_store.flush`). Reads are noted here and
written in batches, so a process that is killed loses the notes of its last moment.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from msgspec import Struct
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from fhir_store.arrays import Int4s, Int8s, Texts
from fhir_store.cancellation import end_if_cancelled
from fhir_store.changes import microseconds_of
from fhir_store.failures import too_busy, translated_failures
from fhir_store.flush import ACTOR_CHARACTERS
from fhir_store.resource_types import TYPE_IDS

Connection = AsyncConnection[Any]
_NOTES_LIMIT = 50_000  # notes that may wait; beyond it reads are refused rather than unaudited
_BATCH = 2_000

# note_accesses: reads, searches and refusals; writes bring their own rows
NOTE_ACCESSES = """
INSERT INTO audit (at, actor, trace_id, action, tid, fid, ver, outcome, detail)
SELECT timestamptz 'epoch' + at * interval '1 microsecond', actor, trace_id, action,
       nullif(tid, 0), fid, nullif(ver, 0), outcome, detail
  FROM unnest(%(at)b::int8[], %(actor)b::text[], %(trace)b::text[], %(action)b::text[],
              %(tid)b::int4[], %(fid)b::text[], %(ver)b::int4[], %(outcome)b::int4[],
              %(detail)b::text[])
       AS a (at, actor, trace_id, action, tid, fid, ver, outcome, detail)"""

# lock_seals: one sealer at a time
LOCK_SEALS = "SELECT pg_try_advisory_xact_lock(7106310002)"

# rows_digest: what a seal says of the rows in a span of finished transactions
_DIGEST: LiteralString = """
SELECT count(*) AS rows,
       coalesce(string_agg(sha256(convert_to(json_build_array(
           seq, txid, (extract(epoch FROM at) * 1000000)::int8, actor, trace_id, source, action,
           tid, fid, ver, outcome, detail)::text, 'UTF8')), ''::bytea ORDER BY txid, seq),
           ''::bytea) AS digests
  FROM audit WHERE txid >= {start} AND txid < {end}"""

# seal: chain the rows of all transactions finished since the last seal, at most a span of them
SEAL: LiteralString = """
WITH last AS (
  SELECT number, to_txid, hash FROM audit_seal ORDER BY number DESC LIMIT 1),
start AS (
  SELECT coalesce((SELECT number FROM last), 0) AS number,
         coalesce((SELECT to_txid FROM last), 0) AS txid,
         coalesce((SELECT hash FROM last), ''::bytea) AS hash),
span AS (
  SELECT least(change_horizon(),
               (SELECT a.txid + 1 FROM audit a, start s WHERE a.txid >= s.txid
                 ORDER BY a.txid, a.seq OFFSET %(most)s LIMIT 1)) AS txid),
found AS (
  SELECT d.* FROM start, span, LATERAL ({digest}) d)
INSERT INTO audit_seal (number, from_txid, to_txid, rows, previous, hash)
SELECT s.number + 1, s.txid, span.txid, f.rows, s.hash, sha256(s.hash || f.digests)
  FROM start s, span, found f WHERE f.rows > 0
RETURNING number, rows, hash""".replace(
    "{digest}", _DIGEST.replace("{start}", "start.txid").replace("{end}", "span.txid")
)

# verify_seals: a stretch of seals, recomputed from the rows as they are now
VERIFY_SEALS: LiteralString = """
SELECT s.number, s.from_txid, s.to_txid, s.rows, s.previous, s.hash, d.rows,
       sha256(s.previous || d.digests)
  FROM audit_seal s, LATERAL ({digest}) d
 WHERE s.number > %(after)s ORDER BY s.number LIMIT %(limit)s""".replace(
    "{digest}", _DIGEST.replace("{start}", "s.from_txid").replace("{end}", "s.to_txid")
)


class Access(Struct, frozen=True, kw_only=True):
    """One read, search or refused request; `outcome` is AuditEvent's (0, 4, 8, 12)."""

    actor: str
    at: datetime
    action: str
    trace_id: str = ""
    type: str | None = None
    id: str | None = None
    version: int | None = None
    outcome: int = 0
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """A link of the chain; `hash` of the newest one, kept elsewhere, guards all before it."""

    number: int
    rows: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the verifier found: a seal whose rows or place in the chain are not what they were."""

    number: int
    from_txid: int
    to_txid: int
    kind: str  # rows-changed, rows-missing, rows-added, chain-broken, head-missing
    sealed_rows: int = 0
    found_rows: int = 0


async def keep_access(connection: Connection, access: Access) -> None:
    """Write one note at once: it is kept before whoever asked is answered."""
    await connection.execute(NOTE_ACCESSES, _columns([access]), prepare=True)


class AccessLog:
    """Collects accesses and writes them in batches; one per process, used with `running`."""

    def __init__(
        self, pool: AsyncConnectionPool[Connection], *, every_seconds: float = 0.2
    ) -> None:
        self._pool = pool
        self._every_seconds = every_seconds
        self._notes: list[Access] = []

    def note(self, access: Access) -> None:
        """Keep a note; raises Throttled when the database has not taken notes for too long."""
        if len(self._notes) >= _NOTES_LIMIT:
            raise too_busy()
        self._notes.append(access)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["AccessLog"]:
        """Write the notes in the background; what is left is written at the end."""
        task = asyncio.create_task(self._write_regularly())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.write()

    async def write(self) -> None:
        """Write all notes there are; those that fail to be written stay."""
        while self._notes:
            batch = self._notes[:_BATCH]
            with translated_failures():
                async with self._pool.connection() as connection:
                    await connection.execute(NOTE_ACCESSES, _columns(batch), prepare=True)
            del self._notes[: len(batch)]

    async def _write_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._every_seconds)
            with suppress(Exception):  # the notes stay; `note` refuses when too many wait
                await self.write()
            end_if_cancelled()


async def seal(connection: Connection, *, most: int = 50_000) -> Seal | None:
    """Chain the audit rows of transactions finished since the last seal.

    Returns None where there is nothing new or another process is sealing.
    """
    async with connection.transaction():
        cursor = await connection.execute(LOCK_SEALS)
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return None
        cursor = await connection.execute(SEAL, {"most": most})
        row = await cursor.fetchone()
    return None if row is None else Seal(number=row[0], rows=row[1], hash=bytes(row[2]))


async def verify(connection: Connection, *, head: Seal | None = None) -> list[Finding]:
    """Recompute every seal from the rows as they are; no finding means nothing was touched.

    `head`, a seal kept outside the database, also shows that the newest links were cut off.
    """
    findings: list[Finding] = []
    previous, end, number, is_head_seen = b"", 0, 0, head is None
    while True:
        cursor = await connection.execute(VERIFY_SEALS, {"after": number, "limit": 500})
        rows = await cursor.fetchall()
        if not rows:
            break
        for seal_number, start, to, sealed, before, hash_, found, recomputed in rows:
            kind = None
            if seal_number != number + 1 or start != end or bytes(before) != previous:
                kind = "chain-broken"
            elif found != sealed:
                kind = "rows-missing" if found < sealed else "rows-added"
            elif bytes(recomputed) != bytes(hash_):
                kind = "rows-changed"
            if kind is not None:
                findings.append(
                    Finding(
                        number=seal_number,
                        from_txid=start,
                        to_txid=to,
                        kind=kind,
                        sealed_rows=sealed,
                        found_rows=found,
                    )
                )
            if head is not None and seal_number == head.number:
                is_head_seen = bytes(hash_) == head.hash
            previous, end, number = bytes(hash_), to, seal_number
    if not is_head_seen and head is not None:
        findings.append(
            Finding(number=head.number, from_txid=end, to_txid=end, kind="head-missing")
        )
    return findings


def _columns(accesses: Sequence[Access]) -> dict[str, Any]:
    return {
        "at": Int8s(microseconds_of(one.at) for one in accesses),
        "actor": Texts(one.actor[:ACTOR_CHARACTERS] for one in accesses),
        "trace": Texts(one.trace_id for one in accesses),
        "action": Texts(one.action for one in accesses),
        "tid": Int4s(TYPE_IDS.get(one.type or "", 0) for one in accesses),
        "fid": Texts(one.id for one in accesses),
        "ver": Int4s(one.version or 0 for one in accesses),
        "outcome": Int4s(one.outcome for one in accesses),
        "detail": Texts(one.detail for one in accesses),
    }
