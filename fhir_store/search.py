"""Searching: from a parsed query to a page of versions.

One statement finds a page and its bodies; another counts when asked; each hop of includes is one
more. The caller's authorization is inside each of them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import psycopg
from psycopg import AsyncConnection

from conformance.problem import Issue, NotSupported, TooCostly
from conformance.search_parameters import type_number
from fhir_store import search_nodes as n
from fhir_store.authorization import EVERYTHING, Authorization
from fhir_store.code_dictionary import CodeDictionary
from fhir_store.custom_parameters import CustomParameters
from fhir_store.keys import cached_key_of
from fhir_store.operations import Version
from fhir_store.page_token import PageTokens, fingerprint_of, site_tokens
from fhir_store.search_compile import Compiler, Terminology, row_numbers, stored_parameters
from fhir_store.search_include import included_versions
from fhir_store.search_page import count_statement, density_statement, page_statement
from fhir_store.search_plan import (
    SORT_LIMIT,
    Place,
    Plan,
    SortColumn,
    choose,
    needs_estimates,
    parts_of,
)
from fhir_store.search_query import (
    FullTextTest,
    MissingTest,
    QueryRules,
    SearchQuery,
    SortKey,
    ValueTest,
    conditions_in,
    parse_query,
)
from fhir_store.search_rows import version_from_row
from fhir_store.search_sets import is_gatherable
from fhir_store.search_sql import Sql, probe
from fhir_store.search_text_index import words_behind

Connection = AsyncConnection[Any]
ESTIMATE_FROM = 10_000  # `_total=estimate` counts up to here and takes the planner's word beyond
RARE = 300  # a key with so few resources drives, whatever else is asked
_REMEMBER = 60.0  # seconds a density is believed


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a search.

    `next` is the token of the following page; `total` None was not asked; `explanation` holds the
    statements and plans when `_explain` asked for them.
    """

    matches: tuple[Version, ...]
    included: tuple[Version, ...] = ()
    total: int | None = None
    next: str | None = None
    warnings: tuple[Issue, ...] = ()
    explanation: dict[str, Any] | None = None


async def no_terminology(relation: str, value: str) -> Sequence[tuple[str, str]]:
    """Refuse: no terminology was given."""
    raise NotSupported(
        Issue(
            code="not-supported",
            key="search-no-terminology",
            text_en=f"The modifier :{relation} needs a terminology service",
            text_zh=f"修饰符 :{relation} 需要术语服务",
            fix_en="List the codes, separated by commas.",
            fix_zh="请直接列出代码，用逗号分隔。",
        )
    )


class Densities:
    """How many resources some keys have, remembered for a minute; only a hint for plans."""

    def __init__(self, limit: int = 20_000) -> None:
        self._known: dict[n.Node, tuple[float, int]] = {}
        self._limit = limit

    def get(self, node: n.Node) -> int | None:
        """Return the count of a node if it is known and fresh."""
        found = self._known.get(node)
        return found[1] if found and found[0] > time.monotonic() else None

    def learn(self, node: n.Node, count: int) -> None:
        """Remember a count that is worth remembering: of many, or of one code."""
        if count > RARE or (isinstance(node, n.Keyed) and len(node.entries) == 1):
            if len(self._known) >= self._limit:
                self._known.clear()
            self._known[node] = (time.monotonic() + _REMEMBER, count)


