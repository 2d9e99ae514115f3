"""A search as asked: the URL's parameters parsed into conditions and wishes, without SQL.

http://hl7.org/fhir/R4/search.html. Unknown parameters and wrong modifiers are refused, or, when
the caller asked to be treated leniently, left out with a warning.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from conformance.problem import Issue, UnknownParameter
from conformance.search_parameters import SearchParameter, parameters_of, resource_types
from fhir_store.search.condition_parser import (
    MAX_DEPTH,
    Lookup,
    condition_of,
    parameters_named,
    refuse_modifier,
    refuse_no_reference,
    refuse_type,
    words_in,
)
from fhir_store.search.conditions import (
    AllOf,
    AnyOf,
    ChainTest,
    Condition,
    FullTextTest,
    HasTest,
    IdTest,
    ListTest,
    MissingTest,
    NotOf,
    UpdatedTest,
    ValueTest,
    conditions_in,
)
from fhir_store.search.filter import parse_filter
from fhir_store.search.leniency import as_warning, without_leniency
from fhir_store.search.value_parser import refuse
from fhir_store.search.values import Reading

_IGNORED = {"_format", "_pretty"}  # the route has answered them
_SUMMARIES = ("true", "text", "data", "count", "false")
_CONTAINED = {
    "_contained": ("false", ("true", "both")),
    "_containedType": ("container", ("contained",)),
}  # the default, which alone is answered, and what else R4 has


@dataclass(frozen=True, slots=True, kw_only=True)
class SortKey:
    """One key of `_sort`; parameters by type, or `_lastUpdated` or `_id`."""

    code: str
    parameters: tuple[SearchParameter, ...]
    is_descending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Include:
    """One `_include` or `_revinclude`: from `source` along `code` ("*": all) to `target` or any."""

    source: str  # "*" is any type
    code: str
    target: str = ""
    is_reverse: bool = False
    is_iterated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """A whole search: what must hold, and what the answer shall look like.

    `pairs` are the parameters used, for the self link; `cursor` the page token, if any;
    `count` 0 asks for the total only.
    """

    types: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    sort: tuple[SortKey, ...] = ()
    count: int = 20
    total: str = "none"
    summary: str = "false"
    elements: tuple[str, ...] = ()
    includes: tuple[Include, ...] = ()
    cursor: str = ""
    is_explained: bool = False
    pairs: tuple[tuple[str, str], ...] = ()
    warnings: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRules:
    """The limits and readings of a site."""

    reading: Reading = field(default_factory=lambda: Reading(now=time.time_ns() // 1000))
    default_count: int = 20
    max_count: int = 1000
    lookup: Lookup = parameters_of
    is_lenient: bool = False
    is_condition: bool = False  # of a write: what is wrong in it cannot be left out


@dataclass(slots=True)
class _Draft:
    """The query while its parameters are read one by one."""

    types: tuple[str, ...]
    count: int
    rules: QueryRules
    conditions: list[Condition] = field(default_factory=list)
    sort: tuple[SortKey, ...] = ()
    total: str = "none"
    summary: str = "false"
    elements: tuple[str, ...] = ()
    includes: list[Include] = field(default_factory=list)
    cursor: str = ""
    is_explained: bool = False


def parse_query(
    type_: str | None, pairs: Sequence[tuple[str, str]], rules: QueryRules | None = None
) -> SearchQuery:
    """Return the search that decoded URL (or form) parameters ask for.

    `type_` None is a search over all types, or those in `_type`. Raises UnknownParameter or
    InvalidContent naming the parameter; with `is_lenient` the unknown ones become warnings.
    """
    rules = rules or QueryRules()
    if type_ is not None and type_ not in resource_types():
        refuse_type(type_)
    types = (type_,) if type_ is not None else _types_in(pairs)
    draft = _Draft(types=types, count=rules.default_count, rules=rules)
    used: list[tuple[str, str]] = []
    warnings: list[Issue] = []
    for name, text in pairs:
        if name == "_type" and type_ is None:
            used.append((name, text))
            continue
        try:
            _read(draft, name, text)
        except UnknownParameter as unknown:
            if rules.is_condition:
                raise without_leniency(unknown) from None
            if not rules.is_lenient:
                raise
            warnings.extend(as_warning(issue) for issue in unknown.issues)
            continue
        used.append((name, text))
    return SearchQuery(
        types=types,
        conditions=tuple(draft.conditions),
        sort=draft.sort,
        count=draft.count,
        total=draft.total,
        summary=draft.summary,
        elements=draft.elements,
        includes=tuple(draft.includes),
        cursor=draft.cursor,
        is_explained=draft.is_explained,
        pairs=tuple(used),
        warnings=tuple(warnings),
    )


def _types_in(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    named = [text for name, text in pairs if name == "_type"]
    types = tuple(dict.fromkeys(part for text in named for part in text.split(",")))
    for type_ in types:
        if type_ not in resource_types():
            refuse_type("_type")
    return types or resource_types()


def _read(draft: _Draft, name: str, text: str) -> None:
    if name in _IGNORED:
        return
    head, _, modifier = name.partition(":")
    reader = _WISHES.get(head)
    if reader is not None:
        if modifier and reader is not _read_include:
            refuse_modifier(name, "special")
        reader(draft, name, text)
    else:
        draft.conditions.append(
            condition_of(draft.types, name, text, draft.rules.lookup, draft.rules.reading)
        )


# --- wishes --------------------------------------------------------------------------------------


def _read_count(draft: _Draft, name: str, text: str) -> None:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        refuse(
            name,
            "search-count-form",
            ("not a whole number", "不是整数"),
            (f"Give a number from 0 to {draft.rules.max_count}.", "请给出整数。"),
        )
    draft.count = min(int(text), draft.rules.max_count)


def _one_of(choices: tuple[str, ...], name: str, text: str) -> str:
    if text not in choices:
        refuse(
            name,
            "search-choice",
            ("not one of the allowed words", "不在允许的取值范围内"),
            (f"Use one of: {', '.join(choices)}.", f"可用的取值：{'、'.join(choices)}。"),
        )
    return text


def _read_total(draft: _Draft, name: str, text: str) -> None:
    draft.total = _one_of(("none", "estimate", "accurate"), name, text)


def _read_summary(draft: _Draft, name: str, text: str) -> None:
    draft.summary = _one_of(_SUMMARIES, name, text)
    if text == "count":
        draft.total = "accurate"
        draft.count = 0


def _read_elements(draft: _Draft, name: str, text: str) -> None:
    draft.elements = (*draft.elements, *words_in(text))


def _read_sort(draft: _Draft, name: str, text: str) -> None:
    keys = []
    if not words_in(text):
        refuse(
            name,
            "search-empty-value",
            ("the parameter has no value", "参数没有取值"),
            ("Give a value, or leave the parameter out.", "请给出值，或去掉该参数。"),
        )
    for word in words_in(text):
        code = word.removeprefix("-")
        if code in ("_lastUpdated", "_id"):
            parameters: tuple[SearchParameter, ...] = ()
        else:
            parameters = parameters_named(draft.types, code, name, draft.rules.lookup)
            if parameters[0].type in ("composite", "special"):
                refuse(
                    name,
                    "search-sort-type",
                    (
                        "composite and special parameters have no order",
                        "组合参数和特殊参数不能排序",
                    ),
                    ("Sort by one of its components.", "请按其组成部分排序。"),
                    kind=UnknownParameter,
                )
        keys.append(SortKey(code=code, parameters=parameters, is_descending=word != code))
    if len(keys) > 3:
        refuse(
            name,
            "search-sort-keys",
            ("more than three sort keys", "排序键超过三个"),
            ("Sort by at most three parameters.", "最多按三个参数排序。"),
        )
    draft.sort = tuple(keys)


def _read_include(draft: _Draft, name: str, text: str) -> None:
    head, _, modifier = name.partition(":")
    if modifier not in ("", "iterate", "recurse"):
        refuse_modifier(name, "special")
    parts = text.split(":")
    is_reverse = head == "_revinclude"
    if len(draft.includes) >= 50:
        refuse(
            name,
            "search-too-many-includes",
            ("more than 50 includes", "include 超过 50 个"),
            ("Ask for fewer includes.", "请减少 include。"),
        )
    source, code, target = (*parts, "", "")[:3]
    if text == "*":
        source, code = "*", "*"
    elif len(parts) not in (2, 3) or not code:
        refuse(
            name,
            "search-include-form",
            ("an include is Type:parameter[:target] or *", "应为 类型:参数[:目标类型] 或 *"),
            (
                "Write, for example, Observation:subject:Patient.",
                "例如 Observation:subject:Patient。",
            ),
        )
    for type_ in (source, target):
        if type_ not in ("", "*") and type_ not in resource_types():
            refuse_type(name)
    if code != "*":
        found = parameters_named((source,), code, name, draft.rules.lookup)
        if found[0].type != "reference":
            refuse_no_reference(name)
    draft.includes.append(
        Include(
            source=source,
            code=code,
            target=target,
            is_reverse=is_reverse,
            is_iterated=bool(modifier),
        )
    )


def _read_contained(draft: _Draft, name: str, text: str) -> None:
    """Take the default alone: what is contained has no identity of its own to be found by."""
    usual, others = _CONTAINED[name.partition(":")[0]]
    if _one_of((usual, *others), name, text) != usual:
        refuse(
            name,
            "search-contained",
            ("contained resources are not among the answers", "内含资源不作为检索结果返回"),
            (
                "Leave the parameter out and search the resources that contain them; store what"
                " is to be found by itself as a resource of its own.",
                "请去掉该参数，检索包含它们的资源；需要单独检索的内容请存为独立资源。",
            ),
            kind=UnknownParameter,
        )


def _read_cursor(draft: _Draft, name: str, text: str) -> None:
    draft.cursor = text


def _read_explain(draft: _Draft, name: str, text: str) -> None:
    draft.is_explained = _one_of(("true", "false"), name, text) == "true"


def _read_filter(draft: _Draft, name: str, text: str) -> None:
    rules = draft.rules
    draft.conditions.append(parse_filter(draft.types, text, rules.lookup, rules.reading))


_WISHES: dict[str, Callable[[_Draft, str, str], None]] = {
    "_count": _read_count,
    "_total": _read_total,
    "_summary": _read_summary,
    "_elements": _read_elements,
    "_sort": _read_sort,
    "_include": _read_include,
    "_revinclude": _read_include,
    "_contained": _read_contained,
    "_containedType": _read_contained,
    "_cursor": _read_cursor,
    "_explain": _read_explain,
    "_filter": _read_filter,
}


__all__ = [
    "MAX_DEPTH",
    "AllOf",
    "AnyOf",
    "ChainTest",
    "Condition",
    "FullTextTest",
    "HasTest",
    "IdTest",
    "Include",
    "ListTest",
    "Lookup",
    "MissingTest",
    "NotOf",
    "QueryRules",
    "SearchQuery",
    "SortKey",
    "UpdatedTest",
    "ValueTest",
    "condition_of",
    "conditions_in",
    "parse_query",
]
