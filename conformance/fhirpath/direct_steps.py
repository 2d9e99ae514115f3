"""The closures of the short way, over plain JSON.

A list may hold None for a primitive that has only extensions: it counts and has no value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance.fhirpath import arithmetic, equality, model
from conformance.fhirpath.evaluation import single, truth
from conformance.fhirpath.functions_fhir import type_of_reference
from conformance.fhirpath.model import Child, Slot
from conformance.fhirpath.nodes import QUANTITIES, Node
from conformance.fhirpath.scope import Scope

Run = Callable[[Any, Scope], list[Any]]
Test = Callable[[Any, Scope], bool | None]

_TEXTS = frozenset(
    {"string", "code", "id", "uri", "url", "canonical", "oid", "uuid", "markdown", "System.String"}
)
_MOMENTS = frozenset({"date", "dateTime", "instant", "time"})
_NUMBERS = frozenset({"integer", "positiveInt", "unsignedInt", "decimal", "System.Integer"})


@dataclass(frozen=True, slots=True)
class Values:
    """A closure that gives a list, and the types its items may have (None: any resource).

    `parent` is the list before and the child taken, when the last step was to a child;
    `walked` are the slots from `$this` on, `()` for `$this` itself, None behind anything else.
    """

    run: Run
    types: tuple[str | None, ...]
    parent: "tuple[Values, Child] | None" = None
    walked: tuple[Slot, ...] | None = None


def type_of(slot: Slot) -> str | None:
    """Return a slot's type, None for a place that holds any resource."""
    return None if slot.is_resource else slot.type


def is_text(name: str | None) -> bool:
    """Say whether values of a type are compared as strings."""
    return name in _TEXTS


def slots(before: Values, wanted: list[Slot], parent: tuple[Values, Child] | None) -> Values:
    """Step to some JSON keys of each item; a walk from `$this` along single keys is one closure."""
    found_types = tuple(type_of(slot) for slot in wanted)
    if before.walked is not None and len(wanted) == 1:
        walked = (*before.walked, wanted[0])
        return Values(_walk(walked), found_types, parent, walked)
    return Values(_step(before, wanted), found_types, parent)


def _walk(walked: tuple[Slot, ...]) -> Run:
    take = _taker(walked[-1])
    if len(walked) == 1:
        return lambda value, _scope: take(value)
    first, *middle = (slot.key for slot in walked[:-1])

    def run(value: Any, _scope: Scope) -> list[Any]:
        content = value.get(first) if isinstance(value, dict) else None
        if content is None:
            return []
        level = content if type(content) is list else [content]
        for key in middle:
            level = _next_level(level, key)
        if len(level) == 1:
            return take(level[0])
        return [one for item in level for one in take(item)]

    return run


def _next_level(level: list[Any], key: str) -> list[Any]:
    found: list[Any] = []
    for item in level:
        content = item.get(key) if isinstance(item, dict) else None
        if type(content) is list:
            found += content
        elif content is not None:
            found.append(content)
    return found


def _step(before: Values, wanted: list[Slot]) -> Run:
    run = before.run
    if len(wanted) == 1:
        take = _taker(wanted[0])
    else:
        takers = [_taker(slot) for slot in wanted]

        def take(item: Any) -> list[Any]:
            for one in takers:
                found = one(item)
                if found:
                    return found
            return []

    if before.walked == ():
        return lambda value, _scope: take(value)

    def step(value: Any, scope: Scope) -> list[Any]:
        before = run(value, scope)
        if len(before) == 1:
            return take(before[0])
        found: list[Any] = []
        for item in before:
            found += take(item)
        return found

    return step


def _taker(slot: Slot) -> Callable[[Any], list[Any]]:
    key, companion = slot.key, slot.companion

    def take(item: Any) -> list[Any]:
        if not isinstance(item, dict):
            return []
        found = item.get(key)
        if type(found) is list:
            return found
        return [] if found is None else [found]

    if not slot.is_primitive:
        return take

    def take_primitive(item: Any) -> list[Any]:
        if not isinstance(item, dict):
            return []
        if companion in item:
            return _with_companion(item.get(key), item[companion])
        found = item.get(key)
        if type(found) is list:
            return found
        return [] if found is None else [found]

    return take_primitive


