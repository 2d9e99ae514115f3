"""Which members of an element a constraint looks at, so that it is judged only where they are."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from conformance.fhirpath import model, syntax

# Functions that look at more of the element than the members an expression names.
_FAR_SIGHTED = frozenset({"children", "descendants", "hasValue", "type", "conformsTo", "memberOf"})


def keys_of(tree: syntax.Expression, type_name: str) -> frozenset[str] | None:
    """Return the JSON names the expression can depend on; None where it may depend on others."""
    keys: set[str] = set()
    children = model.children_of(type_name)
    for part in _parts_of(tree):
        if isinstance(part, syntax.Special):
            return None
        if isinstance(part, syntax.External) and part.name != "ucum":
            return None
        if isinstance(part, syntax.Call) and part.name in _FAR_SIGHTED:
            return None
        if isinstance(part, syntax.Path) and isinstance(part.head, syntax.Call):
            return None
        if isinstance(part, syntax.Member) and part.name in children:
            slots = children[part.name].slots
            keys |= {name for slot in slots for name in (slot.key, slot.companion)}
        elif isinstance(part, syntax.Member) and part.name == type_name:
            return None
    return None if isinstance(tree, syntax.Call) else frozenset(keys)


def _parts_of(tree: Any) -> Iterator[Any]:
    """Yield every node of a syntax tree."""
    yield tree
    for name in getattr(tree, "__dataclass_fields__", {}):
        inner = getattr(tree, name)
        for one in inner if isinstance(inner, tuple) else (inner,):
            if hasattr(one, "__dataclass_fields__"):
                yield from _parts_of(one)


Presence = Callable[[Mapping[str, Any]], bool]


def presence_test(tree: syntax.Expression, type_name: str) -> Presence | None:
    """Return the expression as a test of which members are there, if it says nothing else.

    Three in four evaluations of R4's constraints only ask this. The element must be structurally
    sound: a member that is there is not empty.
    """
    match tree:
        case syntax.Path(syntax.Member(name), (syntax.Call("exists", ()),)):
            return _is_there(name, type_name)
        case syntax.Path(syntax.Member(name), (syntax.Call("empty", ()),)):
            return _negated(_is_there(name, type_name))
        case syntax.Path(head, (*steps, syntax.Call("not", ()))):
            inner = syntax.Path(head, tuple(steps), tree.at) if steps else head
            return _negated(presence_test(inner, type_name))
        case syntax.Several("and" | "or" as operator, operands):
            return _combined(operator, [presence_test(one, type_name) for one in operands])
        case syntax.Binary(operator, left, right) if operator in _BOTH:
            return _combined(operator, [presence_test(one, type_name) for one in (left, right)])
    return None


def shortcut(tree: syntax.Expression, type_name: str) -> Presence | None:
    """Return a test of members that, where true, makes the expression true without reading it."""
    match tree:
        case syntax.Several("or", operands):
            tests = [
                presence_test(one, type_name) or _absent_head(one, type_name) for one in operands
            ]
            known = [test for test in tests if test is not None]
            return _combined("or", [*known]) if known else None
        case syntax.Binary("implies", left, _):
            return _negated(presence_test(left, type_name))
    return None


# Functions that make nothing out of nothing.
_EMPTY_OF_EMPTY = frozenset({"where", "select", "ofType", "first", "last", "tail"})


def _absent_head(tree: syntax.Expression, type_name: str) -> Presence | None:
    """Return the test that a path which should be empty does not even begin."""
    match tree:
        case syntax.Path(syntax.Member(name), (*steps, syntax.Call("empty", ()))) if all(
            isinstance(step, syntax.Member)
            or (isinstance(step, syntax.Call) and step.name in _EMPTY_OF_EMPTY)
            for step in steps
        ):
            return _negated(_is_there(name, type_name))
    return None


def _is_there(name: str, type_name: str) -> Presence | None:
    child = model.children_of(type_name).get(name)
    if child is None:
        return None
    keys = frozenset(key for slot in child.slots for key in (slot.key, slot.companion))
    if len(child.slots) == 1:
        key, companion = child.slots[0].key, child.slots[0].companion
        return lambda value: key in value or companion in value
    return lambda value: not keys.isdisjoint(value)


def _negated(test: Presence | None) -> Presence | None:
    return None if test is None else lambda value: not test(value)


def _combined(operator: str, tests: list[Presence | None]) -> Presence | None:
    known = [test for test in tests if test is not None]
    if len(known) != len(tests):
        return None
    if len(known) == 1:
        return known[0]
    if len(known) == 3 and operator == "or":
        one, other, third = known
        return lambda value: one(value) or other(value) or third(value)
    if len(known) != 2:
        every = {"and": all, "or": any}[operator]
        return lambda value: every(test(value) for test in known)
    first, second = known
    return _BOTH[operator](first, second)


_BOTH: Mapping[str, Callable[[Presence, Presence], Presence]] = MappingProxyType(
    {
        "and": lambda first, second: lambda value: first(value) and second(value),
        "or": lambda first, second: lambda value: first(value) or second(value),
        "implies": lambda first, second: lambda value: not first(value) or second(value),
        "xor": lambda first, second: lambda value: first(value) != second(value),
        "!=": lambda first, second: lambda value: first(value) != second(value),
        "=": lambda first, second: lambda value: first(value) == second(value),
    }
)


def _in_every_entry(name: str, *types: str) -> Presence:
    """Return a test that entries have a member if and only if the Bundle is of these types."""

    def test(value: Mapping[str, Any]) -> bool:
        is_wanted = value.get("type") in types
        return all((name in entry) == is_wanted for entry in value.get("entry", ()))

    return test


def _has_no_version(entry: Mapping[str, Any]) -> bool:
    url = entry.get("fullUrl")
    return not isinstance(url, str) or "/_history/" not in url


def _has_no_search_entries(value: Mapping[str, Any]) -> bool:
    is_asked = value.get("type") == "searchset"
    return is_asked or not any("search" in entry for entry in value.get("entry", ()))


def _has_unique_entries(value: Mapping[str, Any]) -> bool:
    if value.get("type") == "history":
        return True
    met: set[str] = set()
    count = 0
    for entry in value.get("entry", ()):
        if "fullUrl" in entry or "_fullUrl" in entry:
            version = entry.get("resource", {}).get("meta", {}).get("versionId")
            met.add(f"{entry.get('fullUrl') or ''}{version or ''}")
            count += 1
    return len(met) == count


def _has_one_preferred_of_a_type(value: Mapping[str, Any]) -> bool:
    preferred = [one for one in value.get("uniqueId", ()) if one.get("preferred") is True]
    types = [one["type"] for one in preferred if "type" in one]
    return len(set(types)) == len(types)


def _has_distinct_names(value: Mapping[str, Any]) -> bool:
    names = [one["name"] for one in value.get("searchParam", ()) if "name" in one]
    return len(set(names)) == len(names)


def _has_distinct_links(form: Mapping[str, Any]) -> bool:
    met: list[Any] = []
    inner: list[Any] = [form]
    for one in inner:
        if type(one) is dict:
            if "linkId" in one or "_linkId" in one:  # a Contract's are lists
                link = one.get("linkId")
                met += link if type(link) is list else [link]
            inner += [part for part in one.values() if type(part) is dict or type(part) is list]
        else:
            inner += [part for part in one if type(part) is dict]
    return len(set(met)) == len(met)


def _is_plainly_ordered(period: Mapping[str, Any]) -> bool:
    """Say whether two moments, written alike and in the same zone, are certainly in order."""
    start, end = period.get("start"), period.get("end")
    if type(start) is not str or type(end) is not str or len(start) != len(end) or start > end:
        return False
    return len(start) <= len("2000-01-01") or start[-1] == end[-1] == "Z" or start[-6:] == end[-6:]


# bdl-2, bdl-3, bdl-4, bdl-7 and bdl-8 look at every entry of every Bundle, nsd-2 at every name of
# every NamingSystem, of which R4 publishes a thousand.
BY_HAND: Mapping[str, Presence] = MappingProxyType(
    {
        "entry.all(request.exists() = (%resource.type = 'batch' or %resource.type = 'transaction'"
        " or %resource.type = 'history'))": _in_every_entry(
            "request", "batch", "transaction", "history"
        ),
        "entry.all(response.exists() = (%resource.type = 'batch-response' or"
        " %resource.type = 'transaction-response' or %resource.type = 'history'))": _in_every_entry(
            "response", "batch-response", "transaction-response", "history"
        ),
        "fullUrl.exists() implies fullUrl.contains('/_history/').not()": _has_no_version,
        "entry.search.empty() or (type = 'searchset')": _has_no_search_entries,
        "(type = 'history') or entry.where(fullUrl.exists())"
        ".select(fullUrl&resource.meta.versionId).isDistinct()": _has_unique_entries,
        "uniqueId.where(preferred = true).select(type).isDistinct()": _has_one_preferred_of_a_type,
        "searchParam.select(name).isDistinct()": _has_distinct_names,
        "descendants().linkId.isDistinct()": _has_distinct_links,
    }
)
CERTAIN: Mapping[str, Presence] = MappingProxyType({"per-1": _is_plainly_ordered})
"""Tests of elements that, where true, make the rule of this key true without reading it."""
