"""Code tables: FHIR ConceptMaps read both ways, under a sender's own overlay."""

import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Concept(NamedTuple):
    """A target of a table: code, system ("" where the target element is a bare code), display."""

    code: str
    system: str
    display: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One ConceptMap; `collapsed` names the targets that several source codes become."""

    name: str
    source_system: str
    forward: Mapping[str, Concept]
    backward: Mapping[tuple[str, str], str]
    collapsed: frozenset[str]

    @property
    def is_injective(self) -> bool:
        """Whether every target code has one source code."""
        return not self.collapsed


def read_table(path: pathlib.Path) -> Table:
    """Read a ConceptMap resource; its file's name is the table's name."""
    return table_of(json.loads(path.read_text(encoding="utf-8")), path.stem)


def table_of(concept_map: Mapping[str, Any], name: str) -> Table:
    """Return the table of a ConceptMap; the first target of a source code counts."""
    forward: dict[str, Concept] = {}
    backward: dict[tuple[str, str], str] = {}
    counts: dict[tuple[str, str], int] = {}
    source_system = ""
    for group in concept_map.get("group", ()):
        source_system = source_system or group.get("source", "")
        for element in group.get("element", ()):
            for target in element.get("target", ())[:1]:
                if "code" not in target:
                    continue
                concept = Concept(
                    target["code"], group.get("target", ""), target.get("display", "")
                )
                code = element["code"]
                if code in forward:
                    continue
                forward[code] = concept
                key = (concept.system, concept.code)
                counts[key] = counts.get(key, 0) + 1
                backward.setdefault(key, code)
    collapsed = frozenset(code for (_, code), count in counts.items() if count > 1)
    return Table(
        name=name,
        source_system=source_system,
        forward=forward,
        backward=backward,
        collapsed=collapsed,
    )
