"""The values a resource offers to each search parameter, extracted by compiled walks.

One walk per resource type visits the keys that are present and shares common prefixes, so the cost
follows the content and not the number of parameters. Values are plain tuples by parameter type:

=========  =====================================================================================
token      (system, code, text, types): "" where absent; code None where there is only a text;
           `types` are the (system, code) of an Identifier's type, else ()
string     str, as written (name-pinyin: the pinyin and the initials)
date       (first, last) microsecond UTC, inclusive
number     (low, high) Decimal, inclusive; None is open
quantity   (low, high, system, code, unit) with low and high Decimal or None for open
reference  ("literal", type, id) | ("url", url, type or "") | ("identifier", system, value)
uri        str
composite  a tuple with one list of such values for each component, for each instance
special    (latitude, longitude) of a Location, as floats
=========  =====================================================================================
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from conformance import index_choice, index_converters
from conformance.date_ranges import DEFAULT_ZONE
from conformance.index_converters import Context
from conformance.problem import Problem
from conformance.search_parameters import SearchParameter, parameters_of
from conformance.search_paths import NotSimple, Place, Step, places_below

IndexValues = dict[str, list[Any]]  # parameter code → values; [] is present without a value
Convert = Callable[[Any, list[Any], Context], None]
_ENGINE_STEPS = 50_000
"""Of a custom parameter's expression: some hundredths of a second, asked for by every write."""


def extract(
    resource: Mapping[str, Any],
    parameters: Sequence[SearchParameter] | None = None,
    *,
    zone: str = DEFAULT_ZONE,
    base_url: str = "",
) -> IndexValues:
    """Return the values of every parameter that is present in the resource.

    `parameters` are custom ones to add to the type's own. `zone` reads dates without one;
    references below `base_url` count as relative. A type R4 does not know has no values.
    """
    context = Context(resource=resource, zone=zone, base_url=base_url)
    found = _walk_of(str(resource.get("resourceType"))).run(context)
    if parameters:
        found.update(compile_walk(tuple(parameters)).run(context))
    return found


def extract_stored(
    resource: Mapping[str, Any],
    custom: Sequence[SearchParameter] = (),
    *,
    zone: str = DEFAULT_ZONE,
    base_url: str = "",
) -> IndexValues:
    """Return `extract` for the index: parameters stored as others are present without values.

    Reference parameters keep their values, because a logical reference has rows of its own.
    """
    context = Context(resource=resource, zone=zone, base_url=base_url)
    found = stored_walk_of(str(resource.get("resourceType"))).run(context)
    if custom:
        found.update(compile_walk(tuple(custom)).run(context))
    return found


@dataclass(slots=True)
class _Node:
    """A place on the walk: what to convert here, and which keys and filters lead on."""

    leaves: list[tuple[str, Convert]]
    children: dict[str, "_Node"]
    filters: dict[Step, "_Node"]


@dataclass(frozen=True, slots=True)
class Walk:
    """The compiled extraction of a set of parameters of one resource type.

    The values of a member of the resource (`of_member`) depend on it alone, unless it refers to a
    contained resource; those of the whole (`of_whole`: composites and the like) on all of it.
    """

    root: _Node
    specials: tuple[Callable[[Context, IndexValues], None], ...]

    def run(self, context: Context) -> IndexValues:
        """Return the values of one resource."""
        out: IndexValues = {}
        children = self.root.children
        for key, value in context.resource.items():
            node = children.get(key)
            if node is not None:
                _visit(node, value, out, context)
        for special in self.specials:
            special(context, out)
        return out

    def of_member(self, name: str, value: Any, context: Context) -> IndexValues:
        """Return the values of one member of the resource; its name is one of `root.children`."""
        out: IndexValues = {}
        _visit(self.root.children[name], value, out, context)
        return out

    def of_whole(self, context: Context) -> IndexValues:
        """Return the values that no member has alone."""
        out: IndexValues = {}
        for special in self.specials:
            special(context, out)
        return out


@cache
def _walk_of(type_: str) -> Walk:
    try:
        parameters = parameters_of(type_)
    except KeyError:
        return Walk(_Node([], {}, {}), ())
    return compile_walk(tuple(parameters.values()))


@cache
def stored_walk_of(type_: str) -> Walk:
    """Return the extraction for the index of a type, as `extract_stored` uses it."""
    try:
        parameters = parameters_of(type_)
    except KeyError:
        return Walk(_Node([], {}, {}), ())
    return compile_walk(tuple(parameters.values()), stored=True)


def _no_value(value: Any, into: list[Any], context: Context) -> None:
    """Note that the parameter is present; its values are stored as those of another."""


@cache
def compile_walk(parameters: tuple[SearchParameter, ...], *, stored: bool = False) -> Walk:
    """Compile the extraction of some parameters of one type."""
    root = _Node([], {}, {})
    specials: list[Callable[[Context, IndexValues], None]] = []
    for parameter in parameters:
        if parameter.code == "deceased" and parameter.base == "Patient":
            specials.append(index_converters.patient_deceased)
        elif parameter.code == "due-team" and parameter.base == "Task":
            specials.append(index_converters.task_due_team)
        elif parameter.places is None:
            specials.append(_by_engine(parameter))
        elif parameter.type == "composite":
            if not (stored and parameter.stored_as):
                specials.append(_composite(parameter))
        else:
            shared = stored and parameter.stored_as and parameter.type != "reference"
            for place in parameter.places:
                convert = index_choice.choose(parameter, place)
                if convert is not None:
                    convert = _no_value if shared else convert
                    _plant(root, place.steps, parameter.code, convert)
    return Walk(root, tuple(specials))


