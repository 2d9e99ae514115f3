"""Parts of a resource: `_summary` and `_elements`; search.html#summary, search.html#elements."""

import functools
from collections.abc import Mapping
from typing import Any

from conformance.r4.tables import Element, load

SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
_ALWAYS = frozenset({"resourceType", "id", "meta"})
_BACKBONES = frozenset({"BackboneElement", "Element"})


def summary_of(resource: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """Return what `_summary` = true, text or data keeps, marked SUBSETTED."""
    type_ = str(resource.get("resourceType"))
    if mode == "true":
        kept = _summary_children(resource, type_, "")
        kept = {"resourceType": type_, **kept}
    elif mode == "data":
        kept = {name: value for name, value in resource.items() if name.lstrip("_") != "text"}
    else:
        kept = _keep(resource, _mandatory(type_) | {"text"})
    return _marked(kept)


def elements_of(resource: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Return the top-level elements named, and those that are mandatory or modify the meaning."""
    type_ = str(resource.get("resourceType"))
    wanted = {
        element.name
        for element in _top_level(type_)
        if element.name.removesuffix("[x]") in names
        or (element.is_choice and any(name in names for name in _choice_names(element)))
    }
    return _marked(_keep(resource, _mandatory(type_) | _modifiers(type_) | wanted))


def is_element_of(type_: str, name: str) -> bool:
    """Say whether `_elements` may name this element of the type."""
    return name in _ALWAYS or any(
        name == element.name.removesuffix("[x]")
        or (element.is_choice and name in _choice_names(element))
        for element in _top_level(type_)
    )


def _marked(resource: dict[str, Any]) -> dict[str, Any]:
    meta = dict(resource.get("meta", {}))
    tags = [tag for tag in meta.get("tag", []) if tag.get("code") != SUBSETTED["code"]]
    meta["tag"] = [*tags, dict(SUBSETTED)]
    marked: dict[str, Any] = {}
    for name, value in resource.items():
        if name != "meta":
            marked[name] = value
        if name in {"id", "meta"}:
            marked["meta"] = meta
    return marked if "meta" in marked else {**marked, "meta": meta}


def _keep(resource: Mapping[str, Any], names: frozenset[str] | set[str]) -> dict[str, Any]:
    type_ = str(resource.get("resourceType"))
    keys = _keys(type_, frozenset(names))
    return {name: value for name, value in resource.items() if name.lstrip("_") in keys}


@functools.lru_cache(maxsize=4096)
def _keys(type_: str, names: frozenset[str]) -> frozenset[str]:
    """Return the JSON names of the elements, choices with each of their types."""
    keys = set(_ALWAYS)
    for element in _top_level(type_):
        if element.name in names:
            keys.update(_choice_names(element) if element.is_choice else {element.name})
    return frozenset(keys)


def _top_level(type_: str) -> tuple[Element, ...]:
    info = load().types.get(type_)
    return info.children.get("", ()) if info else ()


def _mandatory(type_: str) -> frozenset[str]:
    return frozenset(element.name for element in _top_level(type_) if element.min > 0)


def _modifiers(type_: str) -> frozenset[str]:
    return frozenset(element.name for element in _top_level(type_) if element.is_modifier)


def _choice_names(element: Element) -> frozenset[str]:
    base = element.name.removesuffix("[x]")
    return frozenset(base + type_.code[0].upper() + type_.code[1:] for type_ in element.types)


@functools.lru_cache(maxsize=4096)
def _summary_elements(type_: str, inner: str) -> Mapping[str, Element]:
    """Return the summary elements below a path, by their JSON name."""
    info = load().types.get(type_)
    found: dict[str, Element] = {}
    for element in info.children.get(inner, ()) if info else ():
        if element.is_summary or element.min > 0:
            names = _choice_names(element) if element.is_choice else {element.name}
            found.update(dict.fromkeys(names, element))
    return found


def _summary_children(node: Mapping[str, Any], type_: str, inner: str) -> dict[str, Any]:
    elements = _summary_elements(type_, inner)
    kept: dict[str, Any] = {}
    for name, value in node.items():
        element = elements.get(name.lstrip("_"))
        if element is not None:
            kept[name] = _summary_value(value, element, name, type_)
    return kept


def _summary_value(value: Any, element: Element, name: str, type_: str) -> Any:
    if isinstance(value, list):
        return [_summary_value(item, element, name, type_) for item in value]
    if not isinstance(value, dict) or name.startswith("_"):
        return value
    inner_type, inner = _defined_in(element, name, type_)
    if not _summary_elements(inner_type, inner):
        return value
    return _summary_children(value, inner_type, inner) or value


def _defined_in(element: Element, name: str, type_: str) -> tuple[str, str]:
    if element.content is not None:
        content_type, _, inner = element.content.partition(".")
        return content_type, inner
    if element.is_choice:
        return name.removeprefix(element.name.removesuffix("[x]")), ""
    code = element.types[0].code if element.types else ""
    return (type_, element.path.partition(".")[2]) if code in _BACKBONES else (code, "")
