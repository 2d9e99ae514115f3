"""The elements of a profile as a tree: what the base says, what the profile changes.

A `Shape` is one element with its facts (an ElementDefinition's fields), the facts of its base, its
children (made when first asked for) and its slices.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from conformance.r4 import tables

Facts = dict[str, Any]
_CORE = "http://hl7.org/fhir/StructureDefinition/"
_OWN_CHILDREN = ("BackboneElement", "Element")


def name_of(canonical: str) -> str:
    """Return the core type that a canonical address names, or the address itself."""
    bare = canonical.partition("|")[0]
    return bare.removeprefix(_CORE) if bare.startswith(_CORE) else bare


@functools.lru_cache(maxsize=4096)
def is_core(canonical: str) -> bool:
    """Say whether a canonical address is that of a type of R4, not of a profile on one."""
    info = tables.load().types.get(name_of(canonical))
    return info is not None and not info.is_constraint


class Shape:
    """One element of a profile, or one slice of it.

    `core` says where its own children are defined: a type and the path inside it.
    """

    __slots__ = ("base", "children", "core", "facts", "name", "slices")

    def __init__(self, name: str, facts: Facts, core: tuple[str, str] | None) -> None:
        self.name = name
        self.facts = dict(facts)
        self.base = facts
        self.core = core
        self.children: dict[str, Shape] | None = None
        self.slices: dict[str, Shape] = {}

    def types(self) -> list[Facts]:
        """Return its types; a content reference has those of what it refers to."""
        found: list[Facts] = self.facts.get("type", [])
        return found

    def codes(self) -> list[str]:
        """Return the codes of its types."""
        return [str(type_.get("code")) for type_ in self.types()]

    def copy(self) -> "Shape":
        """Return a tree of its own, so that a slice or a derived profile may change it."""
        twin = Shape(self.name, copy.deepcopy(self.facts), self.core)
        twin.base = self.base
        if self.children is not None:
            twin.children = {name: child.copy() for name, child in self.children.items()}
        twin.slices = {name: one.copy() for name, one in self.slices.items()}
        return twin

    def as_base(self) -> "Shape":
        """Return a copy whose facts count as the base: what others check already."""
        twin = self.copy()
        for shape in twin.walk():
            shape.base = copy.deepcopy(shape.facts)
        return twin

    def walk(self) -> Iterator["Shape"]:
        """Yield it and everything made below it."""
        yield self
        for child in (self.children or {}).values():
            yield from child.walk()
        for one in self.slices.values():
            yield from one.walk()


def core_root(type_name: str) -> Shape:
    """Return the root of a core type; raises KeyError if there is none."""
    info = tables.load().types[type_name]
    facts: Facts = {"min": 0, "max": "*", "constraint": _constraints(info.constraints)}
    return Shape(type_name, facts, (type_name, ""))


def core_children(core: tuple[str, str]) -> dict[str, Shape]:
    """Return the children that a core type defines at a path inside it."""
    type_name, inner = core
    info = tables.load().types[type_name]
    return {
        element.name: Shape(element.name, _facts(element), _core_of(info, element, inner))
        for element in info.children.get(inner, ())
    }


def _core_of(info: tables.TypeInfo, element: tables.Element, inner: str) -> tuple[str, str] | None:
    if element.content is not None:
        head, _, rest = element.content.partition(".")
        return head, rest
    own = f"{inner}.{element.name}" if inner else element.name
    has_own = len(element.types) == 1 and element.types[0].code in _OWN_CHILDREN
    return (info.name, own) if has_own and own in info.children else None


def _facts(element: tables.Element) -> Facts:
    facts: Facts = {
        "min": element.min,
        "max": "*" if element.max is None else str(element.max),
        "constraint": _constraints(element.constraints),
        "type": [_type_facts(type_) for type_ in element.types],
    }
    if element.content is not None:
        facts["contentReference"] = f"#{element.content}"
    if element.binding is not None:
        facts["binding"] = {
            "strength": element.binding.strength,
            "valueSet": element.binding.value_set,
        }
    return facts


def _type_facts(type_: tables.ElementType) -> Facts:
    facts: Facts = {"code": type_.code}
    if type_.targets:
        facts["targetProfile"] = [_CORE + target for target in type_.targets]
    if type_.profiles:
        facts["profile"] = [_CORE + profile for profile in type_.profiles]
    return facts


def _constraints(constraints: tuple[tables.Constraint, ...]) -> list[Facts]:
    return [
        {"key": rule.key, "severity": rule.severity, "expression": rule.expression}
        for rule in constraints
    ]


RootOf = Callable[[str], Shape | None]
"""From a canonical address to the root of a profile's tree; None where it is unknown."""


def expand(shape: Shape, root_of: RootOf) -> dict[str, Shape]:
    """Make and return the children of a shape, from its own definition, profile or type."""
    if shape.children is None:
        shape.children = _children(shape, root_of)
    return shape.children


def _children(shape: Shape, root_of: RootOf) -> dict[str, Shape]:
    types = shape.types()
    has_profile = len(types) == 1 and len(types[0].get("profile", [])) == 1
    if shape.core is not None and not has_profile:
        return core_children(shape.core)
    if len(types) == 1:
        profiles = types[0].get("profile", [])
        if len(profiles) == 1 and not is_core(profiles[0]):
            root = root_of(profiles[0])
            if root is not None:
                twin = root.as_base()
                return expand(twin, root_of)
        if shape.core is not None:
            return core_children(shape.core)
        code = str(types[0].get("code"))
        if code in tables.load().types:
            return core_children((code, ""))
    kinds = {code for code in shape.codes() if code in tables.load().types}
    if kinds and all(tables.load().types[code].kind == "resource" for code in kinds):
        return core_children(("Resource", ""))
    return core_children(("Element", ""))


def shape_at(root: Shape, element_id: str) -> Shape | None:
    """Return the element of a tree by its id, `Composition.section:allergies`."""
    found: Shape | None = root
    for step in element_id.split(".")[1:]:
        name, _, slice_name = step.partition(":")
        found = (found.children or {}).get(name) if found is not None else None
        for part in slice_name.split("/") if slice_name else ():
            found = found.slices.get(part) if found is not None else None
    return found


def choice_of(children: Mapping[str, Shape], name: str) -> tuple[Shape, str] | None:
    """Return the choice that `valueQuantity` is short for, and the type's code."""
    for key, child in children.items():
        stem = key.removesuffix("[x]")
        if stem == key or not name.startswith(stem):
            continue
        for code in child.codes():
            if f"{stem}{code[:1].upper()}{code[1:]}" == name:
                return child, code
    return None
