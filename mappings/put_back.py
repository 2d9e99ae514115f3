"""FHIR back into HL7 v2: changes put into the stored original, or a message made anew.

With the original at hand only what FHIR changed is written, so that unmapped fields, Z segments
and the sender's own spelling survive. Without it, the rows make what they can.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mappings.engine.backward import Backward
from mappings.engine.context import Context, Sender
from mappings.engine.library import Library
from mappings.engine.sinks import SegmentSink
from mappings.engine.targets import parse_target, values_at
from mappings.hl7.escape import STANDARD, Separators
from mappings.hl7.message import Message, Segment, parse_location
from mappings.translated import DERIVED_KEY, TranslatedResource

Fields = dict[tuple[str, int], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A field (segment, number) of what a resource was made of, as rows wrote and write it."""

    origin: str
    place: tuple[str, int]
    old: str
    new: str


class PutBack:
    """The rows of a library on the way back to HL7 v2."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._backward: Backward = library.backward()

    def fields(
        self,
        map_name: str,
        resource: Mapping[str, Any],
        sender: Sender | None = None,
        separators: Separators = STANDARD,
        resources: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        original: Segment | None = None,
    ) -> Fields:
        """Return the raw fields that a map makes of a resource, by (segment, field).

        References are followed into `resources`, by reference. `original` is the segment that the
        resource came from, where it is at hand: it says which of several rows are its own.
        """
        if self._library.maps[map_name].reads_parts:
            return {}
        sink = SegmentSink()
        context = Context(
            sender=sender or Sender(), separators=separators, resources=resources or {}
        )
        self._backward.run(map_name, without_derived_keys(resource), sink, context, original)
        return sink.encode(separators)

    def update(
        self,
        message: Message,
        before: Sequence[TranslatedResource],
        after: Mapping[str, Mapping[str, Any]],
        sender: Sender | None = None,
    ) -> bytes:
        """Write what changed into the original and return it.

        `before` is the original's own translation, `after` the resources as they are now by
        `TranslatedResource.key`. A resource that is not in `after` has not changed. Whether the
        message then says so is `mappings.changes_back`'s to find out.
        """
        for patch in self.patches(message, before, after, sender):
            self.patch(message, patch)
        return message.encode()

    def patches(
        self,
        message: Message,
        before: Sequence[TranslatedResource],
        after: Mapping[str, Mapping[str, Any]],
        sender: Sender | None = None,
    ) -> list[Patch]:
        """Return the fields that rows write differently now, in the order of the resources."""
        had_all = {f"urn:uuid:{one.key}": one.resource for one in before}
        has_all = {f"urn:uuid:{one.key}": after.get(one.key, one.resource) for one in before}
        found: dict[tuple[str, tuple[str, int]], Patch] = {}
        if all(had_all[name] == has_all[name] for name in had_all):
            return []
        for one in before:
            now = after.get(one.key, one.resource)
            for map_name, origin, was, is_now in _written_of(one, now):
                original = _segment_of(message, origin, origin[:3])
                had, has = (
                    self.fields(
                        map_name, element, sender, message.separators, around, original=original
                    )
                    for element, around in ((was, had_all), (is_now, has_all))
                )
                for place in {**had, **has}:
                    old, new = had.get(place, ""), has.get(place, "")
                    if old != new:
                        patch = Patch(origin=origin, place=place, old=old, new=new)
                        found.setdefault((origin, place), patch)
        return list(found.values())

    def patch(self, message: Message, patch: Patch) -> None:
        """Write one field into the message, in a new segment where it has none."""
        name, number = patch.place
        segment = _segment_of(message, patch.origin, name)
        if segment is None:
            segment = Segment(name, name, message.separators.field, 1)
            message.add_after(patch.origin, segment)
        raw = segment.field(number)
        segment.set_field(number, patched(raw, patch.old, patch.new, message.separators))

    def rebuild(
        self,
        resources: Sequence[TranslatedResource],
        sender: Sender | None = None,
        separators: Separators = STANDARD,
    ) -> list[tuple[str, Fields]]:
        """Return the segments that the resources alone make, each with its fields.

        Resources of one origin share a segment.
        """
        segments: dict[tuple[str, str], Fields] = {}
        by_reference = {
            f"urn:uuid:{one.key}": without_derived_keys(one.resource) for one in resources
        }
        for one in resources:
            made = [(one.map_name, one.resource, one.origin)]
            for map_name, path, origin in one.parts:
                for element in values_at(one.resource, parse_target(path)):
                    made.append((map_name, element, origin))
            beside = _beside(one)
            for number, (map_name, element, origin) in enumerate(made):
                fields = self.fields(map_name, element, sender, separators, by_reference)
                for (name, field), raw in fields.items():
                    own = origin
                    if not origin.startswith(f"{name}["):
                        places = beside.get(name, [f"{name}[1]"])
                        own = places[min(number, len(places) - 1)]
                    segments.setdefault((name, own), {}).setdefault((name, field), raw)
        return [(own, fields) for (_, own), fields in segments.items()]


def _written_of(
    one: TranslatedResource, now: Mapping[str, Any]
) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each map that wrote a resource, the segment it read, and what it wrote, then and now.

    An element of a list that is longer or shorter now is nobody's: which one went is not known.
    """
    yield one.map_name, one.origin, one.resource, now
    for map_name, path, origin in one.parts:
        steps = parse_target(path)
        if steps and path != "$this" and _length(one.resource, path) != _length(now, path):
            continue
        for was, is_now in zip(values_at(one.resource, steps), values_at(now, steps), strict=False):
            yield map_name, origin, was, is_now