def _with_companion(found: Any, companion: Any) -> list[Any]:
    if not isinstance(found, list) and not isinstance(companion, list):
        return [] if found is None and companion is None else [found]
    values = found if isinstance(found, list) else []
    beside = companion if isinstance(companion, list) else []
    length = max(len(values), len(beside))
    values = [*values, *[None] * (length - len(values))]
    beside = [*beside, *[None] * (length - len(beside))]
    pairs = zip(values, beside, strict=True)
    return [value for value, other in pairs if value is not None or other is not None]


def resources(run: Run, wanted: str) -> Run:
    """Keep the resources of a type."""
    test = _is_of(wanted)
    return lambda value, scope: [item for item in run(value, scope) if test(item)]


def _is_of(wanted: str) -> Callable[[Any], bool]:
    def test(item: Any) -> bool:
        name = item.get("resourceType") if isinstance(item, dict) else None
        return name == wanted or (isinstance(name, str) and model.is_kind_of(name, wanted))

    return test


def is_resource(run: Run, wanted: str) -> Test:
    """Test `is` on a place that holds any resource."""
    test = _is_of(wanted)

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        item = single(found, "`is`")
        return None if item is None else test(item)

    return verdict


def item(run: Run, index: int) -> Run:
    """Take one item by its index."""
    return lambda value, scope: run(value, scope)[index : index + 1]


def filtered(run: Run, test: Test) -> Run:
    """Keep what passes a test."""
    return lambda value, scope: [one for one in run(value, scope) if test(one, scope)]


def projected(run: Run, inner: Run) -> Run:
    """Join what each item gives."""
    return lambda value, scope: [one for item in run(value, scope) for one in inner(item, scope)]


def joined(parts: list[Values]) -> Run:
    """Join alternatives, equal items once."""
    if all(part.types and _is_plain(part) for part in parts):
        runs = [part.run for part in parts]
        return lambda value, scope: _distinct([one for run in runs for one in run(value, scope)])

    def run(value: Any, scope: Scope) -> list[Any]:
        found = [(one, part.types[0]) for part in parts for one in part.run(value, scope)]
        if len(found) < 2:
            return [one for one, _ in found]
        # Dates and quantities written differently may be equal.
        seen = equality.Seen(scope.run)
        return [one for one, type_name in found if seen.add(_item(one, type_name))]

    return run


def _is_plain(values: Values) -> bool:
    """Say whether equal items are equal JSON, and nothing else is."""
    return not any(name in _MOMENTS or name in QUANTITIES for name in values.types)


def _distinct(found: list[Any]) -> list[Any]:
    if len(found) < 2:
        return found
    seen = set()
    kept = []
    for one in found:
        key = equality.frozen(one)
        if key not in seen:
            seen.add(key)
            kept.append(one)
    return kept


def concatenated(left: Values, right: Values) -> Values:
    """Join two strings, an empty side as the empty string."""
    one, other = left.run, right.run

    def run(value: Any, scope: Scope) -> list[Any]:
        first, second = single(one(value, scope), "`&`"), single(other(value, scope), "`&`")
        return [f"{first or ''}{second or ''}"]

    return Values(run, ("System.String",))


def as_list(test: Test) -> Run:
    """Return a test as a list of one boolean, or none."""

    def run(value: Any, scope: Scope) -> list[Any]:
        verdict = test(value, scope)
        return [] if verdict is None else [verdict]

    return run


def boolean(run: Run) -> Test:
    """Read a list of one boolean as a test."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        return None if found == [None] else truth(found, "this rule")

    return verdict


def negation(test: Test) -> Test:
    """Apply `not()`."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = test(value, scope)
        return None if found is None else not found

    return verdict


def logic(tests: list[Test], *, decisive: bool) -> Test:
    """Apply `or` (decisive true) or `and` (decisive false)."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        is_unknown = False
        for test in tests:
            found = test(value, scope)
            if found is decisive:
                return decisive
            is_unknown = is_unknown or found is None
        return None if is_unknown else not decisive

    return verdict


def implication(left: Test, right: Test) -> Test:
    """Apply `implies`."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        first = left(value, scope)
        if first is False:
            return True
        second = right(value, scope)
        return True if second is True else second if first else None

    return verdict


