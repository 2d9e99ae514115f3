"""Rows as closures over the fields of segments or the components of a data type."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

from mappings.engine.codecs import own_system
from mappings.engine.conditions import compile_condition
from mappings.engine.context import Context
from mappings.engine.converters import NULL, Convert, clean
from mappings.engine.places import Place
from mappings.engine.rows import Row
from mappings.engine.scopes import SlotNames, Slots, Source, cut, parse_source
from mappings.engine.targets import Element, parse_target
from mappings.hl7.escape import Separators, unescape

# slots or parts, level, context, element, target path, source path
RunRow = Callable[[Any, int, Context, Element, str, str], None]


# the component's raw text first, then as RunRow
PartRow = Callable[[str, list[str], int, Context, Element, str, str], None]


class RowCondition:
    """A `when:` over the slots of a map or the parts of a data type."""

    def __init__(self, text: str, slots: SlotNames | None) -> None:
        self._slots = slots
        self._test = compile_condition(
            text, self._getter, _part_valued if slots is None else self._field_valued
        )

    def test(self, parts: Any, context: Context) -> bool:
        """Return the truth for these slots or parts."""
        return self._test((parts, context))

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
    number = source.field
    component, subcomponent = source.component, source.subcomponent
    level = 2 if subcomponent else 1 if component else 0
    suffix, label = source.suffix, f"-{source.field}"
    identifier = row.id
    fixed = None if place.suffix == "" else place.suffix
    put = place.put
    wanted = source.repetition

    def one(rep: str, where: tuple[str, int], context: Context, out: Element, target: str) -> None:
        separators = context.separators
        if component:
            rep = cut(rep, component, subcomponent, (separators.component, separators.subcomponent))
        if not rep or rep == NULL:
            return
        path = target + (place.path(out) if fixed is None else fixed)
        prefix, position = where
        value = convert(rep, level, context, path, f"{prefix}{label}[{position}]{suffix}")
        if value is not None:
            put(out, value)
            context.fire(identifier)

    def read(fields: list[str], prefix: str, context: Context, out: Element, target: str) -> None:
        for position, rep in _repetitions(fields[number], source, context.separators, fields[0]):
            one(rep, (prefix, position), context, out, target)

    if source.every_segment:
        return _every_segment(source, read, test)

    def run(slots: Slots, _level: int, context: Context, out: Element, target: str, _: str) -> None:
        fields = slots[0][slot]  # `SegmentRows` has looked whether the field is there
        raw = fields[number]
        if raw == NULL or (test is not None and not test(slots, context)):
            return
        if wanted <= 1 and context.separators.repetition not in raw:
            one(raw, (slots[1][slot], 1), context, out, target)
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


def part_row(
    row: Row, source: Source, convert: Convert, place: Place, test: Any, *, traced: bool
) -> PartRow:
    """Return the closure of a row that reads a component of a data type."""
    part = source.component
    if test is None and not part and place.suffix and _is_plain(row):
        return _plain_part(row, source, place, traced)
    fixed = None if place.suffix == "" else place.suffix
    suffix = f".{source.field}" + (f".{part}" if part else "")
    put = place.put
    deeper = 2 if part else 1

    def run(
        raw: str,
        parts: list[str],
        level: int,
        context: Context,
        out: Element,
        target: str,
        source: str,
    ) -> None:
        if test is not None and not test(parts, context):
            return
        if part:
            if level:
                return  # a subcomponent has no parts of its own
            raw = cut(raw, 0, part, ("", context.separators.subcomponent))
            if not raw:
                return
        path = target + (place.path(out) if fixed is None else fixed)
        depth = level + deeper
        value = convert(raw, depth if depth < 2 else 2, context, path, source + suffix)
        if value is not None:
            put(out, value)

    return run


def _is_plain(row: Row) -> bool:
    return not (row.use or row.refer or row.table) and row.codec in {"", "text"}


def _plain_part(row: Row, source: Source, place: Place, traced: bool) -> PartRow:
    """Return the closure of the most frequent row: a component copied as text."""
    identifier, fixed, put = row.id, place.suffix, place.put
    suffix = f".{source.field}"

    def run(
        raw: str,
        parts: list[str],
        level: int,
        context: Context,
        out: Element,
        target: str,
        source: str,
    ) -> None:
        separators = context.separators
        if level == 0 and separators.subcomponent and separators.subcomponent in raw:
            raw = raw.split(separators.subcomponent, 1)[0]
        if separators.escape and separators.escape in raw:
            raw = unescape(raw, separators, context.codec)
        raw = raw.strip() if raw.isprintable() else clean(raw)
        if raw and raw != NULL:
            put(out, raw)
            if traced:
                context.trace.append((target + fixed, source + suffix, identifier))

    return run


class Parts:
    """The rows of a data type by the component they read, so that empty ones cost nothing."""

    __slots__ = ("_after", "_by_index", "_constants", "_lists", "_paired")

    def __init__(self) -> None:
        self._by_index: dict[int, list[PartRow]] = {}
        self._after: list[RunRow] = []
        self._constants: list[RunRow] = []
        self._lists: set[str] = set()
        self._paired: set[str] = set()

    def add(self, row: Row, ready: PartRow, index: int) -> None:
        """Add a row that reads one component."""
        self._by_index.setdefault(index, []).append(ready)
        first = parse_target(row.target)[0]
        if first.name.startswith("_") and first.index is not None:
            self._paired.add(first.name)
        elif first.index is not None and first.index > 0:
            self._lists.add(first.name)

    def add_after(self, row: Row, ready: RunRow) -> None:
        """Add a row that has no component of its own: a constant or a call of Python."""
        is_plain = row.value is not None and not row.when
        (self._constants if is_plain else self._after).append(ready)

    def fill(
        self,
        parts: list[str],
        level: int,
        context: Context,
        out: Element,
        target: str,
        source: str,
    ) -> None:
        """Run the rows of the populated components, then those without one."""
        by_index = self._by_index
        for index, raw in enumerate(parts):
            if raw and raw != NULL:
                rows = by_index.get(index)
                if rows is not None:
                    for row in rows:
                        row(raw, parts, level, context, out, target, source)
        for ready in self._after:
            ready(parts, level, context, out, target, source)

    def finish(
        self,
        parts: list[str],
        level: int,
        context: Context,
        out: Element,
        target: str,
        source: str,
    ) -> None:
        """Write the constants and drop list places that nothing filled."""
        for ready in self._constants:
            ready(parts, level, context, out, target, source)
        for name in self._lists:
            if name in out:
                out[name] = [item for item in out[name] if item]
        for name in self._paired:
            if name in out:
                _pair(out, name)


def _pair(out: Element, name: str) -> None:
    """Make a list of primitives and that of its extensions equally long.

    http://hl7.org/fhir/R4/json.html#primitive: null stands where one of them has nothing.
    """
    values: list[Any] = out.setdefault(name[1:], [])
    extensions: list[Any] = out[name]
    longest = max(len(values), len(extensions))
    values.extend([None] * (longest - len(values)))
    extensions.extend([None] * (longest - len(extensions)))
    out[name] = [item or None for item in extensions]


def type_converter(rows: Parts) -> Convert:
    """Return the converter of a whole data type."""

    def convert(raw: str, level: int, context: Context, target: str, source: str) -> Any:
        separators = context.separators
        mark = (separators.component, separators.subcomponent, "")[level]
        parts = raw.split(mark) if mark and mark in raw else [raw]
        out: Element = {}
        rows.fill(parts, level, context, out, target, source)
        if not out:
            return None
        rows.finish(parts, level, context, out, target, source)
        return out

    return convert


class SegmentRows:
    """The rows of a map over segments, in their order; constants without condition last."""

    __slots__ = ("_constants", "_rows")

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, RunRow]] = []
        self._constants: list[RunRow] = []

    def add(self, row: Row, ready: RunRow, field: tuple[int, int] = (-1, 0)) -> None:
        """Add a compiled row; `field` is the slot and number without which it has no work."""
        if row.value is not None and not row.when:
            self._constants.append(ready)
        else:
            self._rows.append((*field, ready))

    def fill(
        self, parts: Any, level: int, context: Context, out: Element, target: str, source: str
    ) -> None:
        """Run every row whose field is there."""
        slots = parts[0]
        for slot, number, row in self._rows:
            if slot >= 0:
                fields = slots[slot]
                if number >= len(fields) or not fields[number]:
                    continue
            row(parts, level, context, out, target, source)

    def finish(
        self, parts: Any, level: int, context: Context, out: Element, target: str, source: str
    ) -> None:
        """Write the constants."""
        for row in self._constants:
            row(parts, level, context, out, target, source)
