"""The rows of the maps as a sheet in the guide's column order, for people who like sheets."""

import csv
import pathlib
from collections.abc import Iterator

from care.identity.sheets import CSV, XLSX, read_sheet, text_of
from mappings.engine.library import Library
from mappings.flat import unguarded

_HEAD = (
    "Map", "Identifier", "Source", "Condition", "FHIR Attribute", "Type", "Vocabulary",
    "Assignment", "Class", "Loses or reason", "File", "Line",
)  # fmt: skip
_EDITED = frozenset(_HEAD) - {"Class", "File", "Line"}
"""Columns that people change; the others are said of the row."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_rows(library: Library, out: pathlib.Path) -> int:
    """Write every row to a .csv or .xlsx file and return how many; no cell is a formula."""
    lines = [list(_HEAD), *_lines(library)]
    plain = [[_plain(text) for text in line] for line in lines]
    if out.suffix == ".xlsx":
        _write_workbook(out, plain)
    else:
        with out.open("w", encoding="utf-8-sig", newline="") as stream:
            csv.writer(stream).writerows(plain)
    return len(lines) - 1


def sheet_differences(library: Library, sheet: pathlib.Path) -> Iterator[str]:
    """Yield how an edited sheet differs from the maps: file and line, row, column, was -> is.

    Raises InvalidContent for what is no such sheet or hides something.
    """
    read = read_sheet(sheet.read_bytes(), XLSX if sheet.suffix == ".xlsx" else CSV)
    lines = {(line[0], line[1]): line for line in _lines(library)}
    seen = set[tuple[str, str]]()
    for row in read.rows:
        cells = [unguarded(text_of(row.cells.get(name))) for name in _HEAD]
        key = (cells[0], cells[1])
        seen.add(key)
        if key not in lines:
            words = ", ".join(f"{name} {cell}" for name, cell in zip(_HEAD, cells, strict=True)
                              if cell and name in _EDITED)  # fmt: skip
            yield f"sheet row {row.number}: {key[0]}/{key[1]} is new: {words}"
            continue
        line = lines[key]
        for name, was, now in zip(_HEAD, line, cells, strict=True):
            if name in _EDITED and " ".join(was.split()) != " ".join(now.split()):
                yield f"{line[10]}:{line[11]}: {key[0]}/{key[1]}: {name}: {was} -> {now}"
    for key in lines.keys() - seen:
        yield f"{lines[key][10]}:{lines[key][11]}: {key[0]}/{key[1]} is not in the sheet"


def _lines(library: Library) -> list[list[str]]:
    return [
        [
            row_map.name,
            row.id,
            row.source,
            row.when,
            row.target,
            row.use or row.refer or row.codec,
            row.table,
            "" if row.value is None else str(row.value),
            library.classes[f"{row_map.name}/{row.id}"],
            row.loses or row.ignore,
            row_map.file,
            str(row.line),
        ]
        for row_map in library.maps.values()
        for row in row_map.rows
    ]


def _plain(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text


def _write_workbook(out: pathlib.Path, lines: list[list[str]]) -> None:
    import openpyxl  # a spreadsheet library is slow to import and rarely needed

    workbook = openpyxl.Workbook()
    sheet = workbook.active or workbook.create_sheet()
    sheet.title = "rows"
    for line in lines:
        sheet.append(line)
    sheet.freeze_panes = "A2"
    workbook.save(out)
