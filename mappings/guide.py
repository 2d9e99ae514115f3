"""Import of the v2-to-FHIR guide's spreadsheets (CSV) as rows and ConceptMaps, with a lint report.

The CSVs are written for people (https://github.com/HL7/v2-to-fhir): headers differ, conditions use
words beside the published grammar. Nothing is guessed; what cannot be read becomes a finding.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mappings.engine.conditions import UnreadableCondition, compile_condition

CANONICAL = "https://fhir.qiao.example/cphc/ConceptMap"
_NAME = re.compile(
    r"(?:HL7 Concept Map_|HL7 (?:Segment|Data Type|Message) - FHIR R4_) ?(.+?)(?: - .*)?\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the lint report; `fix` says what to write by hand."""

    file: str
    line: int
    cell: str
    text: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideRow:
    """One row of a segment or data type sheet that has a FHIR target."""

    line: int
    source: str
    name: str
    condition: str
    narrative: str
    target: str
    data_type: str
    use: str
    table: str
    value: str


_CONDITION_FIX = (
    "The draft keeps the words; write them in the words of docs/reference/mapping-format.md."
)
TABLE, ROWS = "table", "rows"


def kind_of(text: str) -> str | None:
    """Return `table` or `rows` for a sheet with the guide's two lines of headings."""
    head = list(csv.reader(io.StringIO(text)))[:2]
    second = [cell.strip() for cell in head[1]] if len(head) > 1 else []
    if second[:3] == ["Code", "Text", "Code System"]:
        return TABLE
    is_rows = second[:2] == ["Sort Order", "Identifier"] and "FHIR Attribute" in second
    return ROWS if is_rows else None


def is_named(stem: str) -> bool:
    """Whether a file is named like the guide's sheets of segments, data types and tables."""
    return _NAME.match(stem) is not None and not stem.startswith("HL7 Message")


def name_of(stem: str) -> str:
    """Return `PatientClass-EncounterClass` for the sheet `… PatientClass[EncounterClass] …`."""
    match = _NAME.match(stem)
    name = match.group(1) if match else stem
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def read_concept_map(text: str, stem: str) -> tuple[dict[str, Any], list[Finding]]:
    """Return the ConceptMap of one code system sheet; rows without target become `unmatched`."""
    name = name_of(stem)
    findings: list[Finding] = []
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for line, cells in _cells(text):
        code, system, target, target_system = cells[0], cells[2], cells[6], cells[9]
        if not code:
            continue
        if cells[3]:
            findings.append(
                Finding(
                    file=stem,
                    line=line,
                    cell=cells[3],
                    text="conditional code row; not read",
                    fix="Write the code into a channel's `codes:`, or a row with `when:`.",
                )
            )
            continue
        if target and ("(" in target or len(target.split()) > 2):
            findings.append(
                Finding(
                    file=stem,
                    line=line,
                    cell=target,
                    text="target is a remark, not a code",
                    fix="Give the code a target in the table; it is unmatched until then.",
                )
            )
            target = ""
        if target and not target_system.startswith(("http", "urn:")):
            findings.append(
                Finding(
                    file=stem,
                    line=line,
                    cell=target_system,
                    text="target system is no URI",
                    fix="Write the target's code system (http… or urn:…) into the table's group.",
                )
            )
            target_system = ""
        source_system = _table_uri(system)
        if not source_system:
            findings.append(
                Finding(
                    file=stem,
                    line=line,
                    cell=system,
                    text="source system is no HL7 table",
                    fix="Write the HL7 table's URI as the group's source.",
                )
            )
        group = groups.setdefault(
            (source_system, target_system), {"source": source_system, "target": target_system}
        )
        if target:
            mapped: dict[str, Any] = {"code": target, "equivalence": "equivalent"}
            if cells[8]:
                mapped["display"] = cells[8]
        else:
            mapped = {"equivalence": "unmatched"}
        element = {"code": code, "target": [mapped]}
        if cells[1]:
            element["display"] = cells[1]
        group.setdefault("element", []).append(element)
    listed = []
    for group in groups.values():
        listed.append({key: value for key, value in group.items() if value})
    concept_map = {
        "resourceType": "ConceptMap",
        "url": f"{CANONICAL}/{name}",
        "name": re.sub(r"\W", "", name),
        "status": "active",
        "copyright": "Derived from the HL7 v2-to-FHIR implementation guide (CC0 / Apache-2.0)",
        "group": listed,
    }
    return concept_map, findings


