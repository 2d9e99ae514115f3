"""What FHIRPath must know of the R4 types: children by name, kinds, ancestors."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from conformance.r4 import tables
from conformance.r4.tables import Element, TypeInfo

SYSTEM_TYPES = frozenset(
    {"Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity"}
)
_ANY = ("Element", "BackboneElement")


class Slot(NamedTuple):
    """One JSON key of an element: its property name, companion's name and type."""

    key: str
    companion: str
    type: str
    is_primitive: bool
    is_resource: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One element of a type as FHIRPath sees it: a choice is one child with a slot per type."""

    name: str
    slots: tuple[Slot, ...]
    is_list: bool
    is_choice: bool
    min: int
    targets: tuple[str, ...]


@functools.cache
def children_of(type_name: str) -> Mapping[str, Child]:
    """Return the children of a type, or of a backbone element given by path; empty if unknown."""
    head, _, inner = type_name.partition(".")
    info = tables.load().types.get(head)
    if info is None:
        return MappingProxyType({})
    found = {}
    for element in info.children.get(inner, ()):
        if not any(type_.code.startswith("System.") for type_ in element.types):
            name = element.name.removesuffix("[x]")
            found[name] = _child(info, element, name)
    return MappingProxyType(found)


@functools.cache
def slots_of(type_name: str) -> Mapping[str, tuple[Child, Slot]]:
    """Return the JSON keys of a type with the child and slot each belongs to."""
    return MappingProxyType(
        {slot.key: (child, slot) for child in children_of(type_name).values()
         for slot in child.slots}
    )  # fmt: skip


def _child(info: TypeInfo, element: Element, name: str) -> Child:
    if element.content is not None:
        codes = [element.content]
    elif len(element.types) == 1 and element.types[0].code in _ANY:
        inner = element.path[len(info.name) + 1 :]
        has_own = inner in info.children
        codes = [element.path if has_own else element.types[0].code]
    else:
        codes = list(dict.fromkeys(type_.code for type_ in element.types))
    slots = tuple(_slot(name, code, is_choice=element.is_choice) for code in codes)
    targets = tuple(target for type_ in element.types for target in type_.targets)
    return Child(
        name=name,
        slots=slots,
        is_list=element.is_list,
        is_choice=element.is_choice,
        min=element.min,
        targets=targets,
    )


def _slot(name: str, code: str, *, is_choice: bool) -> Slot:
    key = f"{name}{code[:1].upper()}{code[1:]}" if is_choice else name
    info = tables.load().types.get(code)
    is_primitive = info is not None and info.kind == "primitive-type"
    is_resource = info is not None and info.kind == "resource"
    return Slot(key, f"_{key}", code, is_primitive, is_resource)


def step_of(child: Child, slot: Slot) -> str:
    """Return the FHIRPath step to a slot: `name`, or `value.ofType(Quantity)` for a choice."""
    return f"{child.name}.ofType({slot.type})" if child.is_choice else child.name


@functools.cache
def is_primitive(type_name: str) -> bool:
    """Say whether a type is one of FHIR's primitive types."""
    info = tables.load().types.get(type_name)
    return info is not None and info.kind == "primitive-type"


@functools.cache
def is_known(type_name: str) -> bool:
    """Say whether R4 has a type of this name."""
    return type_name in tables.load().types


@functools.cache
def is_resource(type_name: str) -> bool:
    """Say whether a type is a resource type, abstract ones included."""
    info = tables.load().types.get(type_name)
    return info is not None and info.kind == "resource"


@functools.cache
def is_kind_of(type_name: str, ancestor: str) -> bool:
    """Say whether a type is `ancestor` or derives from it; a backbone path is a BackboneElement."""
    if type_name == ancestor:
        return True
    if "." in type_name:
        info = tables.load().types.get(type_name.partition(".")[0])
        is_backbone = info is not None and info.kind == "resource"
        base = "BackboneElement" if is_backbone else "Element"
        return tables.load().is_kind_of(base, ancestor)
    return tables.load().is_kind_of(type_name, ancestor)
