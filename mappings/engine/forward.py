"""Maps compiled to closures for the way into FHIR.

A closure of a row gets the raw parts of its segment or data type, fills the element and notes
for each value where it came from. Nothing of the YAML is looked at while a message runs.
"""

import importlib
import re
from collections.abc import Mapping
from typing import Any

from mappings.engine.codecs import CODECS
from mappings.engine.compiled_map import CompiledMap
from mappings.engine.context import Context
from mappings.engine.converters import (
    NULL,
    Convert,
    code_converter,
    coded_converter,
    leaf_converter,
)
from mappings.engine.part_rows import Parts, part_row, type_converter
from mappings.engine.places import Place
from mappings.engine.row_runs import (
    RowCondition,
    RunRow,
    SegmentRows,
    constant_row,
    field_row,
)
from mappings.engine.rows import Row, RowMap
from mappings.engine.scopes import Scope, SlotNames, parse_source
from mappings.engine.tables import Table
from mappings.engine.targets import Element, parse_target
from mappings.hl7.escape import unescape


class Compiler:
    """Compiles the maps of one library on demand; each map once."""

    def __init__(
        self,
        maps: Mapping[str, RowMap],
        tables: Mapping[str, Table],
        *,
        traced: bool = True,
        watched: bool = False,
    ) -> None:
        self._maps = maps
        self._tables = tables
        self._traced = traced
        self._watched = watched
        self._types: dict[str, Convert] = {}
        self._runs: dict[str, CompiledMap] = {}

    def type(self, name: str) -> Convert:
        """Return the converter of a data type."""
        ready = self._types.get(name)
        if ready is None:
            ready = self._types[name] = self._compile_type(name)
        return ready

    def map(self, name: str) -> "CompiledMap":
        """Return the compiled map of a name."""
        ready = self._runs.get(name)
        if ready is None:
            ready = self._runs[name] = self._compile_map(self._maps[name])
        return ready

    def rows_of(self, row_map: RowMap) -> tuple[Row, ...]:
        """Return the rows of a map with those it includes in front."""
        rows: list[Row] = []
        for name in row_map.includes:
            rows.extend(self.rows_of(self._maps[name]))
        own = {row.id for row in row_map.rows}
        return (*(row for row in rows if row.id not in own), *row_map.rows)

    def _compile_map(self, row_map: RowMap) -> "CompiledMap":
        if row_map.reads_parts:
            return CompiledMap(row_map, None, self._parts(row_map), self.map)
        slots = SlotNames()
        rows = SegmentRows()
        for row in self.rows_of(row_map):
            if not row.ignore and row.only != "backward":
                ready = self._segment_row(row, row_map, slots)
                if self._watched:
                    ready = _looking(row, ready, slots)
                rows.add(row, ready, _field_of(row, slots))
        return CompiledMap(row_map, slots, rows, self.map)

    def _compile_type(self, name: str) -> Convert:
        return type_converter(self._parts(self._maps[name]))

    def _parts(self, row_map: RowMap) -> "Parts":
        parts = Parts()
        for row in self.rows_of(row_map):
            if row.ignore or row.only == "backward":
                continue
            test = None
            if row.when:
                test = self._watch(row, row_map, RowCondition(row.when, slots=None).test)
            if row.py:
                parts.add_after(row, self._python_row(row, test))
            elif row.value is not None:
                parts.add_after(row, constant_row(row, self._place(row), test, self._traced))
            else:
                source = parse_source(row.source, is_type=True)
                convert = self._convert(row, row_map)
                place = self._place(row)
                ready = part_row(row, source, convert, place, test, traced=self._traced)
                parts.add(row, ready, source.field - 1)
        return parts

    # -- one row -------------------------------------------------------------------------------

    def _convert(self, row: Row, row_map: RowMap) -> Convert:
        if row.refer:
            return self._refer(row)
        if row.use and row.table:
            return coded_converter(self.type(row.use), self._tables[row.table], row, self._traced)
        if row.use:
            name = row.use
            holder: list[Convert] = []

            def late(raw: str, level: int, context: Context, target: str, source: str) -> Any:
                if not holder:  # types may name each other; the first message finds them
                    holder.append(self.type(name))
                return holder[0](raw, level, context, target, source)

            return late if name == row_map.name or name not in self._types else self.type(name)
        if row.table:
            return code_converter(self._tables[row.table], row, self._traced)
        return leaf_converter(row, CODECS[row.codec or "text"], self._traced)

    def _refer(self, row: Row) -> Convert:
        name = row.refer
        compiler = self

        def refer(raw: str, level: int, context: Context, target: str, source: str) -> Any:
            made = compiler.map(name).run_part(raw, level, context, source)
            if made is None:
                return None
            if compiler._traced:
                context.trace.append((f"{target}.reference", source, row.id))
            return {"reference": f"urn:uuid:{made.key}"}

        return refer

    def _place(self, row: Row) -> "Place":
        return Place(parse_target(row.target), row.defaults)

    def _watch(self, row: Row, row_map: RowMap, test: Any) -> Any:
        """Let a watched run remember which truths a condition had."""
        if not self._watched or test is None:
            return test
        label = f"{row_map.name}/{row.id}"

        def watched(scope: Any, context: Context) -> bool:
            truth: bool = test(scope, context)
            if context.conditions is not None:
                context.conditions.setdefault(label, set()).add(truth)
            return truth

        return watched

    def _segment_row(self, row: Row, row_map: RowMap, slots: SlotNames) -> RunRow:
        test = None
        if row.when:
            condition = RowCondition(row.when, slots=slots)
            test = self._watch(row, row_map, condition.test)
        if row.py:
            return self._python_row(row, test)
        place = self._place(row)
        if row.value is not None:
            return constant_row(row, place, test, self._traced)
        source = parse_source(row.source, is_type=False)
        convert = self._convert(row, row_map)
        slot = slots.number(source.segment)
        return field_row(row, source, slot, convert, place, test)

    def _python_row(self, row: Row, test: Any) -> RunRow:
        module, _, name = row.py.rpartition(".")
        function = getattr(importlib.import_module(module), name)
        compiler = self

        def run(
            parts: Any, level: int, context: Context, out: Element, target: str, source: str
        ) -> None:
            if test is None or test(parts, context):
                function(PythonCall(compiler, row, parts, level, context, out, target, source))

        return run


