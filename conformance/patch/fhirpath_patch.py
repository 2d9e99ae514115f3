"""FHIRPath Patch, fhirpatch.html: operations in a Parameters resource."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.fhirpath import Node
from conformance.patch import places
from conformance.patch.refusal import inapplicable, unreadable
from conformance.r4.tables import Element

MAX_OPERATIONS = 1_000
_NEEDED = {
    "add": ("path", "name", "value"),
    "insert": ("path", "index", "value"),
    "delete": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "source", "destination"),
}
_IS_TEXT = frozenset({"type", "path", "name"})
_IS_NUMBER = frozenset({"index", "source", "destination"})
_PARTS = frozenset({"value", *_IS_TEXT, *_IS_NUMBER})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    number: int
    type: str
    path: str
    name: str = ""
    index: int = 0
    source: int = 0
    destination: int = 0
    value: Mapping[str, Any] = field(default_factory=dict)


def apply_fhirpath_patch(
    resource: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the resource after all operations; raise InvalidContent or BusinessRule."""
    operations = _operations_of(parameters)
    changed = copy.deepcopy(dict(resource))
    for operation in operations:
        _perform(operation, changed)
    return changed


def _operations_of(parameters: Mapping[str, Any]) -> list[_Operation]:
    entries = parameters.get("parameter", [])
    if parameters.get("resourceType") != "Parameters" or not isinstance(entries, list):
        raise unreadable(None, "it is not a Parameters resource", "不是 Parameters 资源")
    if len(entries) > MAX_OPERATIONS:
        raise unreadable(
            None, f"it has more than {MAX_OPERATIONS} operations", f"操作数超过 {MAX_OPERATIONS}"
        )
    return [_operation_of(number, entry) for number, entry in enumerate(entries)]


def _operation_of(number: int, entry: Any) -> _Operation:
    parts = entry.get("part", []) if isinstance(entry, dict) else []
    if not isinstance(entry, dict) or entry.get("name") != "operation":
        raise unreadable(
            number, "each parameter is named 'operation'", "每个 parameter 应名为 operation"
        )
    read: dict[str, Any] = {}
    for part in parts if isinstance(parts, list) else []:
        name = part.get("name") if isinstance(part, dict) else None
        if not isinstance(name, str) or name in read or name not in _PARTS:
            raise unreadable(number, "a part is unknown or repeated", "有未知或重复的 part")
        read[name] = part if name == "value" else _single_value(part)
    kind = read.get("type")
    if not isinstance(kind, str) or kind not in _NEEDED:
        names = ", ".join(sorted(_NEEDED))
        raise unreadable(number, f"'type' must be one of {names}", f"type 应为 {names} 之一")
    for name in _NEEDED[kind]:
        right = str if name in _IS_TEXT else int if name in _IS_NUMBER else dict
        if not isinstance(read.get(name), right) or isinstance(read[name], bool):
            raise unreadable(
                number, f"part '{name}' is missing or wrong", f"part {name} 缺失或有误"
            )
    return _Operation(number=number, **read)


def _single_value(part: Mapping[str, Any]) -> Any:
    values = [value for name, value in part.items() if name.startswith("value")]
    value = values[0] if len(values) == 1 else None
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _perform(operation: _Operation, resource: dict[str, Any]) -> None:
    if operation.type in {"insert", "move"}:
        _change_list(operation, resource)
        return
    found = places.nodes_of(operation.number, operation.path, resource)
    if len(found) > 1:
        raise inapplicable(
            operation.number, "the path means more than one element", "路径指向多个元素"
        )
    if not found and operation.type != "delete":
        raise inapplicable(operation.number, "nothing stands at the path", "路径处没有内容")
    for node in found:
        if operation.type == "add":
            _add(operation, node)
            continue
        if node.parent is None:
            raise inapplicable(
                operation.number, "the path means the whole resource", "路径指向整个资源"
            )
        if operation.type == "delete":
            places.delete(node)
        else:
            _replace(operation, node, node.parent)