def exclusive(left: Test, right: Test) -> Test:
    """Apply `xor`."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        first, second = left(value, scope), right(value, scope)
        return None if first is None or second is None else first is not second

    return verdict


def _kind(values: Values) -> str | None:
    """Return text, number, boolean or moment when all types of the list are of one kind."""
    for name, members in (
        ("text", _TEXTS),
        ("number", _NUMBERS),
        ("boolean", frozenset({"boolean", "System.Boolean"})),
    ):
        if values.types and all(type_name in members for type_name in values.types):
            return name
    return None


def equality_of(left: list[Any], right: list[Any]) -> bool | None:
    """Return whether two lists of plain values of one kind are equal."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    return all(
        one == other and one is not None and isinstance(one, bool) == isinstance(other, bool)
        for one, other in zip(left, right, strict=True)
    )


def comparable_pair(left: Values, right: Values) -> bool:
    """Say whether two lists may be compared as plain values."""
    kind = _kind(left)
    return kind is not None and kind == _kind(right)


def equal_test(left: Values, right: Values, *, is_negated: bool) -> Test:
    """Apply `=` or `!=` to lists of one kind."""
    one, other = left.run, right.run

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = equality_of(one(value, scope), other(value, scope))
        return None if found is None else found is not is_negated

    return verdict


def constant_test(left: Values, constant: Any, *, is_negated: bool) -> Test:
    """Apply `=` or `!=` between a list and a literal."""
    run, is_boolean = left.run, isinstance(constant, bool)

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        if not found:
            return None
        is_equal = (
            len(found) == 1 and found[0] == constant and isinstance(found[0], bool) == is_boolean
        )
        return is_equal is not is_negated

    return verdict


def ordered_test(left: Values, right: Values, operator: str) -> Test:
    """Apply `<` and its kin, by the general rules over typed values."""
    one, other = left.run, right.run
    kinds = left.types[0], right.types[0]

    def verdict(value: Any, scope: Scope) -> bool | None:
        first, second = one(value, scope), other(value, scope)
        if not first or not second:
            return None
        found = arithmetic.compare(
            [_item(one_item, kinds[0]) for one_item in first],
            [_item(one_item, kinds[1]) for one_item in second],
            operator,
        )
        return found[0] if found else None

    return verdict


def _item(value: Any, type_name: str | None) -> Any:
    return value if type_name is None or type_name.startswith("System.") else Node(value, type_name)


def is_moment_or_number(values: Values) -> bool:
    """Say whether a list's items can be put in order."""
    return len(values.types) == 1 and values.types[0] in _MOMENTS | _NUMBERS


def membership(values: Values, known: list[str]) -> Test:
    """Test whether the only item is one of some strings."""
    run, wanted = values.run, frozenset(known)

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        return None if not found else single(found, "`in`") in wanted

    return verdict


def any_of(run: Run, test: Test) -> Test:
    """Apply `exists(criterion)`."""
    return lambda value, scope: any(test(item, scope) for item in run(value, scope))


def all_of(run: Run, test: Test) -> Test:
    """Apply `all(criterion)`."""
    return lambda value, scope: all(test(item, scope) for item in run(value, scope))


def is_distinct(run: Run) -> Test:
    """Apply `isDistinct()` to strings."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        return len(found) < 2 or len(set(found)) == len(found)

    return verdict


def has_value(run: Run) -> Test:
    """Apply `hasValue()`."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        return len(found) == 1 and found[0] is not None

    return verdict


def text_test(run: Run, verdict_of: Callable[[str], bool]) -> Test:
    """Apply a string test to the only item."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        text = single(run(value, scope), "a string function")
        return verdict_of(text) if isinstance(text, str) else None

    return verdict


def _is_bundle(root: Any) -> bool:
    return isinstance(root, dict) and root.get("resourceType") == "Bundle"


def reference_is(wanted: str, general: Test) -> Test:
    """Test `resolve() is T` by the reference's text, unless something could resolve it."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        reference = value.get("reference") if isinstance(value, dict) else None
        if not isinstance(reference, str):
            return None
        is_inside = reference.startswith("#") or scope.ports.resolver is not None
        if is_inside or _is_bundle(scope.root):
            return general(value, scope)
        name = type_of_reference(reference)
        return None if name is None else model.is_kind_of(name, wanted)

    return verdict
