"""Rows of maps as cells of a sheet, and back: what people negotiate in, and what the files say.

A cell holds a text as it is; what is no text (a number, constants with their names) is JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

from mappings.engine.codecs import CODECS
from mappings.engine.library import Library
from mappings.engine.rows import Row, RowMap

HEAD = (
    "Map", "Identifier", "Source", "Condition", "FHIR Attribute", "Type", "Vocabulary",
    "Unknown code", "Assignment", "Constants beside", "Only", "Condition back", "Code back",
    "Python", "Class", "Loses or reason", "File", "Line",
)  # fmt: skip
EDITED = frozenset(HEAD) - {"Class", "File", "Line"}
"""Columns that people change; the others are said of the row."""
KEYS = frozenset(
    {"id", "v2", "xml", "json", "flat", "fhir", "use", "refer", "as", "code", "unknown", "value"}
    | {"with", "when", "when_fhir", "only", "back", "ignore", "loses"}
    | {"py", "py_back", "reads", "writes"}
)  # fmt: skip
"""Keys of a row that the columns say, which is all of them."""


def cells_of(library: Library, row_map: RowMap, row: Row) -> dict[str, str]:
    """Return a row as the cells of a sheet, by column."""
    python = {"py": row.py, "py_back": row.py_back, "reads": row.reads, "writes": row.writes}
    return {
        "Map": row_map.name,
        "Identifier": row.id,
        "Source": row.source,
        "Condition": row.when,
        "FHIR Attribute": row.target,
        "Type": row.use or row.refer or row.codec,
        "Vocabulary": row.table,
        "Unknown code": "" if row.unknown == "pass" else row.unknown,
        "Assignment": "" if row.value is None else _text_of(row.value),
        "Constants beside": _json_of(row.defaults),
        "Only": row.only,
        "Condition back": row.when_fhir,
        "Code back": _json_of(row.back),
        "Python": _json_of({name: value for name, value in python.items() if value}),
        "Class": library.classes[f"{row_map.name}/{row.id}"],
        "Loses or reason": row.loses or row.ignore,
        "File": row_map.file,
        "Line": str(row.line),
    }


def given_of(cells: Mapping[str, str], library: Library, source_key: str) -> dict[str, Any]:
    """Return a row of a sheet as a map's file says it; `source_key` is `v2`, `xml` or `flat`.

    Raises `ValueError` naming a column whose JSON cannot be read.
    """
    row_type = cells["Type"]
    type_key = _type_key(row_type, library)
    python = _json_in(cells, "Python") or {}
    is_ignored = not cells["FHIR Attribute"] and not python
    given: dict[str, Any] = {
        "id": cells["Identifier"],
        source_key: cells["Source"],
        "fhir": cells["FHIR Attribute"],
        type_key: row_type,
        "code": cells["Vocabulary"],
        "unknown": cells["Unknown code"],
        "value": _value_in(cells["Assignment"]),
        "with": _json_in(cells, "Constants beside"),
        "when": " ".join(cells["Condition"].split()),
        "when_fhir": cells["Condition back"],
        "only": cells["Only"],
        "back": _json_in(cells, "Code back"),
        **python,
        "ignore" if is_ignored else "loses": cells["Loses or reason"],
    }
    return {name: value for name, value in given.items() if value not in ("", None)}


def _type_key(name: str, library: Library) -> str:
    if name in library.maps:
        return "use" if library.maps[name].kind == "type" else "refer"
    return "as" if name in CODECS else "use"


def _text_of(value: Any) -> str:
    """Return a constant as a cell: a text that would be read as JSON is quoted."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return value if _value_in(value) == value else json.dumps(value, ensure_ascii=False)


def _value_in(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _json_of(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""


def _json_in(cells: Mapping[str, str], column: str) -> dict[str, Any] | None:
    if not cells[column]:
        return None
    try:
        read = json.loads(cells[column])
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise ValueError(column)
    return read
