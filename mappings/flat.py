"""Flat rows (CSV, XLSX): one main table, child tables joined by a key, each record a tree.

A map's `document:` says `kind: flat`, the `main` table, its `key` column, and for each of
`children` the column that holds the key of the main row. Files are read and written by whoever has
them; here a table is a list of rows, each a text by heading.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance.problem import InvalidContent, InvalidStructure, Issue
from mappings.documents import Documents, ReadDocument
from mappings.engine.library import Library
from mappings.engine.rows import RowMap
from mappings.engine.tree import Node, parse_tree_path

Table = Sequence[Mapping[str, str]]
Tables = Mapping[str, Table]
Content = tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]
"""Content by name and resources by reference, as `Documents.compose` takes them."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_PLAIN = frozenset("0123456789+- ()")  # a telephone number or a negative one is no formula


class FlatDocuments:
    """Reads tables into FHIR content and writes them from it, by the flat maps of a library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._documents = Documents(library)

    def name_of(self, headings: Sequence[str]) -> str:
        """Return the map whose required columns a main table has; raises `InvalidContent`."""
        flat = [one for one in self._library.maps.values() if one.document.get("kind") == "flat"]
        for row_map in flat:
            if set(row_map.require) <= set(headings):
                return row_map.name
        wanted = "; ".join(f"{one.name}: {', '.join(one.require)}" for one in flat)
        raise InvalidContent(
            Issue(
                code="not-found",
                key="table-unknown",
                text_en="No map knows a table with these columns",
                text_zh="没有映射与该表的列一致",
                fix_en=f"Name the columns in the first row ({wanted}).",
                fix_zh=f"请在首行给出列名（{wanted}）。",
            )
        )

    def read(self, name: str, tables: Tables) -> Iterator[ReadDocument]:
        """Yield the content of each row of the main table with its children.

        Raises `InvalidStructure` for a child whose parent is not there: nothing is lost in silence.
        """
        document = self._library.maps[name].document
        main, key = str(document["main"]), str(document["key"])
        children: Mapping[str, str] = document.get("children", {})
        by_parent: dict[tuple[str, str], list[Mapping[str, str]]] = {}
        known = {row.get(key, "") for row in tables.get(main, ())}
        for child, column in children.items():
            for number, row in enumerate(tables.get(child, ()), 2):
                parent = row.get(column, "")
                if parent not in known:
                    raise InvalidStructure(_no_parent(child, number, column))
                by_parent.setdefault((child, parent), []).append(row)
        for row in tables.get(main, ()):
            node = Node(main, "", {}, _cells(row))
            for child, column in children.items():
                for one in by_parent.get((child, row.get(key, "")), ()):
                    kept = {name: text for name, text in one.items() if name != column}
                    node.children.append(Node(child, "", {}, _cells(kept)))
            yield self._documents.read_node(name, node)

    def compose(self, name: str, records: Sequence[Content]) -> dict[str, list[dict[str, str]]]:
        """Return the tables that records make, every column in each row.

        Raises `InvalidContent` naming each required column that a record leaves empty.
        """
        row_map = self._library.maps[name]
        document = row_map.document
        main, key = str(document["main"]), str(document["key"])
        headings = headings_of(self._library, row_map)
        tables: dict[str, list[dict[str, str]]] = {table: [] for table in headings}
        for content, resources in records:
            root, _ = self._documents.compose_node(name, content, resources=resources)
            cells = {child.name: child.text for child in root.children if not child.children}
            tables[main].append(_full(cells, headings[main]))
            for child in root.children:
                column = document.get("children", {}).get(child.name)
                if child.children and column:
                    own = {one.name: one.text for one in child.children}
                    own[column] = cells.get(key, "")
                    tables[child.name].append(_full(own, headings[child.name]))
        return tables


def headings_of(library: Library, row_map: RowMap) -> dict[str, list[str]]:
    """Return the columns of each table of a flat map, in the order of its rows."""
    document = row_map.document
    main = str(document["main"])
    found: dict[str, list[str]] = {main: []}
    for child, column in document.get("children", {}).items():
        found[child] = [column]
    for path in _leaves(library, row_map):
        *outer, last = path
        columns = found[outer[0] if outer else main]
        if last not in columns:
            columns.append(last)
    return found


def read_csv(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV whose first row names the columns; empty cells are left out."""
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [
        {str(name): unguarded(cell.strip()) for name, cell in row.items() if name and cell}
        for row in rows
    ]


def write_csv(rows: Table, headings: Sequence[str]) -> str:
    """Return rows as CSV; a cell that a spreadsheet would calculate gets an apostrophe."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(headings)
    writer.writerows([_guarded(row.get(name, "")) for name in headings] for row in rows)
    return out.getvalue()


def _leaves(library: Library, row_map: RowMap) -> Iterator[tuple[str, ...]]:
    for row in row_map.rows:
        if row.ignore or not row.source:
            continue
        path = tuple(step.name for step in parse_tree_path(row.source))
        if row.use or row.refer:
            for inner in _leaves(library, library.maps[row.use or row.refer]):
                yield (*path, *inner)
        else:
            yield path


def _cells(row: Mapping[str, str]) -> list[Node]:
    return [Node(name, text) for name, text in row.items() if text]


def _full(cells: Mapping[str, str], headings: Sequence[str]) -> dict[str, str]:
    return {name: cells.get(name, "") for name in headings}


def _guarded(text: str) -> str:
    is_risky = text.startswith(_FORMULA) and not _PLAIN.issuperset(text)
    return f"'{text}" if is_risky or text.startswith("'") else text


def unguarded(text: str) -> str:
    """Return a cell without the quote that keeps a sheet from reading it as a formula."""
    return text[1:] if text.startswith("'") else text


def _no_parent(child: str, number: int, column: str) -> Issue:
    return Issue(
        code="not-found",
        key="table-parent",
        text_en=f"Row {number} of {child} names in {column} no row of the main table",
        text_zh=f"“{child}”第 {number} 行的“{column}”在主表中不存在",
        fix_en="Add the main row, or correct the column.",
        fix_zh="请补充主表中的行，或更正该列。",
        expression=f"{child}[{number}]/{column}",
    )