class Searcher:
    """Answers searches on connections it is given; one per process."""

    def __init__(
        self,
        *,
        tokens: PageTokens | None = None,
        terminology: Terminology = no_terminology,
        parameters: CustomParameters | None = None,
        max_included: int = 1000,
        sort_limit: int = SORT_LIMIT,
    ) -> None:
        self._tokens = tokens
        self.terminology = terminology
        self.parameters = parameters or CustomParameters()
        self._lookup = self.parameters.lookup
        self._max_included = max_included
        self._sort_limit = sort_limit
        self._densities = Densities()

    async def search(
        self,
        connection: Connection,
        query: SearchQuery,
        *,
        authorization: Authorization = EVERYTHING,
    ) -> Page:
        """Return a page; TooCostly when the statement's time is over."""
        fingerprint = fingerprint_of(query.types, query.pairs)
        if self._tokens is None:
            self._tokens = await site_tokens(connection)
        after = self._tokens.open(query.cursor, fingerprint) if query.cursor else None
        compiler = Compiler(
            dictionary=CodeDictionary(connection),
            terminology=self.terminology,
            lookup=self._lookup,
            authorization=authorization,
        )
        try:
            return await self._page(connection, query, compiler, after, fingerprint)
        except psycopg.errors.QueryCanceled:
            _refuse_slow()

    async def match(
        self, connection: Connection, type_: str, criteria: str, limit: int
    ) -> Sequence[str]:
        """Return the ids that match criteria (`name=value&…`), for conditional interactions."""
        pairs = parse_qsl(criteria, keep_blank_values=True)
        query = parse_query(type_, pairs, QueryRules(lookup=self._lookup))
        return await self.matching_ids(connection, query, limit)

    async def condition_of(
        self,
        connection: Connection,
        types: tuple[str, ...],
        authorization: Authorization,
        rid: str,
    ) -> tuple[str, dict[str, Any]] | None:
        """Return SQL and values: the resource of expression `rid` may be seen; None is always."""
        compiler = Compiler(
            dictionary=CodeDictionary(connection),
            terminology=self.terminology,
            lookup=self._lookup,
            authorization=authorization,
        )
        right = await self._right(types, compiler)
        if right is None:
            return None
        if right == n.NOTHING:
            return "false", {}
        sql = Sql()
        return probe(right, rid, sql), sql.values

    async def matching_ids(
        self, connection: Connection, query: SearchQuery, limit: int
    ) -> list[str]:
        """Return the ids of at most `limit` matches, for conditional interactions."""
        compiler = Compiler(
            dictionary=CodeDictionary(connection),
            terminology=self.terminology,
            lookup=self._lookup,
            authorization=EVERYTHING,
        )
        plan = await self._plan(connection, query, compiler, None)
        if plan is None:
            return []
        sql = Sql()
        statement = page_statement(plan, limit, None, sql)
        rows = await _fetch(connection, statement, sql)
        return [row[-4] for row in rows]

    async def _page(
        self,
        connection: Connection,
        query: SearchQuery,
        compiler: Compiler,
        after: Place | None,
        fingerprint: bytes,
    ) -> Page:
        plan = await self._plan(connection, query, compiler, after)
        explanation: dict[str, Any] | None = {} if query.is_explained else None
        total = await self._total(connection, query, plan, explanation)
        if plan is None or query.count == 0:
            if plan is None and explanation is not None:
                explanation["statement"] = "-- nothing can match"
            return Page(matches=(), total=total, warnings=query.warnings, explanation=explanation)
        if plan.is_dense:
            await self._require_sortable(connection, plan)
        sql = Sql()
        statement = page_statement(plan, query.count + 1, after, sql)
        if explanation is not None:
            await _explain(connection, statement, sql, explanation)
        rows = await _fetch(connection, statement, sql)
        shown = rows[: query.count]
        token = None
        if len(rows) > query.count:
            last = shown[-1]
            place = Place(order=plan.order, values=tuple(last[1:-5]), rid=last[0])
            assert self._tokens is not None
            token = self._tokens.seal(place, fingerprint)
        warnings = (
            *query.warnings,
            *await _text_warnings(connection, query),
            *self._building_warnings(query),
        )
        included: tuple[Version, ...] = ()
        if query.includes and shown:
            included, more = await included_versions(
                connection,
                query.includes,
                [row[0] for row in shown],
                compiler,
                limit=self._max_included,
            )
            warnings = (*warnings, *more)
        return Page(
            matches=tuple(version_from_row(row) for row in shown),
            included=included,
            total=total,
            next=token,
            warnings=warnings,
            explanation=explanation,
        )

    async def _require_sortable(self, connection: Connection, plan: Plan) -> None:
        """Refuse to sort more than may be sorted, instead of sorting a part."""
        sql = Sql()
        rows = await _fetch(connection, count_statement(plan, sql, self._sort_limit + 1), sql)
        if rows[0][0] > self._sort_limit:
            _refuse_sort(self._sort_limit)

    def _building_warnings(self, query: SearchQuery) -> tuple[Issue, ...]:
        """Say of each custom parameter that is still being built how far it is."""
        asked = [inner for c in query.conditions for inner in conditions_in(c)]
        used = [p for c in asked if isinstance(c, ValueTest | MissingTest) for p in c.parameters]
        used += [parameter for key in query.sort for parameter in key.parameters]
        percents = {p.code: self.parameters.percent_of(p.number) for p in used}
        return tuple(_building(code, done) for code, done in percents.items() if done < 100)

    async def _plan(
        self, connection: Connection, query: SearchQuery, compiler: Compiler, after: Place | None
    ) -> Plan | None:
        """Return the plan, None where nothing can match."""
        nodes = [await compiler.node_of(c, query.types) for c in query.conditions]
        right = await self._right(query.types, compiler)
        if right is not None:
            nodes.append(right)
        tids = tuple(type_number(type_) for type_ in query.types)
        whole = n.every(*nodes) if nodes else n.Typed(tids)
        if whole == n.NOTHING:
            return None
        parts = parts_of(whole)
        sort = tuple([await self._sort_column(key, compiler) for key in query.sort])
        counts: dict[n.Node, int] = {}
        if needs_estimates(parts, is_sorted=bool(sort)):
            counts = await self._counts(connection, parts)
        return choose(parts, tids, counts, sort, after)

    async def _right(self, types: tuple[str, ...], compiler: Compiler) -> n.Node | None:
        """Return what the caller's rights ask of resources of the types; None is nothing."""
        if len(types) == 1:
            return await compiler.right(types[0])
        rights = {type_: await compiler.right(type_) for type_ in types}
        if all(right is None for right in rights.values()):
            return None
        ways: list[n.Node] = []
        free = tuple(type_number(t) for t, right in rights.items() if right is None)
        if free:
            ways.append(n.Typed(free))
        for type_, right in rights.items():
            if right is not None and right != n.NOTHING:
                ways.append(n.every(n.Typed((type_number(type_),)), right))
        return n.some(*ways)

    async def _counts(self, connection: Connection, parts: Sequence[n.Node]) -> dict[n.Node, int]:
        """Return how many match each candidate; what a rare key makes needless is not counted."""
        candidates = [part for part in parts if is_gatherable(part)]
        keys = [part for part in candidates if isinstance(part, n.Keyed | n.Referring | n.Named)]
        counts = await self._counts_of(connection, keys)
        if min(counts.values(), default=RARE + 1) > RARE:
            rest = [part for part in candidates if part not in counts]
            counts.update(await self._counts_of(connection, rest))
        return counts

    async def _counts_of(
        self, connection: Connection, nodes: Sequence[n.Node]
    ) -> dict[n.Node, int]:
        counts: dict[n.Node, int] = {}
        unknown: list[n.Node] = []
        for node in nodes:
            known = self._densities.get(node)
            if known is None:
                unknown.append(node)
            else:
                counts[node] = known
        if unknown:
            sql = Sql(is_sampling=True)
            rows = await _fetch(connection, density_statement(unknown, sql), sql)
            for node, count in zip(unknown, rows[0], strict=True):
                counts[node] = count
                self._densities.learn(node, count)
        return counts

    async def _total(
        self,
        connection: Connection,
        query: SearchQuery,
        plan: Plan | None,
        explanation: dict[str, Any] | None,
    ) -> int | None:
        if query.total == "none" and query.count > 0:
            return None
        if plan is None:
            return 0
        sql = Sql()
        if query.total != "estimate":
            rows = await _fetch(connection, count_statement(plan, sql), sql)
            return int(rows[0][0])
        statement = count_statement(plan, sql, ESTIMATE_FROM + 1)
        counted = int((await _fetch(connection, statement, sql))[0][0])
        if counted <= ESTIMATE_FROM:
            return counted
        sql = Sql()
        planned = await _plan_rows(connection, count_statement(plan, sql), sql)
        return max(counted, planned)

    async def _sort_column(self, key: SortKey, compiler: Compiler) -> SortColumn:
        down = key.is_descending
        if key.code == "_lastUpdated":
            return SortColumn(kind="lu", is_descending=down)
        if key.code == "_id":
            return SortColumn(kind="fid", is_descending=down)
        stored = [one for p in key.parameters for one in stored_parameters(p, self._lookup)]
        kind = stored[0].type
        letter = {"date": "d", "number": "n", "quantity": "q", "string": "v"}.get(kind)
        if stored[0].holds_identifiers:
            kind, letter = "string", "k"
        if letter is not None:
            table = "number" if kind == "quantity" else kind
            hs = tuple(cached_key_of(one.number, letter) for one in stored)
            return SortColumn(kind=table, is_descending=down, hs=hs)
        if kind == "reference":
            pids = tuple(pid for p in key.parameters for pid in row_numbers(p))
            return SortColumn(kind="reference", is_descending=down, pids=pids)
        found = await compiler.dictionary.every_code([one.number for one in stored])
        pairs = sorted({(cached_key_of(pid, "c", code), code) for pid, _, code in found})
        hs, words = tuple(h for h, _ in pairs), tuple(word for _, word in pairs)
        return SortColumn(kind="code", is_descending=down, hs=hs, words=words)


