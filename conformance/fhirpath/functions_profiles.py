"""`elementDefinition()`, `slice()` and `checkModifiers()` (https://hl7.org/fhir/R4/fhirpath.html)."""

from collections.abc import Mapping
from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.evaluation import Collection, Frame, single_text
from conformance.fhirpath.faults import invalid_use, no_port
from conformance.fhirpath.nodes import Node, children
from conformance.r4 import tables

_STRUCTURES = "http://hl7.org/fhir/StructureDefinition/"


def element_definition(frame: Frame, focus: Collection) -> Collection:
    """`elementDefinition()`: what R4 says of each element; resources stand for their types."""
    found: Collection = []
    for item in focus:
        frame.run.charge(1)
        element = _element_of(item) if isinstance(item, Node) else None
        if element is not None:
            found.append(Node(element, "ElementDefinition"))
    return found


def _element_of(node: Node) -> dict[str, Any] | None:
    if node.parent is None or model.is_resource(node.type):
        return _of_type(node.type)
    known = model.slots_of(node.parent.type).get(node.key)
    if known is None:
        return None
    head, _, inner = node.parent.type.partition(".")
    written = known[0].name + ("[x]" if known[0].is_choice else "")
    info = tables.load().types[head]
    element = info.elements.get(f"{inner}.{written}" if inner else written)
    return None if element is None else _as_json(element)


def _of_type(name: str) -> dict[str, Any] | None:
    info = tables.load().types.get(name)
    if info is None:
        return None
    rules = {"constraint": _rules(info.constraints)} if info.constraints else {}
    return {"id": name, "path": name, "min": 0, "max": "*", **rules}


def _as_json(element: tables.Element) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": element.path,
        "path": element.path,
        "min": element.min,
        "max": "*" if element.max is None else str(element.max),
    }
    if element.content is not None:
        found["contentReference"] = f"#{element.content}"
    elif element.types:
        found["type"] = [_type(one) for one in element.types]
    if element.constraints:
        found["constraint"] = _rules(element.constraints)
    found["isModifier"], found["isSummary"] = element.is_modifier, element.is_summary
    if element.binding is not None:
        found["binding"] = {
            "strength": element.binding.strength,
            "valueSet": element.binding.value_set,
        }
    return found


def _type(one: tables.ElementType) -> dict[str, Any]:
    found: dict[str, Any] = {"code": one.code}
    if one.profiles:
        found["profile"] = [_STRUCTURES + name for name in one.profiles]
    if one.targets:
        found["targetProfile"] = [_STRUCTURES + name for name in one.targets]
    return found


def _rules(constraints: tuple[tables.Constraint, ...]) -> list[dict[str, Any]]:
    return [
        {"key": one.key, "severity": one.severity, "expression": one.expression}
        for one in constraints
    ]


def slice_(frame: Frame, focus: Collection, structure: Collection, name: Collection) -> Collection:
    """`slice(structure, name)`: the items that belong to a slice of the profile."""
    canonical, wanted = single_text(structure, "slice()"), single_text(name, "slice()")
    if canonical is None or wanted is None or not focus:
        return []
    port = frame.run.ports.slices
    if port is None:
        raise no_port("slice", "profile")
    nodes = [item for item in focus if isinstance(item, Node)]
    frame.run.charge(len(nodes))
    found = port(nodes, canonical, wanted)
    if found is None:
        raise invalid_use(
            "slice() names a profile or a slice that is not known here",
            "slice() 引用了未知的 profile 或切片",
            fix_en="Load the StructureDefinition, or correct its address or the slice's name.",
            fix_zh="请装载该 StructureDefinition，或更正其规范地址或切片名称。",
        )
    return list(found)


def check_modifiers(frame: Frame, focus: Collection, *known: Collection) -> Collection:
    """`checkModifiers(url, …)`: the input, if it has no modifier extension but those named."""
    named = [single_text(one, "checkModifiers()") or "" for one in known]
    allowed = {url.strip() for one in named for url in one.split(",")}
    for item in focus:
        if not isinstance(item, Node):
            continue
        for extension in children(item, "modifierExtension"):
            frame.run.charge(1)
            url = extension.value.get("url") if isinstance(extension.value, Mapping) else None
            if url not in allowed:
                raise invalid_use(
                    "An element has a modifier extension that checkModifiers() does not name",
                    "元素带有 checkModifiers() 未列出的修饰扩展",
                    fix_en="Read what the extension means and name it, or leave the element out.",
                    fix_zh="请了解该扩展的含义并将其列入，或不使用该元素。",
                )
    return focus
