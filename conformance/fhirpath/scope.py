"""What a directly compiled expression sees beside its input: the resources around it."""

from collections.abc import Mapping
from typing import Any

from conformance.fhirpath.evaluation import NO_PORTS, Closure, Collection, Frame, Ports, Run
from conformance.fhirpath.limits import DEFAULT_LIMITS, Limits
from conformance.fhirpath.nodes import Node, root_of


class Scope:
    """The resource, the outermost resource and the ports of one or many evaluations.

    One scope serves all rules of one resource. `root` is the container of a contained resource or
    the Bundle, when references must be resolved there. The engine's own run is made when first
    needed, and its limits then bound everything evaluated in this scope. `context` is the element
    that `%context` means, with its type, where it is not the input itself.
    """

    __slots__ = ("_run", "context", "limits", "ports", "resource", "root", "variables")

    def __init__(
        self,
        resource: Any,
        root: Any = None,
        ports: Ports = NO_PORTS,
        limits: Limits = DEFAULT_LIMITS,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.resource = resource
        self.root = resource if root is None else root
        self.ports = ports
        self.limits = limits
        self.variables = variables
        self.context: tuple[Any, str | None] | None = None
        self._run: Run | None = None

    @property
    def run(self) -> Run:
        """The general engine's run for this scope."""
        if self._run is None:
            owner = _nodes_of(self.resource)
            root = owner if self.root is self.resource else _nodes_of(self.root)
            self._run = Run(
                [],
                resource=owner,
                root=root,
                ports=self.ports,
                limits=self.limits,
                variables=self.variables,
            )
        return self._run

    def evaluate(self, closure: Closure, value: Any, type_name: str | None) -> Collection:
        """Evaluate a general closure with one plain value as `$this`."""
        this: Collection = [root_of(value, type_name)]
        run = self.run
        run.context = this if self.context is None else [root_of(*self.context)]
        return closure(Frame(run, this))


def _nodes_of(resource: Any) -> Collection:
    if isinstance(resource, Node):
        return [resource]
    return [] if resource is None else [root_of(resource)]