def _building(code: str, percent: int) -> Issue:
    return Issue(
        severity="warning",
        code="incomplete",
        key="search-parameter-building",
        text_en=f"The search parameter {code} is building {percent} %: results may be missing",
        text_zh=f"搜索参数 {code} 正在构建（{percent} %）：结果可能不完整",
        fix_en="Ask again when it is built.",
        fix_zh="请在构建完成后再查。",
        expression=f"http.{code}",
    )


async def _text_warnings(connection: Connection, query: SearchQuery) -> tuple[Issue, ...]:
    """Say so when the words searched lag behind the writes."""
    asked = (inner for c in query.conditions for inner in conditions_in(c))
    if not any(isinstance(condition, FullTextTest) for condition in asked):
        return ()
    behind = await words_behind(connection)
    if not behind:
        return ()
    return (
        Issue(
            severity="warning",
            code="incomplete",
            key="search-words-behind",
            text_en=f"{behind} newer resources are not yet in the word index",
            text_zh=f"有 {behind} 个较新的资源尚未进入词索引",
            fix_en="Ask again in a moment.",
            fix_zh="请稍后再查。",
        ),
    )


async def _fetch(connection: Connection, statement: str, sql: Sql) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(statement.encode(), sql.values)
    return await cursor.fetchall()


