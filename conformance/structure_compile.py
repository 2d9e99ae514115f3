"""Structural checks, built once for each type from the R4 tables as closures over plain values.

A check takes a value and the list of local references (`#id`) met so far in the resource, and
returns None or what it found: path below the value, key, arguments of the message. Beside each
stands its quick twin of `conformance.structure_quick`, which only says whether all is well.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from conformance import bindings, narrative, primitives
from conformance.contained import check_contained
from conformance.findings import Check, Found, below, joined, kind_of
from conformance.near_names import nearest, printable
from conformance.r4 import tables
from conformance.structure_additions import (
    concept_check,
    extension_check,
    reference_check,
    simple_quantity_check,
    top_extension_check,
)
from conformance.structure_lists import code_check, list_check
from conformance.structure_lists import list_of_primitives as check_of_primitives
from conformance.structure_quick import (
    Fits,
    Part,
    QuickObject,
    certainly,
    list_of,
    list_of_primitives,
    one_of,
    primitive,
)

# path, JSON names with and without underscore, minimum
Choice = tuple[str, frozenset[str], int]

_NESTED = {"Element", "BackboneElement"}


class _Shape:
    """What an object may hold; filled while a type is read, then closed over by its check."""

    __slots__ = (
        "arguments",
        "choices",
        "display",
        "lists",
        "members",
        "quick",
        "required",
        "shadows",
        "tests",
    )

    def __init__(self) -> None:
        self.tests: dict[str, primitives.Check] = {}
        self.members: dict[str, Check] = {}
        self.quick = QuickObject()
        self.lists: set[str] = set()
        self.shadows: set[str] = set()
        self.display: dict[str, str] = {}
        self.arguments: dict[str, tuple[str, ...]] = {}
        self.required: list[tuple[str, str]] = []
        self.choices: list[Choice] = []


class Compiler:
    """Builds the checks of types on demand and keeps them."""

    def __init__(self, *, narratives: bool) -> None:
        self.tables = tables.load()
        self._test_of_narrative = (
            narrative.check_narrative if narratives else primitives.check_string
        )
        self._built: dict[str, Part] = {}
        self._building: dict[str, _Shape] = {}
        self._resources: dict[str, Part] = {}
        self._of_names: dict[str, Mapping[tuple[str, ...], Fits]] = {}
        # What one thread is building stands for a later look-up, and another must not use it yet.
        self._lock = threading.Lock()
        # What stands under `_name`: id and extensions of a primitive.
        self._shadow = QuickObject()
        self._shadow.members = self._part_of_path("Element", "").of_object.members

    def resource(self, value: Any, local: list[str]) -> list[Found] | None:
        """Check a resource of any type, contained ones included, as part of its container."""
        if type(value) is not dict:
            return [("", kind_of(value, "not-an-object"), ())]
        name = value.get("resourceType")
        if type(name) is not str:
            return [("", "resource-type-missing", ())]
        if name not in self.tables.resource_types:
            return [("", "resource-type-unknown", (printable(name),))]
        return self._part_of_resource(name).check(value, local)

    def resource_fits(self, value: Any, local: list[str]) -> bool:
        """Say whether a resource is certainly sound as part of its container."""
        of_names = self._of_names.get(value["resourceType"])
        if of_names is None:
            return self._fits_of_new_type(value, local)
        return of_names[tuple(value)](value, local)

    def _fits_of_new_type(self, value: Any, local: list[str]) -> bool:
        name = value["resourceType"]
        if name not in self.tables.resource_types:
            return False
        quick = self._part_of_resource(name).of_object
        self._of_names[name] = quick.of_names
        return quick.fits(value, local)

    def _part_of_resource(self, name: str) -> Part:
        part = self._resources.get(name)
        if part is None:
            with self._lock:
                part = self._resources[name] = self._part_of_path(name, "")
        return part

    def whole_resource(self, value: Any, _: list[str] | None = None) -> list[Found] | None:
        """Check a resource that stands for itself: contained and referring parts must fit."""
        local: list[str] = []
        found = self.resource(value, local)
        if local or (type(value) is dict and "contained" in value):
            found = [*(found or ()), *check_contained(value, local)]
        return found

    def whole_fits(self, value: Any, _: list[str] | None = None) -> bool:
        """Say whether a resource that stands for itself is certainly sound."""
        local: list[str] = []
        of_names = self._of_names.get(value["resourceType"])
        fits = self._fits_of_new_type if of_names is None else of_names[tuple(value)]
        if not fits(value, local):
            return False
        return not (local or "contained" in value) or not any(check_contained(value, local))

    def certainly_fits(self, value: dict[str, Any]) -> bool:
        """Say the same of any value: what stops a quick check is a no."""
        return certainly(self.whole_fits, value, [])

    def _check_shadow(self, value: Any, local: list[str]) -> list[Found] | None:
        """Check what stands under `_name`: id and extensions of a primitive."""
        return self._built["Element."].check(value, local)

    def _part_of_path(self, name: str, path: str) -> Part:
        """Return the checks of a type, or of the nested element at a path inside it."""
        key = f"{name}.{path}"
        if key in self._built:
            return self._built[key]
        if key in self._building:
            in_work = self._building[key]
            return Part(lambda value, local: self._built[key].check(value, local), in_work.quick)
        info = self.tables.types[name]
        shape = self._building[key] = _Shape()
        for element in info.children[path]:
            self._add(shape, info, element)
        is_resource = info.kind == "resource" and not path
        if is_resource:
            shape.tests["resourceType"] = primitives.check_string
            shape.quick.members["resourceType"] = primitive(primitives.check_string)
        facts = shape.quick.facts
        facts.is_resource = is_resource
        facts.lists = shape.lists
        facts.needed = [name for name, _ in shape.required]
        facts.choices = [(names, minimum) for _, names, minimum in shape.choices]
        check = _object_check(shape, self._check_shadow, is_resource=is_resource)
        part = Part(check, shape.quick)
        if key == "Extension.":
            part = extension_check(part)
        self._built[key] = part
        del self._building[key]
        return part

    def _add(self, shape: _Shape, info: tables.TypeInfo, element: tables.Element) -> None:
        if not element.is_choice:
            if element.min:
                shape.required.append((element.name, f".{element.name}"))
            of_type = element.types[0] if element.types else None
            self._add_member(shape, info, element, element.name, f".{element.name}", of_type)
            return
        base = element.name.removesuffix("[x]")
        names: set[str] = set()
        for of_type in element.types:
            name = base + of_type.code[0].upper() + of_type.code[1:]
            names |= {name, "_" + name}
            self._add_member(shape, info, element, name, f".{base}.ofType({of_type.code})", of_type)
        shape.choices.append((f".{base}", frozenset(names), element.min))

    def _add_member(
        self,
        shape: _Shape,
        info: tables.TypeInfo,
        element: tables.Element,
        name: str,
        display: str,
        of_type: tables.ElementType | None,
    ) -> None:
        shape.display[name] = display
        members = shape.quick.members
        codes = _codes_of(element, of_type)
        test = self._test_of(codes, of_type)
        if test is not None:
            if of_type is not None and of_type.code != "xhtml" and not element.is_xml_attribute:
                shape.shadows.add(name)
            if element.binding:
                shape.arguments[name] = (element.binding.value_set,)
            if element.is_list:
                shape.lists.add(name)
                shape.members[name] = check_of_primitives(test, element.max)
                members[name] = list_of_primitives(test, element.max)
                members["_" + name] = list_of(self._shadow, element.max)
            else:
                shape.tests[name] = test
                members[name] = primitive(test, codes)
                if name in shape.shadows:
                    members["_" + name] = one_of(self._shadow)
            return
        part = self._part_of_member(info, element, of_type)
        if element.is_list:
            shape.members[name] = list_check(part.check, element.max)
            members[name] = list_of(part.quick, element.max)
        else:
            shape.members[name] = part.check
            members[name] = one_of(part.quick)

    def _test_of(
        self, codes: frozenset[str] | None, of_type: tables.ElementType | None
    ) -> primitives.Check | None:
        if of_type is None:
            return None
        if of_type.code == "xhtml":
            return self._test_of_narrative
        if codes is not None:
            return code_check(codes)
        return primitives.CHECKS.get(of_type.code)

    def _part_of_member(
        self, info: tables.TypeInfo, element: tables.Element, of_type: tables.ElementType | None
    ) -> Part:
        if of_type is None:
            name, _, path = (element.content or "").partition(".")
            return self._part_of_path(name, path)
        if of_type.code in _NESTED:
            return self._part_of_path(info.name, element.path.partition(".")[2])
        if of_type.code == "Resource":
            if element.name == "contained":
                return Part(self.resource, self.resource_fits)
            return Part(self.whole_resource, self.whole_fits)
        part = self._part_of_path(of_type.code, "")
        if of_type.code == "Reference":
            return reference_check(part, of_type.targets)
        if of_type.code == "Extension" and info.name != "Extension":
            return top_extension_check(part)
        if of_type.code == "CodeableConcept" and element.binding:
            return concept_check(part, element.binding)
        if "SimpleQuantity" in of_type.profiles:
            return simple_quantity_check(part)
        return part


def _codes_of(element: tables.Element, of_type: tables.ElementType | None) -> frozenset[str] | None:
    """Return the codes that a required binding allows, where they can be listed."""
    binding = element.binding
    if of_type is None or of_type.code != "code" or not binding or binding.strength != "required":
        return None
    return bindings.codes_of(binding.value_set)


def _object_check(shape: _Shape, shadow: Check, *, is_resource: bool) -> Check:
    """Return the check of an object; `shadow` checks `_name` members."""
    test_of, member_of, is_part = shape.tests.get, shape.members.get, not is_resource
    choices, needed = tuple(shape.choices), tuple(name for name, _ in shape.required)

    def check(value: Any, local: list[str]) -> list[Found] | None:
        if type(value) is not dict:
            return [("", kind_of(value, "not-an-object"), ())]
        found: list[Found] | None = None
        for name, item in value.items():
            test = test_of(name)
            if test is not None:
                key = test(item)
                if key is not None:
                    found = joined(found, _failed(shape, name, item, key))
                continue
            member = member_of(name)
            if member is None:
                found = joined(found, _irregular(shape, shadow, value, name, local))
            elif inner := member(item, local):
                found = joined(found, _found_in_member(shape, value, name, inner))
        for name in needed:
            if name not in value:
                found = joined(found, _missing(shape, value, name))
        if choices:
            found = joined(found, _check_choices(choices, value))
        if is_part and len(value) < 2 and (not value or "id" in value):
            found = joined(found, [("", "ele-1", ())])
        return found

    return check


def _failed(shape: _Shape, name: str, item: Any, key: str) -> Iterable[Found]:
    yield shape.display.get(name, ""), kind_of(item, key), shape.arguments.get(name, ())


def _missing(shape: _Shape, value: Mapping[str, Any], name: str) -> Iterable[Found]:
    if "_" + name not in value:
        yield dict(shape.required)[name], "missing-element", (name,)


def _found_in_member(
    shape: _Shape, value: Mapping[str, Any], name: str, inner: list[Found]
) -> Iterable[Found]:
    """Drop nulls of a list that the list of extensions beside it accounts for."""
    if name in shape.lists:
        beside = value.get("_" + name)
        count = len(beside) if type(beside) is list else 0
        arguments = shape.arguments.get(name, ())
        inner = [
            (path, key, more or (arguments if key == "code-not-in-value-set" else more))
            for path, key, more in inner
            if key != "null-item"
            or (index := int(path[1:-1])) >= count
            or type(beside) is not list
            or beside[index] is None
        ]
    return below(shape.display[name], inner)


def _check_choices(choices: Iterable[Choice], value: Mapping[str, Any]) -> list[Found]:
    """Judge which members of each choice are there; `valueString` and `_valueString` are one."""
    found: list[Found] = []
    for path, names, minimum in choices:
        there = names.intersection(value)
        if len(there) > 1:
            plain = sorted({name.removeprefix("_") for name in there})
            if len(plain) > 1:
                found.append((path, "more-than-one-choice", (", ".join(plain),)))
        elif minimum and not there:
            found.append((path, "missing-element", (path[1:] + "[x]",)))
    return found


def _irregular(
    shape: _Shape, shadow: Check, value: Mapping[str, Any], name: str, local: list[str]
) -> Iterable[Found]:
    """Check a member that is no plain element: the `_name` of a primitive, or nothing known."""
    plain = name[1:]
    if name[:1] != "_" or plain not in shape.shadows:
        known = (*shape.tests, *shape.members)
        return [("", "unknown-element", (printable(name), nearest(name, known)))]
    path = shape.display[plain]
    item = value[name]
    if plain not in shape.lists:
        return below(path, _check_shadow(shadow, item, has_value=plain in value, local=local))
    if type(item) is not list or not item:
        return [(path, "empty-list" if item == [] else "not-a-list", ())]
    beside = value.get(plain)
    values = beside if type(beside) is list else [None] * len(item)
    found: list[Found] = []
    if len(values) != len(item):
        found.append((path, "lists-not-aligned", ()))
    for index, extended in enumerate(item):
        has_value = index < len(values) and values[index] is not None
        if extended is not None:
            inner = _check_shadow(shadow, extended, has_value=has_value, local=local)
            found += below(f"{path}[{index}]", inner)
        elif not has_value and beside is None:
            found.append((f"{path}[{index}]", "null-item", ()))
    return found


def _check_shadow(
    shadow: Check, item: Any, *, has_value: bool, local: list[str]
) -> Iterable[Found]:
    for found in shadow(item, local) or ():
        # An id alone is enough beside a value.
        if not (found[1] == "ele-1" and found[0] == "" and has_value and item):
            yield found
