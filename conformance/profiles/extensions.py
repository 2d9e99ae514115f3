"""Extensions: where each may stand, and its content by its own definition.

https://hl7.org/fhir/R4/defining-extensions.html#context
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.evaluation import Frame, Run, truth
from conformance.fhirpath.nodes import Node, all_children, children
from conformance.fhirpath.parser import parse
from conformance.problem import InvalidContent, NotSupported
from conformance.profiles.discriminators import urls_of
from conformance.profiles.run import CheckRun, owner_of
from conformance.profiles.shapes import Shape

_NAMES = ("extension", "modifierExtension")
# R4 lets this one stand in StructureDefinition only and uses it on its own OperationDefinitions;
# the later extension pack names all canonical resources.
_WIDER_CONTEXTS = {
    "http://hl7.org/fhir/StructureDefinition/structuredefinition-normative-version": "Resource"
}


def check_extensions(root: Node, run: CheckRun) -> None:
    """Check every extension of a resource and of what it contains."""
    if not _has_any(root.value):
        return
    marked: set[int] = set()
    _mark(root.value, marked)
    for parent, extension in _extensions(root, marked):
        url = extension.value.get("url") if isinstance(extension.value, Mapping) else None
        if isinstance(url, str):
            _check(parent, extension, url, run)


def _has_any(resource: Mapping[str, Any]) -> bool:
    """Say whether an extension stands anywhere in a sound resource; most have none."""
    open_ones = [resource]
    for node in open_ones:
        for name, one in node.items():
            if type(one) is dict:
                open_ones.append(one)
            elif type(one) is list:
                if name in _NAMES:
                    return True
                for item in one:
                    if type(item) is dict:
                        open_ones.append(item)
    return False


def _mark(value: Any, marked: set[int]) -> bool:
    """Note the objects and lists in which an extension stands, without building nodes."""
    if isinstance(value, dict):
        has = "extension" in value or "modifierExtension" in value
        for one in value.values():
            if type(one) in (dict, list) and _mark(one, marked):
                has = True
    else:
        has = False
        for one in value:
            if type(one) in (dict, list) and _mark(one, marked):
                has = True
    if has:
        marked.add(id(value))
    return has


def _extensions(root: Node, marked: set[int]) -> Iterator[tuple[Node, Node]]:
    queue = [root]
    while queue:
        node = queue.pop()
        for child in _leading(node, marked):
            if child.key in _NAMES:
                yield node, child
            if id(child.value) in marked or id(child.companion) in marked:
                queue.append(child)


def _leading(node: Node, marked: set[int]) -> list[Node]:
    """Return the children that are extensions or have some inside; others need no nodes."""
    if type(node.value) is not dict:
        return all_children(node)
    slots = model.slots_of(node.type)
    found: list[Node] = []
    for key, content in node.value.items():
        if key in _NAMES or id(content) in marked:
            known = slots.get(key) or slots.get(key.removeprefix("_"))
            if known is not None:
                found += children(node, known[0].name)
    return found


def _check(parent: Node, extension: Node, url: str, run: CheckRun) -> None:
    definition = run.profiles.find(url)
    if definition is None or definition.get("type") != "Extension":
        if ":" not in url:
            _check_part(parent, extension, url, run)
            return
        is_modifier = extension.key == "modifierExtension"
        key = "modifier-unknown" if is_modifier else "extension-unknown"
        if url.startswith(run.refused_extensions):
            key = "extension-refused"
        run.add(key, extension, url)
        return
    _check_context(parent, extension, url, definition, run)
    root = _root(url, run)
    if root is not None:
        is_modifier = bool(root.facts.get("isModifier", False))
        if is_modifier != (extension.key == "modifierExtension"):
            wanted = "modifierExtension" if is_modifier else "extension"
            run.add("extension-kind", extension, url, wanted)
    run.profiles.check_node(extension, url, run)


def _check_part(parent: Node, part: Node, name: str, run: CheckRun) -> None:
    """Check that a complex extension has the part: its definition lists them by name."""
    if parent.type != "Extension" or not isinstance(parent.value, Mapping):
        return
    outer = parent.value.get("url")
    root = _root(outer, run) if isinstance(outer, str) and ":" in outer else None
    if root is None:
        return
    child = (root.children or {}).get("extension")
    known: set[str] = set()
    for one in (child.slices if child is not None else {}).values():
        known |= urls_of(one, run.profiles.known_root)
    if known and name not in known:
        run.add("extension-part", part, outer, name)


def _root(url: str, run: CheckRun) -> Shape | None:
    try:
        return run.profiles.root_of(url)
    except InvalidContent:
        return None  # check_node tells why


def _check_context(
    parent: Node, extension: Node, url: str, definition: Mapping[str, Any], run: CheckRun
) -> None:
    contexts = list(definition.get("context", []))
    if url in _WIDER_CONTEXTS:
        contexts.append({"type": "element", "expression": _WIDER_CONTEXTS[url]})
    if contexts and not any(_fits(parent, context, run) for context in contexts):
        allowed = ", ".join(f"{one.get('type')} {one.get('expression')}" for one in contexts)
        run.add("extension-context", extension, url, allowed)
    for expression in definition.get("contextInvariant", ()):
        if not _holds(str(expression), parent, extension, run):
            run.add("constraint", extension, url, "contextInvariant", expression, expression)


def _fits(parent: Node, context: Mapping[str, Any], run: CheckRun) -> bool:
    expression = str(context.get("expression", ""))
    match context.get("type"):
        case "extension":
            return (
                parent.type == "Extension"
                and isinstance(parent.value, Mapping)
                and parent.value.get("url") == expression.partition("#")[0]
            )
        case "fhirpath":
            return _is_selected(expression, parent, run)
    return expression in _names_of(parent) or _is_type(parent, expression)


def _is_type(node: Node, expression: str) -> bool:
    """Say whether an element is of a type; `Element` means every element, a resource's root too.

    https://hl7.org/fhir/R4/defining-extensions.html#context
    """
    name = expression.partition("#")[2] or expression
    return name == "Element" or (bool(name) and model.is_kind_of(node.type, name))


def _names_of(node: Node) -> frozenset[str]:
    """Return the paths by which a context may name an element: `Patient.name`, `Address.line`."""
    steps: list[tuple[str, str]] = []
    found = node
    while found.parent is not None:
        steps.append((found.parent.type, found.key))
        found = found.parent
    return _names_along(node.type, tuple(steps))


@functools.lru_cache(maxsize=4096)
def _names_along(type_name: str, steps: tuple[tuple[str, str], ...]) -> frozenset[str]:
    """Return the same of an element's type and (type, key) of each step up to the resource."""
    names = {type_name}
    tail = ""
    for parent, key in steps:
        known = model.slots_of(parent).get(key)
        name = key if known is None else known[0].name
        for written in {key, name, f"{name}[x]"}:
            names |= {f"{kind}.{written}{tail}" for kind in _kinds_of(parent)}
        tail = f".{name}{tail}"
    return frozenset(names)


def _kinds_of(type_name: str) -> Iterator[str]:
    yield type_name
    for ancestor in ("Resource", "DomainResource", "Element", "BackboneElement", "Quantity"):
        if ancestor != type_name and model.is_kind_of(type_name, ancestor):
            yield ancestor


def _is_selected(expression: str, node: Node, run: CheckRun) -> bool:
    owner = owner_of(node)
    try:
        closure = Compiler(as_filters=True).expression(parse(expression))
        inner = Run([owner], resource=[owner], root=[run.root], ports=run.ports)
        found = closure(Frame(inner, [owner]))
    except (InvalidContent, NotSupported):
        return False
    place = node.place
    return any(isinstance(one, Node) and one.place == place for one in found)


def _holds(expression: str, parent: Node, extension: Node, run: CheckRun) -> bool:
    try:
        closure = Compiler(as_filters=True).expression(parse(expression))
        inner = Run(
            [parent],
            resource=[owner_of(parent)],
            root=[run.root],
            ports=run.ports,
            variables={"extension": extension.value},
        )
        return truth(closure(Frame(inner, [parent])), "contextInvariant") is True
    except (InvalidContent, NotSupported):
        return False
