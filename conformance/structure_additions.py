"""What some types ask for beyond their members: references, concepts, amounts, extensions.

Each function returns the two checks of a type with its addition, exact and quick.
"""

from collections.abc import Collection
from typing import Any

from conformance import bindings, references
from conformance.findings import Found
from conformance.primitives import check_uri
from conformance.r4 import tables
from conformance.structure_quick import CODES, TARGET, TEST, Member, Part


def reference_check(shape: Part, targets: tuple[str, ...]) -> Part:
    """Add that a reference has a shape and points to one of the element's target types."""
    test = references.target_check(targets)
    allowed = frozenset() if not targets or "Resource" in targets else frozenset(targets)
    names = (", ".join(targets),)

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = shape.check(value, local)
        if type(value) is not dict:
            return found
        target = value.get("reference")
        if type(target) is str:
            key = test(target, local)
            if key is not None:
                found = [*(found or ()), (".reference", key, names)]
        # A type that is no string is the shape's own finding.
        if allowed and type(value.get("type")) is str and value["type"] not in allowed:
            found = [*(found or ()), (".type", "reference-target", names)]
        return found

    members = {"reference": Member(TARGET, (references.types_named(targets), test))}
    if allowed:
        members["type"] = Member(CODES, allowed)
    return Part(check, shape.of_object.varied(**members))


def concept_check(shape: Part, binding: tables.Binding) -> Part:
    """Add that one coding is from a required value set whose members are known."""
    members = bindings.members_of(binding.value_set) if binding.strength == "required" else None
    if members is None:
        return shape
    fits = shape.of_object.fits

    def is_among(value: dict[str, Any]) -> bool:
        codings = value.get("coding", ())
        return any((coding.get("system"), coding.get("code")) in members for coding in codings)

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = shape.check(value, local)
        if found or type(value) is not dict or is_among(value):
            return found
        return [("", "code-not-in-value-set", (binding.value_set,))]

    return Part(check, lambda value, local: fits(value, local) and is_among(value))


def simple_quantity_check(shape: Part) -> Part:
    """Add sqty-1: an amount is exact, not less or more than a number."""

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = shape.check(value, local)
        if type(value) is dict and "comparator" in value:
            found = [*(found or ()), (".comparator", "sqty-1", ())]
        return found

    return Part(check, shape.of_object.varied(comparator=None))


def extension_check(shape: Part) -> Part:
    """Add ext-1: a value or extensions, not both, not neither."""

    def has_one_content(names: Collection[str]) -> bool:
        has_extensions = "extension" in names
        has_value = len(names) > ("url" in names) + ("id" in names) + has_extensions
        return has_value != has_extensions

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = shape.check(value, local)
        if type(value) is dict and not has_one_content(value):
            found = [*(found or ()), ("", "ext-1", ())]
        return found

    shape.of_object.facts.rule = has_one_content
    return Part(check, shape.quick)


def top_extension_check(inner: Part) -> Part:
    """Add that the url of an extension outside other extensions is absolute."""

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = inner.check(value, local)
        if type(value) is dict:
            url = value.get("url")
            if type(url) is str and ":" not in url:
                found = [*(found or ()), (".url", "extension-url-relative", ())]
        return found

    def check_url(value: Any) -> str | None:
        return check_uri(value) or (None if ":" in value else "extension-url-relative")

    return Part(check, inner.of_object.varied(url=Member(TEST, check_url)))
