"""Nodes as SQL: a probe for one resource, a set of all that match, a walk in an index's order.

A probe is an EXISTS that the planner cannot flatten (`OFFSET 0`), so its cost per candidate is one
index probe whatever the statistics say, and statements keep one plan. A walk reads an index in
its own order and stops at LIMIT. Names of placeholders follow the order of use, so equal shapes
are equal texts and share a prepared statement.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.numeric import Float8, Int4, Int8

from fhir_store.arrays import Int4s, Int8s, Texts
from fhir_store.search import nodes as n

_EPOCH = "timestamptz 'epoch' + {} * interval '1 microsecond'"
EARTH = 6371.0088  # mean radius, km


@dataclass(slots=True)
class Sql:
    """The parameters of a statement in the making."""

    values: dict[str, Any] = field(default_factory=dict)
    aliases: int = 0
    is_sampling: bool = False  # count until a limit: nothing may wait for a whole set

    def put(self, value: Any) -> str:
        """Return the placeholder of a value."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"%({name})s"

    def int8(self, number: int) -> str:
        """Return the placeholder of a 64-bit number."""
        return self.put(Int8(number))

    def int4(self, number: int) -> str:
        """Return the placeholder of a 32-bit number."""
        return self.put(Int4(number))

    def int8s(self, numbers: tuple[int, ...]) -> str:
        """Return the placeholder of an int8[]."""
        name = f"p{len(self.values)}"
        self.values[name] = Int8s(numbers)
        return f"%({name})b::int8[]"

    def int4s(self, numbers: tuple[int, ...]) -> str:
        """Return the placeholder of an int4[]."""
        name = f"p{len(self.values)}"
        self.values[name] = Int4s(numbers)
        return f"%({name})b::int4[]"

    def texts(self, words: tuple[str, ...]) -> str:
        """Return the placeholder of a text[]."""
        name = f"p{len(self.values)}"
        self.values[name] = Texts(words)
        return f"%({name})b::text[]"

    def alias(self, letter: str) -> str:
        """Return a fresh table alias."""
        self.aliases += 1
        return f"{letter}{self.aliases}"


# --- probes --------------------------------------------------------------------------------------


def probe(node: n.Node, rid: str, sql: Sql) -> str:
    """Return a condition: the resource whose rid is the expression `rid` passes."""
    return _PROBES[type(node)](node, rid, sql)


def _exists(body: str) -> str:
    return f"EXISTS (SELECT 1 FROM {body} OFFSET 0)"


def _probe_keyed(node: n.Keyed, rid: str, sql: Sql) -> str:
    t = sql.alias("t")
    if len(node.entries) == 1:
        return _exists(
            f"ix_token {t} WHERE {token_key(t, node.entries[0], sql)} AND {t}.rid = {rid}"
        )
    hs = tuple(h for h, _ in node.entries)
    if all(sid is None for _, sid in node.entries):
        return _exists(f"ix_token {t} WHERE {t}.h = ANY({sql.int8s(hs)}) AND {t}.rid = {rid}")
    k = sql.alias("k")
    return _exists(
        f"{token_pairs(node, k, sql)} JOIN ix_token {t} ON {t}.h = {k}.h"
        f" AND ({k}.sid = {t}.sid OR {k}.sid = -1) WHERE {t}.rid = {rid}"
    )


def token_pairs(node: n.Keyed, k: str, sql: Sql) -> str:
    """Return the FROM item of a node's (h, sid); sid -1 is any."""
    hs = sql.int8s(tuple(h for h, _ in node.entries))
    sids = sql.int4s(tuple(-1 if sid is None else sid for _, sid in node.entries))
    return f"unnest({hs}, {sids}) AS {k}(h, sid)"


def token_key(t: str, entry: tuple[int, int | None], sql: Sql) -> str:
    """Return the test of one (h, sid) on a row of ix_token."""
    h, sid = entry
    found = f"{t}.h = {sql.int8(h)}"
    return found if sid is None else f"{found} AND {t}.sid = {sql.int4(sid)}"


def _probe_referring(node: n.Referring, rid: str, sql: Sql) -> str:
    f = sql.alias("f")
    if len(node.entries) == 1:
        tgt, pid = node.entries[0]
        where = f"{f}.tgt = {sql.int8(tgt)} AND {f}.pid = {sql.int4(pid)}"
        return _exists(f"ix_ref {f} WHERE {where} AND {f}.rid = {rid}")
    k = sql.alias("k")
    return _exists(
        f"ix_ref {f} JOIN {reference_pairs(node, k, sql)}"
        f" ON {f}.tgt = {k}.tgt AND {f}.pid = {k}.pid WHERE {f}.rid = {rid}"
    )


def reference_pairs(node: n.Referring, k: str, sql: Sql) -> str:
    """Return the FROM item of a node's (tgt, pid)."""
    tgts = sql.int8s(tuple(tgt for tgt, _ in node.entries))
    pids = sql.int4s(tuple(pid for _, pid in node.entries))
    return f"unnest({tgts}, {pids}) AS {k}(tgt, pid)"