def _replace(operation: _Operation, node: Node, parent: Node) -> None:
    element = places.element_of_node(node)
    value, beside, name = _read_value(operation.number, operation.value, element, parent.type)
    places.replace(node, element, name, (value, beside))


def _change_list(operation: _Operation, resource: dict[str, Any]) -> None:
    items = places.list_of(operation.number, operation.path, resource)
    size = len(items.pairs)
    if operation.type == "insert":
        if not 0 <= operation.index <= size:
            raise inapplicable(operation.number, "the index is out of range", "下标超出范围")
        read = _read_value(operation.number, operation.value, items.element, items.holder.type)
        items.pairs.insert(operation.index, read[:2])
    else:
        if not (0 <= operation.source < size and 0 <= operation.destination < size):
            raise inapplicable(operation.number, "the index is out of range", "下标超出范围")
        items.pairs.insert(operation.destination, items.pairs.pop(operation.source))
    items.write()


def _add(operation: _Operation, node: Node) -> None:
    if not isinstance(node.value, dict):
        raise inapplicable(
            operation.number, "the path means a single value", "路径指向单个值，不能添加子元素"
        )
    element = places.element_of(node.type, operation.name)
    if element is None:
        raise inapplicable(
            operation.number,
            "the element named is not defined there",
            "该处没有定义此名称的元素",
            "Take 'name' from the definition of the element at 'path'; choices without their type.",
        )
    value, beside, name = _read_value(operation.number, operation.value, element, node.type)
    if not places.append(node.value, element, name, (value, beside)):
        raise inapplicable(
            operation.number,
            "the element exists already and does not repeat",
            "该元素已存在且不可重复",
            "Use 'replace' for an element that exists.",
        )


def _read_value(
    number: int, part: Mapping[str, Any], element: Element, holder_type: str
) -> tuple[Any, Any, str]:
    """Return value, what stands beside a primitive, and the JSON name to write them under."""
    if "resource" in part:
        return copy.deepcopy(part["resource"]), None, element.name
    keys = {key.lstrip("_") for key in part if key.lstrip("_").startswith("value")}
    if len(keys) > 1 or (keys and "part" in part):
        raise unreadable(number, "'value' has more than one value", "value 中有多个值")
    if keys:
        key = keys.pop()
        name = _json_name(number, element, key.removeprefix("value"))
        return copy.deepcopy(part.get(key)), copy.deepcopy(part.get(f"_{key}")), name
    if isinstance(part.get("part"), list):
        return _anonymous(number, part["part"], element, holder_type), None, element.name
    raise unreadable(number, "'value' has no value", "value 中没有值")


def _anonymous(number: int, parts: list[Any], element: Element, holder_type: str) -> dict[str, Any]:
    """Return an element without a data type of its own, built from nested parts."""
    built: dict[str, Any] = {}
    type_path = places.children_defined_at(element, holder_type)
    for part in parts:
        name = part.get("name") if isinstance(part, dict) else None
        child = places.element_of(type_path, name) if isinstance(name, str) else None
        if child is None:
            raise unreadable(number, "a nested part names no element", "嵌套 part 的名称不是元素")
        value, beside, key = _read_value(number, part, child, type_path)
        if not places.append(built, child, key, (value, beside)):
            raise unreadable(number, "a nested part is repeated", "嵌套 part 重复")
    return built


def _json_name(number: int, element: Element, suffix: str) -> str:
    """Return the JSON name; a choice takes its type from the name of the value."""
    if not element.is_choice:
        return element.name
    codes = {code[0].upper() + code[1:] for code in (type_.code for type_ in element.types)}
    if suffix not in codes and "*" not in codes:
        raise inapplicable(
            number,
            "the element does not allow a value of this type",
            "该元素不允许此类型的值",
            "Give the value as one of the types the element allows.",
        )
    return element.name.removesuffix("[x]") + suffix
