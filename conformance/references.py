"""References: their shape, and the resource types they may point to.

https://hl7.org/fhir/R4/references.html
"""

import re
from collections.abc import Callable, Set

from conformance.r4 import tables

# (target, local references seen so far) -> None or the key of what is wrong
TargetCheck = Callable[[str, list[str]], str | None]

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")


def type_named_in(target: str, resource_types: Set[str]) -> str | None:
    """Return the resource type a reference names, or None where it names none.

    Raises ValueError for a relative reference that is not `Type/id`, with or without
    `/_history/version`, nor a conditional one, `Type?parameters`.
    """
    path, _, _ = target.partition("#")
    is_absolute = _SCHEME.match(path) is not None
    if not is_absolute and "?" in path:
        path = path.partition("?")[0] + "/conditional"
    parts = path.split("/")
    if len(parts) >= 4 and parts[-2] == "_history":
        parts = parts[:-2]
    if is_absolute:
        is_named = len(parts) > 3 and parts[-2] in resource_types
        return parts[-2] if is_named and _ID.fullmatch(parts[-1]) else None
    if len(parts) != 2 or not _ID.fullmatch(parts[1]) or parts[0] not in resource_types:
        raise ValueError("not a relative reference")
    return parts[0]


def types_named(targets: tuple[str, ...]) -> Set[str]:
    """Return the resource types that a reference of an element with these targets may name."""
    is_open = not targets or "Resource" in targets
    return tables.load().resource_types if is_open else frozenset(targets)


def target_check(targets: tuple[str, ...]) -> TargetCheck:
    """Return a check of `Reference.reference` for an element with these target types."""
    resource_types, allowed = tables.load().resource_types, types_named(targets)

    def check(target: str, local: list[str]) -> str | None:
        head, _, rest = target.partition("/")
        if head in allowed and _ID.fullmatch(rest):
            return None
        if target.startswith("#"):
            local.append(target[1:])
            return None
        try:
            named = type_named_in(target, resource_types)
        except ValueError:
            return "bad-reference"
        return None if named is None or named in allowed else "reference-target"

    return check