def _plant(root: _Node, steps: Sequence[Step], code: str, convert: Convert) -> None:
    node = root
    for step in steps:
        if step.kind == "child":
            node = node.children.setdefault(step.name, _Node([], {}, {}))
        else:
            node = node.filters.setdefault(step, _Node([], {}, {}))
    node.leaves.append((code, convert))


def _visit(node: _Node, value: Any, out: IndexValues, context: Context) -> None:
    if isinstance(value, list):
        if node.filters:
            for step, below in node.filters.items():
                if step.kind == "index" and int(step.value) < len(value):
                    _visit(below, value[int(step.value)], out, context)
        for item in value:
            if item is not None:
                _visit_one(node, item, out, context)
        return
    _visit_one(node, value, out, context)


def _visit_one(node: _Node, value: Any, out: IndexValues, context: Context) -> None:
    for code, convert in node.leaves:
        into = out.get(code)
        if into is None:
            into = out[code] = []
        convert(value, into, context)
    if node.children and isinstance(value, dict):
        _visit_children(node.children, value, out, context)
    if not node.filters:
        return
    for step, below in node.filters.items():
        if step.kind == "where":
            if isinstance(value, dict) and value.get(step.name) == step.value:
                _visit_one(below, value, out, context)
        elif step.kind == "resolves" and index_converters.may_be(value, step.name, context):
            _visit_one(below, value, out, context)


def _visit_children(
    children: dict[str, _Node], value: dict[str, Any], out: IndexValues, context: Context
) -> None:
    if len(children) > len(value):
        for key, inner in value.items():
            node = children.get(key)
            if node is None or inner is None:
                continue
            if isinstance(inner, list):
                _visit(node, inner, out, context)
            else:
                _visit_one(node, inner, out, context)
        return
    for key, below in children.items():
        inner = value.get(key)
        if inner is not None:
            _visit(below, inner, out, context)


def _by_engine(parameter: SearchParameter) -> Callable[[Context, IndexValues], None]:
    """Return an extraction that asks the FHIRPath engine and goes by the shape of what it finds.

    Where the expression fails on a resource, or costs too much, the resource has no value: its
    writer cannot know of the parameter, and is not to be refused for it.
    """

    def run(context: Context, out: IndexValues) -> None:
        # Only custom parameters with unusual expressions need the engine.
        engine = importlib.import_module("conformance.fhirpath")
        limits = engine.Limits(steps=_ENGINE_STEPS)
        try:
            found = engine.evaluate(parameter.expression or "{}", context.resource, limits=limits)
        except Problem:
            return
        for one in found:
            value = str(one) if isinstance(one, engine.Temporal) else one
            convert = index_choice.by_shape(parameter.type, value)
            into = out.setdefault(parameter.code, [])
            if convert is not None:
                convert(value, into, context)

    return run


def _composite(parameter: SearchParameter) -> Callable[[Context, IndexValues], None]:
    """Return the extraction of a composite: one tuple of lists for each instance of its base."""
    plans: list[tuple[tuple[Step, ...], list[_Node]]] = []
    for base in parameter.places or ():
        nodes = []
        for component in parameter.components:
            node = _Node([], {}, {})
            place_base, expression = base, component.expression
            if expression.startswith("%resource."):
                place_base = Place(steps=(), datatype=parameter.base, element=parameter.base)
                expression = expression.removeprefix("%resource.")
            for place in _component_places(expression, place_base):
                convert = index_choice.choose_for(component.type, component.code, place)
                if convert is not None:
                    _plant(node, place.steps, component.code, convert)
            nodes.append(node)
        plans.append((base.steps, nodes))

    whole = tuple(c.expression.startswith("%resource.") for c in parameter.components)
    codes = tuple(component.code for component in parameter.components)

    def run(context: Context, out: IndexValues) -> None:
        for steps, nodes in plans:
            for instance in _instances(context.resource, steps):
                values = _component_values(nodes, codes, whole, instance, context)
                if values is not None:
                    out.setdefault(parameter.code, []).append(values)

    return run


def _component_values(
    nodes: list[_Node],
    codes: tuple[str, ...],
    whole: tuple[bool, ...],
    instance: Any,
    context: Context,
) -> tuple[list[Any], ...] | None:
    """Return the values of each component of an instance; None where one has none."""
    for node, from_root in zip(nodes, whole, strict=True):
        if not (from_root or node.leaves or node.filters) and (
            not isinstance(instance, dict) or node.children.keys().isdisjoint(instance)
        ):
            return None
    values = []
    for node, code, from_root in zip(nodes, codes, whole, strict=True):
        found: IndexValues = {}
        _visit_one(node, context.resource if from_root else instance, found, context)
        values.append([v for v in found.get(code, []) if not _is_text_only(v)])
        if not values[-1]:
            return None
    return tuple(values)


def _is_text_only(value: Any) -> bool:
    """Say whether a token is a text without a code, which no composite can be asked by."""
    return isinstance(value, tuple) and len(value) == 4 and value[1] is None


def _component_places(expression: str, base: Place) -> tuple[Place, ...]:
    try:
        return places_below(expression.replace("DateTime", "dateTime"), base)
    except NotSimple:
        return ()


def _instances(resource: Any, steps: Sequence[Step]) -> list[Any]:
    found = [resource]
    for step in steps:
        deeper: list[Any] = []
        for item in found:
            inner = item.get(step.name) if isinstance(item, dict) else None
            if isinstance(inner, list):
                deeper.extend(part for part in inner if part is not None)
            elif inner is not None:
                deeper.append(inner)
        found = deeper
    return found
