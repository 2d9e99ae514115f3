"""Nodes as sets: a SELECT of every resource that passes, read from what matches alone."""

from collections.abc import Callable

from fhir_store.search import nodes as n
from fhir_store.search.sql import (
    Sql,
    near_parts,
    probe,
    reference_pairs,
    span,
    text_test,
    token_key,
    token_pairs,
    type_test,
    updated_tests,
    word_test,
)


def gather(node: n.Node, sql: Sql) -> str:
    """Return a SELECT of `rid`, perhaps repeated, of every resource that passes a leaf or Some."""
    return _GATHERS[type(node)](node, sql)


def is_gatherable(node: n.Node) -> bool:
    """Say whether `gather` reads only what matches, not a whole type."""
    if isinstance(node, n.Some):
        return all(is_gatherable(part) for part in node.parts)
    if isinstance(node, n.Chained):
        return all(is_gatherable(inner) for _, inner in node.targets)
    if isinstance(node, n.Pointed):
        return is_gatherable(node.source)
    if isinstance(node, n.Every):
        return any(is_gatherable(part) for part in node.parts)
    return type(node) in _GATHERS and not isinstance(node, n.Typed)


def _gather_keyed(node: n.Keyed, sql: Sql) -> str:
    t = sql.alias("t")
    if len(node.entries) == 1:
        return f"SELECT {t}.rid FROM ix_token {t} WHERE {token_key(t, node.entries[0], sql)}"
    hs = tuple(h for h, _ in node.entries)
    if all(sid is None for _, sid in node.entries):
        return f"SELECT {t}.rid FROM ix_token {t} WHERE {t}.h = ANY({sql.int8s(hs)})"
    k = sql.alias("k")
    return (
        f"SELECT {t}.rid FROM {token_pairs(node, k, sql)} JOIN ix_token {t}"
        f" ON {t}.h = {k}.h AND ({k}.sid = {t}.sid OR {k}.sid = -1)"
    )


def _gather_referring(node: n.Referring, sql: Sql) -> str:
    f = sql.alias("f")
    if len(node.entries) == 1:
        tgt, pid = node.entries[0]
        where = f"{f}.tgt = {sql.int8(tgt)} AND {f}.pid = {sql.int4(pid)}"
        return f"SELECT {f}.rid FROM ix_ref {f} WHERE {where}"
    k = sql.alias("k")
    return (
        f"SELECT {f}.rid FROM {reference_pairs(node, k, sql)}"
        f" JOIN ix_ref {f} ON {f}.tgt = {k}.tgt AND {f}.pid = {k}.pid"
    )


def _gather_ranged(node: n.Ranged, sql: Sql) -> str:
    parts = []
    for one in node.spans:
        t = sql.alias("d")
        parts.append(
            f"SELECT {t}.rid FROM {node.table} {t}"
            f" WHERE {t}.h = {sql.int8(one.h)} AND {span(one, t, sql)}"
        )
    return " UNION ALL ".join(parts)


def _gather_texts(node: n.Texts, sql: Sql) -> str:
    parts = []
    for text in node.texts:
        t = sql.alias("s")
        if text.grams:  # by the grams first, whatever the planner thinks of the key
            g, grams = sql.alias("g"), sql.int4s(text.grams)
            within = f"SELECT rid FROM ix_gram WHERE g @> {grams} OFFSET 0"
            found = probe(n.Texts((text,)), f"{g}.rid", sql)
            parts.append(f"SELECT {g}.rid FROM ({within}) {g} WHERE {found}")
            continue
        parts.append(f"SELECT {t}.rid FROM ix_str {t} WHERE {text_test(text, t, sql)}")
    return " UNION ALL ".join(parts)


def _gather_named(node: n.Named, sql: Sql) -> str:
    r = sql.alias("r")
    keys = sql.int8s(node.rkeys)
    return f"SELECT {r}.rid FROM resource {r} WHERE {r}.rkey = ANY({keys}) AND NOT {r}.del"


def _gather_typed(node: n.Typed, sql: Sql) -> str:
    r = sql.alias("r")
    return f"SELECT {r}.rid FROM resource {r} WHERE {type_test(r, node.tids, sql)} AND NOT {r}.del"


