"""Places in a resource that a FHIRPath means, and how to write to them.

The engine's nodes know where they stand, so any path may be used; a primitive and the `_name`
beside it that holds its id and extensions are read and written together.
"""

import re
from dataclasses import dataclass
from typing import Any

from conformance import fhirpath
from conformance.fhirpath import Node
from conformance.patch.refusal import inapplicable, unreadable
from conformance.r4.tables import Element, load

Pair = tuple[Any, Any]  # a value and its `_name`

_MEMBER = re.compile(r"`[^`]{1,200}`|[A-Za-z_][A-Za-z0-9_]{0,200}")
_MAX_PATH = 4_096
# A keyword of FHIRPath and an element of Narrative; patches write it without the backticks.
_DIV = re.compile(r"(?<=\.)div(?=$|[.\[])")


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementList:
    """All repetitions of one element, to be changed in place and written back."""

    holder: Node
    element: Element
    pairs: list[Pair]

    def write(self) -> None:
        """Write the pairs back into the holder."""
        _write_pairs(self.holder.value, self.element.name, self.pairs, is_list=True)


def nodes_of(number: int, path: str, resource: dict[str, Any]) -> list[Node]:
    """Return the elements of the resource that the path means, in order."""
    if len(path) > _MAX_PATH:
        raise unreadable(number, "the path is too long", "路径过长")
    written = path if "'" in path else _DIV.sub("`div`", path)
    found = fhirpath.compile(written, as_filters=True).nodes(resource)
    if not all(isinstance(item, Node) and _root(item).value is resource for item in found):
        raise inapplicable(number, "the path means no element", "路径没有指向元素")
    return found


def list_of(number: int, path: str, resource: dict[str, Any]) -> ElementList:
    """Return the repetitions that a path ending in a member means, none of them included."""
    head, _, name = path.strip().rpartition(".")
    if not head or not _MEMBER.fullmatch(name):
        raise unreadable(number, "the path does not end in a list", "路径末尾不是列表")
    holders = nodes_of(number, head, resource)
    if len(holders) != 1:
        raise inapplicable(number, "the path means no single list", "路径没有指向唯一的列表")
    holder = holders[0]
    element = element_of(holder.type, name.strip("`"))
    if element is None or not element.is_list or not isinstance(holder.value, dict):
        raise inapplicable(number, "the path means no list", "路径没有指向列表")
    return ElementList(holder=holder, element=element, pairs=_pairs(holder.value, element.name))


def element_of(type_path: str, name: str) -> Element | None:
    """Return the definition of a child by its FHIRPath name, a choice without its type.

    `type_path` is a type's name or the path of a backbone element.
    """
    type_name, _, inner = type_path.partition(".")
    info = load().types.get(type_name)
    for element in info.children.get(inner, ()) if info else ():
        if element.name in {name, f"{name}[x]"}:
            return element
    return None


def element_of_node(node: Node) -> Element:
    """Return the definition of an element that stands in a resource."""
    assert node.parent is not None
    type_name, _, inner = node.parent.type.partition(".")
    for element in load().types[type_name].children.get(inner, ()):
        if node.key == element.name or (element.is_choice and node.key in choice_names(element)):
            return element
    raise AssertionError("a node always stands at an element")


def children_defined_at(element: Element, holder_type: str) -> str:
    """Return the type path whose children an element without a data type of its own has."""
    if element.content is not None:
        return element.content
    return f"{holder_type.partition('.')[0]}.{element.path.partition('.')[2]}"


def choice_names(element: Element) -> list[str]:
    """Return the JSON names a choice may have."""
    base = element.name.removesuffix("[x]")
    return [base + type_.code[0].upper() + type_.code[1:] for type_ in element.types]


def append(holder: dict[str, Any], element: Element, name: str, pair: Pair) -> bool:
    """Add a child; False if it is there already and does not repeat."""
    if element.is_list:
        _write_pairs(holder, name, [*_pairs(holder, name), pair], is_list=True)
        return True
    names = choice_names(element) if element.is_choice else [element.name]
    if any(key in holder or f"_{key}" in holder for key in names):
        return False
    _write_pairs(holder, name, [pair], is_list=False)
    return True


def replace(node: Node, element: Element, name: str, pair: Pair) -> None:
    """Put another value where the node is; a choice may change its type and so its name."""
    assert node.parent is not None
    holder = node.parent.value
    if not element.is_list:
        _write_pairs(holder, node.key, [], is_list=False)
        _write_pairs(holder, name, [pair], is_list=False)
        return
    pairs = _pairs(holder, node.key)
    pairs[node.index or 0] = pair
    _write_pairs(holder, node.key, pairs, is_list=True)


def delete(node: Node) -> None:
    """Remove the element, and every parent that is empty without it."""
    parent = node.parent
    if parent is None:
        return
    if isinstance(parent.value, dict):
        pairs = _pairs(parent.value, node.key)
        del pairs[node.index or 0]
        _write_pairs(parent.value, node.key, pairs, is_list=node.index is not None)
    if not parent.value and parent.parent is not None:
        delete(parent)


def _root(node: Node) -> Node:
    while node.parent is not None:
        node = node.parent
    return node


def _pairs(holder: dict[str, Any], name: str) -> list[Pair]:
    values, beside = holder.get(name), holder.get(f"_{name}")
    if isinstance(values, list) or isinstance(beside, list):
        left = list(values) if isinstance(values, list) else []
        right = list(beside) if isinstance(beside, list) else []
        size = max(len(left), len(right))
        left += [None] * (size - len(left))
        right += [None] * (size - len(right))
        return list(zip(left, right, strict=True))
    return [(values, beside)] if values is not None or beside is not None else []


def _write_pairs(holder: dict[str, Any], name: str, pairs: list[Pair], *, is_list: bool) -> None:
    for key, items in ((name, [p[0] for p in pairs]), (f"_{name}", [p[1] for p in pairs])):
        if all(item is None for item in items):
            holder.pop(key, None)
        else:
            holder[key] = items if is_list else items[0]
