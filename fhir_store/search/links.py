"""A chain or `_has` read link by link: a page costs what a page holds, however much is linked.

The order is that of the way there: the rid of what stands at the far end, then of each link,
newest first, the resource itself last. Lateral joins read one index after the other and stop when
the page is full. A resource that several ways lead to counts at the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fhir_store.search import nodes as n
from fhir_store.search.sets import gather, is_gatherable
from fhir_store.search.sql import Sql, probe, type_test

FEW = 64  # sources that are followed before it is known how much they lead to
GATHERED = 400  # sources that no index gives by rid, read whole to begin with
FRUITFUL = 8  # different resources that FEW sources must lead to for the rest to be followed
MAX_BRANCHES = 8
UNKNOWN = -1  # the rid of the row that says: there may be more
_LAST = (1 << 63) - 1

Link = n.Chained | n.Pointed


@dataclass(slots=True)
class _Path:
    """The FROM of a way so far: its keys (int8, all descending), the last of them the rid."""

    source: str
    keys: list[str]

    @property
    def rid(self) -> str:
        """Return the rid of what has been reached."""
        return self.keys[-1]


@dataclass(slots=True)
class _Writer:
    """Writes one way; `after` are the values of its keys where the last page ended."""

    sql: Sql
    after: list[int]
    gathered: list[str]  # the CTEs of sources without an index by rid
    is_guarded: bool

    def bound(self, column: str, path: _Path | None, *, is_last: bool = False) -> str:
        """Return the test that a key continues after the place, sought in the index."""
        if not self.after:
            return ""
        outer = path.keys if path else []
        sign = "<" if is_last else "<="
        value = self.sql.int8(self.after[len(outer)])
        if not outer:
            return f" AND {column} {sign} {value}"
        pairs = zip(outer, self.after, strict=False)
        same = " AND ".join(f"{key} = {self.sql.int8(one)}" for key, one in pairs)
        return f" AND {column} {sign} CASE WHEN {same} THEN {value} ELSE {_LAST} END"


def is_walkable(node: n.Node) -> bool:
    """Say whether a node is a link whose far end can be read first."""
    if isinstance(node, n.Pointed):
        return is_gatherable(node.source)
    return (
        isinstance(node, n.Chained)
        and len(node.targets) <= MAX_BRANCHES
        and all(is_gatherable(inner) for _, inner in node.targets)
    )


def walk_statement(
    node: Link,
    probes: Sequence[n.Node],
    limit: int,
    after: tuple[int, ...] | None,
    sql: Sql,
    *,
    is_guarded: bool,
) -> tuple[str, list[str]]:
    """Return the page's SELECT (rid, then its keys) and the names of the keys.

    Guarded, it follows the first FEW sources alone; the row UNKNOWN among its rows says that there
    are more and the page is not full. `after` holds the keys and the rid of the last page's end.
    """
    branches = _branches(node)
    depth = max(_depth(branch) for _, branch in branches)
    names = [f"k{number}" for number in range(1, depth + 2)]
    gathered: list[str] = []
    ways: list[str] = []
    guards: list[str] = []
    for tid, branch in branches:
        if after is not None and tid > after[0]:
            continue
        writer = _Writer(sql, [], gathered, is_guarded)
        if after is not None and tid == after[0]:
            writer.after = [*after[1 : _depth(branch) + 1], after[-1]]
        inner, inside = _linked(branch, writer)
        source = inner
        if is_guarded:
            source = _first(inner, sql)
        earlier = [n.Not(other) for other in _branches_before(node, tid)]
        path = _step(branch, source, inside, [*probes, *earlier], writer, is_last=True)
        filled = [*path.keys[:-1], *["0"] * (depth + 1 - len(path.keys))]
        keys = ", ".join(f"({key})::int8" for key in [str(tid), *filled])
        large = [f"((SELECT count(*) FROM g{i}) > {GATHERED})" for i in range(len(gathered))]
        gates = [f"NOT {guard}" for guard in [*guards, *large]] if is_guarded else ["true"]
        where = " AND ".join(gates) or "true"
        ways.append(f"(SELECT {path.rid}, {keys} FROM {path.source} WHERE {where} LIMIT {limit})")
        more = f"(SELECT 1 FROM {inner.source} LIMIT {FEW + 1})"
        guards.append(f"((SELECT count(*) FROM {more} AS s) > {FEW})")
    columns = ", ".join(["rid", *names])
    page = f"SELECT * FROM ({' UNION ALL '.join(ways)}) AS v({columns}) LIMIT {limit}"
    ctes = list(gathered)
    if is_guarded:
        cut = " OR ".join([*large, *guards])
        ctes.append(f"w({columns}) AS MATERIALIZED ({page})")
        nothing = ", ".join([str(UNKNOWN), *["0"] * len(names)])
        page = (
            f"SELECT * FROM w UNION ALL SELECT {nothing}"
            f" WHERE (SELECT count(*) FROM w) < {limit} AND ({cut})"
        )
    head = f"WITH {', '.join(ctes)} " if ctes else ""
    return head + page, names


def _first(path: _Path, sql: Sql) -> _Path:
    """Return the first FEW sources of a way."""
    alias = sql.alias("i")
    names = [f"i{number}" for number in range(len(path.keys))]
    few = f"(SELECT {', '.join(path.keys)} FROM {path.source} LIMIT {FEW})"
    return _Path(f"{few} AS {alias}({', '.join(names)})", [f"{alias}.{name}" for name in names])


def _branches(node: Link) -> list[tuple[int, Link]]:
    """Return a link's targets as links of one target each, in the order of the walk."""
    if isinstance(node, n.Pointed):
        return [(0, node)]
    ordered = sorted(node.targets, key=lambda target: -target[0])
    return [(target[0], replace(node, targets=(target,))) for target in ordered]


