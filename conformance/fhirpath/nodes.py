"""The items of a collection: FHIR elements as nodes over plain JSON, and System values.

A System value is a bool, int, Decimal, str, Temporal, Quantity or TypeName; everything of a
resource is a `Node`, converted to a System value where an operator asks for one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.quantity import UCUM, Quantity
from conformance.fhirpath.temporal import Temporal, as_kind, parse_date_time, parse_time


class Node:
    """One FHIR element: its JSON value, its type, its `_name` companion and where it stands.

    `value` is None where a primitive has only extensions. `type` is a type's name or the path of
    a backbone element. `parent`, `key` and `index` say the place; the root has none.
    """

    __slots__ = ("companion", "index", "key", "parent", "type", "value")

    def __init__(
        self,
        value: Any,
        type_: str,
        companion: Mapping[str, Any] | None = None,
        parent: "Node | None" = None,
        key: str = "",
        index: int | None = None,
    ) -> None:
        self.value = value
        self.type = type_
        self.companion = companion
        self.parent = parent
        self.key = key
        self.index = index

    @property
    def place(self) -> tuple[str | int, ...]:
        """The keys and indexes that lead from the root's JSON to this node."""
        steps: list[str | int] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            if node.index is not None:
                steps.append(node.index)
            steps.append(node.key)
            node = node.parent
        return tuple(reversed(steps))


@dataclass(frozen=True, slots=True)
class TypeName:
    """What `type()` returns (http://hl7.org/fhirpath/N1/#reflection)."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"


def root_of(resource: Any, type_name: str | None = None) -> Node:
    """Return the node of a resource, or of an element when its type is given."""
    if type_name is None:
        type_name = resource.get("resourceType", "Element") if isinstance(resource, Mapping) else ""
    return Node(resource, str(type_name))


def children(node: Node, name: str) -> list[Node]:
    """Return the children of one name, in order."""
    value = node.value
    child = model.children_of(node.type).get(name)
    if child is None:
        return []
    if type(value) is not dict and not isinstance(value, Mapping):
        return _companion_children(node, name)
    found: list[Node] = []
    for slot in child.slots:
        key, companion, type_name, is_primitive, is_resource = slot
        content = value.get(key)
        if is_primitive and companion in value:
            _collect(node, value, slot, found)
        elif content is None:
            continue
        elif is_resource:
            _collect(node, value, slot, found)
        elif type(content) is list:
            for index, item in enumerate(content):
                if item is not None:
                    found.append(Node(item, type_name, None, node, key, index))
        else:
            found.append(Node(content, type_name, None, node, key))
    return found


def _companion_children(node: Node, name: str) -> list[Node]:
    companion = node.companion
    if not isinstance(companion, Mapping) or name not in companion:
        return []
    if name == "extension" and isinstance(companion[name], list):
        return [
            Node(item, "Extension", None, node, name, index)
            for index, item in enumerate(companion[name])
        ]
    return [Node(companion[name], "string", None, node, name)]


def _collect(node: Node, value: Mapping[str, Any], slot: model.Slot, found: list[Node]) -> None:
    content = value.get(slot.key)
    companion = value.get(slot.companion) if slot.is_primitive else None
    if companion is None and type(content) is list:
        for index, item in enumerate(content):
            if item is not None:
                type_name = _type_of(item, slot) if slot.is_resource else slot.type
                found.append(Node(item, type_name, None, node, slot.key, index))
        return
    if isinstance(content, list) or isinstance(companion, list):
        contents = content if isinstance(content, list) else []
        companions = companion if isinstance(companion, list) else []
        for index in range(max(len(contents), len(companions))):
            item = contents[index] if index < len(contents) else None
            beside = companions[index] if index < len(companions) else None
            if item is not None or beside is not None:
                type_name = _type_of(item, slot)
                found.append(Node(item, type_name, beside, node, slot.key, index))
    elif content is not None or companion is not None:
        found.append(Node(content, _type_of(content, slot), companion, node, slot.key))


def _type_of(value: Any, slot: model.Slot) -> str:
    if slot.is_resource and isinstance(value, Mapping):
        return str(value.get("resourceType", slot.type))
    return slot.type


def all_children(node: Node) -> list[Node]:
    """Return every child, in the order the type defines them."""
    value = node.value
    found: list[Node] = []
    if type(value) is dict or isinstance(value, Mapping):
        slots = model.slots_of(node.type)
        for key in value:
            known = slots.get(key)
            if known is not None:
                _collect(node, value, known[1], found)
            elif key.startswith("_") and key[1:] in slots and key[1:] not in value:
                _collect(node, value, slots[key[1:]][1], found)
    elif isinstance(node.companion, Mapping):
        found.extend(_companion_children(node, "id"))
        found.extend(_companion_children(node, "extension"))
    return found


_TEMPORAL_KINDS = {"date": "Date", "dateTime": "DateTime", "instant": "DateTime"}
QUANTITIES = frozenset(
    {"Quantity", "Age", "Count", "Distance", "Duration", "Money", "SimpleQuantity", "MoneyQuantity"}
)


def system_value(item: Any) -> Any:
    """Return the System value of an item; a complex node itself, None where there is no value."""
    if type(item) is not Node:
        return item
    value = item.value
    if isinstance(value, str):
        return system_text(value, item.type)
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return Decimal(str(value))
    if isinstance(value, int):
        return Decimal(value) if item.type == "decimal" else value
    if isinstance(value, Mapping):
        if item.type in QUANTITIES and item.type != "Money":
            return system_quantity(value) or item
        return item
    return value


def system_text(value: str, type_name: str) -> Any:
    """Return a FHIR primitive written as text as the System value of its type."""
    kind = _TEMPORAL_KINDS.get(type_name)
    if kind is not None:
        moment = parse_date_time(value)
        return value if moment is None else as_kind(moment, kind)
    if type_name == "time":
        return parse_time(value) or value
    return value


def system_quantity(value: Mapping[str, Any]) -> Quantity | None:
    """Return a FHIR Quantity as a System.Quantity; None without a value or with a comparator.

    https://hl7.org/fhir/R4/fhirpath.html#quantity
    """
    number = value.get("value")
    if (
        "comparator" in value
        or not isinstance(number, int | float | Decimal)
        or isinstance(number, bool)
    ):
        return None
    amount = number if isinstance(number, Decimal) else Decimal(str(number))
    if value.get("system") == UCUM and isinstance(value.get("code"), str):
        return Quantity(amount, value["code"])
    unit = value.get("code") or value.get("unit") or "1"
    return Quantity(amount, str(unit))


def system_type_of(value: Any) -> str | None:
    """Return the System type's name of a System value."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer"
    if isinstance(value, Decimal):
        return "Decimal"
    if isinstance(value, str):
        return "String"
    if isinstance(value, Temporal):
        return value.kind
    return "Quantity" if isinstance(value, Quantity) else None
