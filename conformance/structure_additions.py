"""What some types ask for beyond their members: references, concepts, amounts, extensions."""

from typing import Any

from conformance import bindings, references
from conformance.findings import Check, Found
from conformance.r4 import tables


def reference_check(shape: Check, targets: tuple[str, ...]) -> Check:
    """Add that a reference has a shape and points to one of the element's target types."""
    test = references.target_check(targets)
    allowed = frozenset() if not targets or "Resource" in targets else frozenset(targets)
    names = (", ".join(targets),)

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = shape(value, local)
        if type(value) is not dict:
            return found
        target = value.get("reference")
        if type(target) is str:
            key = test(target, local)
            if key is not None:
                found = [*(found or ()), (".reference", key, names)]
        if allowed and "type" in value and value["type"] not in allowed:
            found = [*(found or ()), (".type", "reference-target", names)]
        return found

    return check


def concept_check(shape: Check, binding: tables.Binding) -> Check:
    """Add that one coding is from a required value set whose members are known."""
    members = bindings.members_of(binding.value_set) if binding.strength == "required" else None
    if members is None:
        return shape

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = shape(value, local)
        if found or type(value) is not dict:
            return found
        codings = value.get("coding", ())
        if any((coding.get("system"), coding.get("code")) in members for coding in codings):
            return None
        return [("", "code-not-in-value-set", (binding.value_set,))]

    return check


def simple_quantity_check(shape: Check) -> Check:
    """Add sqty-1: an amount is exact, not less or more than a number."""

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = shape(value, local)
        if type(value) is dict and "comparator" in value:
            found = [*(found or ()), (".comparator", "sqty-1", ())]
        return found

    return check


def extension_check(shape: Check) -> Check:
    """Add ext-1: a value or extensions, not both, not neither."""

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = shape(value, local)
        if type(value) is dict:
            has_extensions = "extension" in value
            has_value = len(value) > ("url" in value) + ("id" in value) + has_extensions
            if has_value == has_extensions:
                found = [*(found or ()), ("", "ext-1", ())]
        return found

    return check


def top_extension_check(inner: Check) -> Check:
    """Add that the url of an extension outside other extensions is absolute."""

    def check(value: Any, local: list[str]) -> list[Found] | None:
        found = inner(value, local)
        if type(value) is dict:
            url = value.get("url")
            if type(url) is str and ":" not in url:
                found = [*(found or ()), (".url", "extension-url-relative", ())]
        return found

    return check
