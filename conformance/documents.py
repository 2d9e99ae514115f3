"""Resources as documents in JSON or XML: reading either, and telling the place of an issue."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance import json_scan, resource_json, resource_xml
from conformance.problem import Issue

_CHOICE = re.compile(r"\.([A-Za-z]+)\.ofType\(([A-Za-z])([A-Za-z0-9]*)\)")
_LAST_STEP = re.compile(r"(?:\[[0-9]+\]|\.?[^.\[\]]+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A resource with the bytes it was read from; `syntax` is json or xml."""

    resource: dict[str, Any]
    data: bytes
    syntax: str

    def places(self) -> Mapping[str, tuple[int, int]]:
        """Return path → line and column; read anew, for few documents have issues."""
        if self.syntax == "xml":
            return resource_xml.parse_with_places(self.data)[1]
        return json_scan.positions(self.data)


def read(data: bytes) -> Document:
    """Read JSON or XML, told apart by the first character.

    Raises InvalidStructure with line and column.
    """
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"<":
        return Document(resource=resource_xml.parse(data), data=data, syntax="xml")
    return Document(resource=resource_json.parse(data), data=data, syntax="json")


def with_places(document: Document, issues: Iterable[Issue], inside: str = "") -> list[Issue]:
    """Return the issues with line and column: of the element, or of what it is missing from.

    `inside` is the path to the resource that was judged, where it is a part of the document:
    `parameter[0].resource`.
    """
    found = list(issues)
    if all(issue.line is not None or issue.expression is None for issue in found):
        return found
    places = document.places()
    return [_placed(issue, places, inside) for issue in found]


def _placed(issue: Issue, places: Mapping[str, tuple[int, int]], inside: str) -> Issue:
    if issue.line is not None or issue.expression is None:
        return issue
    place = place_of(issue.expression, places, inside)
    return dataclasses.replace(issue, line=place[0], column=place[1])


def place_of(
    expression: str, places: Mapping[str, tuple[int, int]], inside: str = ""
) -> tuple[int, int]:
    """Return line and column of `Type.path` as the checks write it, or of the nearest parent."""
    path = ".".join(part for part in (inside, expression.partition(".")[2]) if part)
    path = _CHOICE.sub(lambda m: f".{m[1]}{m[2].upper()}{m[3]}", "." + path)[1:]
    while path and path not in places:
        path = _LAST_STEP.sub("", path)
    return places.get(path, (1, 1))
