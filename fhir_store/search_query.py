"""A search as asked: the URL's parameters parsed into conditions and wishes, without SQL.

http://hl7.org/fhir/R4/search.html. Unknown parameters and wrong modifiers are refused, or, when
the caller asked to be treated leniently, left out with a warning.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from conformance.problem import Issue, UnknownParameter
from conformance.search_parameters import SearchParameter, parameters_of, resource_types
from fhir_store.search_values import (
    DateValue,
    Reading,
    Value,
    date_value,
    refuse,
    split_escaped,
    unescape,
    values_of,
)

Lookup = Callable[[str], Mapping[str, SearchParameter]]

MAX_DEPTH = 8  # links of a chain or of nested _has
_MODIFIERS = {
    "string": {"exact", "contains"},
    "token": {"text", "not", "above", "below", "in", "not-in", "of-type"},
    "reference": {"identifier"},
    "uri": {"above", "below"},
}
_IGNORED = {"_format", "_pretty"}  # the route has answered them
_SUMMARIES = ("true", "text", "data", "count", "false")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueTest:
    """One parameter of each of some types against alternatives; modifier "" is none.

    Inner modifiers besides FHIR's: "equals" and "ends" of a string, from _filter.
    """

    parameters: tuple[SearchParameter, ...]
    modifier: str = ""
    values: tuple[Value, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingTest:
    """Whether the parameters have no value at all."""

    parameters: tuple[SearchParameter, ...]
    is_missing: bool


@dataclass(frozen=True, slots=True)
class IdTest:
    """`_id`."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdatedTest:
    """`_lastUpdated`: alternatives."""

    values: tuple[DateValue, ...]


