"""Contained resources: who may contain what, and that each is referred to.

https://hl7.org/fhir/R4/references.html#contained, constraints ref-1 and dom-2 to dom-5.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from conformance.findings import Found


def check_contained(value: Mapping[str, Any], local: list[str]) -> Iterator[Found]:
    """Check ref-1 and dom-2 to dom-5, and that contained resources have ids of their own."""
    contained = value.get("contained")
    inner = [r for r in contained if type(r) is dict] if type(contained) is list else []
    ids = [r.get("id") for r in inner]
    mentioned: Set[str] | None = None
    for target in dict.fromkeys(local):
        if target and target not in ids:
            yield _path_of_reference(value, "#" + target), "ref-1", ()
    for index, resource in enumerate(inner):
        path = f".contained[{index}]"
        identifier = resource.get("id")
        if "contained" in resource:
            yield f"{path}.contained", "dom-2", ()
        if type(identifier) is not str:
            yield path, "contained-id-missing", ()
        elif ids.index(identifier) != index:
            yield f"{path}.id", "contained-id-repeated", ()
        elif identifier not in local:
            # A canonical or uri, or a reference back to the container, meets dom-3 too.
            mentioned = set(_strings_of(value)) if mentioned is None else mentioned
            if "#" + identifier not in mentioned and "#" not in _strings_of(resource):
                yield path, "dom-3", ()
        meta = resource.get("meta")
        if type(meta) is dict:
            if "versionId" in meta or "lastUpdated" in meta:
                yield f"{path}.meta", "dom-4", ()
            if "security" in meta:
                yield f"{path}.meta.security", "dom-5", ()


def _strings_of(node: Any) -> Iterable[str]:
    stack = [node]
    while stack:
        current = stack.pop()
        if type(current) is dict:
            stack.extend(current.values())
        elif type(current) is list:
            stack.extend(current)
        elif type(current) is str:
            yield current


def _path_of_reference(node: Any, target: str, path: str = "") -> str:
    """Return where a reference stands, or nothing."""
    items: Iterable[tuple[str, Any]] = ()
    if type(node) is dict:
        if node.get("reference") == target:
            return f"{path}.reference"
        items = ((f"{path}.{name.removeprefix('_')}", item) for name, item in node.items())
    elif type(node) is list:
        items = ((f"{path}[{index}]", item) for index, item in enumerate(node))
    return next(filter(None, (_path_of_reference(item, target, p) for p, item in items)), "")
