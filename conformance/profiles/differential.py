"""Laying a differential (or a written-out snapshot) over the tree of its base.

https://hl7.org/fhir/R4/profiling.html#snapshot
"""

from collections.abc import Mapping, Sequence
from typing import Any

from conformance.profiles.shapes import Facts, RootOf, Shape, choice_of, expand
from conformance.profiles.texts import fault
from conformance.profiles.values import valued

_IDENTITY = frozenset({"id", "path", "sliceName", "constraint", "base", "condition", "extension"})
_PROFILE_ELEMENT = "http://hl7.org/fhir/StructureDefinition/elementdefinition-profile-element"
# R5's ElementDefinition.mustHaveValue as an R4 profile writes it.
_MUST_HAVE_VALUE = (
    "http://hl7.org/fhir/5.0/StructureDefinition/extension-ElementDefinition.mustHaveValue"
)
_TYPE_SLICING = {
    "discriminator": [{"type": "type", "path": "$this"}],
    "ordered": False,
    "rules": "open",
}
_EXTENSION_SLICING = {
    "discriminator": [{"type": "value", "path": "url"}],
    "ordered": False,
    "rules": "open",
}

Token = tuple[str, str | None]
"""A name with the slice it means, `extension` with `race`."""


def apply(root: Shape, elements: Sequence[Mapping[str, Any]], root_of: RootOf, url: str) -> None:
    """Lay the elements over the tree, in order; raises InvalidContent on an unknown element."""
    opened: dict[str, str] = {}
    for element in elements:
        tokens = _tokens(element, opened)
        shape = root
        for name, slice_name in tokens:
            shape = _step(shape, name, slice_name, root_of, url)
        _merge(shape, element, url, is_slice=bool(tokens) and tokens[-1][1] is not None)


def _tokens(element: Mapping[str, Any], opened: dict[str, str]) -> list[Token]:
    """Return the way from the root: by the element's id, or by the slices opened before it."""
    path = str(element.get("path", ""))
    names = path.split(".")
    slice_name = element.get("sliceName")
    by_id = _tokens_of_id(str(element.get("id", "")), names)
    if by_id is not None:
        if slice_name and by_id and by_id[-1][1] is None:
            by_id[-1] = (by_id[-1][0], str(slice_name))
        return by_id
    for known in [known for known in opened if known == path or known.startswith(f"{path}.")]:
        del opened[known]
    if slice_name:
        opened[path] = str(slice_name)
    tokens = []
    for index in range(1, len(names)):
        prefix = ".".join(names[: index + 1])
        tokens.append((names[index], opened.get(prefix)))
    return tokens


def _tokens_of_id(id_: str, names: list[str]) -> list[Token] | None:
    parts = [part.partition(":") for part in id_.split(".")]
    if len(parts) != len(names) or ":" not in id_:
        return None
    if any(part[0] != name for part, name in zip(parts[1:], names[1:], strict=True)):
        return None
    return [(name, slice_name or None) for name, _, slice_name in parts[1:]]


def _step(shape: Shape, name: str, slice_name: str | None, root_of: RootOf, url: str) -> Shape:
    children = expand(shape, root_of)
    child = children.get(name)
    if child is None:
        choice = choice_of(children, name)
        if choice is None:
            raise fault("profile-element", url, name)
        child, code = choice
        return _typed_slice(child, name, code)
    if slice_name is None:
        return child
    found = child
    for part in slice_name.split("/"):
        choice = choice_of({child.name: child}, part)
        found = _slice(found, part)
        if choice is not None and found.facts.get("type") == child.base.get("type"):
            found.facts["type"] = [t for t in found.types() if t["code"] == choice[1]]
    return found


def _typed_slice(choice: Shape, name: str, code: str) -> Shape:
    choice.facts.setdefault("slicing", _TYPE_SLICING)
    found = _slice(choice, name)
    found.facts["type"] = [type_ for type_ in found.types() if type_["code"] == code]
    return found


def _slice(shape: Shape, name: str) -> Shape:
    found = shape.slices.get(name)
    if found is None:
        found = shape.copy()
        found.slices = {}
        found.facts.pop("slicing", None)
        found.facts["min"] = 0
        found.facts["constraint"] = []
        found.facts["sliceName"] = name
        shape.slices[name] = found
        if shape.name in ("extension", "modifierExtension"):
            shape.facts.setdefault("slicing", _EXTENSION_SLICING)
        elif shape.name.endswith("[x]"):
            shape.facts.setdefault("slicing", _TYPE_SLICING)
    return found


def _merge(shape: Shape, element: Mapping[str, Any], url: str, *, is_slice: bool) -> None:
    fixed = valued(element, "fixed"), valued(shape.facts, "fixed")
    if fixed[0] is not None and fixed[1] is not None and fixed[0] != fixed[1]:
        raise fault("profile-fixed", url, element.get("path"))
    most = str(element.get("max", "*"))
    if most != "*" and not (most.isascii() and most.isdigit()):
        raise fault("profile-broken", url, f"max of {element.get('path')} is no number and no *")
    if is_slice and not shape.slices:
        shape.facts.pop("slicing", None)
    for key, value in element.items():
        if key not in _IDENTITY and not key.startswith("_"):
            shape.facts[key] = value
    if element.get("type"):
        shape.facts["type"] = [_type_facts(type_) for type_ in element["type"]]
    if any(_says(one, _MUST_HAVE_VALUE) for one in element.get("extension", ())):
        shape.facts["mustHaveValue"] = True
    known = {rule.get("key") for rule in shape.facts.get("constraint", ())}
    new: list[Facts] = [r for r in element.get("constraint", ()) if r.get("key") not in known]
    if new:
        shape.facts["constraint"] = [*shape.facts.get("constraint", ()), *new]
    if "type" in element and "contentReference" in shape.facts:
        del shape.facts["contentReference"]
    if element.get("type") and shape.core is None and shape.children is not None:
        _forget_other_types(shape)


def _type_facts(type_: Mapping[str, Any]) -> Facts:
    """Return a type whose profiles on a part of a resource are written `canonical#element-id`."""
    facts = {key: value for key, value in type_.items() if not key.startswith("_")}
    beside = type_.get("_profile") or []
    for index, one in enumerate(beside):
        parts = [e.get("valueString") for e in (one or {}).get("extension", ())
                 if e.get("url") == _PROFILE_ELEMENT]  # fmt: skip
        if parts and index < len(facts.get("profile", ())):
            profiles = list(facts["profile"])
            profiles[index] = f"{profiles[index]}#{parts[0]}"
            facts["profile"] = profiles
    return facts


def _says(extension: Mapping[str, Any], url: str) -> bool:
    return extension.get("url") == url and extension.get("valueBoolean") is True


def _forget_other_types(shape: Shape) -> None:
    """Drop children made for wider types when nothing was said of them yet."""
    if all(child.facts == child.base for child in (shape.children or {}).values()):
        shape.children = None
