"""JSON Patch, RFC 6902 with JSON Pointer RFC 6901, as http.html#patch uses it."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Never

from conformance.patch.refusal import inapplicable, unreadable

MAX_OPERATIONS = 1_000
# `copy` can double a document with each operation; this bounds the sum of what all of them copy.
MAX_COPIED_NODES = 100_000

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_NEEDS_VALUE = frozenset({"add", "replace", "test"})
_NEEDS_FROM = frozenset({"move", "copy"})


def apply_json_patch(document: Mapping[str, Any], patch: object) -> dict[str, Any]:
    """Return the document after all operations; raise InvalidContent or BusinessRule."""
    operations = _check_patch(patch)
    run = _Run(copy.deepcopy(dict(document)))
    for number, operation in enumerate(operations):
        run.number = number
        run.perform(operation)
    if not isinstance(run.document, dict):
        raise inapplicable(
            len(operations) - 1, "the document is no longer an object", "结果不再是对象"
        )
    return run.document


def _check_patch(patch: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(patch, list):
        raise unreadable(None, "a JSON Patch is an array of operations", "JSON Patch 应为操作数组")
    if len(patch) > MAX_OPERATIONS:
        raise unreadable(
            None,
            f"it has more than {MAX_OPERATIONS} operations",
            f"操作数超过 {MAX_OPERATIONS}",
            "Split it into several patches.",
        )
    for number, operation in enumerate(patch):
        _check_operation(number, operation)
    return patch


def _check_operation(number: int, operation: object) -> None:
    if not isinstance(operation, dict):
        raise unreadable(number, "an operation is an object", "操作应为对象")
    op = operation.get("op")
    if not isinstance(op, str) or op not in _OPERATIONS:
        names = ", ".join(sorted(_OPERATIONS))
        raise unreadable(number, f"'op' must be one of {names}", f"op 应为 {names} 之一")
    needed = {"path"} | ({"from"} if op in _NEEDS_FROM else set())
    for member in sorted(needed):
        pointer = operation.get(member)
        if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
            raise unreadable(
                number, f"'{member}' must be a JSON Pointer", f"{member} 应为 JSON Pointer"
            )
    if op in _NEEDS_VALUE and "value" not in operation:
        raise unreadable(number, "'value' is missing", "缺少 value")


class _Run:
    """One application of a patch: the document and the operation at hand."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.number = 0
        self.copied = 0

    def perform(self, operation: Mapping[str, Any]) -> None:
        _OPERATIONS[operation["op"]](self, operation)

    def add(self, operation: Mapping[str, Any]) -> None:
        self._put(operation["path"], copy.deepcopy(operation["value"]))

    def remove(self, operation: Mapping[str, Any]) -> None:
        self._take(operation["path"])

    def replace(self, operation: Mapping[str, Any]) -> None:
        tokens = _tokens(operation["path"])
        value = copy.deepcopy(operation["value"])
        if not tokens:
            self.document = value
            return
        parent = self._find(tokens[:-1])
        parent[self._key(parent, tokens[-1])] = value

    def move(self, operation: Mapping[str, Any]) -> None:
        source, target = operation["from"], operation["path"]
        if target.startswith(source + "/"):
            self._refuse("a value cannot move into itself", "不能把值移入其自身")
        self._put(target, self._take(source))

    def copy(self, operation: Mapping[str, Any]) -> None:
        value = self._find(_tokens(operation["from"]))
        self.copied += _node_count(value)
        if self.copied > MAX_COPIED_NODES:
            raise unreadable(self.number, "it copies too much", "复制的内容过多")
        self._put(operation["path"], copy.deepcopy(value))

    def test(self, operation: Mapping[str, Any]) -> None:
        if not is_equal(self._find(_tokens(operation["path"])), operation["value"]):
            self._refuse("the test failed", "测试不成立")

    def _find(self, tokens: Sequence[str]) -> Any:
        place = self.document
        for token in tokens:
            place = place[self._key(place, token)]
        return place

    def _put(self, pointer: str, value: Any) -> None:
        tokens = _tokens(pointer)
        if not tokens:
            self.document = value
            return
        parent = self._find(tokens[:-1])
        if isinstance(parent, dict):
            parent[tokens[-1]] = value
        elif isinstance(parent, list) and tokens[-1] == "-":
            parent.append(value)
        else:
            parent.insert(self._key(parent, tokens[-1], one_more=True), value)

    def _take(self, pointer: str) -> Any:
        tokens = _tokens(pointer)
        if not tokens:
            self._refuse("the whole resource cannot be removed", "不能移除整个资源")
        parent = self._find(tokens[:-1])
        key = self._key(parent, tokens[-1])
        return parent.pop(key)

    def _key(self, parent: Any, token: str, *, one_more: bool = False) -> Any:
        """Return the member name or index that the token means, which exists."""
        if isinstance(parent, dict):
            if token not in parent:
                self._refuse("the path does not exist", "路径不存在")
            return token
        if not isinstance(parent, list):
            self._refuse("the path goes through a single value", "路径穿过了单个值")
        if not _INDEX.fullmatch(token):
            self._refuse("an array index is a number without leading zeros", "数组下标应为数字")
        if int(token) >= len(parent) + one_more:
            self._refuse("the array index is out of range", "数组下标超出范围")
        return int(token)

    def _refuse(self, what_en: str, what_zh: str) -> Never:
        raise inapplicable(self.number, what_en, what_zh)


def _tokens(pointer: str) -> list[str]:
    if not pointer:
        return []
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _node_count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_node_count(member) for member in value.values())
    if isinstance(value, list):
        return 1 + sum(_node_count(member) for member in value)
    return 1


def is_equal(left: Any, right: Any) -> bool:
    """Compare as RFC 6902 section 4.6: numbers by value, no type equals another."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float | Decimal) and isinstance(right, int | float | Decimal):
        return left == right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    return type(left) is type(right) and bool(left == right)


_OPERATIONS: Mapping[str, Callable[[_Run, Mapping[str, Any]], None]] = {
    "add": _Run.add,
    "remove": _Run.remove,
    "replace": _Run.replace,
    "move": _Run.move,
    "copy": _Run.copy,
    "test": _Run.test,
}