def _branches_before(node: Link, tid: int) -> list[Link]:
    return [branch for other, branch in _branches(node) if other > tid]


def _inside(link: Link) -> n.Node:
    return link.source if isinstance(link, n.Pointed) else link.targets[0][1]


def _driver(node: n.Node) -> tuple[n.Node, list[n.Node]]:
    """Return what reads the set a link leads from, and what else its members must pass."""
    parts = node.parts if isinstance(node, n.Every) else (node,)
    best = next((part for part in parts if is_gatherable(part)), parts[0])
    return best, [part for part in parts if part is not best]


def _is_link(node: n.Node) -> bool:
    """Say whether a set is itself read link by link; one of several types is gathered."""
    return isinstance(node, n.Pointed) or (isinstance(node, n.Chained) and len(node.targets) == 1)


def _is_keyed(node: n.Node) -> bool:
    """Say whether an index gives the set by key and rid."""
    if not isinstance(node, n.Keyed | n.Referring):
        return False
    return len({first for first, _ in node.entries}) == len(node.entries)


def _depth(link: Link) -> int:
    """Return how many keys stand before the rid."""
    inner, _ = _driver(_inside(link))
    if _is_link(inner):
        assert isinstance(inner, n.Chained | n.Pointed)
        return _depth(inner) + 1
    is_many = _is_keyed(inner) and len(getattr(inner, "entries", ())) > 1
    return 2 if is_many else 1


# --- the walk ------------------------------------------------------------------------------------


def _linked(link: Link, writer: _Writer) -> tuple[_Path, n.Node]:
    """Return the way to the resources that a link leads from, and what they are."""
    inside = _inside(link)
    driver, rest = _driver(inside)
    if _is_link(driver):
        assert isinstance(driver, n.Chained | n.Pointed)
        inner, further = _linked(driver, writer)
        return _step(driver, inner, further, rest, writer), inside
    return _leaf(driver, rest, writer), inside


def _leaf(node: n.Node, rest: Sequence[n.Node], writer: _Writer) -> _Path:
    """Return the far end: a set in the order of its rid, or of its keys and rids."""
    sql = writer.sql
    a, t = sql.alias("a"), sql.alias("t")
    select = "SELECT DISTINCT {t}.rid FROM {table} {t} WHERE {where} ORDER BY {t}.rid DESC OFFSET 0"
    tests = _tests(rest, f"{t}.rid", sql)
    if not _is_keyed(node):
        where = f"true{writer.bound(f'{t}.rid', None)}{tests}"
        body = select.format(t=t, table=_gathered(node, writer), where=where)
        return _Path(f"({body}) {a}", [f"{a}.rid"])
    assert isinstance(node, n.Keyed | n.Referring)
    table = "ix_token" if isinstance(node, n.Keyed) else "ix_ref"
    if len(node.entries) == 1:
        where = f"{_key_test(node, t, sql)}{writer.bound(f'{t}.rid', None)}{tests}"
        body = select.format(t=t, table=table, where=where)
        return _Path(f"({body}) {a}", [f"{a}.rid"])
    k, u = sql.alias("k"), sql.alias("u")
    entries, test = _entries(node, u, t, k, sql)
    ordered = (
        f"(SELECT {u}.a, {u}.b FROM {entries} WHERE true{writer.bound(f'{u}.a', None)}"
        f" ORDER BY {u}.a DESC OFFSET 0) {k}"
    )
    e, o = sql.alias("e"), sql.alias("o")
    others, again = _entries(node, o, e, o, sql)
    where = (
        f"{test}{writer.bound(f'{t}.rid', _Path('', [f'{k}.a']))}{tests}"
        f" AND NOT EXISTS (SELECT 1 FROM {table} {e} JOIN {others} ON {again}"
        f" WHERE {e}.rid = {t}.rid AND {o}.a > {k}.a OFFSET 0)"
    )
    body = select.format(t=t, table=table, where=where)
    return _Path(f"{ordered} CROSS JOIN LATERAL ({body}) {a}", [f"{k}.a", f"{a}.rid"])


