"""Fixed values, patterns and limits (https://hl7.org/fhir/R4/elementdefinition.html)."""

from collections.abc import Mapping
from typing import Any

from conformance.fhirpath.arithmetic import order_of
from conformance.fhirpath.nodes import Node
from conformance.problem import InvalidContent

Facts = Mapping[str, Any]


def valued(facts: Facts, prefix: str) -> tuple[str, Any] | None:
    """Return (type's suffix, value) of `fixed[x]`, `pattern[x]`, `minValue[x]`, `maxValue[x]`."""
    for key, value in facts.items():
        if key.startswith(prefix) and key[len(prefix) : len(prefix) + 1].isupper():
            return key[len(prefix) :], value
    return None


def is_fixed(value: Any, wanted: Any) -> bool:
    """Say whether a value is exactly the wanted one."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    if isinstance(wanted, Mapping):
        return (
            isinstance(value, Mapping)
            and value.keys() == wanted.keys()
            and all(is_fixed(value[key], wanted[key]) for key in wanted)
        )
    if isinstance(wanted, list):
        return (
            isinstance(value, list)
            and len(value) == len(wanted)
            and all(map(is_fixed, value, wanted))
        )
    return bool(value == wanted)


def has_pattern(value: Any, wanted: Any) -> bool:
    """Say whether a value has at least what the pattern has; list items in any place."""
    if isinstance(wanted, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and has_pattern(value[key], wanted[key]) for key in wanted
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and all(
            any(has_pattern(item, one) for item in value) for one in wanted
        )
    return is_fixed(value, wanted)


def is_beyond(node: Node, suffix: str, limit: Any, *, is_least: bool) -> bool:
    """Say whether a value lies below the least or above the greatest allowed."""
    type_name = suffix if suffix[:1].isupper() and isinstance(limit, Mapping) else _lower(suffix)
    try:
        order = order_of(node, Node(limit, type_name), "<")
    except InvalidContent:
        return False
    return order is not None and (order < 0 if is_least else order > 0)


def _lower(suffix: str) -> str:
    return suffix[:1].lower() + suffix[1:]
