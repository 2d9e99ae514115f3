"""The rows of a data type as closures over the raw parts of a field."""

from collections.abc import Callable
from typing import Any

from mappings.engine.context import Context
from mappings.engine.converters import NULL, Convert, clean
from mappings.engine.places import Place
from mappings.engine.row_runs import RunRow
from mappings.engine.rows import Row
from mappings.engine.scopes import Source, cut
from mappings.engine.targets import Element, parse_target
from mappings.hl7.escape import unescape

# the component's raw text first, then as RunRow
PartRow = Callable[[str, list[str], int, Context, Element, str, str], None]


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
