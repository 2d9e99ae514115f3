"""A plan as SQL: the statement of one page, of a count, of densities."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from psycopg.types.numeric import Float8, Int8

from fhir_store.search import nodes as n
from fhir_store.search.links import UNKNOWN, walk_statement
from fhir_store.search.plan import (
    SORT_LIMIT,
    TABLES,
    Place,
    Plan,
    SortColumn,
    most_gathered,
)
from fhir_store.search.sets import filtered, gather
from fhir_store.search.sql import Sql, probe, span, text_test, updated_tests


def page_statement(plan: Plan, limit: int, after: Place | None, sql: Sql) -> str:
    """Return the statement of one page: rid, the sort values, then the resource's columns."""
    if plan.order == "sort":
        inside, columns, order = _sorted(plan, limit, after, sql)
    elif plan.order == "new":
        inside, columns, order = _by_rid(plan, limit, after, sql), [], "p.rid DESC"
    elif plan.order.startswith("link:"):
        inside, columns, order = _by_link(plan, limit, after, sql)
    else:
        inside, columns, order = _by_value(plan, limit, after, sql)
    selected = ", ".join(["p.rid", *(f"p.{column}" for column in columns)])
    join = "LEFT JOIN" if plan.is_guarded else "JOIN"  # the row UNKNOWN is no resource
    return (
        f"WITH p AS MATERIALIZED ({inside})"
        f" SELECT {selected}, r.tid, r.fid, r.ver, r.lu, r.body"
        f" FROM p {join} resource r ON r.rid = p.rid ORDER BY {order}"
    )


def _by_link(plan: Plan, limit: int, after: Place | None, sql: Sql) -> tuple[str, list[str], str]:
    """Return the page in the order of the way a link goes."""
    driver = plan.driver
    assert isinstance(driver, n.Chained | n.Pointed)
    place = None if after is None else (*after.values, after.rid)
    inside, columns = walk_statement(
        driver, plan.probes, limit, place, sql, is_guarded=plan.is_guarded
    )
    order = ", ".join(f"p.{column} DESC" for column in columns)
    return inside, columns, f"{order}, p.rid DESC"


def count_statement(plan: Plan, sql: Sql, limit: int | None = None) -> str:
    """Return the statement that counts all matches, up to a limit."""
    rest = [part for part in plan.parts if part is not plan.driver]
    inside = filtered(plan.driver, rest, sql)
    if limit is None:
        return f"SELECT count(DISTINCT g.rid) FROM ({inside}) g"
    return f"SELECT count(*) FROM (SELECT DISTINCT g.rid FROM ({inside}) g LIMIT {limit}) c"


def density_statement(nodes: Sequence[n.Node], sql: Sql) -> str:
    """Return the statement that counts the matches of each node, up to SPARSE + 1."""
    counts = [f"(SELECT count(*) FROM ({_limited(node, sql)}) c)" for node in nodes]
    return "SELECT " + ", ".join(counts)


def _limited(node: n.Node, sql: Sql) -> str:
    g = sql.alias("g")
    return f"SELECT 1 FROM ({gather(node, sql)}) {g} LIMIT {most_gathered(node) + 1}"


def _tests(plan: Plan, rid: str, sql: Sql) -> str:
    return "".join(f" AND {probe(part, rid, sql)}" for part in plan.probes)


