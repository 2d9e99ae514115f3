"""The laws of a row, stated so that any test can run them.

exact:  back(forward(x)) restores x
all:    forward(back(forward(x))) is forward(x)
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mappings.engine.context import Context, Sender
from mappings.engine.forward import Compiler
from mappings.engine.library import Library
from mappings.engine.rows import Row
from mappings.engine.scopes import Scope, parse_source
from mappings.hl7.escape import STANDARD
from mappings.hl7.message import Segment
from mappings.put_back import Fields, PutBack

_EQUALS = re.compile(r'([A-Z][A-Z0-9]{2}-\d+(?:\.\d+)*) (?:EQUALS|IN) \(?"([^"]*)"')
_VALUED = re.compile(r"([A-Z][A-Z0-9]{2}-\d+(?:\.\d+)*) VALUED")
_A_TIME = "20260102"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lawful:
    """One row that works both ways, with what else its condition needs.

    `companions` are other fields, `own_parts` other parts of its own field by component and
    subcomponent.
    """

    map_name: str
    row: Row
    companions: Mapping[tuple[str, int], str]
    own_parts: Mapping[tuple[int, int], str]

    @property
    def id(self) -> str:
        """Map and row."""
        return f"{self.map_name}/{self.row.id}"


def lawful_rows(library: Library) -> list[Lawful]:
    """Return every row over segments that is not one-way, ignored or a call of Python."""
    found = []
    for row_map in library.maps.values():
        if row_map.reads_parts or row_map.source_kind != "v2":
            continue
        for row in row_map.rows:
            if row.ignore or row.only or row.py or not row.source:
                continue
            companions, own_parts = _needed(row)
            found.append(
                Lawful(map_name=row_map.name, row=row, companions=companions, own_parts=own_parts)
            )
    return found


def census(library: Library) -> Mapping[str, int]:
    """Return how many rows are held to which law, and how many to none and why.

    The sum is that of all rows. A data type's rows keep the laws inside the rows that use the type.
    """
    lawful = {one.id for one in lawful_rows(library)}
    reached = _types_reached(library)
    counts: Counter[str] = Counter()
    for row_map in library.maps.values():
        for row in row_map.rows:
            name = f"{row_map.name}/{row.id}"
            if name in lawful:
                counts[f"{library.classes[name]}, by itself"] += 1
            elif row.ignore or row.only:
                counts["ignored" if row.ignore else "one-way"] += 1
            elif row.py:
                counts["by Python"] += 1
            elif row_map.source_kind != "v2":
                counts["of documents"] += 1
            else:
                is_used = row_map.name in reached
                counts["of a type in use" if is_used else "of a type in one-way use"] += 1
    return counts


def _types_reached(library: Library) -> set[str]:
    """Return the data types that rows under a law use, directly or inside another type."""
    reached: set[str] = set()
    wanted = [name for one in lawful_rows(library) for name in (one.row.use, one.row.refer)]
    while wanted:
        name = wanted.pop()
        if name and name not in reached:
            reached.add(name)
            wanted += library.maps[name].includes
            wanted += [inner for row in library.maps[name].rows for inner in (row.use, row.refer)]
    return reached


def _needed(row: Row) -> tuple[dict[tuple[str, int], str], dict[tuple[int, int], str]]:
    """Return values for the fields a condition asks for, and for other parts of the row's own."""
    companions: dict[tuple[str, int], str] = {}
    own_parts: dict[tuple[int, int], str] = {}
    negated = re.compile(r"NOT (?:\([^)]*\)|[A-Z0-9.\-]+ (?:EQUALS|IN) \S+)")
    when = negated.sub("", row.when)
    own = parse_source(row.source, is_type=False)
    valued = _A_TIME if row.use == "DR-Period" else "1"
    asked = [(match.group(1), valued) for match in _VALUED.finditer(when)]
    asked += [(match.group(1), match.group(2)) for match in _EQUALS.finditer(when)]
    for source, value in asked:
        place = parse_source(source, is_type=False)
        if (place.segment, place.field) != (own.segment, own.field):
            lead = "^" * max(place.component - 1, 0)
            companions[(place.segment, place.field)] = lead + value
        elif (place.component, place.subcomponent) != (own.component, own.subcomponent):
            own_parts[(max(place.component, 1), max(place.subcomponent, 1))] = value
    return companions, own_parts


class Bench:
    """Runs one map forward and backward over raw fields."""

    def __init__(self, library: Library) -> None:
        self._compiler: Compiler = library.compile()
        self._back = PutBack(library)
        self.sender = Sender()
        self._resources: dict[str, Mapping[str, Any]] = {}

    def forward(self, map_name: str, fields: Fields) -> dict[str, Any] | None:
        """Return the resource that a map makes of these fields."""
        scope = Scope("")
        by_segment: dict[str, dict[int, str]] = {}
        for (name, number), raw in fields.items():
            by_segment.setdefault(name, {})[number] = raw
        segments = []
        for name, numbered in by_segment.items():
            texts = [numbered.get(number, "") for number in range(1, max(numbered) + 1)]
            if name == "MSH":
                texts = texts[1:]  # the separator itself is field 1
            segment = Segment(name, "|".join([name, *texts]), "|", 1)
            scope.segments[name] = [segment]
            segments.append(segment)
        if not segments:
            return None
        context = Context(sender=self.sender, separators=STANDARD, facility="H1")
        made = self._compiler.map(map_name).run(scope, segments[0], context, {})
        self._resources = {f"urn:uuid:{one.key}": one.resource for one in context.made}
        return None if made is None else made.resource

    def backward(self, map_name: str, resource: Mapping[str, Any]) -> Fields:
        """Return the fields that the map makes of the resource made last."""
        return self._back.fields(map_name, resource, self.sender, resources=self._resources)
