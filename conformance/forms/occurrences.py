"""Which occurrence of a question a condition means, where repeating groups bring several.

https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen.question: the
nearest one by the ancestors, then what precedes, then what follows.
"""

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Item = Mapping[str, Any]


@dataclass(slots=True)
class _Found:
    """The occurrences of one question: their places, in order, and the answers of each."""

    places: list[int] = field(default_factory=list)
    answers: list[list[Item]] = field(default_factory=list)


class Occurrences:
    """The items of a response by linkId, each with its place in the order of the response."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._by_link: dict[str, _Found] = {}
        self._spans: dict[int, tuple[int, int]] = {}
        self._count = 0
        self._read(items)

    def _read(self, items: Iterable[Item]) -> None:
        before: str | None = None
        for item in items:
            place, self._count = self._count, self._count + 1
            name, answers = item.get("linkId", ""), item.get("answer", ())
            known = self._by_link.setdefault(name, _Found())
            if known.places and name == before:  # answers given one item each: one question
                known.answers[-1].extend(answers)
            else:
                known.places.append(place)
                known.answers.append(list(answers))
            before = name if answers else None
            self._read(item.get("item", ()))
            for answer in answers:
                self._read(answer.get("item", ()))
            self._spans[id(item)] = (place, self._count)

    def place_of(self, item: Item) -> int:
        """Return the place of an item."""
        return self._spans[id(item)][0]

    def end_of(self, item: Item) -> int:
        """Return the place behind an item and all that it holds."""
        return self._spans[id(item)][1]

    def nearest(self, name: str, place: int, above: Sequence[int]) -> list[Item]:
        """Return the answers of the occurrence nearest to a place; `above` are outer items'."""
        found = self._by_link.get(name)
        if found is None:
            return []
        number = bisect.bisect_left(found.places, place)
        for outer in reversed(above):
            at = bisect.bisect_left(found.places, outer)
            if at < len(found.places) and found.places[at] == outer:
                return found.answers[at]
        return found.answers[max(number - 1, 0)]


@dataclass(frozen=True, slots=True)
class Seen:
    """The answers as a condition at one place means them."""

    occurrences: Occurrences
    place: int
    above: tuple[int, ...]

    def get(self, name: str, default: Sequence[Item] = ()) -> Sequence[Item]:
        """Return the answers to a question."""
        return self.occurrences.nearest(name, self.place, self.above) or default