def _gather_updated(node: n.Updated, sql: Sql) -> str:
    r = sql.alias("r")
    return (
        f"SELECT {r}.rid FROM resource {r} WHERE {type_test(r, node.tids, sql)} AND NOT {r}.del"
        f" AND {updated_tests(node, r, sql)}"
    )


def _gather_chained(node: n.Chained, sql: Sql) -> str:
    parts = []
    for tid, inner in node.targets:
        i, r, f = sql.alias("i"), sql.alias("r"), sql.alias("f")
        inside = gather(inner, sql)
        reached = (
            f"SELECT {f}.rid FROM resource {r} JOIN ix_ref {f} ON {f}.tgt = {r}.rkey"
            f" AND {f}.pid = ANY({sql.int4s(node.pids)})"
            f" WHERE {r}.rid = {i}.rid AND NOT {r}.del AND {r}.tid = {sql.int4(tid)}"
        )
        parts.append(_linked(inside, i, reached, sql))
    return " UNION ALL ".join(parts)


def _linked(inside: str, i: str, reached: str, sql: Sql) -> str:
    """Return the SELECT of what a set leads to.

    A sample follows one member after the other, so that it can stop at its limit; a whole set
    leaves the way of joining to the planner.
    """
    x = sql.alias("x")
    if sql.is_sampling:
        return f"SELECT {x}.rid FROM ({inside}) {i} CROSS JOIN LATERAL ({reached} OFFSET 0) {x}"
    once = f"(SELECT DISTINCT rid FROM ({inside}) {i}) {i}"
    return f"SELECT {x}.rid FROM {once} CROSS JOIN LATERAL ({reached}) {x}"


def _gather_pointed(node: n.Pointed, sql: Sql) -> str:
    i, r, f = sql.alias("i"), sql.alias("r"), sql.alias("f")
    inside = gather(node.source, sql)
    reached = (
        f"SELECT {r}.rid FROM ix_ref {f} JOIN resource {r} ON {r}.rkey = {f}.tgt"
        f" AND NOT {r}.del AND {type_test(r, node.tids, sql)}"
        f" WHERE {f}.rid = {i}.rid AND {f}.pid = ANY({sql.int4s(node.pids)})"
    )
    return _linked(inside, i, reached, sql)


def _gather_near(node: n.Near, sql: Sql) -> str:
    source, where = near_parts(node, sql)
    return f"SELECT {source} WHERE {where}"


def _gather_worded(node: n.Worded, sql: Sql) -> str:
    w = sql.alias("w")
    return f"SELECT {w}.rid FROM ix_text {w} WHERE {word_test(node, w, sql)}"


def _gather_some(node: n.Some, sql: Sql) -> str:
    if not node.parts:
        return "SELECT 0::int8 AS rid WHERE false"
    return " UNION ALL ".join(f"({gather(part, sql)})" for part in node.parts)


def _gather_every(node: n.Every, sql: Sql) -> str:
    driver = next((part for part in node.parts if is_gatherable(part)), node.parts[0])
    return filtered(driver, [part for part in node.parts if part is not driver], sql)


def filtered(driver: n.Node, rest: list[n.Node], sql: Sql) -> str:
    """Return the driver's set without those that fail any of the rest."""
    if not rest:
        return gather(driver, sql)
    i = sql.alias("i")
    inside = gather(driver, sql)
    tests = " AND ".join(probe(part, f"{i}.rid", sql) for part in rest)
    return f"SELECT {i}.rid FROM ({inside}) {i} WHERE {tests}"


_GATHERS: dict[type, Callable[..., str]] = {
    n.Keyed: _gather_keyed,
    n.Referring: _gather_referring,
    n.Ranged: _gather_ranged,
    n.Texts: _gather_texts,
    n.Named: _gather_named,
    n.Typed: _gather_typed,
    n.Updated: _gather_updated,
    n.Chained: _gather_chained,
    n.Pointed: _gather_pointed,
    n.Near: _gather_near,
    n.Worded: _gather_worded,
    n.Some: _gather_some,
    n.Every: _gather_every,
}