@dataclass(frozen=True, slots=True)
class ListTest:
    """`_list`: members of one of these Lists."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FullTextTest:
    """`_text` (the narrative) or `_content` (everything): all words of one alternative."""

    part: str
    alternatives: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTest:
    """A reference to a resource that itself passes: per target type its own condition."""

    parameters: tuple[SearchParameter, ...]
    targets: tuple[tuple[str, "Condition"], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HasTest:
    """`_has`: a resource of `source` points here with `parameter` and itself passes."""

    source: str
    parameter: SearchParameter
    condition: "Condition"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class NotOf:
    """The part does not hold."""

    part: "Condition"


Condition = (
    ValueTest
    | MissingTest
    | IdTest
    | UpdatedTest
    | ListTest
    | FullTextTest
    | ChainTest
    | HasTest
    | AllOf
    | AnyOf
    | NotOf
)


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
        _refuse_type(type_)
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
            if not rules.is_lenient:
                raise
            warnings.extend(_as_warning(issue) for issue in unknown.issues)
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


def _as_warning(issue: Issue) -> Issue:
    return Issue(
        severity="warning",
        code=issue.code,
        key=issue.key,
        text_en=issue.text_en + " (left out)",
        text_zh=issue.text_zh + "（已忽略）",
        fix_en=issue.fix_en,
        fix_zh=issue.fix_zh,
        expression=issue.expression,
    )


def _refuse_type(name: str) -> NoReturn:
    refuse(
        name,
        "search-unknown-type",
        ("not a resource type of R4", "不是 R4 资源类型"),
        ("Use a type of FHIR R4, spelt exactly.", "请使用 FHIR R4 的资源类型，注意大小写。"),
        kind=UnknownParameter,
    )


def _types_in(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    named = [text for name, text in pairs if name == "_type"]
    types = tuple(dict.fromkeys(part for text in named for part in text.split(",")))
    for type_ in types:
        if type_ not in resource_types():
            _refuse_type("_type")
    return types or resource_types()


def _read(draft: _Draft, name: str, text: str) -> None:
    if name in _IGNORED:
        return
    reader = _WISHES.get(name.partition(":")[0])
    if reader is not None:
        reader(draft, name, text)
    else:
        draft.conditions.append(
            condition_of(draft.types, name, text, draft.rules.lookup, draft.rules.reading)
        )


# --- conditions ----------------------------------------------------------------------------------


def condition_of(
    types: tuple[str, ...],
    name: str,
    text: str,
    lookup: Lookup,
    reading: Reading,
    *,
    depth: int = 0,
) -> Condition:
    """Return the condition one parameter puts on resources of the types."""
    if depth > MAX_DEPTH:
        refuse(
            name,
            "search-too-deep",
            (f"more than {MAX_DEPTH} links", f"超过 {MAX_DEPTH} 层"),
            ("Shorten the chain.", "请缩短链式查询。"),
        )
    if "\x00" in text:
        refuse(
            name,
            "search-nul",
            ("the character U+0000", "含有字符 U+0000"),
            ("Remove it.", "请删除该字符。"),
        )
    if name.startswith("_has:"):
        return _has(types, name, text, lookup, reading, depth)
    head, dot, rest = name.partition(".")
    if dot:
        return _chain(types, head, rest, text, lookup, reading, name, depth)
    code, _, modifier = name.partition(":")
    special = _special(code, modifier, text, name, reading)
    if special is not None:
        return special
    parameters = _parameters(types, code, name, lookup)
    return _test(parameters, modifier, text, name, reading)


def _parameters(
    types: tuple[str, ...], code: str, name: str, lookup: Lookup
) -> tuple[SearchParameter, ...]:
    found = []
    for type_ in types:
        parameter = lookup(type_).get(code)
        if parameter is None or code in ("_query", "_text", "_content", "_id", "_lastUpdated"):
            _refuse_unknown(name, type_)
        found.append(parameter)
    return tuple(found)


def _refuse_unknown(name: str, type_: str) -> NoReturn:
    refuse(
        name,
        "search-unknown-parameter",
        (f"not a search parameter of {type_}", f"不是 {type_} 的搜索参数"),
        (
            "See the CapabilityStatement for the parameters of each type, or send "
            "Prefer: handling=lenient to have it left out.",
            "各类型的参数见 CapabilityStatement；也可用 Prefer: handling=lenient 忽略。",
        ),
        kind=UnknownParameter,
    )


def _refuse_modifier(name: str, kind: str) -> NoReturn:
    known = sorted(_MODIFIERS.get(kind, set()) | {"missing"})
    refuse(
        name,
        "search-unknown-modifier",
        (f"this modifier is not for type {kind}", f"该修饰符不适用于 {kind} 类型"),
        (f"Use one of: {', '.join(known)}.", f"可用的修饰符：{'、'.join(known)}。"),
        kind=UnknownParameter,
    )


def _test(
    parameters: tuple[SearchParameter, ...], modifier: str, text: str, name: str, reading: Reading
) -> Condition:
    kind = parameters[0].type
    if modifier == "missing":
        if text not in ("true", "false"):
            refuse(
                name,
                "search-missing-form",
                (":missing is true or false", ":missing 只能是 true 或 false"),
                (
                    "Write :missing=true or :missing=false.",
                    "请写 :missing=true 或 :missing=false。",
                ),
            )
        return MissingTest(parameters=parameters, is_missing=text == "true")
    is_typed = kind == "reference" and modifier in resource_types()
    if modifier and not is_typed and modifier not in _MODIFIERS.get(kind, set()):
        _refuse_modifier(name, kind)
    if any(parameter.type != kind for parameter in parameters):
        _refuse_unknown(name, "all the types asked for")
    values = values_of(parameters[0], modifier, text, name, reading)
    if modifier in ("not", "not-in"):
        positive = ValueTest(
            parameters=parameters,
            modifier="" if modifier == "not" else "in",
            values=values,
            name=name,
        )
        return NotOf(positive)
    kept = "" if is_typed else modifier
    return ValueTest(parameters=parameters, modifier=kept, values=values, name=name)


def _special(code: str, modifier: str, text: str, name: str, reading: Reading) -> Condition | None:
    """Return the condition of a parameter the store answers itself, None for any other."""
    readers: dict[str, Callable[[], Condition]] = {
        "_id": lambda: IdTest(_words(text)),
        "_list": lambda: ListTest(_words(text)),
        "_lastUpdated": lambda: UpdatedTest(
            tuple(date_value(part, name, reading) for part in _words(text))
        ),
        "_text": lambda: FullTextTest("text", _words(text)),
        "_content": lambda: FullTextTest("content", _words(text)),
    }
    if code == "_filter":
        if modifier:
            _refuse_modifier(name, "special")
        return None
    reader = readers.get(code)
    if reader is None:
        return None
    if modifier == "not" and code == "_id":
        return NotOf(reader())
    if modifier:
        _refuse_modifier(name, "special")
    return reader()


def _words(text: str) -> tuple[str, ...]:
    parts = tuple(unescape(part).strip() for part in split_escaped(text, ","))
    return tuple(part for part in parts if part)


def _has(
    types: tuple[str, ...], name: str, text: str, lookup: Lookup, reading: Reading, depth: int
) -> Condition:
    parts = name.split(":", 3)
    if len(parts) != 4:
        refuse(
            name,
            "search-has-form",
            ("_has needs a type, a reference and a parameter", "_has 需要类型、引用参数和搜索参数"),
            ("Write _has:Observation:patient:code=…", "请写成 _has:Observation:patient:code=…"),
        )
    _, source, code, rest = parts
    if source not in resource_types():
        _refuse_type(name)
    parameter = _parameters((source,), code, name, lookup)[0]
    if parameter.type != "reference":
        _refuse_no_reference(name)
    inner = condition_of((source,), rest, text, lookup, reading, depth=depth + 1)
    return HasTest(source=source, parameter=parameter, condition=inner)


def _refuse_no_reference(name: str) -> NoReturn:
    refuse(
        name,
        "search-chain-no-reference",
        ("only references can be followed", "只有引用类型的参数可以链接"),
        ("Follow a parameter of type reference.", "请使用引用类型的参数。"),
        kind=UnknownParameter,
    )


def _chain(
    types: tuple[str, ...],
    head: str,
    rest: str,
    text: str,
    lookup: Lookup,
    reading: Reading,
    name: str,
    depth: int,
) -> Condition:
    code, _, named = head.partition(":")
    parameters = _parameters(types, code, name, lookup)
    if any(parameter.type != "reference" for parameter in parameters):
        _refuse_no_reference(name)
    if named and named not in resource_types():
        _refuse_modifier(name, "reference")
    allowed = dict.fromkeys(target for p in parameters for target in p.targets)
    if not allowed or "Resource" in allowed:
        allowed = dict.fromkeys(resource_types())
    if named and named not in allowed:
        _refuse_modifier(name, "reference")
    targets: list[tuple[str, Condition]] = []
    refusal: UnknownParameter | None = None
    for target in [named] if named else allowed:
        try:
            inner = condition_of((target,), rest, text, lookup, reading, depth=depth + 1)
        except UnknownParameter as unknown:
            refusal = unknown
            continue
        targets.append((target, inner))
    if not targets and refusal is not None:
        raise refusal
    return ChainTest(parameters=parameters, targets=tuple(targets))


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
    draft.elements = (*draft.elements, *_words(text))


def _read_sort(draft: _Draft, name: str, text: str) -> None:
    keys = []
    for word in _words(text):
        code = word.removeprefix("-")
        if code in ("_lastUpdated", "_id"):
            parameters: tuple[SearchParameter, ...] = ()
        else:
            parameters = _parameters(draft.types, code, name, draft.rules.lookup)
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
        _refuse_modifier(name, "special")
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
            _refuse_type(name)
    if code != "*":
        found = _parameters((source,), code, name, draft.rules.lookup)
        if found[0].type != "reference":
            _refuse_no_reference(name)
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
    if text != "false":
        refuse(
            name,
            "search-contained",
            ("contained resources are not searched", "不支持搜索内含资源"),
            ("Leave the parameter out.", "请去掉该参数。"),
            kind=UnknownParameter,
        )


def _read_cursor(draft: _Draft, name: str, text: str) -> None:
    draft.cursor = text


def _read_explain(draft: _Draft, name: str, text: str) -> None:
    draft.is_explained = _one_of(("true", "false"), name, text) == "true"


def _read_filter(draft: _Draft, name: str, text: str) -> None:
    from fhir_store.search_filter import parse_filter

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


def conditions_in(condition: Condition) -> Iterator[Condition]:
    """Yield the condition and all conditions inside it."""
    yield condition
    if isinstance(condition, AllOf | AnyOf):
        for part in condition.parts:
            yield from conditions_in(part)
    elif isinstance(condition, NotOf):
        yield from conditions_in(condition.part)
    elif isinstance(condition, ChainTest):
        for _, part in condition.targets:
            yield from conditions_in(part)
    elif isinstance(condition, HasTest):
        yield from conditions_in(condition.condition)
