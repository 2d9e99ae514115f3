"""An expression compiled once, to be evaluated many times."""

import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from conformance.fhirpath import model
from conformance.fhirpath.checker import require_well_typed
from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.direct import compile_values
from conformance.fhirpath.direct_steps import Values
from conformance.fhirpath.evaluation import NO_PORTS, Closure, Collection, Frame, Ports, Run, truth
from conformance.fhirpath.faults import too_costly
from conformance.fhirpath.limits import DEFAULT_LIMITS, Limits
from conformance.fhirpath.locating import LocatingCompiler
from conformance.fhirpath.nodes import Node, TypeName, root_of, system_type_of
from conformance.fhirpath.parser import parse
from conformance.fhirpath.scope import Scope
from conformance.fhirpath.syntax import Expression
from conformance.problem import InvalidContent, Problem


class Value(NamedTuple):
    """One result with its type: a FHIR type's name, or `System.String` and the like."""

    type: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """One expression; `type` is the type it was compiled for, or None."""

    source: str
    type: str | None
    tree: Expression
    closure: Closure
    limits: Limits
    as_filters: bool
    _direct: dict[Any, Values | None] = field(default_factory=dict, repr=False, compare=False)

    def direct(self, type_name: Any) -> Values | None:
        """Return the short way over resources of a type, where there is one."""
        try:
            return self._direct[type_name]
        except (KeyError, TypeError):
            return self._compile_direct(type_name)

    def _compile_direct(self, type_name: Any) -> Values | None:
        if not isinstance(type_name, str) or not model.is_known(type_name):
            return None
        try:
            found = compile_values(self.tree, type_name, as_filters=self.as_filters)
        except (InvalidContent, RecursionError):
            found = None  # The engine refuses it too, and says where.
        self._direct[type_name] = found
        return found

    def nodes(
        self,
        resource: Mapping[str, Any] | Node | None,
        *,
        variables: Mapping[str, Any] | None = None,
        ports: Ports = NO_PORTS,
        root: Node | None = None,
        now: dt.datetime | None = None,
    ) -> Collection:
        """Return the result as the engine holds it: `Node`s with their places, System values.

        A `Node` as input is an element inside a resource; `%resource` is then its resource.
        Raises InvalidContent with the place in the expression, TooCostly over a limit.
        """
        run = self._run(resource, variables=variables, ports=ports, root=root, now=now)
        try:
            return self.closure(Frame(run, run.context))
        except InvalidContent as failure:
            raise self._placed(failure, run) from failure
        except RecursionError:
            raise too_costly("nesting", self.limits.depth) from None

    def _placed(self, failure: InvalidContent, run: Run) -> InvalidContent:
        """Return the refusal of a run with its place, which a second, watched run tells."""
        again = Run(
            run.context,
            resource=run.resource,
            root=run.root,
            variables=run.variables,
            ports=replace(run.ports, trace=None),
            limits=self.limits,
            now=run.now,
        )
        watched = LocatingCompiler(self.source, as_filters=self.as_filters)
        try:
            watched.expression(self.tree)(Frame(again, again.context))
        except InvalidContent as placed:
            return placed
        except (Problem, RecursionError):
            return failure
        return failure

    def _run(
        self,
        resource: Mapping[str, Any] | Node | None,
        *,
        variables: Mapping[str, Any] | None,
        ports: Ports,
        root: Node | None = None,
        now: dt.datetime | None = None,
    ) -> Run:
        if resource is None:
            context: Collection = []
            owner: Collection = []
        elif isinstance(resource, Node):
            context, owner = [resource], [_resource_of(resource)]
        else:
            context = owner = [root_of(resource)]
        return Run(
            context,
            resource=owner,
            root=owner if root is None else [root],
            variables=variables,
            ports=ports,
            limits=self.limits,
            now=now,
        )

    def _directly(
        self,
        direct: Values,
        resource: dict[str, Any],
        variables: Mapping[str, Any] | None,
        ports: Ports,
    ) -> list[Any]:
        """Return plain values by the short way; refusals are the engine's, with their place."""
        try:
            found = direct.run(resource, Scope(resource, None, ports, self.limits, variables))
        except InvalidContent as failure:
            raise self._placed(
                failure, self._run(resource, variables=variables, ports=ports)
            ) from failure
        except RecursionError:
            raise too_costly("nesting", self.limits.depth) from None
        return [value for value in found if value is not None]

    def evaluate(
        self,
        resource: Mapping[str, Any] | Node | None,
        *,
        variables: Mapping[str, Any] | None = None,
        ports: Ports = NO_PORTS,
        now: dt.datetime | None = None,
    ) -> list[Any]:
        """Return plain values; see `conformance.fhirpath.evaluate`."""
        if isinstance(resource, dict) and now is None:
            direct = self.direct(resource.get("resourceType"))
            if direct is not None:
                return self._directly(direct, resource, variables, ports)
        found = self.nodes(resource, variables=variables, ports=ports, now=now)
        plain = [item.value if isinstance(item, Node) else item for item in found]
        return [value for value in plain if value is not None]

    def values(
        self,
        resource: Mapping[str, Any] | Node | None,
        *,
        variables: Mapping[str, Any] | None = None,
        ports: Ports = NO_PORTS,
        now: dt.datetime | None = None,
    ) -> list[Value]:
        """Return plain values with their types."""
        if isinstance(resource, dict) and now is None:
            direct = self.direct(resource.get("resourceType"))
            if direct is not None and len(direct.types) == 1 and direct.types[0] is not None:
                name = direct.types[0]
                found = self._directly(direct, resource, variables, ports)
                return [Value(name, value) for value in found]
        found = self.nodes(resource, variables=variables, ports=ports, now=now)
        return [value for item in found for value in _typed(item)]

    def is_true(
        self,
        resource: Mapping[str, Any] | Node | None,
        *,
        variables: Mapping[str, Any] | None = None,
        ports: Ports = NO_PORTS,
        root: Node | None = None,
    ) -> bool:
        """Return whether the result, as a boolean, is true; empty is not."""
        found = self.nodes(resource, variables=variables, ports=ports, root=root)
        return truth(found, "this expression") is True