def _by_rid(plan: Plan, limit: int, after: Place | None, sql: Sql) -> str:
    """Return the page newest first."""
    bound = f" AND {{}}.rid < {sql.int8(after.rid)}" if after is not None else ""
    driver = plan.driver
    if plan.is_hedged or plan.is_guarded:
        return _hedged(plan, limit, bound, sql)
    if isinstance(driver, n.Typed) and not plan.is_gathered:
        return _typed_by_rid(plan, limit, bound, sql)
    if plan.is_gathered or not isinstance(driver, n.Keyed | n.Referring):
        inside = gather(driver, sql)
        return (
            f"SELECT DISTINCT g.rid FROM ({inside}) g"
            f" WHERE true{bound.format('g')}{_tests(plan, 'g.rid', sql)}"
            f" ORDER BY g.rid DESC LIMIT {limit}"
        )
    is_token = isinstance(driver, n.Keyed)
    table = "ix_token" if is_token else "ix_ref"
    if len(driver.entries) == 1:
        key = _single_key(driver, sql)
        return (
            f"SELECT DISTINCT w.rid FROM {table} w"
            f" WHERE {key}{bound.format('w')}{_tests(plan, 'w.rid', sql)}"
            f" ORDER BY w.rid DESC LIMIT {limit}"
        )
    firsts = sql.int8s(tuple(entry[0] for entry in driver.entries))
    seconds = sql.int4s(tuple(-1 if e[1] is None else e[1] for e in driver.entries))
    join = "w.h = k.a AND (k.b = -1 OR w.sid = k.b)" if is_token else "w.tgt = k.a AND w.pid = k.b"
    return (
        f"SELECT DISTINCT x.rid FROM unnest({firsts}, {seconds}) AS k(a, b)"
        f" CROSS JOIN LATERAL (SELECT DISTINCT w.rid FROM {table} w"
        f" WHERE {join}{bound.format('w')}{_tests(plan, 'w.rid', sql)}"
        f" ORDER BY w.rid DESC LIMIT {limit}) x ORDER BY x.rid DESC LIMIT {limit}"
    )


def _hedged(plan: Plan, limit: int, bound: str, sql: Sql) -> str:
    """Return the page of a set of unknown size: sorted if it is small, else read by type.

    A guarded plan gives the row UNKNOWN instead of reading by type.
    """
    most = most_gathered(plan.driver)
    sql.is_sampling = True
    sample = f"SELECT g.rid FROM ({gather(plan.driver, sql)}) g LIMIT {most + 1}"
    sql.is_sampling = False
    few = (
        f"SELECT DISTINCT g.rid FROM c g WHERE (SELECT count(*) FROM c) <= {most}"
        f"{bound.format('g')}{_tests(plan, 'g.rid', sql)} ORDER BY g.rid DESC LIMIT {limit}"
    )
    if plan.is_guarded:
        return (
            f"WITH c AS MATERIALIZED ({sample}) (SELECT x.rid FROM ({few}) x)"
            f" UNION ALL SELECT {UNKNOWN} WHERE (SELECT count(*) FROM c) > {most}"
        )
    whole = replace(plan, driver=n.Typed(plan.tids), is_hedged=False, is_gathered=False)
    gate = f" AND (SELECT count(*) FROM c) > {most}"
    many = _typed_by_rid(whole, limit, gate + bound, sql)
    return (
        f"WITH c AS MATERIALIZED ({sample})"
        f" (SELECT x.rid FROM ({few}) x) UNION ALL (SELECT x.rid FROM ({many}) x)"
    )


def _single_key(driver: n.Keyed | n.Referring, sql: Sql) -> str:
    first, second = driver.entries[0]
    if isinstance(driver, n.Referring):
        assert second is not None
        return f"w.tgt = {sql.int8(first)} AND w.pid = {sql.int4(second)}"
    key = f"w.h = {sql.int8(first)}"
    return key if second is None else f"{key} AND w.sid = {sql.int4(second)}"


def _typed_by_rid(plan: Plan, limit: int, bound: str, sql: Sql) -> str:
    if len(plan.tids) == 1:
        return (
            f"SELECT w.rid FROM resource w WHERE w.tid = {sql.int4(plan.tids[0])} AND NOT w.del"
            f"{bound.format('w')}{_tests(plan, 'w.rid', sql)} ORDER BY w.rid DESC LIMIT {limit}"
        )
    return (
        f"SELECT x.rid FROM unnest({sql.int4s(plan.tids)}) AS k(tid)"
        f" CROSS JOIN LATERAL (SELECT w.rid FROM resource w WHERE w.tid = k.tid AND NOT w.del"
        f"{bound.format('w')}{_tests(plan, 'w.rid', sql)} ORDER BY w.rid DESC LIMIT {limit}) x"
        f" ORDER BY x.rid DESC LIMIT {limit}"
    )