def _probe_ranged(node: n.Ranged, rid: str, sql: Sql) -> str:
    t = sql.alias("d")
    tests = " OR ".join(f"({t}.h = {sql.int8(s.h)} AND {span(s, t, sql)})" for s in node.spans)
    if len(node.spans) > 1:
        hs = sql.int8s(tuple({s.h: None for s in node.spans}))
        tests = f"{t}.h = ANY({hs}) AND ({tests})"
    return _exists(f"{node.table} {t} WHERE {tests} AND {t}.rid = {rid}")


def span(one: n.Span, t: str, sql: Sql, *, units: Callable[[str], str] | None = None) -> str:
    """Return the test of a span on the columns lo and hi of the alias."""
    place = _number(one, sql, units)
    parts = []
    if one.low is not None:
        parts.append(f"{t}.{one.column} {'>' if one.is_low_open else '>='} {place(one.low)}")
    if one.high is not None:
        parts.append(f"{t}.{one.column} {'<' if one.is_high_open else '<='} {place(one.high)}")
    if one.also:
        numbers = [place(number) for number in one.numbers]
        parts.append("(" + one.also.format(*numbers, lo=f"{t}.lo", hi=f"{t}.hi") + ")")
    return " AND ".join(parts) or "true"


def _number(
    one: n.Span, sql: Sql, units: Callable[[str], str] | None
) -> Callable[[int | float], str]:
    def place(number: int | float) -> str:
        put = sql.put(Float8(number) if isinstance(number, float) else Int8(number))
        return units(put) if units else put

    return place


def _probe_texts(node: n.Texts, rid: str, sql: Sql) -> str:
    t = sql.alias("s")
    tests = " OR ".join(f"({text_test(text, t, sql)})" for text in node.texts)
    return _exists(f"ix_str {t} WHERE ({tests}) AND {t}.rid = {rid}")


def text_test(text: n.Text, t: str, sql: Sql) -> str:
    """Return the test of a text on a row of ix_str."""
    parts = [f"{t}.h = {sql.int8(text.h)}"]
    word = text.folded
    if text.kind == "prefix":
        parts.append(f"{t}.v >= {sql.put(word)}")
        if (end := after_prefix(word)) is not None:
            parts.append(f"{t}.v < {sql.put(end)}")
    elif text.kind == "contains":
        parts.append(f"position({sql.put(word)} in {t}.v) > 0")
    elif text.kind == "ends":
        parts.append(f"right({t}.v, {sql.int4(len(word))}) = {sql.put(word)}")
    else:
        parts.append(f"{t}.v = {sql.put(word)}")
        if text.kind == "exact":
            parts.append(f"{t}.x = {sql.int4(text.check)}")
    return " AND ".join(parts)


def after_prefix(prefix: str) -> str | None:
    """Return the smallest text, by code points, above all that begin with the prefix."""
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1])
        if code < 0x10FFFF:
            following = 0xE000 if code == 0xD7FF else code + 1
            return prefix[: end - 1] + chr(following)
    return None


def _probe_named(node: n.Named, rid: str, sql: Sql) -> str:
    r = sql.alias("r")
    keys = sql.int8s(node.rkeys)
    return _exists(f"resource {r} WHERE {r}.rid = {rid} AND {r}.rkey = ANY({keys}) AND NOT {r}.del")


def _probe_typed(node: n.Typed, rid: str, sql: Sql) -> str:
    r = sql.alias("r")
    return _exists(
        f"resource {r} WHERE {r}.rid = {rid} AND {type_test(r, node.tids, sql)} AND NOT {r}.del"
    )


def type_test(r: str, tids: tuple[int, ...], sql: Sql) -> str:
    """Return the test of a resource's type."""
    if len(tids) == 1:
        return f"{r}.tid = {sql.int4(tids[0])}"
    return f"{r}.tid = ANY({sql.int4s(tids)})"


def _moment(put: str) -> str:
    return "(" + _EPOCH.format(put) + ")"


def updated_tests(node: n.Updated, r: str, sql: Sql) -> str:
    """Return the test of the last change; `lu` stands for its whole millisecond."""
    tests = []
    for one in node.spans:
        parts = span(one, r, sql, units=_moment)
        last = f"({r}.lu + interval '999 microseconds')"
        parts = parts.replace(f"{r}.lo", f"{r}.lu").replace(f"{r}.hi", last)
        tests.append(f"({parts})")
    return "(" + " OR ".join(tests) + ")"


def _probe_updated(node: n.Updated, rid: str, sql: Sql) -> str:
    r = sql.alias("r")
    return _exists(f"resource {r} WHERE {r}.rid = {rid} AND {updated_tests(node, r, sql)}")


def _absent(node: n.Absent, r: str, sql: Sql) -> str:
    tests = (
        f"({r}.tid = {sql.int4(tid)} AND NOT {r}.pset && {sql.int4s(ordinals)}::int2[])"
        for tid, ordinals in node.by_type
    )
    return "(" + " OR ".join(tests) + ")"


