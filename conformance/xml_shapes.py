"""Which XML elements and attributes each type has, in order, and what JSON member each becomes.

https://hl7.org/fhir/R4/xml.html
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from conformance.r4 import tables

FHIR = "http://hl7.org/fhir"
_NESTED = {"Element", "BackboneElement"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member: `kind` is primitive, complex, resource or xhtml.

    `code` is the primitive's type; `shape` names the (type, path) of a complex member.
    """

    name: str
    kind: str
    code: str
    is_list: bool
    shape: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """The members of a type, or of an element inside one: XML attributes, and elements in order."""

    attributes: Mapping[str, Member]
    elements: Mapping[str, Member]


@functools.cache
def shape_of(type_name: str, path: str = "") -> Shape:
    """Return the shape of a type, or of the nested element at `path` inside it."""
    info = tables.load().types[type_name]
    attributes: dict[str, Member] = {}
    elements: dict[str, Member] = {}
    for element in info.children[path]:
        if element.is_choice:
            base = element.name.removesuffix("[x]")
            for of_type in element.types:
                name = base + of_type.code[0].upper() + of_type.code[1:]
                elements[name] = _member(info, element, name, of_type.code)
            continue
        code = element.types[0].code if element.types else ""
        target = attributes if element.is_xml_attribute else elements
        target[element.name] = _member(info, element, element.name, code)
    return Shape(attributes, elements)


def _member(info: tables.TypeInfo, element: tables.Element, name: str, code: str) -> Member:
    kind, shape = "complex", (code, "")
    if not code:
        type_name, _, path = (element.content or "").partition(".")
        shape = (type_name, path)
    elif code in _NESTED:
        shape = (info.name, element.path.partition(".")[2])
    elif code == "Resource":
        kind = "resource"
    elif code == "xhtml":
        kind = "xhtml"
    elif tables.load().types[code].kind == "primitive-type":
        kind, shape = "primitive", ("Element", "")
    return Member(name=name, kind=kind, code=code, is_list=element.is_list, shape=shape)