def _by_value(plan: Plan, limit: int, after: Place | None, sql: Sql) -> tuple[str, list[str], str]:
    """Return the page in the order of the driving condition's own index."""
    driver = plan.driver
    if isinstance(driver, n.Updated):
        return _by_update(plan, driver, limit, after, sql)
    if isinstance(driver, n.Texts):
        return _by_text(plan, driver, limit, after, sql)
    assert isinstance(driver, n.Ranged)
    one = driver.spans[0]
    column = one.column
    other = "hi" if column == "lo" else "lo"
    key = sql.int8(one.h)
    bound = ""
    if after is not None:
        value = _value(after.values[0], sql)
        bound = f" AND (w.{column}, w.rid) < ({value}, {sql.int8(after.rid)})"
    inside = (
        f"SELECT w.rid, w.{column} AS k1 FROM {driver.table} w"
        f" WHERE w.h = {key} AND {span(one, 'w', sql)}{bound}"
        f" AND NOT EXISTS (SELECT 1 FROM {driver.table} e WHERE e.h = {key} AND e.rid = w.rid"
        f" AND {span(one, 'e', sql)} AND (e.{column}, e.{other}) > (w.{column}, w.{other})"
        f" OFFSET 0){_tests(plan, 'w.rid', sql)}"
        f" ORDER BY w.{column} DESC, w.rid DESC LIMIT {limit}"
    )
    return inside, ["k1"], "p.k1 DESC, p.rid DESC"


def _value(value: Any, sql: Sql) -> str:
    if isinstance(value, float):
        return sql.put(Float8(value))
    return sql.put(Int8(value) if isinstance(value, int) else value)


def _by_text(
    plan: Plan, driver: n.Texts, limit: int, after: Place | None, sql: Sql
) -> tuple[str, list[str], str]:
    text = driver.texts[0]
    bound = ""
    if after is not None:
        bound = f" AND (w.v, w.rid) > ({sql.put(after.values[0])}, {sql.int8(after.rid)})"
    inside = (
        f"SELECT w.rid, w.v AS k1 FROM ix_str w WHERE {text_test(text, 'w', sql)}{bound}"
        f" AND NOT EXISTS (SELECT 1 FROM ix_str e WHERE {text_test(text, 'e', sql)}"
        f" AND e.rid = w.rid AND (e.v, e.x) < (w.v, w.x) OFFSET 0)"
        f"{_tests(plan, 'w.rid', sql)} ORDER BY w.v, w.rid LIMIT {limit}"
    )
    return inside, ["k1"], "p.k1, p.rid"


def _by_update(
    plan: Plan, driver: n.Updated, limit: int, after: Place | None, sql: Sql
) -> tuple[str, list[str], str]:
    tid = sql.int4(driver.tids[0])
    bound = ""
    if after is not None:
        moment = f"timestamptz 'epoch' + {sql.int8(after.values[0])} * interval '1 microsecond'"
        bound = f" AND (w.lu, w.rid) < ({moment}, {sql.int8(after.rid)})"
    inside = (
        f"SELECT w.rid, {_MICROSECONDS.format('w.lu')} AS k1, w.lu AS k2 FROM resource w"
        f" WHERE w.tid = {tid} AND NOT w.del AND {updated_tests(driver, 'w', sql)}{bound}"
        f"{_tests(plan, 'w.rid', sql)} ORDER BY w.lu DESC, w.rid DESC LIMIT {limit}"
    )
    return inside, ["k1"], "p.k2 DESC, p.rid DESC"


_MICROSECONDS = "(extract(epoch FROM {}) * 1000000)::int8"


# --- _sort ---


def _sorted(plan: Plan, limit: int, after: Place | None, sql: Sql) -> tuple[str, list[str], str]:
    if plan.is_gathered:
        return _collected(plan, limit, after, sql)
    return _walked(plan, plan.sort[0], limit, after, sql)


