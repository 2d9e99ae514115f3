"""The codes of the built-in value sets, for required bindings.

Only what the R4 definitions themselves carry can be told: a value set that draws on a code system
from elsewhere (UCUM, ISO 4217, LOINC, BCP-13) gives None, and nobody is refused for it.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.r4 import tables

Coded = tuple[str, str]


class _Unknown(Exception):
    """The members cannot be listed from the built-in definitions."""


@functools.cache
def members_of(value_set: str) -> frozenset[Coded] | None:
    """Return (system, code) of every member, or None where they cannot be listed."""
    try:
        return frozenset(_members(value_set, ()))
    except _Unknown:
        return None


@functools.cache
def codes_of(value_set: str) -> frozenset[str] | None:
    """Return the codes of a value set without their systems, or None."""
    members = members_of(value_set)
    return None if members is None else frozenset(code for _, code in members)


def _members(value_set: str, above: tuple[str, ...]) -> set[Coded]:
    url = value_set.partition("|")[0]
    definition = tables.load().value_sets.get(url)
    if definition is None or url in above or "compose" not in definition:
        raise _Unknown
    compose = definition["compose"]
    members: set[Coded] = set()
    for include in compose["include"]:
        members |= _members_of_part(include, (*above, url))
    for exclude in compose.get("exclude", ()):
        members -= _members_of_part(exclude, (*above, url))
    return members


def _members_of_part(part: Mapping[str, Any], above: tuple[str, ...]) -> set[Coded]:
    found: set[Coded] | None = None
    if "system" in part:
        system = part["system"]
        if "concept" in part:
            found = {(system, concept["code"]) for concept in part["concept"]}
        else:
            found = {(system, code) for code in _codes_of_system(part)}
    for value_set in part.get("valueSet", ()):
        others = _members(value_set, above)
        found = others if found is None else found & others
    return found or set()


def _codes_of_system(part: Mapping[str, Any]) -> set[str]:
    definition = tables.load().code_systems.get(part["system"])
    if definition is None or definition.get("content") != "complete":
        raise _Unknown
    parents = dict(_parents_of(definition.get("concept", ()), None))
    selected = set(parents)
    for rule in part.get("filter", ()):
        selected &= _selected_by(rule, definition, parents)
    return selected


def _parents_of(concepts: Any, parent: str | None) -> Iterator[tuple[str, set[str]]]:
    """Yield code → ancestors in the nesting; the code itself is not among them."""
    for concept in concepts:
        yield from _with_ancestors(concept, set() if parent is None else {parent})


def _with_ancestors(
    concept: Mapping[str, Any], ancestors: set[str]
) -> Iterator[tuple[str, set[str]]]:
    code = concept["code"]
    yield code, ancestors
    for inner in concept.get("concept", ()):
        yield from _with_ancestors(inner, ancestors | {code})


def _selected_by(
    rule: Mapping[str, Any], definition: Mapping[str, Any], ancestors: Mapping[str, set[str]]
) -> set[str]:
    """Return the codes one filter selects; an operator we cannot judge makes the set unknown."""
    value = rule["value"]
    reached = {code for code in ancestors if value in _all_ancestors(code, definition, ancestors)}
    if rule["property"] == "concept" and rule["op"] == "is-a":
        return reached | ({value} & set(ancestors))
    if rule["property"] == "concept" and rule["op"] == "descendent-of":
        return reached
    if rule["property"] == "concept" and rule["op"] == "is-not-a":
        return set(ancestors) - reached - {value}
    raise _Unknown


def _all_ancestors(
    code: str, definition: Mapping[str, Any], ancestors: Mapping[str, set[str]]
) -> set[str]:
    """Return ancestors by nesting and by `subsumedBy`, which v3 uses for second parents."""
    extra = _second_parents(definition["url"])
    reached: set[str] = set()
    todo = [code]
    while todo:
        current = todo.pop()
        for parent in ancestors.get(current, set()) | extra.get(current, set()):
            if parent not in reached:
                reached.add(parent)
                todo.append(parent)
    return reached


@functools.cache
def _second_parents(system: str) -> Mapping[str, set[str]]:
    definition = tables.load().code_systems[system]
    found: dict[str, set[str]] = {}
    todo = list(definition.get("concept", ()))
    while todo:
        concept = todo.pop()
        todo.extend(concept.get("concept", ()))
        for entry in concept.get("property", ()):
            if entry["code"] == "subsumedBy":
                found.setdefault(concept["code"], set()).add(entry["valueCode"])
    return found
