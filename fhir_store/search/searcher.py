"""Searching: from a parsed query to a page of versions.

One statement finds a page and its bodies; another counts when asked; each hop of includes is one
more. The caller's authorization is inside each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import psycopg
from psycopg import AsyncConnection

from conformance.problem import InvalidContent, Issue, NotSupported, TooCostly
from conformance.search_parameters import type_number
from fhir_store.authorization import EVERYTHING, Authorization
from fhir_store.code_dictionary import CodeDictionary
from fhir_store.conditional import NO_CRITERIA
from fhir_store.custom_parameters import CustomParameters
from fhir_store.operations import Version
from fhir_store.page_token import PageTokens, fingerprint_of, site_tokens
from fhir_store.search import nodes as n
from fhir_store.search.compile import Compiler
from fhir_store.search.densities import Densities
from fhir_store.search.include import included_versions
from fhir_store.search.page import UNKNOWN, count_statement, page_statement
from fhir_store.search.plan import (
    SORT_LIMIT,
    Place,
    Plan,
    choose,
    needs_estimates,
    parts_of,
)
from fhir_store.search.query import (
    QueryRules,
    SearchQuery,
    parse_query,
)
from fhir_store.search.rows import versions_from_rows
from fhir_store.search.sort import sort_column
from fhir_store.search.sql import Sql, probe
from fhir_store.search.value_nodes import Terminology, ValueCompiler
from fhir_store.search.visible import Visible, visible
from fhir_store.search.warnings import building_warnings, text_warnings

Connection = AsyncConnection[Any]
ESTIMATE_FROM = 10_000  # `_total=estimate` counts up to here and takes the planner's word beyond


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
        compiler = self._compiler(connection, authorization)
        try:
            return await self._page(connection, query, compiler, after, fingerprint)
        except psycopg.errors.QueryCanceled:
            _refuse_slow()

    async def match(
        self, connection: Connection, type_: str, criteria: str, limit: int
    ) -> Sequence[str]:
        """Return the ids that match criteria (`name=value&…`), for conditional interactions."""
        pairs = parse_qsl(criteria, keep_blank_values=True)
        query = parse_query(type_, pairs, QueryRules(lookup=self._lookup, is_condition=True))
        if not query.conditions:
            raise InvalidContent(NO_CRITERIA)
        return await self.matching_ids(connection, query, limit)

    async def condition_of(
        self,
        connection: Connection,
        types: tuple[str, ...],
        authorization: Authorization,
        rid: str,
    ) -> tuple[str, dict[str, Any]] | None:
        """Return SQL and values: the resource of expression `rid` may be seen; None is always."""
        compiler = self._compiler(connection, authorization)
        right = await self._right(types, compiler)
        if right is None:
            return None
        if right == n.NOTHING:
            return "false", {}
        sql = Sql()
        return probe(right, rid, sql), sql.values

    async def visible(
        self, connection: Connection, types: tuple[str, ...], authorization: Authorization
    ) -> Visible:
        """Return what of the types the rights show, in a form that histories read."""
        return await visible(types, self._compiler(connection, authorization))

    async def matching_ids(
        self, connection: Connection, query: SearchQuery, limit: int
    ) -> list[str]:
        """Return the ids of at most `limit` matches, for conditional interactions."""
        compiler = self._compiler(connection, EVERYTHING)
        plan = await self._plan(connection, query, compiler, None)
        if plan is None:
            return []
        _, rows = await self._rows(connection, plan, limit, None, None)
        return [row[-4] for row in rows]

    async def _rows(
        self,
        connection: Connection,
        plan: Plan,
        limit: int,
        after: Place | None,
        explanation: dict[str, Any] | None,
    ) -> tuple[Plan, list[tuple[Any, ...]]]:
        """Return the rows of a page and the plan that found them.

        A plan that meets more than it may begin with says so and is decided again.
        """
        sql = Sql()
        statement = page_statement(plan, limit, after, sql)
        if explanation is not None:
            await _explain(connection, statement, sql, explanation)
        rows = await _fetch(connection, statement, sql)
        if plan.is_guarded and any(row[0] == UNKNOWN for row in rows):
            self._densities.learn(plan.driver, len(rows) - 1)
            again = choose(plan.parts, plan.tids, {}, (), after, self._densities.is_fruitful)
            return await self._rows(connection, again, limit, after, explanation)
        return plan, rows

    def _compiler(self, connection: Connection, authorization: Authorization) -> Compiler:
        values = ValueCompiler(
            dictionary=CodeDictionary(connection),
            terminology=self.terminology,
            lookup=self._lookup,
        )
        return Compiler(values=values, authorization=authorization)

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
        plan, rows = await self._rows(connection, plan, query.count + 1, after, explanation)
        shown = rows[: query.count]
        token = None
        if len(rows) > query.count:
            last = shown[-1]
            place = Place(order=plan.order, values=tuple(last[1:-5]), rid=last[0])
            assert self._tokens is not None
            token = self._tokens.seal(place, fingerprint)
        warnings = (
            *query.warnings,
            *await text_warnings(connection, query),
            *building_warnings(query, self.parameters),
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
            matches=versions_from_rows(shown),
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
        sort = tuple([await sort_column(key, compiler.values) for key in query.sort])
        counts: dict[n.Node, int] = {}
        if needs_estimates(parts, is_sorted=bool(sort)):
            counts = await self._densities.counts(connection, parts)
        return choose(parts, tids, counts, sort, after, self._densities.is_fruitful)

    async def _right(self, types: tuple[str, ...], compiler: Compiler) -> n.Node | None:
        """Return what the caller's rights ask of resources of the types; None is nothing."""
        if len(types) == 1:
            return await compiler.right(types[0])
        seen = await visible(types, compiler)
        if seen.is_all:
            return None
        return n.some(n.Typed(seen.free), seen.node) if seen.free else seen.node

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
