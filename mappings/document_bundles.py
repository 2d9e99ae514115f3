"""What a partner's document became, as a Bundle of resources that refer to each other.

A map's `document:` says which of the names that its rows fill are resources (`resources:`), and
which references between them, or those that `refer:` made (by their map's name), the document
leaves to its reader (`links:`). Other values become a
Parameters resource.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from mappings.bundles import TRACE
from mappings.documents import ReadDocument
from mappings.engine.rows import RowMap
from mappings.engine.targets import compile_put, parse_target

_NAMED = uuid.UUID("c2a2b0a4-3f38-4a53-8d3c-1f6c4f0f6f11")


def document_bundle(row_map: RowMap, read: ReadDocument, *, traced: bool = False) -> dict[str, Any]:
    """Return a collection Bundle; with `traced`, each entry names the sources of its elements."""
    types: Mapping[str, str] = row_map.document.get("resources", {})
    keys: dict[str, str] = {}
    found: list[tuple[str, str, dict[str, Any]]] = []  # trace prefix, key, resource
    for name, type_ in types.items():
        for prefix, content in _named(name, read.content.get(name)):
            key = _key_of(prefix, type_, content)
            keys.setdefault(name, key)
            found.append((f"{prefix}.", key, {"resourceType": type_, **content}))
    holders = [(_name_of(prefix), resource) for prefix, _, resource in found]
    holders += [(one.map_name, one.resource) for one in read.made]
    keys |= {one.map_name: one.key for one in read.made}
    for path, name in row_map.document.get("links", {}).items():
        holder, _, rest = path.partition(".")
        put = compile_put(parse_target(rest))
        for own, resource in holders:
            if own == holder and name in keys:
                put(resource, {"reference": f"urn:uuid:{keys[name]}"})
    entries = [
        _entry(key, resource, [one for one in read.trace if one[0].startswith(prefix)], traced)
        for prefix, key, resource in found
    ]
    entries += [_entry(one.key, one.resource, one.trace, traced) for one in read.made]
    plain = {name: value for name, value in read.content.items() if name not in types}
    if plain:
        parameters = [{"name": name, "valueString": str(value)} for name, value in plain.items()]
        key = _key_of("", "Parameters", plain)
        resource = {"resourceType": "Parameters", "parameter": parameters}
        trace = [one for one in read.trace if one[0] in plain]
        entries.append(_entry(key, resource, trace, traced))
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def taken_trace(row_map: RowMap, bundle: dict[str, Any]) -> dict[str, str]:
    """Take the trace out of a traced Bundle; returns the row (`MAP/ROW`) of each path in it."""
    rows: dict[str, str] = {}
    for number, entry in enumerate(bundle["entry"]):
        for extension in entry.pop("extension"):
            target, _, source = str(extension["valueString"]).partition(" <- ")
            path = target.lstrip(".")
            for prefix in row_map.document.get("resources", {}):
                path = path.removeprefix(f"{prefix}.")
            row = source.rpartition("(")[2].rstrip(")")
            rows[f"entry[{number}].resource.{path}"] = f"{row_map.name}/{row}"
    return rows


def content_of(row_map: RowMap, bundle: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `Documents.compose` takes of such a Bundle: content, resources by reference."""
    resources = {str(one["fullUrl"]): one["resource"] for one in bundle.get("entry", ())}
    types: Mapping[str, str] = row_map.document.get("resources", {})
    repeated = {row.target.partition("[")[0] for row in row_map.rows if "[*]" in row.target}
    content: dict[str, Any] = {}
    free = list(resources.values())
    for name, type_ in types.items():
        fitting = [one for one in free if one["resourceType"] == type_]
        taken = fitting if name in repeated else fitting[:1]
        free = [one for one in free if all(one is not other for other in taken)]
        if taken:
            content[name] = taken if name in repeated else taken[0]
    for one in free:
        if one["resourceType"] == "Parameters":
            content |= {part["name"]: part["valueString"] for part in one["parameter"]}
    return content, resources


def _named(name: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, list):
        yield from ((f"{name}[{number}]", one) for number, one in enumerate(value))
    elif value is not None:
        yield name, value


def _name_of(prefix: str) -> str:
    return prefix.partition(".")[0].partition("[")[0]


def _key_of(prefix: str, type_: str, content: Mapping[str, Any]) -> str:
    words = json.dumps([prefix, type_, content], ensure_ascii=False, sort_keys=True, default=str)
    return str(uuid.uuid5(_NAMED, words))


def _entry(key: str, resource: Mapping[str, Any], trace: Any, traced: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"fullUrl": f"urn:uuid:{key}", "resource": dict(resource)}
    if traced:
        entry["extension"] = [
            {"url": TRACE, "valueString": f"{target} <- {source} ({row})"}
            for target, source, row in trace
        ]
    return entry
