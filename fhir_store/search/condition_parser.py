"""One parameter of a search as a condition: names, modifiers, chains, `_has`.

http://hl7.org/fhir/R4/search.html#modifiers
"""

from collections.abc import Callable, Mapping
from typing import NoReturn

from conformance.problem import UnknownParameter
from conformance.search_parameters import SearchParameter, resource_types
from fhir_store.search.conditions import (
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
)
from fhir_store.search.value_parser import (
    date_value,
    refuse,
    split_escaped,
    unescape,
    values_of,
)
from fhir_store.search.values import Reading

Lookup = Callable[[str], Mapping[str, SearchParameter]]

MAX_PARENTS = 10  # types: what may be part of anything is no hierarchy
MAX_DEPTH = 8  # links of a chain or of nested _has
_MODIFIERS = {
    "string": {"exact", "contains"},
    "token": {"text", "not", "above", "below", "in", "not-in", "of-type"},
    "reference": {"identifier", "above", "below"},
    "uri": {"above", "below"},
}


def refuse_type(name: str) -> NoReturn:
    """Refuse a name that is no resource type."""
    refuse(
        name,
        "search-unknown-type",
        ("not a resource type of R4", "不是 R4 资源类型"),
        ("Use a type of FHIR R4, spelt exactly.", "请使用 FHIR R4 的资源类型，注意大小写。"),
        kind=UnknownParameter,
    )


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
    parameters = parameters_named(types, code, name, lookup)
    return _test(parameters, modifier, text, name, lookup, reading)


def parameters_named(
    types: tuple[str, ...], code: str, name: str, lookup: Lookup
) -> tuple[SearchParameter, ...]:
    """Return the parameter of this code for each type; refuse where one has none."""
    found = []
    for type_ in types:
        parameter = lookup(type_).get(code)
        if parameter is None or code in ("_query", "_text", "_content", "_id", "_lastUpdated"):
            refuse_unknown(name, type_)
        if parameter.fault:
            _refuse_faulty(name, parameter)
        found.append(parameter)
    return tuple(found)


def _lists_in(text: str, name: str) -> tuple[str, ...]:
    """Return the ids of lists; `$current-problems` and the like are no lists of ours."""
    ids = tuple(one.removeprefix("List/") for one in words_in(text))
    if any(one.startswith("$") for one in ids):
        refuse(
            name,
            "search-functional-list",
            ("a functional list, and there are none here", "功能性清单，此处没有"),
            ("Name the id of a List that is stored.", "请给出已存储的 List 的 id。"),
        )
    return ids


def refuse_unknown(name: str, type_: str) -> NoReturn:
    """Refuse a parameter that the type does not have."""
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


def _refuse_faulty(name: str, parameter: SearchParameter) -> NoReturn:
    """Refuse a custom parameter that is stored and cannot be searched."""
    fault, url = parameter.fault, parameter.url
    refuse(
        name,
        "search-parameter-refused",
        (
            f"the SearchParameter {url} is stored, but cannot be searched for its {fault}",
            f"SearchParameter {url} 已保存，但因其 {fault} 无法用于搜索",
        ),
        _MENDED[fault],
        kind=UnknownParameter,
    )


_MENDED = {
    "code": (
        "Give it a code that no other search parameter of the type has, without .:,$|",
        "请改用该类型其他搜索参数未使用的 code，且不含 .:,$|",
    ),
    "type": (
        "Use number, date, string, token, reference, quantity or uri.",
        "请使用 number、date、string、token、reference、quantity 或 uri。",
    ),
    "expression": (
        "Correct its FHIRPath expression: qiao fhirpath EXPRESSION FILE tries it.",
        "请更正其 FHIRPath 表达式，可用 qiao fhirpath EXPRESSION FILE 试运行。",
    ),
}


def refuse_modifier(name: str, kind: str) -> NoReturn:
    """Refuse a modifier that does not fit the parameter's type."""
    known = sorted(_MODIFIERS.get(kind, set()) | {"missing"})
    refuse(
        name,
        "search-unknown-modifier",
        (f"this modifier is not for type {kind}", f"该修饰符不适用于 {kind} 类型"),
        (f"Use one of: {', '.join(known)}.", f"可用的修饰符：{'、'.join(known)}。"),
        kind=UnknownParameter,
    )


def _test(
    parameters: tuple[SearchParameter, ...],
    modifier: str,
    text: str,
    name: str,
    lookup: Lookup,
    reading: Reading,
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
        refuse_modifier(name, kind)
    if kind == "reference" and modifier in ("above", "below"):
        targets = {target for parameter in parameters for target in parameter.targets}
        if not any(parent_parameter(t, lookup) for t in targets if t in resource_types()):
            refuse_modifier(name, kind)
    if any(parameter.type != kind for parameter in parameters):
        refuse_unknown(name, "all the types asked for")
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


def parent_parameter(type_: str, lookup: Lookup) -> SearchParameter | None:
    """Return the parameter that says what a resource of the type is part of, of its own type."""
    for code in ("partof", "part-of"):
        found = lookup(type_).get(code)
        if found is not None and type_ in found.targets and len(found.targets) < MAX_PARENTS:
            return found
    return None


def _special(code: str, modifier: str, text: str, name: str, reading: Reading) -> Condition | None:
    """Return the condition of a parameter the store answers itself, None for any other."""
    readers: dict[str, Callable[[], Condition]] = {
        "_id": lambda: IdTest(words_in(text)),
        "_list": lambda: ListTest(_lists_in(text, name)),
        "_lastUpdated": lambda: UpdatedTest(
            tuple(date_value(part, name, reading) for part in words_in(text))
        ),
        "_text": lambda: FullTextTest("text", words_in(text)),
        "_content": lambda: FullTextTest("content", words_in(text)),
    }
    if code == "_filter":
        if modifier:
            refuse_modifier(name, "special")
        return None
    reader = readers.get(code)
    if reader is None:
        return None
    if not words_in(text):
        refuse(
            name,
            "search-empty-value",
            ("an empty value", "值为空"),
            ("Give a value, or leave the parameter out.", "请给出值，或去掉该参数。"),
        )
    if modifier == "not" and code == "_id":
        return NotOf(reader())
    if modifier:
        refuse_modifier(name, "special")
    return reader()


def words_in(text: str) -> tuple[str, ...]:
    """Return the alternatives of a plain list, unescaped."""
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
        refuse_type(name)
    parameter = parameters_named((source,), code, name, lookup)[0]
    if parameter.type != "reference":
        refuse_no_reference(name)
    inner = condition_of((source,), rest, text, lookup, reading, depth=depth + 1)
    return HasTest(source=source, parameter=parameter, condition=inner)


def refuse_no_reference(name: str) -> NoReturn:
    """Refuse to follow what is no reference."""
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
    parameters = parameters_named(types, code, name, lookup)
    if any(parameter.type != "reference" for parameter in parameters):
        refuse_no_reference(name)
    if named and named not in resource_types():
        refuse_modifier(name, "reference")
    allowed = dict.fromkeys(target for p in parameters for target in p.targets)
    if not allowed or "Resource" in allowed:
        allowed = dict.fromkeys(resource_types())
    if named and named not in allowed:
        refuse_modifier(name, "reference")
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
