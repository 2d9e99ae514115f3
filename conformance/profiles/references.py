"""Targets of references as a profile narrows them."""

from collections.abc import Callable, Mapping

from conformance.fhirpath import model
from conformance.fhirpath.functions_fhir import type_of_reference
from conformance.fhirpath.nodes import Node, all_children
from conformance.profiles.run import CheckRun
from conformance.profiles.shapes import RootOf, is_core, name_of
from conformance.profiles.slicing import NodeCheck


def target_check(
    targets: list[str],
    url: str,
    root_of: RootOf,
    conforms: Callable[[Node, str, CheckRun], bool | None],
) -> NodeCheck:
    """Compile `targetProfile`: types as resolved or written, profiles of what is resolved."""
    profiled = [target for target in targets if not is_core(target)]
    plain = {name_of(target) for target in targets if is_core(target)}
    names = ", ".join(targets)

    def is_allowed(type_name: str) -> bool:
        """Say whether a target of this type may be meant: a profile nobody knows may allow any."""
        roots = [root_of(target) for target in profiled]
        known = plain | {root.name for root in roots if root is not None}
        return None in roots or any(model.is_kind_of(type_name, name) for name in known)

    def check(node: Node, run: CheckRun) -> None:
        if not isinstance(node.value, Mapping):
            return
        found = run.resolved(node)
        if found is None and run.trusts_targets:
            return
        type_name = found.type if found is not None else _written_type(node.value)
        if type_name is None:
            return
        if not is_allowed(type_name):
            run.add("target", node, url, names)
            return
        if found is None or any(model.is_kind_of(type_name, name) for name in plain):
            return
        if all(conforms(found, profile, run) is False for profile in profiled):
            run.add("target-profile", node, url, names)

    return check


def _written_type(reference: Mapping[str, object]) -> str | None:
    text, named = reference.get("reference"), reference.get("type")
    if isinstance(text, str) and (found := type_of_reference(text)):
        return found
    return named if isinstance(named, str) and model.is_resource(named) else None


def check_targets(root: Node, run: CheckRun) -> None:
    """Tell every literal reference whose target can be found nowhere."""
    queue = [root]
    while queue:
        node = queue.pop()
        if node.type == "Reference" and isinstance(node.value, Mapping):
            text = node.value.get("reference")
            if isinstance(text, str) and text and run.resolved(node) is None:
                run.add("reference-missing", node)
        queue.extend(all_children(node))