def _gathered(node: n.Node, writer: _Writer) -> str:
    """Return the name of a CTE that holds a set whole, or a little more than may be gathered."""
    name = f"g{len(writer.gathered)}"
    inside = gather(node, writer.sql)
    most = f" LIMIT {GATHERED + 1}" if writer.is_guarded else ""
    writer.gathered.append(
        f"{name} AS MATERIALIZED (SELECT DISTINCT g.rid FROM (SELECT * FROM ({inside}) g{most}) g)"
    )
    return name


def _tests(nodes: Sequence[n.Node], rid: str, sql: Sql) -> str:
    return "".join(f" AND {probe(node, rid, sql)}" for node in nodes)


def _entries(node: n.Keyed | n.Referring, u: str, t: str, k: str, sql: Sql) -> tuple[str, str]:
    """Return the entries as the table `u`(a, b), and the test that row `t` has the entry `k`."""
    firsts = sql.int8s(tuple(entry[0] for entry in node.entries))
    seconds = sql.int4s(tuple(-1 if entry[1] is None else entry[1] for entry in node.entries))
    table = f"unnest({firsts}, {seconds}) AS {u}(a, b)"
    if isinstance(node, n.Keyed):
        return table, f"{t}.h = {k}.a AND ({k}.b = -1 OR {t}.sid = {k}.b)"
    return table, f"{t}.tgt = {k}.a AND {t}.pid = {k}.b"


def _key_test(node: n.Keyed | n.Referring, t: str, sql: Sql) -> str:
    first, second = node.entries[0]
    if isinstance(node, n.Referring):
        assert second is not None
        return f"{t}.tgt = {sql.int8(first)} AND {t}.pid = {sql.int4(second)}"
    key = f"{t}.h = {sql.int8(first)}"
    return key if second is None else f"{key} AND {t}.sid = {sql.int4(second)}"


def _step(
    link: Link,
    inner: _Path,
    inside: n.Node,
    rest: Sequence[n.Node],
    writer: _Writer,
    *,
    is_last: bool = False,
) -> _Path:
    """Return the way one link further, to what passes `rest` and no earlier way has reached."""
    if isinstance(link, n.Chained):
        return _step_back(link, inner, inside, rest, writer, is_last=is_last)
    sql = writer.sql
    a, f, r = sql.alias("a"), sql.alias("f"), sql.alias("r")
    where = f"{f}.rid = {inner.rid} AND {_pid_test(f, link.pids, sql)}"
    where += writer.bound(f"{r}.rid", inner, is_last=is_last) + _tests(rest, f"{r}.rid", sql)
    body = (
        f"SELECT DISTINCT {r}.rid FROM ix_ref {f} JOIN resource {r} ON {r}.rkey = {f}.tgt"
        f" AND NOT {r}.del AND {type_test(r, link.tids, sql)} WHERE {where}"
        f" AND NOT EXISTS ({_earlier_source(link, f, inner, inside, sql)} OFFSET 0)"
        f" ORDER BY {r}.rid DESC OFFSET 0"
    )
    return _Path(f"{inner.source} CROSS JOIN LATERAL ({body}) {a}", [*inner.keys, f"{a}.rid"])


