"""Which statement answers a search: what drives it, in which order, from where.

Orders: "new" is rid descending (newest first, stable while others write), "walk" the own order of
one range or text condition, "sort" the wish of `_sort`. A page's token names its order, so later
pages keep it whatever the statistics say by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg.types.numeric import Float8, Int8

from fhir_store import search_nodes as n
from fhir_store.search_sql import (
    Sql,
    filtered,
    gather,
    is_gatherable,
    probe,
    span,
    text_test,
    updated_tests,
)

SPARSE = 2000  # up to so many matches are gathered and sorted; more are walked
SPARSE_LINKED = 400  # the same behind a chain or _has
SORT_LIMIT = 100_000  # matches that may be sorted when no index gives the order


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page ended: the order, its sort values, and the rid."""

    order: str
    values: tuple[Any, ...]
    rid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SortColumn:
    """One sort key in SQL terms.

    `kind` is date, number, string (rows of a table under the keys `hs`), code (`hs` to `words`),
    reference (`pids`), lu or fid.
    """

    kind: str
    is_descending: bool
    hs: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A decided search: the driving part, what is probed, and the order."""

    order: str  # "new", "walk:<number of the part>" or "sort"
    parts: tuple[n.Node, ...]
    driver: n.Node
    tids: tuple[int, ...]
    is_gathered: bool
    is_hedged: bool = False  # gathered if few, else walked by type: the statement itself decides
    sort: tuple[SortColumn, ...] = ()

    @property
    def probes(self) -> tuple[n.Node, ...]:
        """Return the parts that are tested one by one."""
        return tuple(part for part in self.parts if part is not self.driver)


_TABLES = {"date": ("ix_date", "lo"), "number": ("ix_num", "lo"), "string": ("ix_str", "v")}


def parts_of(node: n.Node) -> tuple[n.Node, ...]:
    """Return the conjuncts of a node."""
    return node.parts if isinstance(node, n.Every) else (node,)


def walks_by_rid(node: n.Node) -> bool:
    """Say whether an index gives the matches by rid."""
    return isinstance(node, n.Keyed | n.Referring | n.Typed)


def walks_by_value(node: n.Node) -> bool:
    """Say whether an index gives the matches in an order of their values."""
    if isinstance(node, n.Ranged):
        return len(node.spans) == 1 and _is_bound(node.spans[0])
    if isinstance(node, n.Texts):
        return len(node.texts) == 1 and node.texts[0].kind in ("prefix", "exact", "equals")
    return isinstance(node, n.Updated) and len(node.tids) == 1 and len(node.spans) == 1


def _is_bound(one: n.Span) -> bool:
    return one.low is not None or one.high is not None


def _begins_at_bound(node: n.Node) -> bool:
    """Say whether a descending walk begins where the condition ends, not at the newest row.

    Of "since" and "until" together, walking from "until" meets both at once.
    """
    return not isinstance(node, n.Ranged) or node.spans[0].high is not None


def needs_estimates(parts: Sequence[n.Node], *, is_sorted: bool) -> bool:
    """Say whether the choice of the driver depends on how many resources match."""
    candidates = [part for part in parts if is_gatherable(part)]
    return len(candidates) > 1 or (is_sorted and bool(candidates))


def choose(
    parts: tuple[n.Node, ...],
    tids: tuple[int, ...],
    counts: dict[n.Node, int],
    sort: tuple[SortColumn, ...],
    after: Place | None,
) -> Plan:
    """Return the plan; `counts` hold how many match each candidate, up to SPARSE + 1."""
    typed = n.Typed(tids)
    if not _says_type(parts):
        parts = (*parts, typed)
    candidates = [part for part in parts if is_gatherable(part)]
    known = sorted(candidates, key=lambda part: counts.get(part, SPARSE + 2))
    best = known[0] if known else typed
    is_sparse = bool(known) and (
        (len(known) == 1 and not counts) or counts.get(best, 0) <= _most(best)
    )
    if sort:
        is_gathered = is_sparse or not _walks_sorted(sort, tids)
        driver = best if is_sparse else typed
        if is_gathered and not is_sparse and known:
            driver = best
        return Plan(
            order="sort",
            parts=parts,
            driver=driver,
            tids=tids,
            is_gathered=is_gathered,
            sort=sort,
        )
    if after is not None and after.order.startswith("walk:"):
        number = int(after.order.removeprefix("walk:"))
        if number < len(parts) and walks_by_value(parts[number]):
            best = parts[number]
            return Plan(order=after.order, parts=parts, driver=best, tids=tids, is_gathered=False)
    must_be_new = after is not None and after.order == "new"
    return _choose_unsorted(parts, tids, known, is_sparse=is_sparse, must_be_new=must_be_new)


def _most(node: n.Node) -> int:
    """Return up to how many matches a driver is gathered; following references costs more."""
    return SPARSE_LINKED if isinstance(node, n.Chained | n.Pointed) else SPARSE


def _choose_unsorted(
    parts: tuple[n.Node, ...],
    tids: tuple[int, ...],
    known: list[n.Node],
    *,
    is_sparse: bool,
    must_be_new: bool,
) -> Plan:
    typed = n.Typed(tids)
    best = known[0] if known else typed
    if not is_sparse and known:  # everything is dense: read an index in its order
        best = next((part for part in known if walks_by_rid(part)), typed)
        if best == typed and not must_be_new:
            walks = [part for part in known if walks_by_value(part)]
            best = next(
                (part for part in walks if _begins_at_bound(part)), walks[0] if walks else typed
            )
    if walks_by_rid(best):
        return Plan(order="new", parts=parts, driver=best, tids=tids, is_gathered=False)
    if walks_by_value(best) and not must_be_new and len(known) == 1:
        order = f"walk:{parts.index(best)}"
        return Plan(order=order, parts=parts, driver=best, tids=tids, is_gathered=False)
    if walks_by_value(best) and not must_be_new and not is_sparse:
        order = f"walk:{parts.index(best)}"
        return Plan(order=order, parts=parts, driver=best, tids=tids, is_gathered=False)
    return Plan(
        order="new",
        parts=parts,
        driver=best,
        tids=tids,
        is_gathered=True,
        is_hedged=len(known) == 1 and not isinstance(best, n.Named),
    )


def _says_type(parts: Sequence[n.Node]) -> bool:
    """Say whether some part is about the types alone, so that no other type can slip in."""
    return any(_is_typed(part) for part in parts)


def _is_typed(node: n.Node) -> bool:
    if isinstance(node, n.Not | n.Worded):
        return False
    if isinstance(node, n.Every):
        return any(_is_typed(part) for part in node.parts)
    if isinstance(node, n.Some):
        return all(_is_typed(part) for part in node.parts)
    return True


def _walks_sorted(sort: tuple[SortColumn, ...], tids: tuple[int, ...]) -> bool:
    if len(sort) != 1 or len(tids) != 1:
        return False
    return sort[0].kind in ("lu", "fid") or (sort[0].kind in _TABLES and len(sort[0].hs) == 1)


# --- statements ----------------------------------------------------------------------------------


def page_statement(plan: Plan, limit: int, after: Place | None, sql: Sql) -> str:
    """Return the statement of one page: rid, the sort values, then the resource's columns."""
    if plan.order == "sort":
        inside, columns, order = _sorted(plan, limit, after, sql)
    elif plan.order == "new":
        inside, columns, order = _by_rid(plan, limit, after, sql), [], "p.rid DESC"
    else:
        inside, columns, order = _by_value(plan, limit, after, sql)
    selected = ", ".join(["p.rid", *(f"p.{column}" for column in columns)])
    return (
        f"WITH p AS MATERIALIZED ({inside})"
        f" SELECT {selected}, r.tid, r.fid, r.ver, r.lu, r.body"
        f" FROM p JOIN resource r ON r.rid = p.rid ORDER BY {order}"
    )


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
    return f"SELECT 1 FROM ({gather(node, sql)}) {g} LIMIT {_most(node) + 1}"


def _tests(plan: Plan, rid: str, sql: Sql) -> str:
    return "".join(f" AND {probe(part, rid, sql)}" for part in plan.probes)


def _by_rid(plan: Plan, limit: int, after: Place | None, sql: Sql) -> str:
    """Return the page newest first."""
    bound = f" AND {{}}.rid < {sql.int8(after.rid)}" if after is not None else ""
    driver = plan.driver
    if plan.is_hedged:
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
    """Return the page of a set of unknown size: sorted if it is small, else read by type."""
    most = _most(plan.driver)
    sql.is_sampling = True
    sample = f"SELECT g.rid FROM ({gather(plan.driver, sql)}) g LIMIT {most + 1}"
    sql.is_sampling = False
    few = (
        f"SELECT DISTINCT g.rid FROM c g WHERE (SELECT count(*) FROM c) <= {most}"
        f"{bound.format('g')}{_tests(plan, 'g.rid', sql)} ORDER BY g.rid DESC LIMIT {limit}"
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


# --- _sort ---------------------------------------------------------------------------------------


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
    if column.kind in _TABLES:
        table, value = _TABLES[column.kind]
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
    table, value = _TABLES[column.kind]
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
