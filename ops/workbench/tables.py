"""Tables in the workbench: CSV and XLSX files as flat rows, and back."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import openpyxl
import typer

from care.identity.sheets import Formula, Row, read_sheets, text_of
from conformance import resource_json
from conformance.problem import InvalidContent, Issue, Problem
from mappings.document_bundles import content_of, document_bundle
from mappings.engine.library import Library
from mappings.flat import FlatDocuments, headings_of, read_csv, write_csv
from ops.cli import USAGE
from ops.workbench.documents import bytes_of, refused, require_bundle

Tables = dict[str, list[dict[str, str]]]


def is_table(file: pathlib.Path) -> bool:
    """Say whether a file of the command line holds tables."""
    return file.suffix in (".csv", ".xlsx")


def run_tables(library: Library, file: pathlib.Path, *, traced: bool) -> None:
    """Print a Bundle for each row of the main table, one JSON line each."""
    flat = FlatDocuments(library)
    try:
        headings, tables = tables_of(file)
        name = flat.name_of(headings)
        row_map = library.maps[name]
        for read in flat.read(name, _named(library, name, tables)):
            bundle = document_bundle(row_map, read, traced=traced)
            typer.echo(resource_json.dump(bundle).decode())
            for note in read.notes:
                typer.echo(f"{file.name}: {note.text_en}", err=True)
    except Problem as problem:
        raise refused(file, problem) from None


def back_tables(
    library: Library, file: pathlib.Path, bundles: pathlib.Path | None, out: pathlib.Path | None
) -> None:
    """Write the tables that Bundles (or what the file itself becomes) make.

    A child table of a CSV is a file beside it: `list.csv` and `list.医生.csv`.
    """
    if out is None or not is_table(out):
        typer.echo("name the file to write: --out list.xlsx (or .csv)", err=True)
        raise typer.Exit(USAGE)
    flat = FlatDocuments(library)
    try:
        headings, tables = tables_of(file)
        name = flat.name_of(headings)
        row_map = library.maps[name]
        if bundles is None:
            read = flat.read(name, _named(library, name, tables))
            given = [document_bundle(row_map, one) for one in read]
        else:
            lines = [line for line in bytes_of(bundles).splitlines() if line.strip()]
            given = [require_bundle(bundles.name, resource_json.parse(line)) for line in lines]
        made = flat.compose(name, [content_of(row_map, one) for one in given])
    except Problem as problem:
        raise refused(file, problem) from None
    _write(out, str(row_map.document["main"]), made, headings_of(library, row_map))
    typer.echo(f"wrote {', '.join(f'{len(rows)} rows {one}' for one, rows in made.items())}")


def tables_of(file: pathlib.Path) -> tuple[Sequence[str], Tables]:
    """Return the headings of the main table, and all tables; "" names the main one."""
    if not file.is_file():
        typer.echo(f"{file} is no file that exists", err=True)
        raise typer.Exit(USAGE)
    if file.suffix == ".xlsx":
        sheets = read_sheets(file.read_bytes())
        tables = {title: [_texts(row) for row in sheet.rows] for title, sheet in sheets.items()}
        first = next(iter(sheets), "")
        headings = sheets[first].headings if sheets else ()
        return headings, {"": tables.get(first, []), **tables}
    main = read_csv(_decoded(file))
    children = {
        other.name.removeprefix(f"{file.stem}.").removesuffix(".csv"): read_csv(_decoded(other))
        for other in sorted(file.parent.glob(f"{file.stem}.*.csv"))
    }
    return list(dict.fromkeys(name for row in main for name in row)), {"": main, **children}


def _named(library: Library, name: str, tables: Tables) -> Tables:
    """Return the tables with the main one under its name in the map."""
    return {**tables, str(library.maps[name].document["main"]): tables[""]}


def _texts(row: Row) -> dict[str, str]:
    """Return the cells as texts; a formula is never taken."""
    cells: Iterator[tuple[str, object]] = iter(row.cells.items())
    return {name: text_of(cell) for name, cell in cells if cell and not isinstance(cell, Formula)}


def _decoded(file: pathlib.Path) -> str:
    data = file.read_bytes()
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InvalidContent(
        Issue(
            code="invalid",
            key="table-encoding",
            text_en=f"{file.name} is neither UTF-8 nor GB18030",
            text_zh=f"{file.name} 不是 UTF-8 或 GB18030 编码",
            fix_en="Save it as CSV UTF-8.",
            fix_zh="请另存为 CSV UTF-8。",
        )
    )


def _write(
    out: pathlib.Path, main: str, tables: Tables, headings: Mapping[str, Sequence[str]]
) -> None:
    if out.suffix == ".csv":
        for table, rows in tables.items():
            file = out if table == main else out.with_name(f"{out.stem}.{table}.csv")
            file.write_text(write_csv(rows, headings[table]), encoding="utf-8-sig", newline="")
        return
    book = openpyxl.Workbook(write_only=True)
    for table, rows in tables.items():
        sheet = book.create_sheet(table)
        sheet.freeze_panes = "A2"
        for line in ([*headings[table]], *([row[n] for n in headings[table]] for row in rows)):
            sheet.append([_text_cell(sheet, text) for text in line])
    book.save(out)


def _text_cell(sheet: Any, text: str) -> Any:
    """Return a cell that is a text whatever it begins with."""
    cell = openpyxl.cell.WriteOnlyCell(sheet, value=text)
    cell.data_type = "s"
    cell.number_format = "@"
    return cell
