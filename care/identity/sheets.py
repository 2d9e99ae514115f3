"""Tables in and out: CSV and XLSX as rows of cells, safely; answers as XLSX with what is wrong.

What a sheet may cost is looked at in the archive before anything is read, and every cell is
written as text, so that nothing a stranger typed is ever calculated.
"""

import csv
import datetime
import io
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openpyxl
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Font, PatternFill
from openpyxl.utils.exceptions import InvalidFileException

from conformance.problem import InvalidContent, Issue

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
CSV = "text/csv"

ROWS = 50_000  # of one file; more are several files
_COLUMNS = 40
_SHEETS = 20  # of one file
_CELL = 1_000  # characters; a resident's address has 200
_ENTRIES = 500  # files in the archive; a sheet of one table has about ten
_UNPACKED = 128 * 1024 * 1024  # bytes of all entries; ten thousand rows take about ten million
_RATIO = 200  # unpacked to packed; plain sheets reach about 20
_SMALL = 1024 * 1024  # what is smaller than this may be packed as tightly as it likes

_TEXT = 200_000  # bytes; a cell of Excel has 32,767 letters, and readers are slow with longer ones

_RED = PatternFill("solid", fgColor="FFFFC7CE")
_RED_FONT = Font(color="FF9C0006")
_BOLD = Font(bold=True)
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Formula:
    """A cell that holds a formula: never calculated, never taken."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a sheet: its number as a person sees it, and its cells by heading."""

    number: int
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Headings and rows; empty rows are left out."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]


def read_sheet(data: bytes, kind: str) -> Sheet:
    """Read the first sheet of an XLSX, or a CSV (UTF-8 or GB18030).

    Raises InvalidContent for what is no sheet, is too large or hides something.
    """
    return _sheet_of(_xlsx(data) if kind == XLSX else _csv(data))


def _sheet_of(lines: Iterator[Sequence[Any]]) -> Sheet:
    first = next(lines, None)
    headings = tuple(_heading(cell) for cell in first or ())
    while headings and not headings[-1]:
        headings = headings[:-1]
    named = [one for one in headings if one]
    if not named or len(named) != len(set(named)):
        raise _refused(
            "sheet-headings",
            ("The first row does not name each column once", "首行未给出互不相同的列名"),
            ("Take the template and keep its first row.", "请使用模板并保留其首行。"),
        )
    rows: list[Row] = []
    for number, cells in enumerate(lines, start=2):
        if any(cell not in (None, "") for cell in cells):
            if len(rows) >= ROWS:
                raise _too_large("rows", f"{ROWS}")
            named_cells = {name: cell for name, cell in zip(headings, cells, strict=False) if name}
            rows.append(Row(number=number, cells=named_cells))
    return Sheet(headings=headings, rows=tuple(rows))


def require_a_heading(sheet: Sheet, known: Collection[str]) -> None:
    """Refuse a sheet whose first row names no column that is known: it may be a row of data."""
    if not set(known) & set(sheet.headings):
        raise _refused(
            "sheet-headings",
            (
                "The first row names none of the columns",
                "首行没有任何已知的列名（可能是数据行）",
            ),
            ("Take the template and keep its first row.", "请使用模板并保留其首行。"),
        )


def read_sheets(data: bytes) -> dict[str, Sheet]:
    """Read the sheets of an XLSX by their titles; one without headings is left out.

    Raises as `read_sheet`.
    """
    _require_harmless(data)
    found: dict[str, Sheet] = {}
    for number, title in enumerate(_titles(data)):
        lines = list(_xlsx_sheet(data, number))
        if any(cell not in (None, "") for cells in lines for cell in cells):
            found[title] = _sheet_of(iter(lines))
    return found


