"""Rows as closures over the fields of segments or the components of a data type."""

import copy
import re
from collections.abc import Callable, Iterable
from typing import Any

from mappings.engine.conditions import compile_condition
from mappings.engine.context import Context
from mappings.engine.converters import NULL, Convert
from mappings.engine.naming import own_system
from mappings.engine.places import Place
from mappings.engine.rows import Row
from mappings.engine.scopes import SlotNames, Slots, Source, cut, parse_source
from mappings.engine.targets import Element
from mappings.hl7.escape import Separators, unescape

# slots or parts, level, context, element, target path, source path
RunRow = Callable[[Any, int, Context, Element, str, str], None]


class RowCondition:
    """A `when:` over the slots of a map or the parts of a data type.

    `test` returns its truth for slots or parts and a context.
    """

    test: Callable[[Any, Context], bool]

    def __init__(self, text: str, slots: SlotNames | None) -> None:
        self._slots = slots
        simple = _SIMPLE.match(text) if slots is None else None
        if simple is not None:
            self.test = _plain_part_test(int(simple.group(1)) - 1, is_valued=not simple.group(2))
            return
        whole = compile_condition(
            text, self._getter, _part_valued if slots is None else self._field_valued
        )
        self.test = lambda parts, context: whole((parts, context))

    def _field_valued(self, path: str) -> Callable[[Any], bool]:
        source = parse_source(path, is_type=False)
        assert self._slots is not None
        slot, number = self._slots.number(source.segment), source.field
        get = self._getter(path) if source.component or source.repetition != 1 else None

        def valued(scope: Any) -> bool:
            if get is not None:
                return bool(get(scope))
            fields = scope[0][0][slot]
            return number < len(fields) and fields[number] not in _NOTHING

        return valued

    def _getter(self, path: str) -> Callable[[Any], list[str]]:
        slots = self._slots
        source = parse_source(path, is_type=slots is None)
        component, subcomponent = source.component, source.subcomponent
        if slots is None:
            index = source.field - 1

            def part(scope: Any) -> list[str]:
                parts, context = scope
                raw = parts[index] if index < len(parts) else ""
                return _valued(raw, 0, component, context)

            return part
        slot, number, wanted = slots.number(source.segment), source.field, source.repetition

        def field(scope: Any) -> list[str]:
            (fields, _, _), context = scope
            have = fields[slot]
            raw = have[number] if number < len(have) else ""
            if not raw:
                return []
            mark = context.separators.repetition
            reps = raw.split(mark) if mark and mark in raw else [raw]
            if wanted > 1:
                reps = reps[wanted - 1 : wanted]
            return [
                value for rep in reps for value in _valued(rep, component, subcomponent, context)
            ]

        return field


_NOTHING = ("", NULL)
# The most frequent condition of data types: one component alone.
_SIMPLE = re.compile(r"(\d+) (NOT )?VALUED\Z")


def _plain_part_test(index: int, *, is_valued: bool) -> Callable[[Any, Context], bool]:
    def valued(parts: Any, _context: Context) -> bool:
        return (index < len(parts) and parts[index] not in _NOTHING) is is_valued

    return valued


def _part_valued(path: str) -> Callable[[Any], bool]:
    source = parse_source(path, is_type=True)
    index, part = source.field - 1, source.component

    def valued(scope: Any) -> bool:
        parts, context = scope
        if index >= len(parts):
            return False
        raw = parts[index]
        if part and raw:
            raw = cut(raw, 0, part, ("", context.separators.subcomponent))
        return raw not in _NOTHING

    return valued


def _valued(raw: str, component: int, subcomponent: int, context: Context) -> list[str]:
    marks = (context.separators.component, context.separators.subcomponent)
    if component or subcomponent:
        raw = cut(raw, component, subcomponent, marks)
    if not raw or raw == NULL:
        return []
    if not component and marks[0] in raw:
        # A field is valued when any component is; it compares by its first.
        raw = raw.split(marks[0], 1)[0] or "\0"
    return [unescape(raw, context.separators, context.codec)]


def constant_row(row: Row, place: Place, test: Any, traced: bool) -> RunRow:
    """Return the closure of a `value:` row; `$authority` is the sender's own namespace."""
    value, identifier = row.value, row.id
    is_authority = value == "$authority"
    is_shared = isinstance(value, (dict, list))  # resources own their elements

    def run(
        parts: Any, level: int, context: Context, out: Element, target: str, source: str
    ) -> None:
        if test is not None and not test(parts, context):
            return
        if test is None and not out:
            return
        given = own_system(context) if is_authority else value
        if is_shared:
            given = copy.deepcopy(given)
        path = target + place.path(out)
        if place.is_empty(out):  # a constant never overwrites what the sender said
            place.put(out, given)
            if traced:
                context.trace.append((path, source, identifier))

    return run


