"""Functions over whole collections (http://hl7.org/fhirpath/N1/#existence to #combining)."""

import functools
from typing import Any

from conformance.fhirpath.arithmetic import order_of
from conformance.fhirpath.equality import Seen, distinct
from conformance.fhirpath.evaluation import (
    Closure,
    Collection,
    Frame,
    single,
    single_integer,
    truth,
    wrong_type,
)
from conformance.fhirpath.nodes import Node, all_children, system_value


def inner(frame: Frame, item: Any, index: int) -> Frame:
    """Return the frame in which a criterion sees one item."""
    frame.run.charge(1)
    return Frame(frame.run, [item], index, frame.total)


def empty(_frame: Frame, focus: Collection) -> Collection:
    """`empty()`."""
    return [not focus]


def exists(frame: Frame, focus: Collection, criteria: Closure | None = None) -> Collection:
    """`exists([criteria])`."""
    if criteria is None:
        return [bool(focus)]
    for index, item in enumerate(focus):
        if truth(criteria(inner(frame, item, index)), "exists()"):
            return [True]
    return [False]


def all_(frame: Frame, focus: Collection, criteria: Closure) -> Collection:
    """`all(criteria)`."""
    for index, item in enumerate(focus):
        if not truth(criteria(inner(frame, item, index)), "all()"):
            return [False]
    return [True]


def _booleans(focus: Collection, what: str) -> list[bool]:
    values = [system_value(item) for item in focus]
    for value in values:
        if not isinstance(value, bool):
            raise wrong_type(what, "booleans", value)
    return values


def all_true(_frame: Frame, focus: Collection) -> Collection:
    """`allTrue()`."""
    return [all(_booleans(focus, "allTrue()"))]


def any_true(_frame: Frame, focus: Collection) -> Collection:
    """`anyTrue()`."""
    return [any(_booleans(focus, "anyTrue()"))]


def all_false(_frame: Frame, focus: Collection) -> Collection:
    """`allFalse()`."""
    return [not any(_booleans(focus, "allFalse()"))]


def any_false(_frame: Frame, focus: Collection) -> Collection:
    """`anyFalse()`."""
    return [not all(_booleans(focus, "anyFalse()"))]


def subset_of(frame: Frame, focus: Collection, other: Collection) -> Collection:
    """`subsetOf(other)`."""
    known = Seen(frame.run, other)
    return [all(item in known for item in focus)]


def superset_of(frame: Frame, focus: Collection, other: Collection) -> Collection:
    """`supersetOf(other)`."""
    return subset_of(frame, other, focus)


def count(_frame: Frame, focus: Collection) -> Collection:
    """`count()`."""
    return [len(focus)]


def distinct_(frame: Frame, focus: Collection) -> Collection:
    """`distinct()`."""
    return distinct(focus, frame.run)


def is_distinct(frame: Frame, focus: Collection) -> Collection:
    """`isDistinct()`."""
    return [len(distinct(focus, frame.run)) == len(focus)]


def where(frame: Frame, focus: Collection, criteria: Closure) -> Collection:
    """`where(criteria)`."""
    return [
        item
        for index, item in enumerate(focus)
        if truth(criteria(inner(frame, item, index)), "where()")
    ]


def select(frame: Frame, focus: Collection, projection: Closure) -> Collection:
    """`select(projection)`."""
    found: Collection = []
    for index, item in enumerate(focus):
        found.extend(projection(inner(frame, item, index)))
        frame.run.check_size(found) if len(found) > 1000 else None
    return found


def repeat(frame: Frame, focus: Collection, projection: Closure) -> Collection:
    """`repeat(projection)`: each new item is projected again, equal items once."""
    found: Collection = []
    seen = Seen(frame.run)
    queue = list(focus)
    at = 0
    while at < len(queue):
        for item in projection(inner(frame, queue[at], at)):
            if seen.add(item):
                found.append(item)
                queue.append(item)
        at += 1
        if len(queue) > frame.run.limits.items:
            frame.run.check_size(queue)
    return found


def of_index(frame: Frame, focus: Collection, index: int) -> Collection:
    """`[index]`."""
    frame.run.charge(1)
    return [focus[index]] if 0 <= index < len(focus) else []


def single_(_frame: Frame, focus: Collection) -> Collection:
    """`single()`."""
    item = single(focus, "single()")
    return [] if item is None else [item]


def first(_frame: Frame, focus: Collection) -> Collection:
    """`first()`."""
    return focus[:1]


