"""Maps over trees compiled to closures for the way into FHIR: XML, JSON and flat rows."""

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from mappings.engine.codecs import CODECS
from mappings.engine.conditions import compile_condition
from mappings.engine.context import Context, Made
from mappings.engine.converters import Convert, code_converter, leaf_converter
from mappings.engine.places import Place
from mappings.engine.rows import Row, RowMap
from mappings.engine.tables import Table
from mappings.engine.targets import Element, compile_put, parse_target, text_of
from mappings.engine.tree import Node, parse_tree_path, select
from mappings.hl7.escape import Separators

# Texts of trees have no delimiters of HL7; U+0000 occurs in none of them.
NO_SEPARATORS = Separators(
    field="\0", component="\0", repetition="\0", escape="\0", subcomponent="\0"
)
TreeRow = Callable[[Node, Context, Element, str, str], None]
_MADE = uuid.UUID("6f1d3c0e-5a38-4f0b-9f0a-0d2f7c1b9e55")


class TreeForward:
    """Compiles maps and types over trees on demand."""

    def __init__(self, maps: Mapping[str, RowMap], tables: Mapping[str, Table]) -> None:
        self._maps = maps
        self._tables = tables
        self._rows: dict[str, list[TreeRow]] = {}

    def fill(self, name: str, node: Node, context: Context, target: str, source: str) -> Element:
        """Return the element that the rows of a map make of a node."""
        rows = self._rows.get(name)
        if rows is None:
            rows = self._rows[name] = [
                self._compile(row)
                for row in self._maps[name].rows
                if not row.ignore and row.only != "backward"
            ]
        out: Element = {}
        for row in rows:
            row(node, context, out, target, source)
        return out

    def _compile(self, row: Row) -> TreeRow:
        place = Place(parse_target(row.target), row.defaults)
        test = compile_condition(row.when, texts_at) if row.when else None
        if row.value is not None:
            return _constant(row, place, test)
        steps = parse_tree_path(row.source)
        convert = self._convert(row)
        use, fill, refer = row.use, self.fill, row.refer

        def run(node: Node, context: Context, out: Element, target: str, source: str) -> None:
            if test is not None and not test(node):
                return
            for found, where in select(node, steps):
                path, origin = target + place.path(out), source + where
                if use:
                    if isinstance(found, str):
                        continue
                    value: Any = fill(use, found, context, path, origin) or None
                elif refer:
                    value = None if isinstance(found, str) else self._refer(row, found, context)
                    if value is not None:
                        context.trace.append((path, origin, row.id))
                else:
                    text = found if isinstance(found, str) else found.text
                    value = convert(text, 2, context, path, origin)
                if value is not None:
                    for beside in place.put(out, value):
                        context.trace.append((target + beside, source, row.id))

        return run

    def _refer(self, row: Row, node: Node, context: Context) -> Element | None:
        """Make the resource that a node describes; equal words make one. Returns a reference."""
        row_map = self._maps[row.refer]
        around, context.trace = context.trace, []
        try:
            filled = self.fill(row.refer, node, context, "", f"/{node.name}")
            trace = context.trace
        finally:
            context.trace = around
        if not filled:
            return None
        for path, value in row_map.defaults.items():
            steps = parse_target(path)
            compile_put(steps)(filled, value)
            trace.append((text_of(steps), f"/{node.name}", row.id))
        words = json.dumps([row_map.to, filled], ensure_ascii=False, sort_keys=True, default=str)
        key = str(uuid.uuid5(_MADE, words))
        if all(one.key != key for one in context.made):
            resource = {"resourceType": row_map.to, **filled}
            context.made.append(
                Made(key=key, resource=resource, map_name=row_map.name, trace=trace)
            )
        return {"reference": f"urn:uuid:{key}"}

    def _convert(self, row: Row) -> Convert:
        if row.table:
            return code_converter(self._tables[row.table], row, True)
        return leaf_converter(row, CODECS[row.codec or "text"], True)


def texts_at(path: str) -> Callable[[Node], list[str]]:
    """Return a function from a node to the texts at a path below it, for conditions."""
    steps = parse_tree_path(path)

    def texts(node: Node) -> list[str]:
        found = [one if isinstance(one, str) else one.text for one, _ in select(node, steps)]
        return [text for text in found if text]

    return texts


def _constant(row: Row, place: Place, test: Callable[[Node], bool] | None) -> TreeRow:
    def run(node: Node, context: Context, out: Element, target: str, source: str) -> None:
        if (test is None or test(node)) and place.is_empty(out):
            context.trace.append((target + place.path(out), source, row.id))
            place.put(out, row.value)

    return run
