"""`_include` and `_revinclude`: each hop is one statement, authorised before LIMIT.

http://hl7.org/fhir/R4/search.html#revinclude
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from conformance.problem import Issue
from conformance.search_parameters import resource_types, type_number
from fhir_store.operations import Version
from fhir_store.search.compile import Compiler
from fhir_store.search.parameter_rows import row_numbers
from fhir_store.search.query import Include
from fhir_store.search.rows import versions_from_rows
from fhir_store.search.sql import Sql, probe

Connection = AsyncConnection[Any]
MAX_HOPS = 8  # rounds of :iterate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hop:
    """One direction in SQL terms: reference parameters, and the types that may be reached."""

    pids: tuple[int, ...]
    tids: tuple[int, ...]
    is_reverse: bool
    is_iterated: bool


async def included_versions(
    connection: Connection,
    includes: Sequence[Include],
    matches: Sequence[int],
    compiler: Compiler,
    *,
    limit: int,
) -> tuple[tuple[Version, ...], tuple[Issue, ...]]:
    """Return what the includes add to the matches (rids), each once, and a warning if cut."""
    hops = [_hop(include, compiler) for include in includes]
    seen = set(matches)
    found: list[tuple[Any, ...]] = []
    frontier: list[int] = list(matches)
    is_cut = False
    for round_ in range(MAX_HOPS):
        fresh: list[int] = []
        for hop in hops:
            if not frontier or (round_ and not hop.is_iterated):
                continue
            room = limit - len(found)
            # Rounded up to a power of two, so that pages of any length share a prepared statement.
            most = 1 << (room + len(seen)).bit_length()
            rows = await _follow(connection, hop, frontier, compiler, most)
            for row in rows:
                if row[0] in seen:
                    continue
                if len(found) >= limit:
                    is_cut = True
                    break
                seen.add(row[0])
                found.append(row)
                fresh.append(row[0])
        if is_cut or not fresh or not any(hop.is_iterated for hop in hops):
            break
        frontier = fresh
    warnings = (_cut_warning(limit),) if is_cut else ()
    return versions_from_rows(found), warnings


def _hop(include: Include, compiler: Compiler) -> _Hop:
    sources = resource_types() if include.source == "*" else (include.source,)
    pids: list[int] = []
    targets: set[str] = set()
    for source in sources:
        for code, parameter in compiler.lookup(source).items():
            if parameter.type != "reference" or include.code not in ("*", code) or parameter.fault:
                continue
            if include.code == "*" and parameter.stored_as:
                continue  # the parameters it is stored as are in the list themselves
            pids.extend(row_numbers(parameter))
            targets.update(parameter.targets)
    if not targets or "Resource" in targets:
        targets = set(resource_types())
    if include.target and include.target != "*":
        targets &= {include.target}
    reached: Iterable[str] = sources if include.is_reverse else targets
    return _Hop(
        pids=tuple(dict.fromkeys(pids)),
        tids=tuple(sorted(type_number(t) for t in reached if t in set(resource_types()))),
        is_reverse=include.is_reverse,
        is_iterated=include.is_iterated,
    )


async def _follow(
    connection: Connection, hop: _Hop, rids: Sequence[int], compiler: Compiler, limit: int
) -> list[tuple[Any, ...]]:
    sql = Sql()
    known = sql.int8s(tuple(rids))
    pids = sql.int4s(hop.pids)
    if hop.is_reverse:
        source = (
            f"resource m JOIN ix_ref f ON f.tgt = m.rkey AND f.pid = ANY({pids})"
            f" JOIN resource t ON t.rid = f.rid WHERE m.rid = ANY({known})"
        )
    else:
        source = (
            f"ix_ref f JOIN resource t ON t.rkey = f.tgt WHERE f.rid = ANY({known})"
            f" AND f.pid = ANY({pids})"
        )
    allowed = await _allowed(hop.tids, compiler, sql)
    statement = (
        f"WITH p AS MATERIALIZED (SELECT DISTINCT t.rid FROM {source}"
        f" AND NOT t.del AND {allowed} ORDER BY t.rid LIMIT {limit})"
        " SELECT p.rid, r.tid, r.fid, r.ver, r.lu, r.body FROM p"
        " JOIN resource r ON r.rid = p.rid ORDER BY p.rid"
    )
    cursor = await connection.execute(statement.encode(), sql.values)
    return await cursor.fetchall()


async def _allowed(tids: tuple[int, ...], compiler: Compiler, sql: Sql) -> str:
    """Return the test of the reached resource `t`: its type, and the caller's rights to it."""
    types = resource_types()
    free: list[int] = []
    tests: list[str] = []
    for tid in tids:
        right = await compiler.right(types[tid - 1])
        if right is None:
            free.append(tid)
        else:
            tests.append(f"(t.tid = {sql.int4(tid)} AND {probe(right, 't.rid', sql)})")
    if free:
        tests.append(f"t.tid = ANY({sql.int4s(tuple(free))})")
    return "(" + (" OR ".join(tests) or "false") + ")"


def _cut_warning(limit: int) -> Issue:
    return Issue(
        severity="warning",
        code="too-costly",
        key="search-includes-cut",
        text_en=f"More than {limit} resources would be included; the rest is left out",
        text_zh=f"附带的资源超过 {limit} 个，其余未返回",
        fix_en="Ask for a smaller page with _count, or for fewer includes.",
        fix_zh="请用 _count 减小每页数量，或减少 include。",
    )