def write_sheet(
    headings: Sequence[str],
    rows: Sequence[tuple[Sequence[str], bool]],
    *,
    title: str = "Sheet1",
) -> bytes:
    """Return an XLSX of texts; rows with True are red."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    sheet.append([_text_cell(sheet, text, font=_BOLD) for text in headings])
    for texts, is_red in rows:
        if is_red:
            sheet.append([_text_cell(sheet, text, font=_RED_FONT, fill=_RED) for text in texts])
        else:
            sheet.append([_text_cell(sheet, text) for text in texts])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def text_of(cell: Any) -> str:
    """Return a cell as a person would write it."""
    if cell is None:
        return ""
    if isinstance(cell, Formula):
        return cell.text
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat()
    if isinstance(cell, bool):
        return "是" if cell else "否"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _text_cell(sheet: Any, text: str, **style: Any) -> Any:
    cell = WriteOnlyCell(sheet, value=_ILLEGAL.sub("", text)[:_CELL])
    # Without this a text that begins with "=" would be a formula for whoever opens the file.
    cell.data_type = "s"
    cell.number_format = "@"
    for name, value in style.items():
        setattr(cell, name, value)
    return cell


def _titles(data: bytes) -> list[str]:
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, keep_links=False)
    except (InvalidFileException, KeyError, ValueError, IndexError, TypeError, OSError,
            AttributeError, SyntaxError, zipfile.BadZipFile, EOFError) as failure:  # fmt: skip
        raise _unreadable() from failure
    if len(book.worksheets) > _SHEETS:
        raise _too_large("sheets", f"{_SHEETS}")
    return [str(sheet.title) for sheet in book.worksheets]


def _xlsx(data: bytes) -> Iterator[Sequence[Any]]:
    _require_harmless(data)
    yield from _xlsx_sheet(data, 0)


def _xlsx_sheet(data: bytes, number: int) -> Iterator[Sequence[Any]]:
    try:
        book = openpyxl.load_workbook(
            io.BytesIO(data), read_only=True, data_only=False, keep_links=False
        )
        sheet = book.worksheets[number]
        # What a sheet says of its own size is not believed.
        sheet.reset_dimensions()
        for cells in sheet.iter_rows(max_row=ROWS + 2, max_col=_COLUMNS):
            yield [
                Formula(str(cell.value)) if cell.data_type == "f" else _bounded(cell.value)
                for cell in cells
            ]
    except InvalidContent:
        raise
    except (InvalidFileException, KeyError, ValueError, IndexError, TypeError, OSError,
            AttributeError, SyntaxError, zipfile.BadZipFile, EOFError) as failure:  # fmt: skip
        # openpyxl says "not a sheet" in all these ways.
        raise _unreadable() from failure


def _require_harmless(data: bytes) -> None:
    """Look at the archive before anything is unpacked: number, size and ratio of its entries."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if len(entries) > _ENTRIES:
                raise _too_large("entries in the archive", f"{_ENTRIES}")
            if total > _UNPACKED:
                raise _too_large("unpacked bytes", f"{_UNPACKED}")
            for entry in entries:
                is_tight = entry.file_size > _RATIO * max(entry.compress_size, 1)
                if entry.file_size > _SMALL and is_tight:
                    raise _too_large("unpacked bytes to a packed one", f"{_RATIO}")
                if entry.flag_bits & 0x1:
                    raise _unreadable()
                if entry.filename.endswith((".xml", ".rels")):
                    _require_plain_xml(archive.read(entry))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as failure:
        raise _unreadable() from failure


def _require_plain_xml(part: bytes) -> None:
    """Refuse a document type, which is where entities are declared, and endless texts.

    An encoding of more bytes to a letter, where the words would look otherwise, is refused too.
    """
    if b"\x00" in part[:400] or b"<!DOCTYPE" in part or b"<!ENTITY" in part:
        raise _unreadable()
    if max(map(len, part.split(b"<"))) > _TEXT:
        raise _too_large("bytes of one text", f"{_TEXT}")


def _csv(data: bytes) -> Iterator[Sequence[Any]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError as failure:
            raise _unreadable() from failure
    if "\x00" in text:
        raise _unreadable()
    try:
        for cells in csv.reader(io.StringIO(text, newline="")):
            yield [
                Formula(cell) if cell[:1] in ("=", "@") else _bounded(cell)
                for cell in cells[:_COLUMNS]
            ]
    except csv.Error as failure:
        raise _unreadable() from failure


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _CELL:
        raise _too_large("characters in a cell", f"{_CELL}")
    return value


def _heading(cell: Any) -> str:
    """Return a heading without the gloss in brackets and the star of what must be filled in."""
    return re.split(r"[(（*]", text_of(cell), maxsplit=1)[0].strip()


def _refused(key: str, texts: tuple[str, str], fixes: tuple[str, str]) -> InvalidContent:
    return InvalidContent(
        Issue(
            code="invalid",
            key=key,
            text_en=texts[0],
            text_zh=texts[1],
            fix_en=fixes[0],
            fix_zh=fixes[1],
            expression="http.body",
        )
    )


def _unreadable() -> InvalidContent:
    return _refused(
        "sheet-unreadable",
        (
            "The file is no plain XLSX or CSV (damaged, encrypted, or with a document type inside)",
            "文件不是普通的 XLSX 或 CSV（已损坏、加密，或内含文档类型声明）",
        ),
        ("Open it and save it as .xlsx without a password.", "请打开文件并另存为不加密的 .xlsx。"),
    )


def _too_large(what: str, most: str) -> InvalidContent:
    return _refused(
        "sheet-too-large",
        (f"The sheet has too many {what}: at most {most}", f"表格过大（{what}，最多 {most}）"),
        ("Divide it into several files.", "请拆分为多个文件。"),
    )
