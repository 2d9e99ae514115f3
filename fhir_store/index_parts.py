"""The growing index rows of one resource, and what is remembered of its members.

The same ward, status or patient comes with many messages, and a new version of a resource has most
of its members from the version before: the rows of a member are worked out once for its words.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from conformance.resource_json import dump

_MOST_PARTS = 8_192
_LONGEST_PART = 300  # bytes of JSON: what is remembered of an unknown sender's values has a limit
_ONCE = frozenset({"id", "identifier", "meta"})
"""Members that no other resource has in the same words."""


class Sink(NamedTuple):
    """Rows as `IndexRows` has them, without order; seven sets and the codes with their displays."""

    tokens: set[tuple[int, int]]
    references: set[tuple[int, int]]
    dates: set[tuple[int, int, int]]
    numbers: set[tuple[int, float, float]]
    strings: set[tuple[int, str, int]]
    grams: set[bytes]
    systems: set[str]
    codes: dict[tuple[int, int, str], str]


_SETS = range(7)


Part = tuple[list[int], tuple[tuple[int, frozenset[Any]], ...], Mapping[tuple[int, int, str], str]]
"""The ordinals of the parameters that are present, their rows by the place in a sink, the codes."""

Place = tuple[str, str, bytes]

_parts: dict[Place, Part] = {}


def empty_sink() -> Sink:
    """Return a sink without rows."""
    return Sink(set(), set(), set(), set(), set(), set(), set(), {})


def place_of(type_: str, name: str, value: Any) -> Place | None:
    """Return where the rows of a member are remembered; None where they are not.

    What a reference to a contained resource (`#...`) gives depends on that resource, and a patient
    is hardly referred to twice in the same words.
    """
    if name in _ONCE:
        return None
    words = dump(value)
    if len(words) > _LONGEST_PART or b'"#' in words or b'"Patient/' in words:
        return None
    return type_, name, words


def recall(place: Place) -> Part | None:
    """Return the rows of a member that came before in the same words."""
    return _parts.get(place)


def remember(place: Place, sink: Sink, present: list[int]) -> Part:
    """Keep the rows of a member."""
    if len(_parts) >= _MOST_PARTS:
        _parts.clear()
    rows = tuple((at, frozenset(sink[at])) for at in _SETS if sink[at])
    part = _parts[place] = (present, rows, sink.codes)
    return part


def add_part(part: Part, sink: Sink, present: list[int]) -> None:
    """Put remembered rows among those of the resource; the first display of a code stays."""
    ordinals, rows, codes = part
    present += ordinals
    for at, found in rows:
        sink[at].update(found)
    for place, display in codes.items():
        sink.codes.setdefault(place, display)