def _typed(item: Any) -> list[Value]:
    if isinstance(item, Node):
        return [] if item.value is None else [Value(item.type, item.value)]
    if isinstance(item, TypeName):
        # http://hl7.org/fhirpath/N1/#reflection
        kind = "SimpleTypeInfo" if item.namespace == "System" else "ClassInfo"
        return [Value(f"System.{kind}", str(item))]
    return [Value(f"System.{system_type_of(item)}", item)]


def _resource_of(node: Node) -> Node:
    found = node
    while found.parent is not None and not (
        isinstance(found.value, Mapping) and "resourceType" in found.value
    ):
        found = found.parent
    return found


def _closure_of(tree: Expression, source: str, *, as_filters: bool) -> Closure:
    try:
        return Compiler(as_filters=as_filters).expression(tree)
    except InvalidContent:
        LocatingCompiler(source, as_filters=as_filters).expression(tree)  # It says where.
        raise


@functools.lru_cache(maxsize=4096)
def compile(
    expression: str,
    type_: str | None = None,
    *,
    strict: bool = False,
    as_filters: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Compiled:
    """Compile an expression; the same one is compiled once.

    `strict` refuses what cannot be right for `type_`: unknown elements, an order asked of what has
    none. `as_filters` lets `as()` filter a list instead of refusing it, which R4's own constraints
    and search parameters rely on. Raises InvalidContent or TooCostly.
    """
    tree = parse(expression, limits)
    if strict:
        require_well_typed(tree, type_, expression)
    try:
        closure = _closure_of(tree, expression, as_filters=as_filters)
    except RecursionError:
        raise too_costly("nesting", limits.depth) from None
    return Compiled(
        source=expression,
        type=type_,
        tree=tree,
        closure=closure,
        limits=limits,
        as_filters=as_filters,
    )
