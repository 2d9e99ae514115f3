"""`is`, `as` and `ofType` (http://hl7.org/fhirpath/N1/#types)."""

from dataclasses import dataclass
from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.evaluation import Collection, single
from conformance.fhirpath.faults import unknown_name
from conformance.fhirpath.nodes import Node, system_type_of
from conformance.fhirpath.syntax import Expression, Member, Path


@dataclass(frozen=True, slots=True)
class TypeSpecifier:
    """A type by its FHIR name, its System name, or both (`Quantity`)."""

    fhir: str | None
    system: str | None


def specifier_of(name: str) -> TypeSpecifier:
    """Read a type's name, qualified or not; raises InvalidContent if there is no such type."""
    namespace, _, bare = name.rpartition(".")
    if namespace == "System":
        return TypeSpecifier(None, bare)
    if namespace in ("", "FHIR") and model.is_known(bare):
        both = bare if namespace == "" and bare in model.SYSTEM_TYPES else None
        return TypeSpecifier(bare, both)
    if namespace == "" and bare in model.SYSTEM_TYPES:
        return TypeSpecifier(None, bare)
    raise unknown_name("type", name)


def name_in(argument: Expression) -> str | None:
    """Return the type's name written as an argument, `Patient` or `FHIR.Patient`."""
    if isinstance(argument, Member):
        return argument.name
    if isinstance(argument, Path) and isinstance(argument.head, Member):
        names = [step.name for step in argument.steps if isinstance(step, Member)]
        if len(names) == len(argument.steps):
            return ".".join([argument.head.name, *names])
    return None


def is_of(item: Any, wanted: TypeSpecifier) -> bool:
    """Say whether an item is of the type or of one derived from it."""
    if isinstance(item, Node):
        return wanted.fhir is not None and model.is_kind_of(item.type, wanted.fhir)
    return wanted.system is not None and system_type_of(item) == wanted.system


def is_exactly(item: Any, wanted: TypeSpecifier) -> bool:
    """Say whether `as` and `ofType` keep an item: primitives by their own type only."""
    if isinstance(item, Node) and model.is_primitive(item.type):
        return item.type == wanted.fhir
    return is_of(item, wanted)


def test(collection: Collection, wanted: TypeSpecifier) -> Collection:
    """Apply `is`."""
    item = single(collection, "`is`")
    return [] if item is None else [is_of(item, wanted)]


def cast(collection: Collection, wanted: TypeSpecifier) -> Collection:
    """Apply `as` to one item."""
    item = single(collection, "as()")
    return [item] if item is not None and is_exactly(item, wanted) else []


def of_type(collection: Collection, wanted: TypeSpecifier) -> Collection:
    """Apply `ofType`."""
    return [item for item in collection if is_exactly(item, wanted)]
