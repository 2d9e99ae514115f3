"""What can be told of a StructureDefinition itself: that it can be used at all."""

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.problem import InvalidContent, Issue
from conformance.profiles.discriminators import discriminators_of, shapes_at, steps_of
from conformance.profiles.profiles import Profiles
from conformance.profiles.shapes import RootOf, Shape
from conformance.profiles.slicing import limit_of
from conformance.profiles.texts import issue


def check_definition(definition: Mapping[str, Any], profiles: Profiles) -> list[Issue]:
    """Return why a profile cannot be used: base, elements, fixed values, rules, discriminators."""
    if definition.get("derivation") != "constraint" or definition.get("kind") == "logical":
        return []
    known = Profiles([definition, *profiles.definitions()])
    url = str(definition.get("url"))
    try:
        root = known.root_of(url)
        known.check_of(url)
    except InvalidContent as problem:
        return list(problem.issues)
    if root is None:
        return []
    written = {str(one.get("path")) for one in _elements(definition) if "slicing" in one}
    found = [
        *_slicing_faults(root, root.name, written, known.known_root, url),
        *_widened(root, root.name, url),
    ]
    return list(dict.fromkeys(found))


def _widened(shape: Shape, path: str, url: str) -> Iterator[Issue]:
    """Yield the elements of which the profile allows more, or needs fewer, than R4 does.

    https://hl7.org/fhir/R4/profiling.html#cardinality
    """
    for name, child in (shape.children or {}).items():
        own_least, base_least = (int(one.get("min", 0)) for one in (child.facts, child.base))
        most = limit_of(child)
        written = str(child.base.get("max", "*"))
        is_more = written.isdigit() and (most is None or most > int(written))
        if own_least < base_least or is_more:
            yield issue("profile-widened", "StructureDefinition.differential", url,
                        f"{path}.{name}", f"{base_least}..{written}")  # fmt: skip
        yield from _widened(child, f"{path}.{name}", url)


def _elements(definition: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    differential = definition.get("differential") or {}
    return [one for one in differential.get("element", ()) if isinstance(one, Mapping)]


def _slicing_faults(
    shape: Shape, path: str, written: set[str], root_of: RootOf, url: str
) -> Iterator[Issue]:
    """Yield the slicings of this profile whose discriminators are no elements."""
    if shape.slices and path in written:
        for _, discriminator in discriminators_of(shape.facts.get("slicing", {})):
            try:
                steps = steps_of(discriminator, url)
            except InvalidContent as problem:
                yield from problem.issues
                continue
            if all(kind == "child" for kind, _ in steps) and not _has(shape, steps, root_of):
                yield issue("profile-discriminator", "StructureDefinition.differential", url,
                            path, discriminator)  # fmt: skip
    for name, child in (shape.children or {}).items():
        yield from _slicing_faults(child, f"{path}.{name}", written, root_of, url)
    for one in shape.slices.values():
        yield from _slicing_faults(one, path, written, root_of, url)


def _has(shape: Shape, steps: list[tuple[str, str]], root_of: RootOf) -> bool:
    return any(bool(shapes_at(one, steps, root_of)[0]) for one in (shape, *shape.slices.values()))
