"""One check of one resource against profiles: what is found, and what surrounds it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conformance.fhirpath import model
from conformance.fhirpath.evaluation import Frame, Ports, Run
from conformance.fhirpath.functions_fhir import resolve
from conformance.fhirpath.nodes import Node
from conformance.fhirpath.scope import Scope
from conformance.problem import Issue, TooCostly
from conformance.profiles.texts import issue

if TYPE_CHECKING:
    from conformance.profiles.profiles import Profiles

MAX_ISSUES = 500
MAX_DEPTH = 40


class CheckRun:
    """The state of one check: issues found, scopes of resources, profiles being judged."""

    __slots__ = (
        "_scopes",
        "depth",
        "issues",
        "judging",
        "ports",
        "profiles",
        "refused_extensions",
        "root",
        "trusts_targets",
    )  # fmt: skip

    def __init__(self, profiles: "Profiles", root: Node, ports: Ports) -> None:
        self.profiles = profiles
        self.root = root
        self.ports = ports
        self.issues: list[Issue] = []
        self.judging: dict[tuple[int, str], bool] = {}
        self.depth = 0
        self.refused_extensions: tuple[str, ...] = ()
        self.trusts_targets = False
        self._scopes: dict[int, Scope] = {}

    def add(self, key: str, node: Node, *arguments: object) -> None:
        """Note a finding at a node."""
        if len(self.issues) >= MAX_ISSUES:
            raise TooCostly(*self.issues[:20])
        self.issues.append(issue(key, expression_of(node), *arguments))

    def trial(self) -> "Trial":
        """Return a context in which findings are counted and thrown away."""
        return Trial(self)

    def scope_of(self, owner: Node) -> Scope:
        """Return the FHIRPath scope of a resource."""
        scope = self._scopes.get(id(owner))
        if scope is None:
            container = owner.parent if owner.key == "contained" else None
            root = container.value if container is not None else owner.value
            scope = Scope(owner.value, root, self.ports)
            self._scopes[id(owner)] = scope
        return scope

    def resolved(self, node: Node) -> Node | None:
        """Return what a Reference points to: contained, in the Bundle, or by the resolver."""
        run = Run([], resource=[], root=[self.root], ports=self.ports)
        found = resolve(Frame(run, []), [node])
        return found[0] if found else None


class Trial:
    """Runs checks without keeping what they find; `failed` says whether there was an error."""

    __slots__ = ("failed", "kept", "run")

    def __init__(self, run: CheckRun) -> None:
        self.run = run
        self.kept: list[Issue] = []
        self.failed = False

    def __enter__(self) -> "Trial":
        self.kept, self.run.issues = self.run.issues, []
        return self

    def __exit__(self, *_: object) -> None:
        self.failed = any(one.severity in ("error", "fatal") for one in self.run.issues)
        self.run.issues = self.kept


def owner_of(node: Node) -> Node:
    """Return the resource in which a node stands."""
    found = node
    while found.parent is not None:
        value = found.value
        # An exact dict is told from others in a tenth of the time.
        if (type(value) is dict or isinstance(value, Mapping)) and "resourceType" in value:
            break
        found = found.parent
    return found


def element_id_of(node: Node) -> str:
    """Return the id of a node's element in its resource: `Observation.value[x]`."""
    steps: list[str] = []
    owner = owner_of(node)
    while node is not owner and node.parent is not None:
        known = model.slots_of(node.parent.type).get(node.key)
        is_choice = known is not None and known[0].is_choice
        steps.append((known[0].name if known else node.key) + ("[x]" if is_choice else ""))
        node = node.parent
    return ".".join([owner.type, *reversed(steps)])


def expression_of(node: Node) -> str:
    """Return the FHIRPath of a node from its root."""
    parts: list[str] = []
    found: Node | None = node
    while found is not None and found.parent is not None:
        known = model.slots_of(found.parent.type).get(found.key)
        step = found.key if known is None else model.step_of(*known)
        parts.append(step if found.index is None else f"{step}[{found.index}]")
        found = found.parent
    root = found.type.partition(".")[0] if found is not None else ""
    return ".".join([root, *reversed(parts)])


def plain(node: Node) -> Any:
    """Return what of a node has members: its object, or a primitive's companion."""
    return node.companion if model.is_primitive(node.type) else node.value
