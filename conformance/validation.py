"""Whether a resource is valid: form, R4's constraints, extensions, Bundle rules and profiles."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance import invariants, structure
from conformance.bundle_rules import check_bundle
from conformance.fhirpath import model
from conformance.fhirpath.evaluation import NO_PORTS, Ports
from conformance.fhirpath.nodes import Node, all_children
from conformance.problem import Issue
from conformance.profiles import Profiles
from conformance.profiles.definitions import check_definition
from conformance.profiles.extensions import check_extensions
from conformance.profiles.references import check_targets
from conformance.profiles.run import CheckRun
from conformance.profiles.shapes import is_core, name_of
from conformance.profiles.texts import issue

ENFORCE, WARN, OFF = "enforce", "warn", "off"
"""What is done with the profiles that a resource claims in `meta.profile`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """Judges resources against base R4 and profiles; its profiles are compiled once.

    `claimed` is the policy for `meta.profile`: enforce, warn (errors become warnings) or off.
    `implied` are profiles that apply to every resource of a type, as ImplementationGuide.global
    says. `refused_extensions` are beginnings of addresses whose extensions must have a definition,
    "" for all; others without one are told. `requires_targets` asks that what a literal reference
    points to can be found: inside, or by the resolver. `trusts_targets` lets a profile's narrower
    types and profiles of a target be met by whatever cannot be found. `trusts_references` makes the
    form of a reference, where it is neither absolute nor `Type/id`, a warning.
    """

    profiles: Profiles = field(default_factory=Profiles)
    ports: Ports = NO_PORTS
    claimed: str = ENFORCE
    implied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused_extensions: tuple[str, ...] = ()
    requires_targets: bool = False
    trusts_targets: bool = False
    trusts_references: bool = False

    def check(self, resource: Mapping[str, Any], *, profiles: Sequence[str] = ()) -> list[Issue]:
        """Return everything found; `profiles` are checked beside the claimed ones.

        Only a structurally sound resource is judged further. Raises TooCostly over a limit.
        """
        found = structure.check(
            resource, constraints=False, trusts_references=self.trusts_references
        )
        if _has_error(found):
            return found
        found += invariants.check(resource, ports=self.ports)
        return _once([*found, *self.check_content(resource, profiles=profiles)])

    def check_content(
        self, resource: Mapping[str, Any], *, profiles: Sequence[str] = ()
    ) -> list[Issue]:
        """Return what is found beyond base R4, of a resource that is sound by it."""
        root = Node(resource, str(resource["resourceType"]))
        found = check_bundle(resource)
        if root.type == "StructureDefinition":
            found += check_definition(resource, self.profiles)
        ports = self.ports_for(root)
        run = self._run(root, ports)
        check_extensions(root, run)
        if self.requires_targets:
            check_targets(root, run)
        found += run.issues
        named = (*profiles, *self.implied.get(root.type, ()))
        for canonical in named:
            found += self._named(root, canonical, ports)
        if self.claimed != OFF:
            found += self._claims(root, ports, named)
        return _once(found)

    def _run(self, root: Node, ports: Ports) -> CheckRun:
        run = CheckRun(self.profiles, root, ports)
        run.refused_extensions = self.refused_extensions
        run.trusts_targets = self.trusts_targets
        return run

    def _named(self, root: Node, canonical: str, ports: Ports) -> list[Issue]:
        if not is_core(canonical) and self.profiles.find(canonical) is None:
            return [issue("profile-missing", root.type, canonical)]
        if is_core(canonical) and not model.is_kind_of(root.type, name_of(canonical)):
            return [issue("profile-type", root.type, canonical, name_of(canonical))]
        run = self._run(root, ports)
        self.profiles.check_node(root, canonical, run)
        return run.issues

    def _claims(self, root: Node, ports: Ports, judged: Sequence[str]) -> list[Issue]:
        """Judge what is claimed, but for what the resource itself has been judged by."""
        run = self._run(root, ports)
        for node in _resources(root):
            meta = node.value.get("meta")
            for canonical in (meta or {}).get("profile") or ():
                if isinstance(canonical, str) and not (node is root and canonical in judged):
                    self.profiles.check_node(node, canonical, run)
        if self.claimed == WARN:
            return [_as_warning(one) for one in run.issues]
        return run.issues

    def ports_for(self, root: Node) -> Ports:
        """Return the ports for expressions on a resource.

        `conformsTo()` and `slice()` are answered by these profiles.
        """
        if self.ports.conforms_to is not None:
            return self.ports

        def conforms_to(resource: Mapping[str, Any], canonical: str) -> bool | None:
            if self.profiles.find(canonical) is None:
                return None
            node = Node(resource, str(resource.get("resourceType")))
            run = CheckRun(self.profiles, root, self.ports)
            return self.profiles.conforms(node, canonical, run)

        def slices(nodes: list[Node], canonical: str, name: str) -> list[Node] | None:
            run = CheckRun(self.profiles, root, self.ports)
            return self.profiles.in_slice(nodes, canonical, name, run)

        return Ports(
            resolver=self.ports.resolver,
            terminology=self.ports.terminology,
            conforms_to=conforms_to,
            slices=slices,
            trace=self.ports.trace,
        )


def _resources(root: Node) -> Iterator[Node]:
    """Yield a resource and every one inside it."""
    yield root
    if not ({"contained", "entry", "parameter"} & root.value.keys()):
        return
    queue = [root]
    while queue:
        for child in all_children(queue.pop()):
            if model.is_resource(child.type) and isinstance(child.value, Mapping):
                yield child
            if child.key in ("contained", "entry", "resource", "response", "outcome", "parameter",
                             "part"):  # fmt: skip
                queue.append(child)


def _has_error(found: Sequence[Issue]) -> bool:
    return any(one.severity in ("error", "fatal") for one in found)


def _as_warning(found: Issue) -> Issue:
    if found.severity not in ("error", "fatal"):
        return found
    return Issue(
        severity="warning",
        code=found.code,
        key=found.key,
        text_en=found.text_en,
        text_zh=found.text_zh,
        fix_en=found.fix_en,
        fix_zh=found.fix_zh,
        expression=found.expression,
    )


def _once(found: list[Issue]) -> list[Issue]:
    return list(dict.fromkeys(found)) if len(found) > 1 else found
