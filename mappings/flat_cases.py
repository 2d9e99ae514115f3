"""Golden cases of tables: `in.csv` or `in.xlsx`, `out.fhir.json` and the tables of the way back.

A child table stands beside its main one, `in.医生.csv` beside `in.csv`; in a workbook each sheet is
a table. `out.fhir.json` lists a Bundle for each record; the way back is CSV in both cases
(`back.csv`, `back.医生.csv`), which people can read in a difference.
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance import resource_json
from mappings.document_bundles import content_of, document_bundle, taken_trace
from mappings.engine.library import Library
from mappings.flat import FlatDocuments, headings_of, write_csv

Given = tuple[Sequence[str], Mapping[str, Sequence[Mapping[str, str]]]]
"""Headings of the main table, and all tables by name; "" names the main one."""
ReadTables = Callable[[pathlib.Path], Given]


class FlatCases:
    """Reads and writes the tables of cases with one library; `read` reads a file's tables."""

    def __init__(self, library: Library, read: ReadTables) -> None:
        self._library = library
        self._flat = FlatDocuments(library)
        self._read = read

    def out(self, folder: pathlib.Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Return the Bundle of each record as plain JSON, and the row of each path."""
        name, tables = self._tables(folder)
        row_map = self._library.maps[name]
        found: list[dict[str, Any]] = []
        rows: dict[str, str] = {}
        for number, read in enumerate(self._flat.read(name, tables)):
            bundle = document_bundle(row_map, read, traced=True)
            taken = taken_trace(row_map, bundle)
            rows |= {f"[{number}].{path}": row for path, row in taken.items()}
            found.append(json.loads(resource_json.dump(bundle), parse_float=str))
        return found, rows

    def back(self, folder: pathlib.Path) -> dict[str, str]:
        """Return the text of each table that the case's resources alone make, by file name."""
        name, tables = self._tables(folder)
        row_map = self._library.maps[name]
        given = [document_bundle(row_map, one) for one in self._flat.read(name, tables)]
        made = self._flat.compose(name, [content_of(row_map, one) for one in given])
        headings = headings_of(self._library, row_map)
        main = row_map.document["main"]
        return {
            "back.csv" if table == main else f"back.{table}.csv": write_csv(
                rows, headings[table]
            ).replace("\r\n", "\n")
            for table, rows in made.items()
        }

    def _tables(self, folder: pathlib.Path) -> tuple[str, dict[str, Any]]:
        headings, tables = self._read(table_file(folder))
        name = self._flat.name_of(headings)
        main = str(self._library.maps[name].document["main"])
        return name, {**tables, main: tables[""]}


def table_file(folder: pathlib.Path) -> pathlib.Path:
    """Return the case's table: `in.xlsx` where there is one, else `in.csv`."""
    workbook = folder / "in.xlsx"
    return workbook if workbook.exists() else folder / "in.csv"


def is_flat(folder: pathlib.Path) -> bool:
    """Say whether a case is about tables."""
    return table_file(folder).exists()