def field_row(
    row: Row, source: Source, slot: int, convert: Convert, place: Place, test: Any
) -> RunRow:
    """Return the closure of a row that reads a field of a segment."""
    number, identifier = source.field, row.id
    component, subcomponent = source.component, source.subcomponent
    level = 2 if subcomponent else 1 if component else 0
    suffix, label = source.suffix, f"-{source.field}"
    first = f"{label}[1]{suffix}"
    fixed = None if place.suffix == "" else place.suffix
    put = place.put

    def one(rep: str, where: str, context: Context, out: Element, target: str) -> None:
        if component:
            separators = context.separators
            rep = cut(rep, component, subcomponent, (separators.component, separators.subcomponent))
        if not rep or rep == NULL:
            return
        path = target + (place.path(out) if fixed is None else fixed)
        value = convert(rep, level, context, path, where)
        if value is not None:
            put(out, value)
            if context.fired is not None:
                context.fired.add(identifier)

    def read(fields: list[str], prefix: str, context: Context, out: Element, target: str) -> None:
        for position, rep in _repetitions(fields[number], source, context.separators, fields[0]):
            one(rep, f"{prefix}{label}[{position}]{suffix}", context, out, target)

    if source.every_segment:
        return _every_segment(source, read, test)
    is_first = source.repetition <= 1

    def run(slots: Slots, _level: int, context: Context, out: Element, target: str, _: str) -> None:
        fields = slots[0][slot]  # `SegmentRows` has looked whether the field is there
        raw = fields[number]
        if raw == NULL or (test is not None and not test(slots, context)):
            return
        if is_first and context.separators.repetition not in raw:
            one(raw, f"{slots[1][slot]}{first}", context, out, target)
        else:
            read(fields, slots[1][slot], context, out, target)

    return run


def _every_segment(source: Source, read: Callable[..., None], test: Any) -> RunRow:
    """Read one field of every segment of a name in the map's own group."""
    number = source.field

    def run(slots: Slots, _level: int, context: Context, out: Element, target: str, _: str) -> None:
        if test is not None and not test(slots, context):
            return
        for segment in slots[2].segments.get(source.segment, ()):
            fields = segment.fields
            if number < len(fields) and fields[number] and fields[number] != NULL:
                read(fields, f"{segment.name}[{segment.sequence}]", context, out, target)

    return run


def _repetitions(
    raw: str, source: Source, separators: Separators, name: str
) -> Iterable[tuple[int, str]]:
    """Return the wanted repetitions of a field with their numbers from 1."""
    mark = separators.repetition
    wanted = source.repetition
    # The second field of a header declares the separators and repeats nothing.
    if not mark or mark not in raw or (source.field <= 2 and name == "MSH"):
        return ((1, raw),) if wanted <= 1 else ()
    reps = raw.split(mark)
    if not wanted:
        return enumerate(reps, 1)
    return ((wanted, reps[wanted - 1]),) if wanted <= len(reps) else ()


class SegmentRows:
    """The rows of a map over segments, in their order; constants without condition last."""

    __slots__ = ("_constants", "_rows")

    def __init__(self) -> None:
        self._rows: list[tuple[int, list[tuple[int, RunRow]]]] = []
        self._constants: list[RunRow] = []

    def add(self, row: Row, ready: RunRow, field: tuple[int, int] = (-1, 0)) -> None:
        """Add a compiled row; `field` is the slot and number without which it has no work."""
        if row.value is not None and not row.when:
            self._constants.append(ready)
        else:
            slot, number = field
            if not self._rows or self._rows[-1][0] != slot:
                self._rows.append((slot, []))
            self._rows[-1][1].append((number, ready))

    def fill(
        self, parts: Any, level: int, context: Context, out: Element, target: str, source: str
    ) -> None:
        """Run every row whose field is there."""
        slots = parts[0]
        for slot, rows in self._rows:
            if slot < 0:
                for _, row in rows:
                    row(parts, level, context, out, target, source)
                continue
            fields = slots[slot]
            count = len(fields)
            if count > 1:
                for number, row in rows:
                    if number < count and fields[number]:
                        row(parts, level, context, out, target, source)

    def finish(
        self, parts: Any, level: int, context: Context, out: Element, target: str, source: str
    ) -> None:
        """Write the constants."""
        for row in self._constants:
            row(parts, level, context, out, target, source)