def _direction(column: SortColumn) -> str:
    return "DESC" if column.is_descending else "ASC"


def _collected(plan: Plan, limit: int, after: Place | None, sql: Sql) -> tuple[str, list[str], str]:
    """Return the page of a set that is gathered whole and sorted."""
    inside = filtered(plan.driver, list(plan.probes), sql)
    names = [f"k{number}" for number in range(1, len(plan.sort) + 1)]
    keys = ", ".join(
        f"{_sort_value(column, 'm.rid', sql)} AS {name}"
        for column, name in zip(plan.sort, names, strict=True)
    )
    tie = _direction(plan.sort[0])
    where = _after(plan.sort, after, sql) if after is not None else "true"
    pairs = list(zip(plan.sort, names, strict=True))
    order = ", ".join(f"{{0}}{name} {_direction(column)} NULLS LAST" for column, name in pairs)
    order = f"{order}, {{0}}rid {tie}"
    text = (
        f"SELECT s.* FROM (SELECT m.rid, {keys} FROM"
        f" (SELECT DISTINCT g.rid FROM ({inside}) g LIMIT {SORT_LIMIT + 1}) m) s"
        f" WHERE {where} ORDER BY {order.format('s.')} LIMIT {limit}"
    )
    return text, names, order.format("p.")


def _sort_value(column: SortColumn, rid: str, sql: Sql) -> str:
    """Return the sort value of a resource: the least ascending, the greatest descending."""
    pick = "max" if column.is_descending else "min"
    if column.kind == "lu":
        moment = _MICROSECONDS.format("o.lu")
        return f"(SELECT {moment} FROM resource o WHERE o.rid = {rid})"
    if column.kind == "fid":
        return f"(SELECT o.fid FROM resource o WHERE o.rid = {rid})"
    if column.kind in TABLES:
        table, value = TABLES[column.kind]
        keys = _keys(column.hs, sql)
        return f"(SELECT {pick}(o.{value}) FROM {table} o WHERE o.rid = {rid} AND o.h {keys})"
    if column.kind == "code":
        hs = sql.int8s(column.hs)
        words = sql.texts(column.words)
        return (
            f'(SELECT {pick}(d.word COLLATE "C") FROM ix_token o JOIN unnest({hs}, {words})'
            f" AS d(h, word) ON d.h = o.h WHERE o.rid = {rid})"
        )
    pids = sql.int4s(column.pids)
    return (
        f"(SELECT {pick}(t.fid) FROM ix_ref o JOIN resource t ON t.rkey = o.tgt"
        f" WHERE o.rid = {rid} AND o.pid = ANY({pids}))"
    )


def _keys(hs: tuple[int, ...], sql: Sql) -> str:
    return f"= {sql.int8(hs[0])}" if len(hs) == 1 else f"= ANY({sql.int8s(hs)})"


def _after(sort: tuple[SortColumn, ...], after: Place, sql: Sql) -> str:
    """Return the test that a row comes after a place; an absent value comes last."""
    ways: list[str] = []
    same = "true"
    for number, (column, value) in enumerate(zip(sort, after.values, strict=True), start=1):
        name = f"s.k{number}"
        if value is None:
            same += f" AND {name} IS NULL"
            continue
        put = _typed_value(column, value, sql)
        sign = "<" if column.is_descending else ">"
        ways.append(f"({same} AND ({name} {sign} {put} OR {name} IS NULL))")
        same += f" AND {name} = {put}"
    sign = "<" if sort[0].is_descending else ">"
    ways.append(f"({same} AND s.rid {sign} {sql.int8(after.rid)})")
    return "(" + " OR ".join(ways) + ")"


def _typed_value(column: SortColumn, value: Any, sql: Sql) -> str:
    if column.kind == "number":
        return sql.put(Float8(value))
    if column.kind in ("date", "lu"):
        return sql.int8(value)
    return sql.put(value) + '::text COLLATE "C"'


