"""A library of terminology as the port that FHIRPath and profiles ask."""

from collections.abc import Mapping
from typing import Any

from conformance.fhirpath.evaluation import Terminology
from conformance.problem import Problem
from conformance.terminology.library import Library
from conformance.terminology.members import Reading, members_of

# (system, code) of the members that are known, and whether these are all
_Known = tuple[frozenset[tuple[str, str]], bool]


def terminology_of(library: Library) -> Terminology:
    """Return the port over a library; each value set is read once."""
    sets: dict[str, _Known | None] = {}
    codes_of: dict[str, frozenset[str]] = {}

    def read_once(canonical: str) -> _Known | None:
        if canonical not in sets:
            sets[canonical] = _known(canonical, library)
        return sets[canonical]

    def member_of(coded: Any, canonical: str) -> bool | None:
        found = read_once(canonical)
        if found is None:
            return None
        keys, is_whole = found
        # What is not among a part of the codes may yet be among the others.
        otherwise = False if is_whole else None
        if isinstance(coded, str):
            if canonical not in codes_of:
                codes_of[canonical] = frozenset(code for _, code in keys)
            return coded in codes_of[canonical] or otherwise
        if not isinstance(coded, Mapping):
            return None
        codings = coded.get("coding", [coded])
        return any((one.get("system", ""), one.get("code")) in keys for one in codings) or otherwise

    def subsumes(left: Any, right: Any) -> bool | None:
        verdicts = [
            _subsumes(one, other, library)
            for one in left.get("coding", [left])
            for other in right.get("coding", [right])
        ]
        return True if True in verdicts else None if None in verdicts else False

    return Terminology(member_of=member_of, subsumes=subsumes)


def _known(canonical: str, library: Library) -> _Known | None:
    """Return the members of a value set; None where none of them can be known."""
    value_set = library.find("ValueSet", canonical)
    if value_set is None:
        return None
    reading = Reading(library=library)
    try:
        members = members_of(value_set, reading)
    except Problem:
        return None
    return frozenset((system, code) for system, code in members), not reading.partial


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