def _step_back(
    link: n.Chained,
    inner: _Path,
    inside: n.Node,
    rest: Sequence[n.Node],
    writer: _Writer,
    *,
    is_last: bool,
) -> _Path:
    """Return the way from a target to what refers to it, as many as there may be, by the index."""
    sql = writer.sql
    a, b, f, r = (sql.alias(letter) for letter in "abfr")
    target = (
        f"SELECT {r}.rkey FROM resource {r} WHERE {r}.rid = {inner.rid} AND NOT {r}.del"
        f" AND {r}.tid = {sql.int4(link.targets[0][0])} OFFSET 0"
    )
    where = f"{f}.tgt = {b}.rkey AND {_pid_test(f, link.pids, sql)}"
    where += writer.bound(f"{f}.rid", inner, is_last=is_last) + _tests(rest, f"{f}.rid", sql)
    once = "DISTINCT " if len(link.pids) > 1 else ""
    body = (
        f"SELECT {once}{f}.rid FROM ix_ref {f} WHERE {where}"
        f" AND NOT EXISTS ({_earlier_target(link, f, b, inner, inside, sql)} OFFSET 0)"
        f" ORDER BY {f}.rid DESC OFFSET 0"
    )
    laterals = f"CROSS JOIN LATERAL ({target}) {b} CROSS JOIN LATERAL ({body}) {a}"
    return _Path(f"{inner.source} {laterals}", [*inner.keys, f"{a}.rid"])


def _pid_test(f: str, pids: tuple[int, ...], sql: Sql) -> str:
    if len(pids) == 1:
        return f"{f}.pid = {sql.int4(pids[0])}"
    return f"{f}.pid = ANY({sql.int4s(pids)})"


# --- each resource once --------------------------------------------------------------------------


def _earlier_target(link: n.Chained, f: str, r: str, inner: _Path, inside: n.Node, sql: Sql) -> str:
    """Return the SELECT of another target of the same resource that comes before this one."""
    e, s = sql.alias("e"), sql.alias("s")
    tid = sql.int4(link.targets[0][0])
    joins, tests, keys = _reached(inside, f"{s}.rid", sql)
    return (
        f"SELECT 1 FROM ix_ref {e} JOIN resource {s} ON {s}.rkey = {e}.tgt AND NOT {s}.del"
        f" AND {s}.tid = {tid}{joins} WHERE {e}.rid = {f}.rid AND {_pid_test(e, link.pids, sql)}"
        f" AND {e}.tgt <> {r}.rkey AND {_row(keys)} > {_row(inner.keys)} AND {tests}"
    )


def _earlier_source(link: n.Pointed, f: str, inner: _Path, inside: n.Node, sql: Sql) -> str:
    """Return the SELECT of another source of the same resource that comes before this one."""
    e = sql.alias("e")
    joins, tests, keys = _reached(inside, f"{e}.rid", sql)
    return (
        f"SELECT 1 FROM ix_ref {e}{joins} WHERE {e}.tgt = {f}.tgt"
        f" AND {_pid_test(e, link.pids, sql)} AND {e}.rid <> {inner.rid}"
        f" AND {_row(keys)} > {_row(inner.keys)} AND {tests}"
    )


def _row(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"({', '.join(keys)})"


def _reached(node: n.Node, rid: str, sql: Sql) -> tuple[str, str, list[str]]:
    """Return joins, tests and keys of the ways to a resource, as `_linked` orders them."""
    driver, rest = _driver(node)
    others = [probe(part, rid, sql) for part in rest]
    if _is_link(driver):
        e, s = sql.alias("e"), sql.alias("s")
        if isinstance(driver, n.Chained):
            own = (
                f" JOIN ix_ref {e} ON {e}.rid = {rid} AND {_pid_test(e, driver.pids, sql)}"
                f" JOIN resource {s} ON {s}.rkey = {e}.tgt AND NOT {s}.del"
                f" AND {s}.tid = {sql.int4(driver.targets[0][0])}"
            )
            joins, tests, keys = _reached(driver.targets[0][1], f"{s}.rid", sql)
        else:
            assert isinstance(driver, n.Pointed)
            own = (
                f" JOIN resource {s} ON {s}.rid = {rid}"
                f" JOIN ix_ref {e} ON {e}.tgt = {s}.rkey AND {_pid_test(e, driver.pids, sql)}"
            )
            joins, tests, keys = _reached(driver.source, f"{e}.rid", sql)
        return own + joins, " AND ".join([tests, *others]), [*keys, rid]
    if _is_keyed(driver) and len(getattr(driver, "entries", ())) > 1:
        assert isinstance(driver, n.Keyed | n.Referring)
        t, k = sql.alias("t"), sql.alias("k")
        entries, test = _entries(driver, k, t, k, sql)
        table = "ix_token" if isinstance(driver, n.Keyed) else "ix_ref"
        joins = f" JOIN {table} {t} ON {t}.rid = {rid} JOIN {entries} ON {test}"
        return joins, " AND ".join(["true", *others]), [f"{k}.a", rid]
    return "", " AND ".join([probe(driver, rid, sql), *others]), [rid]
