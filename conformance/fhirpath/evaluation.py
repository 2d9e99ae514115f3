"""One evaluation: its variables, ports and what is left of its limits."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.fhirpath.chinese import in_chinese
from conformance.fhirpath.faults import invalid_use, too_costly
from conformance.fhirpath.limits import DEFAULT_LIMITS, Limits
from conformance.fhirpath.nodes import Node, system_value

Collection = list[Any]
Resolver = Callable[[str], Mapping[str, Any] | None]
"""From a reference as written to the resource, or None."""


@dataclass(frozen=True, slots=True)
class Terminology:
    """What an evaluation asks a terminology service; None as answer means unknown.

    `member_of(coded, value_set)` with a code, Coding or CodeableConcept as plain JSON;
    `subsumes(left, right)` with two codings.
    """

    member_of: Callable[[Any, str], bool | None]
    subsumes: Callable[[Any, Any], bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The outside helpers of an evaluation, each optional.

    `conforms_to(resource, canonical)` says whether it conforms, None where the profile is unknown;
    `slices(nodes, canonical, name)` returns those that belong to a slice of a profile, None where
    either is unknown; `trace(name, values)` receives what `trace()` sees.
    """

    resolver: Resolver | None = None
    terminology: Terminology | None = None
    conforms_to: Callable[[Mapping[str, Any], str], bool | None] | None = None
    slices: Callable[[list[Node], str, str], list[Node] | None] | None = None
    trace: Callable[[str, list[Any]], None] | None = None


NO_PORTS = Ports()


class Run:
    """One evaluation of one expression."""

    __slots__ = ("_now", "context", "limits", "ports", "resource", "root", "steps", "variables")

    def __init__(
        self,
        context: Collection,
        *,
        resource: Collection,
        root: Collection,
        variables: Mapping[str, Any] | None = None,
        ports: Ports = NO_PORTS,
        limits: Limits = DEFAULT_LIMITS,
        now: dt.datetime | None = None,
    ) -> None:
        self.context = context
        self.resource = resource
        self.root = root
        self.variables = variables or {}
        self.ports = ports
        self.limits = limits
        self._now = now
        self.steps = limits.steps

    @property
    def now(self) -> dt.datetime:
        """The moment of this evaluation, with its zone; the same each time it is asked."""
        if self._now is None:
            self._now = dt.datetime.now().astimezone()
        return self._now

    def charge(self, steps: int) -> None:
        """Take steps from what is left; raises TooCostly when nothing is."""
        self.steps -= steps
        if self.steps < 0:
            raise too_costly("steps", self.limits.steps)

    def check_size(self, collection: Collection) -> Collection:
        """Return the collection; raises TooCostly when it is too large."""
        if len(collection) > self.limits.items:
            raise too_costly("items in one collection", self.limits.items)
        self.steps -= len(collection)
        if self.steps < 0:
            raise too_costly("steps", self.limits.steps)
        return collection

    def check_text(self, text: str) -> str:
        """Return the text; raises TooCostly when it is too long."""
        if len(text) > self.limits.text:
            raise too_costly("characters in one string", self.limits.text)
        self.charge(1 + len(text) // 64)
        return text


class Frame:
    """What `$this`, `$index` and `$total` mean at one point of the evaluation."""

    __slots__ = ("index", "run", "this", "total")

    def __init__(
        self, run: Run, this: Collection, index: int | None = None, total: Collection | None = None
    ) -> None:
        self.run = run
        self.this = this
        self.index = index
        self.total = total


Closure = Callable[[Frame], Collection]
Step = Callable[[Frame, Collection], Collection]


def single(collection: Collection, what: str) -> Any:
    """Return the only item, None if there is none; raises InvalidContent on more."""
    if not collection:
        return None
    if len(collection) > 1:
        raise invalid_use(
            f"{what} takes one item, and the collection has {len(collection)}",
            f"{in_chinese(what)} 只接受一个值，集合中有 {len(collection)} 个",
            fix_en="Choose one item with first(), last(), single() or where().",
            fix_zh="请用 first()、last()、single() 或 where() 选出一个值。",
        )
    return collection[0]


def single_value(collection: Collection, what: str) -> Any:
    """Return the System value of the only item; None if there is none."""
    item = collection[0] if len(collection) == 1 else single(collection, what)
    return item if type(item) is not Node else system_value(item)


def single_text(collection: Collection, what: str) -> str | None:
    """Return the only item as a string; raises InvalidContent if it is something else."""
    value = single_value(collection, what)
    if value is None or isinstance(value, str):
        return value
    if isinstance(collection[0], Node) and isinstance(collection[0].value, str):
        return collection[0].value
    raise wrong_type(what, "a string", value)


def single_integer(collection: Collection, what: str) -> int | None:
    """Return the only item as an integer; raises InvalidContent if it is something else."""
    value = single_value(collection, what)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise wrong_type(what, "an integer", value)


def truth(collection: Collection, what: str) -> bool | None:
    """Return the collection as a boolean: a single item that is no boolean counts as true.

    http://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections
    """
    if not collection:
        return None
    item = collection[0] if len(collection) == 1 else single(collection, what)
    if isinstance(item, bool):
        return item
    if type(item) is Node:
        return item.value if item.type == "boolean" else True
    return True


def wrong_type(what: str, expected: str, value: Any) -> Exception:
    """Return the refusal of an operand of another type; the value itself is not told."""
    found = value.type if isinstance(value, Node) else type(value).__name__
    names = {"bool": "Boolean", "int": "Integer", "str": "String", "Temporal": "date or time"}
    found = names.get(found, found)
    return invalid_use(
        f"{what} needs {expected}, and found {found}",
        f"{in_chinese(what)} 需要{in_chinese(expected)}，实际类型为 {in_chinese(found)}",
    )
