"""The tests of the short way: true, false, or None where the collection would be empty."""

from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Any

from conformance.fhirpath import arithmetic, model
from conformance.fhirpath.direct_steps import (
    MOMENTS,
    NUMBERS,
    TEXTS,
    Run,
    Test,
    Values,
    is_of,
    item_of,
)
from conformance.fhirpath.evaluation import single, truth
from conformance.fhirpath.functions_fhir import type_of_reference
from conformance.fhirpath.scope import Scope


def is_resource(run: Run, wanted: str) -> Test:
    """Test `is` on a place that holds any resource."""
    test = is_of(wanted)

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        item = single(found, "`is`")
        return None if item is None else test(item)

    return verdict


def boolean(run: Run) -> Test:
    """Read a list of one boolean as a test."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        return None if found == [None] else truth(found, "this rule")

    return verdict


def negation(test: Test) -> Test:
    """Apply `not()`."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = test(value, scope)
        return None if found is None else not found

    return verdict


def logic(tests: list[Test], *, decisive: bool) -> Test:
    """Apply `or` (decisive true) or `and` (decisive false)."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        is_unknown = False
        for test in tests:
            found = test(value, scope)
            if found is decisive:
                return decisive
            is_unknown = is_unknown or found is None
        return None if is_unknown else not decisive

    return verdict


def implication(left: Test, right: Test) -> Test:
    """Apply `implies`."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        first = left(value, scope)
        if first is False:
            return True
        second = right(value, scope)
        return True if second is True else second if first else None

    return verdict


def exclusive(left: Test, right: Test) -> Test:
    """Apply `xor`."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        first, second = left(value, scope), right(value, scope)
        return None if first is None or second is None else first is not second

    return verdict


def _kind(values: Values) -> str | None:
    """Return text, number, boolean or moment when all types of the list are of one kind."""
    for name, members in (
        ("text", TEXTS),
        ("number", NUMBERS),
        ("boolean", frozenset({"boolean", "System.Boolean"})),
    ):
        if values.types and all(type_name in members for type_name in values.types):
            return name
    return None


def equality_of(left: list[Any], right: list[Any]) -> bool | None:
    """Return whether two lists of plain values of one kind are equal."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    return all(
        one == other and one is not None and isinstance(one, bool) == isinstance(other, bool)
        for one, other in zip(left, right, strict=True)
    )


def comparable_pair(left: Values, right: Values) -> bool:
    """Say whether two lists may be compared as plain values."""
    kind = _kind(left)
    return kind is not None and kind == _kind(right)


def equal_test(left: Values, right: Values, *, is_negated: bool) -> Test:
    """Apply `=` or `!=` to lists of one kind."""
    one, other = left.run, right.run

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = equality_of(one(value, scope), other(value, scope))
        return None if found is None else found is not is_negated

    return verdict


def constant_test(left: Values, constant: Any, *, is_negated: bool) -> Test:
    """Apply `=` or `!=` between a list and a literal."""
    run, is_boolean = left.run, isinstance(constant, bool)

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        if not found:
            return None
        is_equal = (
            len(found) == 1 and found[0] == constant and isinstance(found[0], bool) == is_boolean
        )
        return is_equal is not is_negated

    return verdict


_ORDERS: dict[str, Callable[[int, int], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


def ordered_test(left: Values, right: Values, operator: str) -> Test:
    """Apply `<` and its kin, by the general rules over typed values."""
    one, other = left.run, right.run
    kinds = left.types[0], right.types[0]

    def verdict(value: Any, scope: Scope) -> bool | None:
        first, second = one(value, scope), other(value, scope)
        if not first or not second:
            return None
        if len(first) == len(second) == 1 and type(first[0]) is type(second[0]) is int:
            return _ORDERS[operator](first[0], second[0])
        found = arithmetic.compare(
            [item_of(one_item, kinds[0]) for one_item in first],
            [item_of(one_item, kinds[1]) for one_item in second],
            operator,
        )
        return found[0] if found else None

    return verdict


def is_moment_or_number(values: Values) -> bool:
    """Say whether a list's items can be put in order."""
    return len(values.types) == 1 and values.types[0] in MOMENTS | NUMBERS


def membership(values: Values, known: list[str]) -> Test:
    """Test whether the only item is one of some strings."""
    run, wanted = values.run, frozenset(known)

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        return None if not found else single(found, "`in`") in wanted

    return verdict


def any_of(run: Run, test: Test) -> Test:
    """Apply `exists(criterion)`."""
    return lambda value, scope: any(test(item, scope) for item in run(value, scope))


def all_of(run: Run, test: Test) -> Test:
    """Apply `all(criterion)`."""
    return lambda value, scope: all(test(item, scope) for item in run(value, scope))


def is_distinct(run: Run) -> Test:
    """Apply `isDistinct()` to strings."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        return len(found) < 2 or len(set(found)) == len(found)

    return verdict


def has_value(run: Run) -> Test:
    """Apply `hasValue()`."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        found = run(value, scope)
        return len(found) == 1 and found[0] is not None

    return verdict


def text_test(run: Run, verdict_of: Callable[[str], bool]) -> Test:
    """Apply a string test to the only item."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        text = single(run(value, scope), "a string function")
        return verdict_of(text) if isinstance(text, str) else None

    return verdict


def _is_bundle(root: Any) -> bool:
    return isinstance(root, dict) and root.get("resourceType") == "Bundle"


def reference_is(wanted: str, general: Test) -> Test:
    """Test `resolve() is T` by the reference's text, unless something could resolve it."""

    def verdict(value: Any, scope: Scope) -> bool | None:
        reference = value.get("reference") if isinstance(value, dict) else None
        if not isinstance(reference, str):
            return None
        is_inside = reference.startswith("#") or scope.ports.resolver is not None
        if is_inside or _is_bundle(scope.root):
            return general(value, scope)
        name = type_of_reference(reference)
        return None if name is None else model.is_kind_of(name, wanted)

    return verdict
