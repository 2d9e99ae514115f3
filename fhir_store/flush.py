"""Writes everything that `Changes` holds in one statement, whatever its number of resources.

The statement is put together from the parts that have rows. Each part is a data-modifying CTE;
all of them see the rows as they were before (which the caller has locked).
"""

from array import array
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from typing import Any, LiteralString

from psycopg import AsyncConnection

from fhir_store import statements
from fhir_store.arrays import Float8s, Int4s, Int8s, Texts
from fhir_store.changes import NO_ROWS, AuditRow, Changes, Index, State, microseconds_of
from fhir_store.index_rows import IndexRows
from fhir_store.keys import resource_key
from fhir_store.resource_types import TYPE_IDS

Connection = AsyncConnection[Any]
Row = tuple[Any, ...]
CODE_BYTES = 2_400
ACTOR_CHARACTERS = 500


class Dictionaries:
    """The codes and systems this process knows to be in the dictionaries; one per store."""

    def __init__(self, limit: int = 200_000) -> None:
        self._known: set[Row] = set()
        self._limit = limit

    def unknown(self, rows: Iterable[Row]) -> list[Row]:
        """Return, sorted, the rows that must be offered to the database; display left aside."""
        known = self._known
        return sorted({row[:3]: row for row in rows if row[:3] not in known}.values())

    def learn(self, rows: Iterable[Row]) -> None:
        """Remember rows, once they are committed."""
        if len(self._known) > self._limit:
            self._known.clear()
        self._known.update(row[:3] for row in rows)


class _Statement:
    """The CTEs so far and their parameters."""

    def __init__(self) -> None:
        self.parts: list[LiteralString] = []
        self.values: dict[str, Any] = {}

    def add(self, part: LiteralString, **values: Any) -> None:
        """Put one part and its values into the statement."""
        self.parts.append(part)
        self.values.update(values)

    async def run(self, connection: Connection) -> None:
        """Send it, if there is anything to write."""
        if self.parts:
            query = "WITH" + ",".join(self.parts) + "\nSELECT 1"
            await connection.execute(query, self.values, prepare=True)


async def flush(
    connection: Connection, changes: Changes, known: Dictionaries, index: Index
) -> list[Row]:
    """Write all changes in one statement; returns dictionary rows to learn after the commit."""
    statement = _Statement()
    new = [one for key, one in changes.after.items() if changes.before[key] is None]
    kept = [one for key, one in changes.after.items() if changes.before[key] is not None]
    gains = [(one.rid, NO_ROWS if one.is_deleted else index(one.resource())) for one in new]
    psets = {one.rid: rows.present for one, (_, rows) in zip(new, gains, strict=True)}
    reindexed = changes.reindexed(index)
    psets.update((one.rid, one.gained.present) for one in reindexed)
    _add_versions(statement, changes, new, kept, psets)
    _lose(statement, [(one.rid, one.lost) for one in reindexed])
    gains += [(one.rid, one.gained) for one in reindexed]
    _gain(statement, gains)
    learned = _add_dictionaries(statement, [rows for _, rows in gains], known)
    _add_audit(statement, changes.audit)
    await statement.run(connection)
    return learned


def _add_versions(
    statement: _Statement,
    changes: Changes,
    new: Sequence[State],
    kept: Sequence[State],
    psets: dict[int, AbstractSet[int]],
) -> None:
    if new:
        statement.add(
            statements.NEW,
            n_rid=Int8s(one.rid for one in new),
            n_rkey=Int8s(resource_key(one.type, one.id) for one in new),
            n_tid=Int4s(TYPE_IDS[one.type] for one in new),
            n_fid=Texts(one.id for one in new),
            n_ver=Int4s(one.version for one in new),
            n_lu=Int8s(microseconds_of(one.last_updated) for one in new),
            n_op=Texts(one.op for one in new),
            n_chash=Int8s(one.chash or 0 for one in new),
            n_pset=Texts(_array_text(psets[one.rid]) for one in new),
            n_body=Texts(one.body for one in new),
        )
    if kept:
        statement.add(
            statements.NEXT,
            u_rid=Int8s(one.rid for one in kept),
            u_ver=Int4s(one.version for one in kept),
            u_lu=Int8s(microseconds_of(one.last_updated) for one in kept),
            u_op=Texts(one.op for one in kept),
            u_chash=Int8s(one.chash or 0 for one in kept),
            u_pset=Texts(_array_text(psets[one.rid]) for one in kept),
            u_body=Texts(one.body for one in kept),
        )
    if changes.between:
        statement.add(
            statements.BETWEEN,
            b_rid=Int8s(one.rid for one in changes.between),
            b_ver=Int4s(one.version for one in changes.between),
            b_tid=Int4s(TYPE_IDS[one.type] for one in changes.between),
            b_lu=Int8s(microseconds_of(one.last_updated) for one in changes.between),
            b_op=Texts(one.op for one in changes.between),
            b_body=Texts(one.body for one in changes.between),
        )