def last(_frame: Frame, focus: Collection) -> Collection:
    """`last()`."""
    return focus[-1:]


def tail(_frame: Frame, focus: Collection) -> Collection:
    """`tail()`."""
    return focus[1:]


def skip(_frame: Frame, focus: Collection, number: Collection) -> Collection:
    """`skip(number)`."""
    amount = single_integer(number, "skip()")
    return [] if amount is None else focus[max(0, amount) :]


def take(_frame: Frame, focus: Collection, number: Collection) -> Collection:
    """`take(number)`."""
    amount = single_integer(number, "take()")
    return [] if amount is None else focus[: max(0, amount)]


def intersect(frame: Frame, focus: Collection, other: Collection) -> Collection:
    """`intersect(other)`."""
    known = Seen(frame.run, other)
    return distinct([item for item in focus if item in known], frame.run)


def exclude(frame: Frame, focus: Collection, other: Collection) -> Collection:
    """`exclude(other)`."""
    known = Seen(frame.run, other)
    return [item for item in focus if item not in known]


def union(frame: Frame, focus: Collection, other: Collection) -> Collection:
    """`union(other)` and `|`."""
    return distinct(frame.run.check_size([*focus, *other]), frame.run)


def combine(frame: Frame, focus: Collection, other: Collection) -> Collection:
    """`combine(other)`."""
    return frame.run.check_size([*focus, *other])


def aggregate(
    frame: Frame, focus: Collection, aggregator: Closure, start: Closure | None = None
) -> Collection:
    """`aggregate(aggregator [, init])`."""
    total = start(frame) if start is not None else []
    for index, item in enumerate(focus):
        frame.run.charge(1)
        total = aggregator(Frame(frame.run, [item], index, total))
    return total


def iif(
    frame: Frame,
    focus: Collection,
    criterion: Closure,
    then: Closure,
    otherwise: Closure | None = None,
) -> Collection:
    """`iif(criterion, then [, otherwise])`; the branch not taken is not evaluated."""
    single(focus, "iif()")
    inside = Frame(frame.run, focus, frame.index, frame.total)
    verdict = criterion(inside)
    value = system_value(single(verdict, "the criterion of iif()"))
    if value is not None and not isinstance(value, bool):
        raise wrong_type("the criterion of iif()", "a boolean", value)
    if value:
        return then(inside)
    return otherwise(inside) if otherwise is not None else []


def children(frame: Frame, focus: Collection) -> Collection:
    """`children()`."""
    found: Collection = []
    for item in focus:
        if isinstance(item, Node):
            found.extend(all_children(item))
    return frame.run.check_size(found)


def descendants(frame: Frame, focus: Collection) -> Collection:
    """`descendants()`: children, their children and so on, level by level."""
    found: Collection = []
    level = focus
    while level:
        level = children(frame, level)
        found.extend(level)
    return frame.run.check_size(found)


def sort(frame: Frame, focus: Collection, *keys: tuple[Closure, bool]) -> Collection:
    """`sort([key, …])`: each key and whether it runs downwards; empty keys first."""
    frame.run.charge(len(focus) * max(1, len(keys)) * 8)
    downwards = [is_down for _, is_down in keys] or [False]
    rows: list[tuple[tuple[Any, ...], Any]] = [((item,), item) for item in focus]
    if keys:
        rows = [
            (tuple(single(key(inner(frame, item, index)), "sort()") for key, _ in keys), item)
            for index, item in enumerate(focus)
        ]

    def compare(left: tuple[Any, Any], right: tuple[Any, Any]) -> int:
        for one, other, is_down in zip(left[0], right[0], downwards, strict=True):
            if one is None or other is None:
                if one is not other:
                    return -1 if one is None else 1
                continue
            order = order_of(one, other, "sort()") or 0
            if order:
                return -order if is_down else order
        return 0

    return [item for _, item in sorted(rows, key=functools.cmp_to_key(compare))]


def trace(
    frame: Frame, focus: Collection, name: Closure, projection: Closure | None = None
) -> Collection:
    """`trace(name [, projection])`: tell the trace port and return the input."""
    tell = frame.run.ports.trace
    if tell is not None:
        shown = select(frame, focus, projection) if projection is not None else focus
        tell(str(single(name(frame), "trace()")), list(shown))
    return focus


def not_(_frame: Frame, focus: Collection) -> Collection:
    """`not()`; a single number is a value that exists, so it counts as true."""
    value = truth(focus, "not()")
    return [] if value is None else [not value]
