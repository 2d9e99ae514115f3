"""Bindings by strength (https://hl7.org/fhir/R4/terminologies.html#strength)."""

from collections.abc import Mapping
from typing import Any

from conformance.fhirpath.nodes import Node
from conformance.profiles.run import CheckRun
from conformance.profiles.slicing import NodeCheck

_CODED = frozenset({"code", "Coding", "CodeableConcept", "Quantity", "string", "uri", "Age",
                    "Duration", "Money", "Count", "Distance", "SimpleQuantity"})  # fmt: skip


def binding_check(binding: Mapping[str, Any], url: str) -> NodeCheck | None:
    """Compile a binding that is required or extensible; weaker ones ask nothing."""
    strength, value_set = binding.get("strength"), binding.get("valueSet")
    if strength not in ("required", "extensible") or not isinstance(value_set, str):
        return None
    key = "binding" if strength == "required" else "binding-extensible"

    def check(node: Node, run: CheckRun) -> None:
        if node.type not in _CODED or node.value is None:
            return
        if strength == "extensible" and _is_text_only(node):
            return
        terminology = run.ports.terminology
        verdict = None
        if terminology is not None:
            verdict = terminology.member_of(_coded(node), value_set)
        if verdict is None:
            run.add("binding-unchecked", node, url, value_set)
        elif not verdict:
            run.add(key, node, url, value_set)

    return check


def _is_text_only(node: Node) -> bool:
    return isinstance(node.value, Mapping) and "coding" not in node.value and "text" in node.value


def _coded(node: Node) -> Any:
    """Return what a terminology service is asked: a Quantity by its unit as a Coding."""
    value = node.value
    if type(value) is str:
        return value
    if isinstance(value, Mapping) and "value" in value and "coding" not in value:
        return {"system": value.get("system"), "code": value.get("code")}
    return value
