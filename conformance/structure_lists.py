"""Exact checks of what repeats, and of codes from a required binding."""

from typing import Any

from conformance import primitives
from conformance.findings import Check, Found, below, joined, kind_of


def code_check(codes: frozenset[str]) -> primitives.Check:
    """Return the check of a code of a required binding."""

    def test(value: Any) -> str | None:
        if type(value) is str and value in codes:
            return None
        return primitives.check_code(value) or "code-not-in-value-set"

    return test


def list_check(one: Check, maximum: int | None) -> Check:
    """Return the check of a list whose items pass a check."""

    def check(value: Any, local: list[str]) -> list[Found] | None:
        if type(value) is not list:
            return [("", "not-a-list", ())]
        if not value:
            return [("", "empty-list", ())]
        found: list[Found] | None = None
        for index, item in enumerate(value):
            inner = one(item, local)
            if inner:
                found = joined(found, below(f"[{index}]", inner))
        if maximum is not None and len(value) > maximum:
            found = joined(found, [("", "too-many", (str(maximum),))])
        return found

    return check


def list_of_primitives(test: primitives.Check, maximum: int | None) -> Check:
    """Return the check of a list of primitives; nulls are told, extensions stand elsewhere."""

    def one(value: Any, _: list[str]) -> list[Found] | None:
        key = test(value)
        if key is None:
            return None
        return [("", "null-item" if value is None else kind_of(value, key), ())]

    return list_check(one, maximum)
