"""A library of terminology as the port that FHIRPath and profiles ask."""

from collections.abc import Mapping
from typing import Any

from conformance.fhirpath.evaluation import Terminology
from conformance.problem import Problem
from conformance.terminology.library import Library
from conformance.terminology.members import Reading, members_of


def terminology_of(library: Library) -> Terminology:
    """Return the port over a library; each value set is read once."""
    sets: dict[str, frozenset[tuple[str, str]] | None] = {}
    codes_of: dict[str, frozenset[str]] = {}

    def keys_of(canonical: str) -> frozenset[tuple[str, str]] | None:
        if canonical not in sets:
            sets[canonical] = _keys_of(canonical, library)
        return sets[canonical]

    def member_of(coded: Any, canonical: str) -> bool | None:
        keys = keys_of(canonical)
        if keys is None:
            return None
        if isinstance(coded, str):
            if canonical not in codes_of:
                codes_of[canonical] = frozenset(code for _, code in keys)
            return coded in codes_of[canonical]
        if not isinstance(coded, Mapping):
            return None
        codings = coded.get("coding", [coded])
        return any((one.get("system", ""), one.get("code")) in keys for one in codings)

    def subsumes(left: Any, right: Any) -> bool | None:
        verdicts = [
            _subsumes(one, other, library)
            for one in left.get("coding", [left])
            for other in right.get("coding", [right])
        ]
        return True if True in verdicts else None if None in verdicts else False

    return Terminology(member_of=member_of, subsumes=subsumes)


def _keys_of(canonical: str, library: Library) -> frozenset[tuple[str, str]] | None:
    """Return (system, code) of every member; None where they cannot all be known."""
    value_set = library.find("ValueSet", canonical)
    if value_set is None:
        return None
    try:
        members = members_of(value_set, Reading(library=library))
    except Problem:
        return None
    return frozenset((system, code) for system, code in members)


def _subsumes(left: Mapping[str, Any], right: Mapping[str, Any], library: Library) -> bool | None:
    if left.get("system") != right.get("system"):
        return False
    system = library.code_system(str(left.get("system")))
    if system is None:
        return None
    one, other = system.find(str(left.get("code"))), system.find(str(right.get("code")))
    if one is None or other is None:
        return None
    return one.code == other.code or one.code in system.ancestors(other.code)
