"""What the functions made of rows call while they run: texts of fields and parts, their tests."""

import re
from collections.abc import Iterable
from typing import Any

from mappings.engine.context import Context
from mappings.engine.converters import NULL
from mappings.engine.scopes import cut
from mappings.engine.targets import Element
from mappings.hl7.escape import Separators, unescape
from mappings.translated import TraceEntry

NOTHING = ("", NULL)
Places = tuple[tuple[int, str, int], ...]


def full(fields: list[str], count: int) -> list[str]:
    """Return the fields with empty ones behind, so that all numbers below `count` are there."""
    missing = count - len(fields)
    return fields if missing <= 0 else fields + [""] * missing


def first_of(raw: str, mark: str) -> str:
    """Return what stands before the first mark."""
    return raw.split(mark, 1)[0] if mark and mark in raw else raw


def repetitions(raw: str, mark: str) -> Iterable[tuple[int, str]]:
    """Return the repetitions of a field with their numbers from 1."""
    return enumerate(raw.split(mark), 1) if mark and mark in raw else ((1, raw),)


def one_repetition(raw: str, mark: str, wanted: int) -> str:
    """Return a repetition behind the first, "" where there is none."""
    found = raw.split(mark) if mark and mark in raw else [raw]
    return found[wanted - 1] if wanted <= len(found) else ""


def field_texts(
    raw: str, repetition: int, component: int, subcomponent: int, context: Context
) -> list[str]:
    """Return the populated texts at a place of a field: of all repetitions, or of one behind 1."""
    if not raw:
        return []
    mark = context.separators.repetition
    found = raw.split(mark) if mark and mark in raw else [raw]
    if repetition > 1:
        found = found[repetition - 1 : repetition]
    return [text for one in found for text in _valued(one, component, subcomponent, context)]


def part_texts(raw: str, part: int, context: Context) -> list[str]:
    """Return the text of a component (or of one part of it), nothing where it is empty."""
    return _valued(raw, 0, part, context)


def _valued(raw: str, component: int, subcomponent: int, context: Context) -> list[str]:
    marks = (context.separators.component, context.separators.subcomponent)
    if component or subcomponent:
        raw = cut(raw, component, subcomponent, marks)
    if not raw or raw == NULL:
        return []
    if not component and marks[0] in raw:
        # A field is valued when any component is; it compares by its first.
        raw = raw.split(marks[0], 1)[0] or "\0"
    # Blanks around a value are none of it, as where it is read.
    return [unescape(raw, context.separators, context.codec).strip()]


def first_is_in(raw: str, context: Context, values: frozenset[str]) -> bool:
    """Whether a field or component, by its first text, is one of the values."""
    # No delimiter is a letter or digit: most codes are seen to be whole at once.
    if raw.isalnum():
        return raw in values
    return not values.isdisjoint(field_texts(raw, 1, 0, 0, context))


def part_is_in(raw: str, part: int, context: Context, values: frozenset[str]) -> bool:
    """Whether a component (or one part of it) is one of the values."""
    if not part and raw.isalnum():
        return raw in values
    return not values.isdisjoint(part_texts(raw, part, context))


def part_valued(raw: str, part: int, context: Context) -> bool:
    """Whether a part of a component is populated."""
    return cut(raw, 0, part, ("", context.separators.subcomponent)) not in NOTHING


def seen(context: Context, label: str, truth: bool) -> bool:
    """Remember, where a run is watched, which truth a condition had; return it."""
    if context.conditions is not None:
        context.conditions.setdefault(label, set()).add(truth)
    return truth


def look(context: Context, slots: Any, places: Places, every: str) -> None:
    """Remember, where a run is watched, which fields a row reads or asks about.

    `every` names the segment that the row reads all of, "" where it reads one.
    """
    if context.looked is None:
        return
    for slot, name, number in places:
        context.looked.add(f"{slots[1][slot]}-{number}")
        for segment in slots[2].segments.get(name, ()) if every else ():
            context.looked.add(f"{segment.place}-{number}")


def pieces_of(part: str, level: int, is_easy: bool, context: Context) -> list[str]:
    """Return the subcomponents of a component; a subcomponent has no parts of its own."""
    if level:
        return []
    mark = context.separators.subcomponent
    return [part] if is_easy or not mark else part.split(mark)


def close_up(out: Element, name: str, trace: list[TraceEntry], target: str) -> None:
    """Drop the places of a list that no row filled; the trace follows what moves up."""
    items = out[name]
    filled = [at for at, item in enumerate(items) if item]
    out[name] = [items[at] for at in filled]
    moved = {f"[{at}": f"[{new}" for new, at in enumerate(filled)}
    around = f"{target}.{name}"
    for number, (path, source, row) in enumerate(trace):
        if path.startswith(around):
            at, bracket, rest = path[len(around) :].partition("]")
            trace[number] = (around + moved.get(at, at) + bracket + rest, source, row)


def pair(out: Element, name: str) -> None:
    """Make a list of primitives and that of its extensions equally long.

    http://hl7.org/fhir/R4/json.html#primitive: null stands where one of them has nothing.
    """
    values: list[Any] = out.setdefault(name[1:], [])
    extensions: list[Any] = out[name]
    longest = max(len(values), len(extensions))
    values.extend([None] * (longest - len(values)))
    extensions.extend([None] * (longest - len(extensions)))
    out[name] = [item or None for item in extensions]


_FIELD = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[\*\])?-(\d+)")


def fields_named(text: str) -> list[tuple[str, int]]:
    """Return the fields that a source or condition names."""
    return [(name, int(number)) for name, number in _FIELD.findall(text)]


def is_easy(parts: list[str], separators: Separators) -> bool:
    """Whether every part is its own text: no subcomponents, escapes or control characters."""
    whole = "".join(parts)
    return (
        separators.subcomponent not in whole
        and separators.escape not in whole
        and whole.isprintable()
    )