async def _explain(
    connection: Connection, statement: str, sql: Sql, explanation: dict[str, Any]
) -> None:
    rows = await _fetch(connection, f"EXPLAIN (COSTS OFF) {statement}", sql)
    explanation["statement"] = statement
    explanation["plan"] = [row[0] for row in rows]


async def _plan_rows(connection: Connection, statement: str, sql: Sql) -> int:
    rows = await _fetch(connection, f"EXPLAIN (FORMAT JSON) {statement}", sql)
    node = rows[0][0][0]["Plan"]
    while node.get("Plans"):
        node = node["Plans"][0]
        if node["Node Type"] != "Aggregate":
            break
    return int(node["Plan Rows"])


def _refuse_sort(limit: int) -> NoReturn:
    raise TooCostly(
        Issue(
            code="too-costly",
            key="search-sort-limit",
            text_en=f"More than {limit} resources match, too many to sort this way",
            text_zh=f"匹配的资源超过 {limit} 个，无法按此排序",
            fix_en="Sort by one date, number or text parameter alone, or narrow the search.",
            fix_zh="请只按一个日期、数字或文本参数排序，或缩小查询范围。",
            expression="http._sort",
        )
    )


def _refuse_slow() -> NoReturn:
    raise TooCostly(
        Issue(
            code="too-costly",
            key="search-time-limit",
            text_en="The search took longer than a statement may",
            text_zh="查询超过了单条语句的时间限制",
            fix_en="Add a selective parameter (identifier, patient, code), leave out"
            " _total=accurate and _sort, or export the data with $export.",
            fix_zh="请增加选择性强的参数（identifier、patient、code），去掉 _total=accurate"
            " 和 _sort，或使用 $export 导出数据。",
        )
    )


__all__ = ["SORT_LIMIT", "Page", "Searcher"]
