"""The rows of the maps as a sheet in the guide's column order, for people who like sheets."""

import csv
import pathlib

from mappings.engine.library import Library

_HEAD = (
    "Map", "Identifier", "Source", "Condition", "FHIR Attribute", "Type", "Vocabulary",
    "Assignment", "Class", "Loses or reason", "File", "Line",
)  # fmt: skip
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
