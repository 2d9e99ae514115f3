"""Rows in words, for people who talk about them with a sender."""

from collections.abc import Iterator
from dataclasses import dataclass

from mappings.engine.library import Library
from mappings.engine.rows import Row, RowMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One row: its map, where it stands, its class (exact, lossy, forward …) and a sentence."""

    map: str
    row: str
    file: str
    line: int
    kind: str
    text: str


def explain(library: Library, row: str) -> Iterator[Explained]:
    """Yield every row of a name such as `PID-8` or `PID-Patient/PID-8`."""
    wanted_map, _, wanted = row.rpartition("/")
    for row_map in library.maps.values():
        if wanted_map not in {"", row_map.name}:
            continue
        for one in row_map.rows:
            if one.id == wanted:
                yield explained(library, row_map, one)


def explained(library: Library, row_map: RowMap, row: Row) -> Explained:
    """Return one row of a map in words."""
    return Explained(
        map=row_map.name,
        row=row.id,
        file=row_map.file,
        line=row.line,
        kind=library.classes[f"{row_map.name}/{row.id}"],
        text=sentence(row),
    )


def sentence(row: Row) -> str:
    """Say what a row does and what it loses."""
    if row.ignore:
        return f"{row.source} is not read: {row.ignore}"
    origin = row.source or (f"the value {row.value!r}" if row.value is not None else row.py)
    parts = [f"{origin} becomes {row.target or ', '.join(row.writes)}"]
    for text, value in (
        ("as type", row.use),
        ("as a resource made by", row.refer),
        ("by codec", row.codec),
        ("through table", row.table),
        ("when", row.when),
        ("and back when", row.when_fhir),
        ("only", row.only),
        ("losing", row.loses),
    ):
        if value:
            parts.append(f"{text} {value}")
    return ", ".join(parts)