_FIELD = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[\*\])?-(\d+)")


def _looking(row: Row, ready: RunRow, slots: SlotNames) -> RunRow:
    """Let a watched run remember which fields a row reads or asks about."""
    places = [
        (slots.number(name), name, number)
        for text in (row.source, row.when, *row.reads)
        for name, number in _FIELD.findall(text)
    ]

    def look(
        parts: Any, level: int, context: Context, out: Element, target: str, source: str
    ) -> None:
        if context.looked is not None:
            for slot, name, number in places:
                segments = parts[2].segments.get(name, ()) if "[*]-" in row.source else ()
                for prefix in (parts[1][slot], *(f"{name}[{one.sequence}]" for one in segments)):
                    context.looked.add(f"{prefix}-{number}")
        ready(parts, level, context, out, target, source)

    return look


def _field_of(row: Row, slots: SlotNames) -> tuple[int, int]:
    """Return the slot and number of the one field that a row reads, or -1 and 0."""
    if row.py or row.value is not None:
        return -1, 0
    source = parse_source(row.source, is_type=False)
    return (-1, 0) if source.every_segment else (slots.number(source.segment), source.field)


class PythonCall:
    """What a `py:` row gets: its source, its element, and ways to make resources and trace."""

    __slots__ = (
        "compiler", "context", "level", "out", "parts", "row", "source", "target",
    )  # fmt: skip

    def __init__(
        self,
        compiler: Compiler,
        row: Row,
        parts: Any,
        level: int,
        context: Context,
        out: Element,
        target: str,
        source: str,
    ) -> None:
        self.compiler = compiler
        self.row = row
        self.parts = parts
        self.level = level
        self.context = context
        self.out = out
        self.target = target
        self.source = source

    def part(self, number: int) -> str:
        """Return the raw text of part `number` of a data type."""
        parts = self.parts
        raw = parts[number - 1] if number <= len(parts) else ""
        return "" if raw == NULL else raw

    def text(self, number: int) -> str:
        """Return the first subcomponent of part `number`, unescaped."""
        raw = self.part(number)
        mark = self.context.separators.subcomponent
        if mark and mark in raw and self.level <= 1:
            raw = raw.split(mark, 1)[0]
        return unescape(raw, self.context.separators, self.context.codec)

    def trace(self, target: str, source: str) -> None:
        """Note that `target` came from `source` (both absolute)."""
        self.context.trace.append((target, source, self.row.id))


def made_by_id(scope: Scope, name: str) -> str | None:
    """Return the reference of a resource that the message map named, here or further out."""
    place: Scope | None = scope
    while place is not None:
        if name in place.made:
            return place.made[name]
        place = place.parent
    return None
