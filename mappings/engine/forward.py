"""Maps compiled for the way into FHIR: each map or data type becomes one function.

It gets the raw fields of its segments or the raw parts of its data type, fills the element and
notes for each value where it came from. Nothing of the YAML is looked at while a message runs.
"""

import importlib
from collections.abc import Iterable, Mapping
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
from mappings.engine.row_code import Fill, part_rows, segment_rows, type_rows
from mappings.engine.row_reading import fields_named
from mappings.engine.rows import Row, RowMap
from mappings.engine.scopes import FieldsRead, Scope, SlotNames
from mappings.engine.tables import Table
from mappings.engine.targets import Element
from mappings.engine.value_code import Compiling
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
            self._types[name] = self._late(name)  # what a type that names itself gets
            ready = self._types[name] = self._compile_type(name)
        return ready

    def _late(self, name: str) -> Convert:
        def late(raw: str, level: int, context: Context, target: str, source: str) -> Any:
            return self._types[name](raw, level, context, target, source)

        return late

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
        rows = self._forward_rows(row_map)
        root = "" if row_map.is_element else row_map.to
        if row_map.reads_parts:
            fill = part_rows(row_map.name, rows, self._compiling(), root)
            return CompiledMap(row_map, None, fill, self.map, is_traced=self._traced)
        slots = SlotNames()
        fill = segment_rows(row_map.name, rows, slots, self._compiling(), root)
        reads = _fields_read(rows)
        return CompiledMap(row_map, slots, fill, self.map, reads, is_traced=self._traced)

    def _compile_type(self, name: str) -> Convert:
        row_map = self._maps[name]
        return type_rows(name, self._forward_rows(row_map), self._compiling())

    def _forward_rows(self, row_map: RowMap) -> list[Row]:
        rows = self.rows_of(row_map)
        return [row for row in rows if not row.ignore and row.only != "backward"]

    def _compiling(self) -> Compiling:
        return Compiling(
            traced=self._traced,
            watched=self._watched,
            convert=self._convert,
            call=self._python_row,
        )

    # -- one row -------------------------------------------------------------------------------

    def _convert(self, row: Row) -> Convert:
        if row.refer:
            return self._refer(row)
        if row.use and row.table:
            return coded_converter(self.type(row.use), self._tables[row.table], row, self._traced)
        if row.use:
            return self.type(row.use)
        if row.table:
            return code_converter(self._tables[row.table], row, self._traced)
        return leaf_converter(row, CODECS[row.codec or "text"], self._traced)

    def _refer(self, row: Row) -> Convert:
        name, identifier, traced = row.refer, row.id, self._traced
        ready: CompiledMap | None = None

        def refer(raw: str, level: int, context: Context, target: str, source: str) -> Any:
            nonlocal ready
            if ready is None:
                ready = self.map(name)  # not before: maps refer to each other
            made = ready.run_part(raw, level, context, source)
            if made is None:
                return None
            if traced:
                context.trace.append((target + ".reference", source, identifier))
            return {"reference": f"urn:uuid:{made.key}"}

        return refer

    def _python_row(self, row: Row) -> Fill:
        module, _, name = row.py.rpartition(".")
        function = getattr(importlib.import_module(module), name)

        def run(
            parts: Any, level: int, context: Context, out: Element, target: str, source: str
        ) -> None:
            function(PythonCall(self, row, parts, level, context, out, target, source))

        return run


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
        parts = self.parts
        raw: str = parts[number - 1] if number <= len(parts) else ""
        if not raw or raw.isalnum():
            return raw
        if raw == NULL:
            return ""
        separators = self.context.separators
        mark = separators.subcomponent
        if mark and mark in raw and self.level <= 1:
            raw = raw.split(mark, 1)[0]
        return unescape(raw, separators, self.context.codec)

    def trace(self, target: str, source: str) -> None:
        """Note that `target` came from `source` (both absolute)."""
        self.context.trace.append((target, source, self.row.id))


def _fields_read(rows: Iterable[Row]) -> FieldsRead | None:
    """Return which fields the rows read or ask about, None where they read all of a name."""
    reads: dict[str, set[int]] = {}
    for row in rows:
        if "[*]-" in row.source:
            return None
        for text in (row.source, row.when, *row.reads):
            for name, number in fields_named(text):
                reads.setdefault(name, set()).add(number)
    return reads


def made_by_id(scope: Scope, name: str) -> str | None:
    """Return the reference of a resource that the message map named, here or further out."""
    place: Scope | None = scope
    while place is not None:
        key = place.made.get(name)
        if key is not None:
            return key
        place = place.parent
    return None
