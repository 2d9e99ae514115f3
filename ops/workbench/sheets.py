"""The rows of the maps as a sheet in the guide's column order, for people who like sheets."""

import csv
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from care.identity.sheets import CSV, XLSX, read_sheet, text_of
from conformance.problem import InvalidContent, Issue
from conformance.search_parameters import resource_types
from mappings.engine.library import Library, default_folder, load
from mappings.flat import unguarded
from mappings.map_text import Changes, Given, changed_text, new_text
from mappings.sheet_rows import EDITED, HEAD, cells_of, given_of

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_MAP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")  # a file is named like it
Key = tuple[str, str]
"""A row: the name of its map and its id."""


@dataclass(slots=True, kw_only=True)
class Written:
    """What an import wrote: rows changed and added, and the files that hold them now."""

    changed: int = 0
    added: int = 0
    files: dict[str, str] = field(default_factory=dict)


def write_rows(library: Library, out: pathlib.Path) -> int:
    """Write every row to a .csv or .xlsx file and return how many; no cell is a formula."""
    lines = [list(HEAD), *(list(cells.values()) for cells in _cells(library).values())]
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
    known = _cells(library)
    seen = set[Key]()
    for number, cells in _rows_of(sheet):
        key = (cells["Map"], cells["Identifier"])
        seen.add(key)
        row = "/".join(key)
        if key not in known:
            words = ", ".join(f"{name} {cells[name]}" for name in HEAD
                              if cells[name] and name in EDITED)  # fmt: skip
            yield f"sheet row {number}: {row} is new: {words}"
            continue
        was = known[key]
        for name in _different(was, cells):
            yield f"{was['File']}:{was['Line']}: {row}: {name}: {was[name]} -> {cells[name]}"
    for key in known.keys() - seen:
        was = known[key]
        yield f"{was['File']}:{was['Line']}: {'/'.join(key)} is not in the sheet"


def write_sheet(library: Library, sheet: pathlib.Path, folder: pathlib.Path | None) -> Written:
    """Write what a sheet changes and adds into the maps of a folder; nothing is taken out.

    A row keeps its place and the comments around it; a new row stands behind the one before it in
    the sheet, a new map in a file of its own. Raises InvalidContent for a sheet that is none, and
    FaultyMaps, with nothing written, where the maps would not load.
    """
    root = folder or default_folder()
    known = _cells(library)
    changes: dict[str, Changes] = {}
    fresh: dict[str, list[Given]] = {}
    before: dict[str, str] = {}
    written = Written()
    for number, cells in _rows_of(sheet):
        name, row_id = cells["Map"], cells["Identifier"]
        was = known.get((name, row_id))
        if was is None or _different(was, cells):
            given = _given(library, cells, number)
            if name not in library.maps:
                fresh.setdefault(name, []).append(given)
            elif was is None:
                changes.setdefault(name, Changes()).added.append((before.get(name, ""), given))
            else:
                changes.setdefault(name, Changes()).changed[row_id] = given
            written.added += was is None
            written.changed += was is not None
        before[name] = row_id
    written.files = _texts(library, root, changes) | _new_texts(root, fresh)
    _require_loading(root, written.files)
    for name, text in written.files.items():
        (root / name).write_text(text, encoding="utf-8")
    return written


def _rows_of(sheet: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield number and cells of each row of a sheet that has the columns of an export."""
    read = read_sheet(sheet.read_bytes(), XLSX if sheet.suffix == ".xlsx" else CSV)
    missing = [name for name in HEAD if name in EDITED and name not in read.headings]
    if missing:
        raise InvalidContent(
            _issue(f"the sheet has no column {missing[0]}", f"表中没有“{missing[0]}”列")
        )
    for row in read.rows:
        cells = {name: unguarded(text_of(row.cells.get(name))) for name in HEAD}
        if not _MAP_NAME.match(cells["Map"]) or not cells["Identifier"]:
            raise InvalidContent(
                _issue(
                    f"row {row.number} names no map (letters, digits, - _ .) or has no identifier",
                    f"第 {row.number} 行没有映射名（字母、数字、- _ .）或没有标识",
                )
            )
        yield row.number, cells


def _given(library: Library, cells: Mapping[str, str], number: int) -> Given:
    row_map = library.maps.get(cells["Map"])
    try:
        return given_of(cells, library, row_map.source_kind if row_map else "v2")
    except ValueError as column:
        raise InvalidContent(
            _issue(
                f"row {number}: {column} is no JSON object",
                f"第 {number} 行：“{column}”不是 JSON 对象",
            )
        ) from None


def _issue(text_en: str, text_zh: str) -> Issue:
    return Issue(
        code="invalid",
        key="map-sheet",
        text_en=text_en[0].upper() + text_en[1:],
        text_zh=text_zh,
        fix_en="Begin with a sheet that `qiao map export` wrote, and correct the cell.",
        fix_zh="请从 qiao map export 写出的表开始，并更正该单元格。",
    )


def _texts(library: Library, root: pathlib.Path, changes: Mapping[str, Changes]) -> dict[str, str]:
    files = {library.maps[name].file for name in changes}
    return {
        file: changed_text((root / file).read_text(encoding="utf-8"), changes) for file in files
    }


def _new_texts(root: pathlib.Path, fresh: Mapping[str, list[Given]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, rows in fresh.items():
        file = f"maps/{name}.yaml"
        if (root / file).exists():
            raise InvalidContent(
                _issue(f"{file} exists and holds no map {name}", f"{file} 已存在且其中没有 {name}")
            )
        to = name.rpartition("-")[2]
        found[file] = new_text(name, to if to in resource_types() else "", rows)
    return found


def _require_loading(root: pathlib.Path, files: Mapping[str, str]) -> None:
    """Raise FaultyMaps where the maps with the new texts would not load."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch)
        for part in ("maps", "tables"):
            shutil.copytree(root / part, copy / part, ignore=shutil.ignore_patterns("*.cases"))
        for name, text in files.items():
            (copy / name).write_text(text, encoding="utf-8")
        load(copy)


def _different(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        name
        for name in HEAD
        if name in EDITED and " ".join(was[name].split()) != " ".join(now[name].split())
    ]


def _cells(library: Library) -> dict[Key, dict[str, str]]:
    return {
        (row_map.name, row.id): cells_of(library, row_map, row)
        for row_map in library.maps.values()
        for row in row_map.rows
    }


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
