"""What a search says of its own answer: parameters still being built, words behind the writes."""

from typing import Any

from psycopg import AsyncConnection

from conformance.problem import Issue
from conformance.search_parameters import SearchParameter
from fhir_store.custom_parameters import CustomParameters
from fhir_store.search.query import (
    ChainTest,
    FullTextTest,
    HasTest,
    Include,
    MissingTest,
    SearchQuery,
    ValueTest,
    conditions_in,
)
from fhir_store.search.text_index import words_behind

Connection = AsyncConnection[Any]


def building_warnings(query: SearchQuery, parameters: CustomParameters) -> tuple[Issue, ...]:
    """Say of each custom parameter that is still being built how far it is."""
    building = {s.parameter.number: s for s in parameters.states() if s.percent < 100}
    if not building:
        return ()
    asked = [inner for c in query.conditions for inner in conditions_in(c)]
    used = [p for c in asked if isinstance(c, ValueTest | MissingTest) for p in c.parameters]
    used += [p for c in asked if isinstance(c, ChainTest) for p in c.parameters]
    used += [c.parameter for c in asked if isinstance(c, HasTest)]
    used += [parameter for key in query.sort for parameter in key.parameters]
    numbers = {parameter.number for parameter in used}
    told = {
        state.parameter.code: state.percent
        for number, state in building.items()
        if number in numbers or any(_follows(one, state.parameter) for one in query.includes)
    }
    return tuple(_building(code, percent) for code, percent in told.items())


def _follows(include: Include, parameter: SearchParameter) -> bool:
    return (
        parameter.type == "reference"
        and include.source in ("*", parameter.base)
        and include.code in ("*", parameter.code)
    )


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


async def text_warnings(connection: Connection, query: SearchQuery) -> tuple[Issue, ...]:
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
