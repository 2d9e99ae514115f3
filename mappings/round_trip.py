"""HL7 v2 to FHIR and back: which mapped values return, which rows say that they do not.

A value is one place of the message that a row read (a trace entry). With the original at hand the
resources are written back into it; with it withheld the segments are made of the resources alone.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from conformance import resource_json
from mappings.channels.profile import ChannelProfile
from mappings.engine.context import Context
from mappings.engine.converters import first_text
from mappings.engine.library import Library
from mappings.engine.row_checks import EXACT
from mappings.engine.rows import Row
from mappings.engine.scopes import cut
from mappings.hl7.message import Location, Message, parse, parse_location
from mappings.put_back import PutBack
from mappings.translate import Translator
from mappings.translated import TranslatedMessage, Unmapped

Place = tuple[str, int]  # `PID[1]`, field number
Use = tuple[Row, str]  # with its class


@dataclass(slots=True, kw_only=True)
class RoundTrip:
    """Counts over messages; `changed` counts the values of those that came back with other bytes.

    `restored`, `lossy` and `one_way` count values with the original withheld: returned, not
    returned as their row or the row of their whole field declares, read by a one-way row; `joined`
    those of resources that several places of a message describe differently (the map's `identity:`
    makes them one). `undeclared` names the rest by field and row.
    """

    messages: int = 0
    values: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    restored: int = 0
    lossy: Counter[str] = field(default_factory=Counter)
    one_way: Counter[str] = field(default_factory=Counter)
    joined: Counter[str] = field(default_factory=Counter)
    undeclared: Counter[str] = field(default_factory=Counter)

    @property
    def share_with_original(self) -> float:
        """Values of messages that came back byte for byte, as a part of all."""
        return 1 - self.changed.total() / self.values if self.values else 0.0

    @property
    def share_without_original(self) -> float:
        """Values that the resources alone restored, as a part of all."""
        return self.restored / self.values if self.values else 0.0


def round_trip(
    messages: Iterable[tuple[str, bytes]], translator: Translator, channel: ChannelProfile
) -> RoundTrip:
    """Send named messages there and back, twice."""
    counts = RoundTrip()
    put_back, rows = PutBack(translator.library), _Rows(translator.library)
    for name, data in messages:
        message = parse(data, channel.charset)
        result = translator.translate(message, channel)
        if isinstance(result, Unmapped):
            continue
        counts.messages += 1
        sources = rows.sources(result)
        counts.values += len(sources)
        after = {
            one.key: resource_json.parse(resource_json.dump(one.resource))
            for one in result.resources
        }
        if put_back.update(message, result.resources, after, channel.sender) != data:
            counts.changed[name] = len(sources)
        made = {
            (place, number): raw
            for place, fields in put_back.rebuild(
                result.resources, channel.sender, message.separators
            )
            for (_, number), raw in fields.items()
        }
        joined = _joined(result)
        for source, (used, around) in sources.items():
            if any(_returned(message, made, source, is_whole=bool(row.py)) for row, _ in used):
                counts.restored += 1
                continue
            whole = [row for outer in _outer(source) for row, _ in sources.get(outer, ((), ()))[0]]
            if source in joined or any(outer in joined for outer in _outer(source)):
                counts.joined[_field_name(source)] += 1
            else:
                _declare(source, used, [*around, *whole], counts)
    return counts


def _joined(result: TranslatedMessage) -> set[str]:
    """Return the places that describe a resource which other places describe too."""
    found: set[str] = set()
    for one in result.resources:
        sources = {source for _, source, _ in one.trace}
        if any(path == "$this" for _, path, _ in one.parts):
            found |= sources
        elif "-" in one.origin:
            found |= {source for source in sources if not source.startswith(one.origin)}
    return found


def _declare(source: str, used: list[Use], around: list[Row], counts: RoundTrip) -> None:
    """Count a value that did not return by what its own row and those around it say."""
    label = f"{_field_name(source)} {'/'.join(sorted({row.id for row, _ in used}))}"
    if any(row.only == "forward" for row in (*around, *(row for row, _ in used))):
        counts.one_way[label] += 1
    elif any(kind != EXACT for _, kind in used) or any(row.loses for row in around):
        counts.lossy[label] += 1
    else:
        counts.undeclared[label] += 1


def _outer(source: str) -> Iterator[str]:
    """Yield the places around one: `PID[1]-3[2].4` and `PID[1]-3[2]` around `PID[1]-3[2].4.1`."""
    head, _, tail = source.partition("-")
    while "." in tail:
        tail = tail.rpartition(".")[0]
        yield f"{head}-{tail}"


def _returned(message: Message, made: Mapping[Place, str], source: str, *, is_whole: bool) -> bool:
    place = parse_location(source)
    if place is None:
        return False
    segment = f"{place.segment}[{place.sequence}]"
    had = next(
        one.field(place.field)
        for one in message.all(place.segment)
        if one.sequence == place.sequence
    )
    has = made.get((segment, place.field), "")
    old, new = (_part(raw, place, message) for raw in (had, has))
    if is_whole or old == new:
        return old == new
    context = Context(separators=message.separators, codec=message.codec)
    level = 2 if place.subcomponent else 1 if place.component else 0
    return first_text(old, level, context) == first_text(new, level, context)


def _part(raw: str, place: Location, message: Message) -> str:
    separators = message.separators
    if (place.segment, place.field) not in {("MSH", 1), ("MSH", 2)} and separators.repetition:
        parts = raw.split(separators.repetition)
        wanted = max(place.repetition, 1)
        raw = parts[wanted - 1] if wanted <= len(parts) else ""
    marks = (separators.component, separators.subcomponent)
    return cut(raw, place.component, place.subcomponent, marks).rstrip("".join(marks))


class _Rows:
    """The rows of a library by the names that a trace gives them."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._types: dict[str, list[Use]] = {}
        self._own: dict[str, dict[str, Use]] = {}
        for row_map in library.maps.values():
            if row_map.source_kind == "v2" and row_map.reads_parts:
                for row in row_map.rows:
                    use = (row, library.classes[f"{row_map.name}/{row.id}"])
                    self._types.setdefault(row.id, []).append(use)

    def sources(self, result: TranslatedMessage) -> dict[str, tuple[list[Use], list[Row]]]:
        """Return each place that rows read, with those rows and the rows of its whole field."""
        found: dict[str, tuple[list[Use], list[Row]]] = {}
        for one in result.resources:
            names = (one.map_name, *(name for name, _, _ in one.parts))
            for _, source, row in one.trace:
                if "-" not in source:
                    continue  # a constant
                used, around = found.setdefault(source, ([], []))
                used.extend(self._uses(names, row))
                wanted = _field_name(source)
                around.extend(
                    whole
                    for name in names
                    for whole, _ in self._of(name).values()
                    if (whole.use or whole.refer) and _field_name(whole.source) == wanted
                )
        return found

    def _uses(self, names: tuple[str, ...], row: str) -> list[Use]:
        own = [self._of(name)[row] for name in names if row in self._of(name)]
        return own or self._types.get(row, [])

    def _of(self, name: str) -> dict[str, Use]:
        known = self._own.get(name)
        if known is None:
            known = self._own[name] = {}
            maps = self._library.maps
            for one in (*maps[name].includes, name):
                for row in maps[one].rows:
                    known[row.id] = (row, self._library.classes[f"{one}/{row.id}"])
        return known


def _field_name(source: str) -> str:
    """Return `PID-5` of `PID[1]-5[2].1` or `PID-5[*]`."""
    head, _, tail = source.partition("-")
    return f"{head[:3]}-{tail.split('[')[0].split('.')[0]}" if tail else ""