def read_rows(text: str, stem: str) -> tuple[list[GuideRow], list[Finding]]:
    """Return the rows with a target of a segment or data type sheet, and what is wrong in it."""
    findings: list[Finding] = []
    rows: list[GuideRow] = []
    head = list(csv.reader(io.StringIO(text)))[:2]
    if len(head) < 2 or len(head[1]) < 17 or head[1][1].strip() != "Identifier":
        return [], [
            Finding(
                file=stem,
                line=2,
                cell="",
                text="the header is not the guide's",
                fix="Take the sheet as the guide publishes it.",
            )
        ]
    for line, cells in _cells(text):
        source, target = cells[1], cells[9] or cells[10]
        condition = cells[6]
        if condition:
            try:
                compile_condition(_repaired(condition), _any_field)
            except UnreadableCondition as error:
                findings.append(
                    Finding(
                        file=stem, line=line, cell=condition, text=str(error), fix=_CONDITION_FIX
                    )
                )
        if not source or not target:
            continue
        if "??" in target or " " in target:
            findings.append(
                Finding(
                    file=stem,
                    line=line,
                    cell=target,
                    text="target is a remark, not a path",
                    fix="Write a row with the FHIR path that is meant, or an `ignore:`.",
                )
            )
            continue
        rows.append(
            GuideRow(
                line=line,
                source=source,
                name=cells[2],
                condition=condition,
                narrative=cells[8],
                target=target,
                data_type=cells[11],
                use=cells[14],
                table=cells[15],
                value=cells[16].strip('"'),
            )
        )
    return rows, findings


def _any_field(_path: str) -> Callable[[None], list[str]]:
    return lambda _scope: []


def _repaired(condition: str) -> str:
    """Typographic quotes are the spreadsheet's doing, not the author's."""
    return condition.translate({0x201C: '"', 0x201D: '"', 0x2018: '"', 0x2019: '"'})


def _cells(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and at least 20 stripped cells of each row below the two headers."""
    reader = csv.reader(io.StringIO(text))
    for number, cells in enumerate(reader):
        if number > 1 and any(cells):
            yield reader.line_num, [cell.strip() for cell in cells] + [""] * (20 - len(cells))


def _table_uri(system: str) -> str:
    match = re.match(r"(?:HL7-?|v2-)?(\d{4})\Z", system.strip())
    return f"http://terminology.hl7.org/CodeSystem/v2-{match.group(1)}" if match else ""


def to_yaml(rows: list[GuideRow], name: str, to: str) -> str:
    """Return the rows as a draft map: each is to be read and completed by a person."""
    lines = [f"map: {name}", f"to: {to}", "rows:"]
    seen: dict[str, int] = {}
    for row in rows:
        seen[row.source] = seen.get(row.source, 0) + 1
        count = seen[row.source]
        identifier = row.source if count == 1 else f"{row.source}-{count}"
        parts = [f"id: {identifier}"]
        if row.value:
            parts.append(f"value: {_quoted(row.value)}")
            condition = row.condition or f"{row.source} VALUED"
        else:
            parts.append(f"v2: {_quoted(row.source)}")
            condition = row.condition
        parts.append(f"fhir: {_quoted(row.target)}")
        if row.use:
            parts.append(f"use: {_quoted(row.use)}")
        if row.table:
            parts.append(f"code: {_quoted(row.table)}")
        if condition:
            parts.append(f"when: {_quoted(_repaired(condition))}")
        lines.append(f"  - {{{', '.join(parts)}}}  # {row.name}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