def _probe_absent(node: n.Absent, rid: str, sql: Sql) -> str:
    r = sql.alias("r")
    return _exists(f"resource {r} WHERE {r}.rid = {rid} AND {_absent(node, r, sql)}")


def _probe_chained(node: n.Chained, rid: str, sql: Sql) -> str:
    f, r = sql.alias("f"), sql.alias("r")
    pids = f"{f}.pid = ANY({sql.int4s(node.pids)})"
    tests = " OR ".join(
        f"({r}.tid = {sql.int4(tid)} AND {probe(inner, f'{r}.rid', sql)})"
        for tid, inner in node.targets
    )
    return _exists(
        f"ix_ref {f} JOIN resource {r} ON {r}.rkey = {f}.tgt AND NOT {r}.del"
        f" WHERE {f}.rid = {rid} AND {pids} AND ({tests})"
    )


def _probe_pointed(node: n.Pointed, rid: str, sql: Sql) -> str:
    f, r = sql.alias("f"), sql.alias("r")
    pids = f"{f}.pid = ANY({sql.int4s(node.pids)})"
    return _exists(
        f"resource {r} JOIN ix_ref {f} ON {f}.tgt = {r}.rkey AND {pids}"
        f" WHERE {r}.rid = {rid} AND {probe(node.source, f'{f}.rid', sql)}"
    )


def near_parts(node: n.Near, sql: Sql) -> tuple[str, str]:
    """Return the FROM and WHERE of positions: a box on the latitude index, then the distance."""
    a, b = sql.alias("a"), sql.alias("b")
    margin = math.degrees(node.kilometres / EARTH) + 1e-9
    south, north = (sql.put(Float8(node.latitude + sign * margin)) for sign in (-1, 1))
    latitude, longitude = sql.put(Float8(node.latitude)), sql.put(Float8(node.longitude))
    distance = (
        f"2 * {EARTH} * asin(least(1, sqrt(power(sin(radians({a}.lo - {latitude}) / 2), 2)"
        f" + cos(radians({latitude})) * cos(radians({a}.lo))"
        f" * power(sin(radians({b}.lo - {longitude}) / 2), 2))))"
    )
    other = sql.int8(node.longitude_key)
    tables = f"ix_num {a} JOIN ix_num {b} ON {b}.rid = {a}.rid AND {b}.h = {other}"
    where = (
        f"{a}.h = {sql.int8(node.latitude_key)} AND {a}.lo BETWEEN {south} AND {north}"
        f" AND {distance} <= {sql.put(Float8(node.kilometres))}"
    )
    return f"{a}.rid AS rid FROM {tables}", where


def _probe_near(node: n.Near, rid: str, sql: Sql) -> str:
    source, where = near_parts(node, sql)
    alias = source.split(".", 1)[0]
    return _exists(f"{source.split(' FROM ', 1)[1]} WHERE {where} AND {alias}.rid = {rid}")


def _probe_worded(node: n.Worded, rid: str, sql: Sql) -> str:
    w = sql.alias("w")
    return _exists(f"ix_text {w} WHERE {word_test(node, w, sql)} AND {w}.rid = {rid}")


def word_test(node: n.Worded, w: str, sql: Sql) -> str:
    """Return the test of the words of a row of ix_text."""
    tests = " OR ".join(f"{w}.{node.part} @@ {sql.put(query)}::tsquery" for query in node.queries)
    return f"({tests})"


def _probe_unmoved(node: n.Unmoved, _rid: str, sql: Sql) -> str:
    # Of no row, so a select of its own is looked at once, before all rows.
    keys = "NULL" if node.keys is None else sql.texts(node.keys)
    return f"(SELECT require_rights({sql.int8(node.generation)}, {keys}))"


def _probe_every(node: n.Every, rid: str, sql: Sql) -> str:
    return "(" + " AND ".join(probe(part, rid, sql) for part in node.parts) + ")"


def _probe_some(node: n.Some, rid: str, sql: Sql) -> str:
    return "(" + (" OR ".join(probe(part, rid, sql) for part in node.parts) or "false") + ")"


def _probe_not(node: n.Not, rid: str, sql: Sql) -> str:
    return f"NOT {probe(node.part, rid, sql)}"


_PROBES: dict[type, Callable[..., str]] = {
    n.Keyed: _probe_keyed,
    n.Referring: _probe_referring,
    n.Ranged: _probe_ranged,
    n.Texts: _probe_texts,
    n.Named: _probe_named,
    n.Typed: _probe_typed,
    n.Updated: _probe_updated,
    n.Absent: _probe_absent,
    n.Chained: _probe_chained,
    n.Pointed: _probe_pointed,
    n.Near: _probe_near,
    n.Worded: _probe_worded,
    n.Unmoved: _probe_unmoved,
    n.Every: _probe_every,
    n.Some: _probe_some,
    n.Not: _probe_not,
}