def _length(resource: Mapping[str, Any], path: str) -> int:
    """Return how many elements the list that a path such as `note[1]` ends in has."""
    return len(values_at(resource, parse_target(path.rpartition("[")[0] + "[*]")))


def _beside(one: TranslatedResource) -> dict[str, list[str]]:
    """Return the segments that a resource's rows read, by name in the order they were read."""
    found: dict[str, list[str]] = {}
    for _, source, _ in one.trace:
        place = source.partition("-")[0]
        places = found.setdefault(place[:3], [])
        if place not in places:
            places.append(place)
    return found


def without_derived_keys(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out identifiers that the hub made itself; the sender never had them."""
    identifiers = resource.get("identifier")
    if not isinstance(identifiers, list):
        return resource
    kept = [
        one for one in identifiers if not str(one.get("system", "")).endswith(f"/{DERIVED_KEY}")
    ]
    return resource if len(kept) == len(identifiers) else {**resource, "identifier": kept}


def _segment_of(message: Message, origin: str, name: str) -> Segment | None:
    place = parse_location(origin)
    wanted = place.sequence if place is not None and place.segment == name else 1
    for segment in message.all(name):
        if segment.sequence == wanted:
            return segment
    return None


def patched(raw: str, old: str, new: str, separators: Separators) -> str:
    """Return the raw field with the difference between two written values put into it.

    Component by component where the repetitions are as many; else the new value as a whole.
    """
    if raw == old:
        return new
    originals = raw.split(separators.repetition) if separators.repetition else [raw]
    olds = old.split(separators.repetition) if separators.repetition else [old]
    news = new.split(separators.repetition) if separators.repetition else [new]
    if len(olds) != len(news) or len(originals) != len(olds):
        return new
    out = []
    for original, before, after in zip(originals, olds, news, strict=True):
        out.append(original if before == after else _merge(original, before, after, separators))
    return separators.repetition.join(out)


def _merge(original: str, before: str, after: str, separators: Separators) -> str:
    mark = separators.component
    parts, olds, news = original.split(mark), before.split(mark), after.split(mark)
    for number in range(max(len(olds), len(news))):
        old = olds[number] if number < len(olds) else ""
        new = news[number] if number < len(news) else ""
        if old == new:
            continue
        while len(parts) <= number:
            parts.append("")
        parts[number] = new
    return mark.join(parts)
