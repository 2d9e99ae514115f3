"""The profiles known to a check, each compiled once, and the snapshot of one."""

from collections.abc import Iterable, Mapping
from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.evaluation import NO_PORTS, Ports
from conformance.fhirpath.nodes import Node
from conformance.problem import InvalidContent, Issue
from conformance.profiles.checks import ProfileCompiler
from conformance.profiles.differential import apply
from conformance.profiles.run import MAX_DEPTH, CheckRun, element_id_of
from conformance.profiles.shapes import Shape, core_root, is_core, name_of, shape_at
from conformance.profiles.slicing import NodeCheck, sorts_of
from conformance.profiles.texts import fault, issue
from conformance.profiles.written import elements_of
from conformance.r4 import tables


class Profiles:
    """StructureDefinitions by canonical address, R4's own included; never changes.

    A tree and a check are made when first asked for and kept. A missing or cyclic base is told
    when a resource is checked against the profile.
    """

    def __init__(self, definitions: Iterable[Mapping[str, Any]] = ()) -> None:
        self._definitions: dict[str, Mapping[str, Any]] = {}
        for definition in definitions:
            if definition.get("resourceType") == "StructureDefinition" and "url" in definition:
                url, version = str(definition["url"]), definition.get("version")
                self._definitions.setdefault(url, definition)
                if version is not None:
                    for part in _versions(str(version)):
                        self._definitions.setdefault(f"{url}|{part}", definition)
        self._roots: dict[str, Shape | InvalidContent] = {}
        self._checks: dict[str, NodeCheck] = {}

    def definitions(self) -> list[Mapping[str, Any]]:
        """Return the definitions given, R4's own not among them."""
        return list({id(one): one for one in self._definitions.values()}.values())

    def find(self, canonical: str) -> Mapping[str, Any] | None:
        """Return the StructureDefinition; a version, where given, must fit."""
        canonical = canonical.partition("#")[0]
        found = self._definitions.get(canonical)
        if found is not None:
            return found
        url, _, version = canonical.partition("|")
        found = tables.load().profiles.get(url)
        return found if found is not None and version in ("", found.get("version")) else None

    def root_of(self, canonical: str) -> Shape | None:
        """Return the tree of a profile, None where it is unknown; raises InvalidContent."""
        if is_core(canonical):
            return core_root(name_of(canonical))
        canonical, _, part = canonical.partition("#")
        definition = self.find(canonical)
        if definition is None:
            return None
        root = self._root(definition, ())
        return shape_at(root, part) if part else root

    def _root(self, definition: Mapping[str, Any], below: tuple[str, ...]) -> Shape:
        url = str(definition.get("url"))
        key = f"{url}|{definition.get('version', '')}"
        kept = self._roots.get(key)
        if isinstance(kept, InvalidContent):
            raise kept
        if kept is not None:
            return kept
        if key in below:
            raise fault("profile-cycle", url)
        try:
            root = self._made(definition, url, (*below, key))
        except InvalidContent as problem:
            self._roots[key] = problem
            raise
        self._roots[key] = root
        return root

    def _made(self, definition: Mapping[str, Any], url: str, below: tuple[str, ...]) -> Shape:
        base_url = definition.get("baseDefinition")
        if not isinstance(base_url, str):
            raise fault("profile-base", url, "?")
        written = (definition.get("snapshot") or {}).get("element")
        if written or is_core(base_url):
            type_name = name_of(str(definition.get("type"))) if written else name_of(base_url)
            if type_name not in tables.load().types:
                raise fault("profile-base", url, base_url)
            root = core_root(type_name)
        else:
            base = self.find(base_url)
            if base is None:
                raise fault("profile-base", url, base_url)
            root = self._root(base, below).copy()
        changes = written or (definition.get("differential") or {}).get("element") or []
        apply(root, changes, self.known_root, url)
        return root

    def known_root(self, canonical: str) -> Shape | None:
        """Return another profile's tree while one is being made; None on its faults."""
        try:
            return self.root_of(canonical)
        except (InvalidContent, RecursionError):
            return None

    def check_of(self, canonical: str) -> NodeCheck | None:
        """Return the compiled check of a profile, None where it is unknown."""
        kept = self._checks.get(canonical)
        if kept is None:
            root = self.root_of(canonical)
            if root is None:
                return None
            url = canonical.partition("|")[0]
            compiler = ProfileCompiler(url=url, root_of=self.known_root, conforms=self.conforms)
            check = compiler.root(root)
            kept = check if "#" in canonical else self._for_type(root, check, url)
            self._checks[canonical] = kept
        return kept

    def _for_type(self, root: Shape, inner: NodeCheck, url: str) -> NodeCheck:
        def check(node: Node, run: CheckRun) -> None:
            if model.is_kind_of(node.type, root.name):
                inner(node, run)
            else:
                run.add("profile-type", node, url, root.name)

        return check

    def check_node(self, node: Node, canonical: str, run: CheckRun) -> None:
        """Check a node against a profile; one already being judged further up is let be."""
        key = (id(node.value), canonical)
        if key in run.judging or run.depth >= MAX_DEPTH:
            return
        try:
            check = self.check_of(canonical)
        except InvalidContent as problem:
            run.issues.extend(problem.issues)
            return
        if check is None:
            run.add("profile-unchecked", node, canonical)
            return
        run.judging[key] = True
        run.depth += 1
        try:
            check(node, run)
        finally:
            run.depth -= 1
            del run.judging[key]

    def conforms(self, node: Node, canonical: str, run: CheckRun) -> bool | None:
        """Say whether a node conforms to a profile, without keeping what is found.

        None where the profile is unknown, or too faulty to be used.
        """
        if is_core(canonical):
            return model.is_kind_of(node.type, name_of(canonical))
        try:
            if self.check_of(canonical) is None:
                return None
        except InvalidContent:
            return None
        with run.trial() as trial:
            self.check_node(node, canonical, run)
        return not trial.failed

    def in_slice(
        self, nodes: list[Node], canonical: str, name: str, run: CheckRun
    ) -> list[Node] | None:
        """Return the nodes that belong to a slice of a profile by its discriminators.

        None where the profile, or a slice of that name where a node stands, is unknown.
        """
        root = self.known_root(canonical)
        if root is None:
            return None
        found = []
        for node in nodes:
            shape = shape_at(root, element_id_of(node))
            sorts = sorts_of(shape, name, self.known_root, self.conforms, canonical)
            if sorts is None:
                return None
            if all(sort(node, run) for sort in sorts):
                found.append(node)
        return found

    def check(
        self,
        resource: Mapping[str, Any],
        canonical: str,
        *,
        root: Mapping[str, Any] | None = None,
        ports: Ports = NO_PORTS,
    ) -> list[Issue]:
        """Return what of a resource breaks a profile; an unknown profile is an error.

        The resource must be structurally sound and is not judged by base R4 here.
        """
        node = Node(resource, str(resource.get("resourceType")))
        run = CheckRun(self, node if root is None else Node(root, str(root["resourceType"])), ports)
        if not is_core(canonical) and self.find(canonical) is None:
            return [issue("profile-missing", node.type, canonical)]
        self.check_node(node, canonical, run)
        return run.issues


def _versions(version: str) -> list[str]:
    """Return a version and what may be written for it: `0.2` means any `0.2.x`."""
    parts = version.split(".")
    return [version, *(".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))]


def snapshot(definition: Mapping[str, Any], profiles: Profiles) -> dict[str, Any]:
    """Return the StructureDefinition with a snapshot made from its differential and its base.

    https://hl7.org/fhir/R4/structuredefinition-operation-snapshot.html. Raises InvalidContent on a
    missing or cyclic base and on elements that the base does not have.
    """
    bare = {key: value for key, value in definition.items() if key != "snapshot"}
    root = Profiles([bare, *profiles.definitions()]).root_of(str(bare.get("url")))
    if root is None:
        raise fault("profile-missing", bare.get("url"))
    return {**bare, "snapshot": {"element": elements_of(root)}}