def _gain(statement: _Statement, gains: Sequence[tuple[int, IndexRows]]) -> None:
    if tokens := sorted((h, rid, sid) for rid, rows in gains for h, sid in rows.tokens):
        h, rid, sid = zip(*tokens, strict=True)
        statement.add(statements.GAINED_TOKENS, gt_h=Int8s(h), gt_rid=Int8s(rid), gt_sid=Int4s(sid))
    if refs := sorted((tgt, pid, rid) for rid, rows in gains for tgt, pid in rows.references):
        tgt, pid, rid = zip(*refs, strict=True)
        statement.add(
            statements.GAINED_REFERENCES, gr_tgt=Int8s(tgt), gr_pid=Int4s(pid), gr_rid=Int8s(rid)
        )
    if dates := sorted((h, lo, hi, rid) for rid, rows in gains for h, lo, hi in rows.dates):
        h, lo, hi, rid = zip(*dates, strict=True)
        statement.add(
            statements.GAINED_DATES,
            gd_h=Int8s(h), gd_lo=Int8s(lo), gd_hi=Int8s(hi), gd_rid=Int8s(rid),
        )  # fmt: skip
    if numbers := sorted((h, lo, hi, rid) for rid, rows in gains for h, lo, hi in rows.numbers):
        h, low, high, rid = zip(*numbers, strict=True)
        statement.add(
            statements.GAINED_NUMBERS,
            gn_h=Int8s(h), gn_lo=Float8s(low), gn_hi=Float8s(high), gn_rid=Int8s(rid),
        )  # fmt: skip
    # By resource: its texts share a page, and ix_str_w grows at its end.
    if strings := sorted((rid, h, v, x) for rid, rows in gains for h, v, x in rows.strings):
        rid, h, v, x = zip(*strings, strict=True)
        statement.add(
            statements.GAINED_STRINGS,
            gs_h=Int8s(h), gs_v=Texts(v), gs_rid=Int8s(rid), gs_x=Int4s(x),
        )  # fmt: skip
    _gain_grams(statement, [(rid, rows.grams) for rid, rows in gains if rows.grams])


def _gain_grams(statement: _Statement, gains: Sequence[tuple[int, AbstractSet[bytes]]]) -> None:
    if not gains:
        return
    pieces = [b"".join(grams) for _, grams in gains]
    ends = list(accumulate(len(piece) // 4 for piece in pieces))
    statement.add(
        statements.GAINED_GRAMS,
        gg_rid=Int8s(rid for rid, _ in gains),
        gg_low=Int4s(1 + end for end in [0, *ends[:-1]]),
        gg_high=Int4s(ends),
        gg_g=Int4s(array("i", b"".join(pieces))),
    )


def _lose(statement: _Statement, losses: Sequence[tuple[int, IndexRows]]) -> None:
    if tokens := [(h, rid, sid) for rid, rows in losses for h, sid in rows.tokens]:
        h, rid, sid = zip(*tokens, strict=True)
        statement.add(statements.LOST_TOKENS, lt_h=Int8s(h), lt_rid=Int8s(rid), lt_sid=Int4s(sid))
    if refs := [(tgt, pid, rid) for rid, rows in losses for tgt, pid in rows.references]:
        tgt, pid, rid = zip(*refs, strict=True)
        statement.add(
            statements.LOST_REFERENCES, lr_tgt=Int8s(tgt), lr_pid=Int4s(pid), lr_rid=Int8s(rid)
        )
    if dates := [(h, lo, hi, rid) for rid, rows in losses for h, lo, hi in rows.dates]:
        h, lo, hi, rid = zip(*dates, strict=True)
        statement.add(
            statements.LOST_DATES,
            ld_h=Int8s(h), ld_lo=Int8s(lo), ld_hi=Int8s(hi), ld_rid=Int8s(rid),
        )  # fmt: skip
    if numbers := [(h, lo, hi, rid) for rid, rows in losses for h, lo, hi in rows.numbers]:
        h, low, high, rid = zip(*numbers, strict=True)
        statement.add(
            statements.LOST_NUMBERS,
            ln_h=Int8s(h), ln_lo=Float8s(low), ln_hi=Float8s(high), ln_rid=Int8s(rid),
        )  # fmt: skip
    if strings := [(h, v, rid, x) for rid, rows in losses for h, v, x in rows.strings]:
        h, v, rid, x = zip(*strings, strict=True)
        statement.add(
            statements.LOST_STRINGS,
            ls_h=Int8s(h), ls_v=Texts(v), ls_rid=Int8s(rid), ls_x=Int4s(x),
        )  # fmt: skip
    if rids := [rid for rid, rows in losses if rows.grams]:
        statement.add(statements.LOST_GRAMS, lg_rid=Int8s(rids))


def _add_dictionaries(
    statement: _Statement, gained: Sequence[IndexRows], known: Dictionaries
) -> list[Row]:
    # A B-tree row holds 2,700 bytes. A longer code is found by itself, not by the dictionary.
    short = (row for rows in gained for row in rows.codes if len(row[2].encode()) <= CODE_BYTES)
    codes = known.unknown(short)
    if codes:
        pid, sid, code, display = zip(*codes, strict=True)
        statement.add(
            statements.CODES,
            c_pid=Int4s(pid), c_sid=Int4s(sid), c_code=Texts(code), c_display=Texts(display),
        )  # fmt: skip
    systems = known.unknown(row for rows in gained for row in rows.systems)
    if systems:
        sid, uri = zip(*systems, strict=True)
        statement.add(statements.SYSTEMS, y_sid=Int4s(sid), y_uri=Texts(uri))
    return codes + systems


def _add_audit(statement: _Statement, rows: Sequence[AuditRow]) -> None:
    if rows:
        statement.add(
            statements.AUDIT,
            a_at=Int8s(microseconds_of(one.context.at) for one in rows),
            a_actor=Texts(one.context.actor[:ACTOR_CHARACTERS] for one in rows),
            a_trace=Texts(one.origin.trace_id for one in rows),
            a_source=Texts(one.origin.source for one in rows),
            a_action=Texts(one.action for one in rows),
            a_tid=Int4s(TYPE_IDS[one.type] for one in rows),
            a_fid=Texts(one.id for one in rows),
            a_ver=Int4s(one.version for one in rows),
            a_detail=Texts(one.detail for one in rows),
        )


def _array_text(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, sorted(numbers))) + "}"
