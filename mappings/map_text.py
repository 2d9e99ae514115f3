"""The text of a map's file with rows changed and added; everything else stays as it was written.

A file is read into YAML nodes, which know where they stand; only the text of the values that change
is replaced, so that comments, order and the writing of the other rows are kept.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from mappings.sheet_rows import KEYS

_PLAIN = re.compile(r"[^\W\d][\w./-]*\Z")
_WORDS = frozenset({"yes", "no", "true", "false", "null", "on", "off", "y", "n"})
_ALWAYS_QUOTED = frozenset({"v2", "xml", "json", "when", "when_fhir", "loses", "ignore"})
Given = Mapping[str, Any]
"""A row as a file says it: `{id: PID-7, v2: PID-7, fhir: birthDate}`."""


@dataclass(slots=True, kw_only=True)
class Changes:
    """What shall become of one map: rows by id, and new ones with the id of the row before them."""

    changed: dict[str, Given] = field(default_factory=dict)
    added: list[tuple[str, Given]] = field(default_factory=list)


def changed_text(text: str, changes: Mapping[str, Changes]) -> str:
    """Return a file's text with the changes of its maps (by name); rows keep their order."""
    edits: list[tuple[int, int, str]] = []
    for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
        if not isinstance(document, yaml.MappingNode):
            continue
        keys = _values_of(document)
        name = keys.get("map") or keys.get("type")
        rows = keys.get("rows")
        if name is None or name.value not in changes or not isinstance(rows, yaml.SequenceNode):
            continue
        edits += _edits_of(text, rows, changes[name.value])
    for start, end, new in sorted(edits, key=lambda edit: edit[0], reverse=True):
        text = text[:start] + new + text[end:]
    return text


def new_text(name: str, to: str, rows: Sequence[Given]) -> str:
    """Return the file of a new map; without `to` it is a data type."""
    head = f"map: {name}\nto: {to}\n" if to else f"type: {name}\n"
    return head + "rows:\n" + "".join(f"  - {_row(given)}\n" for given in rows)


def _edits_of(
    text: str, rows: yaml.SequenceNode, changes: Changes
) -> Iterator[tuple[int, int, str]]:
    places = {_values_of(row)["id"].value: row for row in rows.value if "id" in _values_of(row)}
    for row_id, given in changes.changed.items():
        if row_id in places:
            yield from _edits_of_row(text, places[row_id], given)
    behind: dict[str, list[str]] = {}
    anchor = ""
    for before, given in changes.added:
        if before in places:
            anchor = before
        behind.setdefault(anchor, []).append(_row(given))
    for row_id, lines in behind.items():
        if not places:
            at, margin = text.index("\n", rows.start_mark.index) + 1, "  "
        else:
            node = places.get(row_id, rows.value[0])
            margin = " " * (node.start_mark.column - 2)
            at = _line_start(text, node.start_mark.index)
            if row_id in places:
                at = _line_after(text, node.end_mark.index)
        yield at, at, "".join(f"{margin}- {line}\n" for line in lines)


def _edits_of_row(text: str, row: yaml.MappingNode, given: Given) -> Iterator[tuple[int, int, str]]:
    pairs = [(key.value, key, value) for key, value in row.value]
    old = yaml.SafeLoader("")
    for number, (name, key, value) in enumerate(pairs):
        was = old.construct_object(value, deep=True)
        if name not in KEYS or _is_same(name, was, given.get(name)):
            continue
        if name in given:
            yield value.start_mark.index, value.end_mark.index, _written(given[name], name)
        elif number + 1 < len(pairs):
            yield key.start_mark.index, pairs[number + 1][1].start_mark.index, ""
        else:
            yield pairs[number - 1][2].end_mark.index, value.end_mark.index, ""
    known = {name for name, _, _ in pairs}
    more = [f"{name}: {_written(given[name], name)}" for name in given if name not in known]
    if not more:
        return
    last = pairs[-1][2].end_mark.index
    if pairs[-1][0] in KEYS - given.keys():
        last = pairs[-2][2].end_mark.index
    between = ", " if row.flow_style else "\n" + " " * row.start_mark.column
    yield last, last, "".join(f"{between}{one}" for one in more)


def _is_same(name: str, was: Any, now: Any) -> bool:
    if name == "unknown" and was == "pass":
        return now is None
    if isinstance(now, str):
        return " ".join(str(was).split()) == " ".join(now.split())
    if isinstance(now, list | tuple):
        return list(was if isinstance(was, list) else [was]) == list(now)
    if now is None and was in ({}, []):
        return True
    return bool(was == now) and type(was) is type(now)


def _row(given: Given) -> str:
    return "{" + ", ".join(f"{name}: {_written(given[name], name)}" for name in given) + "}"


def _written(value: Any, name: str = "") -> str:
    """Return a value as it stands in a row; a text is quoted where YAML would read another."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_written(k)}: {_written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, str) and name not in _ALWAYS_QUOTED and _is_plain(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_plain(text: str) -> bool:
    return _PLAIN.match(text) is not None and text.lower() not in _WORDS


def _values_of(node: yaml.Node) -> dict[str, Any]:
    return {key.value: value for key, value in node.value}


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _line_after(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1
