"""The closures of the short way, over plain JSON.

A list may hold None for a primitive that has only extensions: it counts and has no value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance.fhirpath import equality, model
from conformance.fhirpath.evaluation import single
from conformance.fhirpath.model import Child, Slot
from conformance.fhirpath.nodes import QUANTITIES, Node
from conformance.fhirpath.scope import Scope

Run = Callable[[Any, Scope], list[Any]]
Test = Callable[[Any, Scope], bool | None]

TEXTS = frozenset(
    {"string", "code", "id", "uri", "url", "canonical", "oid", "uuid", "markdown", "System.String"}
)
MOMENTS = frozenset({"date", "dateTime", "instant", "time"})
NUMBERS = frozenset({"integer", "positiveInt", "unsignedInt", "decimal", "System.Integer"})


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
    return name in TEXTS


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
    test = is_of(wanted)
    return lambda value, scope: [item for item in run(value, scope) if test(item)]


def is_of(wanted: str) -> Callable[[Any], bool]:
    """Return the test whether a resource is of a type."""

    def test(item: Any) -> bool:
        name = item.get("resourceType") if isinstance(item, dict) else None
        return name == wanted or (isinstance(name, str) and model.is_kind_of(name, wanted))

    return test


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
    if all(part.types and is_plain(part) for part in parts):
        runs = [part.run for part in parts]
        return lambda value, scope: _distinct([one for run in runs for one in run(value, scope)])

    def run(value: Any, scope: Scope) -> list[Any]:
        found = [(one, part.types[0]) for part in parts for one in part.run(value, scope)]
        if len(found) < 2:
            return [one for one, _ in found]
        # Dates and quantities written differently may be equal.
        seen = equality.Seen(scope.run)
        return [one for one, type_name in found if seen.add(item_of(one, type_name))]

    return run


def is_plain(values: Values) -> bool:
    """Say whether equal items are equal JSON, and nothing else is."""
    return not any(name in MOMENTS or name in QUANTITIES for name in values.types)


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


def summed(left: Values, right: Values) -> Values:
    """Add two numbers of items."""
    one, other = left.run, right.run
    return Values(
        lambda value, scope: [one(value, scope)[0] + other(value, scope)[0]], ("System.Integer",)
    )


def as_list(test: Test) -> Run:
    """Return a test as a list of one boolean, or none."""

    def run(value: Any, scope: Scope) -> list[Any]:
        verdict = test(value, scope)
        return [] if verdict is None else [verdict]

    return run


def item_of(value: Any, type_name: str | None) -> Any:
    """Return a plain value as the engine holds it."""
    return value if type_name is None or type_name.startswith("System.") else Node(value, type_name)