def _walked(
    plan: Plan, column: SortColumn, limit: int, after: Place | None, sql: Sql
) -> tuple[str, list[str], str]:
    """Return the page read from the sort parameter's index, then resources without a value."""
    direction = _direction(column)
    order = f"p.z, p.k1 {direction}, p.rid {direction}"
    if column.kind in ("lu", "fid"):
        return _walked_resource(plan, column, limit, after, sql), ["k1"], order.replace("p.z, ", "")
    table, value = TABLES[column.kind]
    sign = "<" if column.is_descending else ">"
    key = sql.int8(column.hs[0])
    better = ">" if column.is_descending else "<"
    with_value = "SELECT 0 AS z, 0::int8 AS rid, NULL AS k1 WHERE false"
    is_past = after is not None and after.values[0] is None
    if not is_past:
        bound = ""
        if after is not None:
            put = _typed_value(column, after.values[0], sql)
            bound = f" AND (w.{value}, w.rid) {sign} ({put}, {sql.int8(after.rid)})"
        with_value = (
            f"SELECT 0 AS z, w.rid, w.{value} AS k1 FROM {table} w WHERE w.h = {key}{bound}"
            f" AND NOT EXISTS (SELECT 1 FROM {table} e WHERE e.h = {key} AND e.rid = w.rid"
            f" AND {_better_row(table, value, better)} OFFSET 0){_tests(plan, 'w.rid', sql)}"
            f" ORDER BY w.{value} {direction}, w.rid {direction} LIMIT {limit}"
        )
    bound = f" AND w.rid {sign} {sql.int8(after.rid)}" if after is not None and is_past else ""
    without = (
        f"SELECT 1, w.rid, NULL FROM resource w WHERE w.tid = {sql.int4(plan.tids[0])}"
        f" AND NOT w.del AND (SELECT count(*) FROM v) < {limit}{bound}"
        f" AND NOT EXISTS (SELECT 1 FROM {table} e WHERE e.h = {key} AND e.rid = w.rid OFFSET 0)"
        f"{_tests(plan, 'w.rid', sql)} ORDER BY w.rid {direction} LIMIT {limit}"
    )
    if is_past:
        nothing = {"date": "int8", "number": "float8", "string": "text"}[column.kind]
        with_value = with_value.replace("NULL AS k1", f"NULL::{nothing} AS k1")
    text = (
        f"WITH v AS MATERIALIZED ({with_value})"
        f" (SELECT v.z, v.rid, v.k1 FROM v) UNION ALL ({without}) LIMIT {limit}"
    )
    return text, ["k1"], order


def _better_row(table: str, value: str, better: str) -> str:
    """Return the test that row e of the same resource sorts before row w, or is its double."""
    if table == "ix_str":
        return f"(e.v {better} w.v OR (e.v = w.v AND e.x < w.x))"
    return f"(e.{value} {better} w.{value} OR (e.{value} = w.{value} AND e.hi < w.hi))"


def _walked_resource(
    plan: Plan, column: SortColumn, limit: int, after: Place | None, sql: Sql
) -> str:
    direction = _direction(column)
    sign = "<" if column.is_descending else ">"
    value = _MICROSECONDS.format("w.lu") if column.kind == "lu" else "w.fid"
    bound = ""
    if after is not None and column.kind == "lu":
        moment = f"timestamptz 'epoch' + {sql.int8(after.values[0])} * interval '1 microsecond'"
        bound = f" AND (w.lu, w.rid) {sign} ({moment}, {sql.int8(after.rid)})"
    elif after is not None:
        bound = f" AND w.fid {sign} {sql.put(after.values[0])}"
    return (
        f"SELECT w.rid, {value} AS k1 FROM resource w"
        f" WHERE w.tid = {sql.int4(plan.tids[0])} AND NOT w.del{bound}"
        f"{_tests(plan, 'w.rid', sql)}"
        f" ORDER BY w.{column.kind} {direction}, w.rid {direction} LIMIT {limit}"
    )


__all__ = ["UNKNOWN", "count_statement", "density_statement", "page_statement"]
