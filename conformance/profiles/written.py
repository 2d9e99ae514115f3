"""Writing a profile's tree as the elements of a snapshot."""

from collections.abc import Iterator
from typing import Any

from conformance.profiles.shapes import Shape

_OWN = frozenset({"sliceName"})


def elements_of(root: Shape) -> list[dict[str, Any]]:
    """Return the ElementDefinitions in order: each element, its children, then its slices."""
    return list(_elements(root, root.name, root.name))


def _elements(shape: Shape, path: str, id_: str) -> Iterator[dict[str, Any]]:
    yield _element(shape, path, id_)
    for child in (shape.children or {}).values():
        yield from _with_slices(child, f"{path}.{child.name}", f"{id_}.{child.name}")


def _with_slices(shape: Shape, path: str, id_: str) -> Iterator[dict[str, Any]]:
    yield from _elements(shape, path, id_)
    for name, one in shape.slices.items():
        separator = "/" if ":" in id_.rpartition(".")[2] else ":"
        yield from _with_slices(one, path, f"{id_}{separator}{name}")


def _element(shape: Shape, path: str, id_: str) -> dict[str, Any]:
    element: dict[str, Any] = {"id": id_, "path": path}
    if "sliceName" in shape.facts:
        element["sliceName"] = id_.rpartition(".")[2].partition(":")[2]
    for key, value in shape.facts.items():
        is_empty = value in ([], {}, None)
        if key not in _OWN and not is_empty:
            element[key] = value
    element["base"] = {
        "path": path,
        "min": shape.base.get("min", 0),
        "max": str(shape.base.get("max", "*")),
    }
    return element
