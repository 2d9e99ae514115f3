"""A message's segments in the groups that a message map names, and how rows address them."""

import operator
import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mappings.engine.rows import Group
from mappings.hl7.message import Segment

EMPTY: list[str] = []
_SEGMENT_PATH = re.compile(
    r"([A-Z][A-Z0-9]{2})(\[\*\])?-(\d+)(?:\[(\*|\d+)\])?(?:\.(\d+))?(?:\.(\d+))?\Z"
)
_TYPE_PATH = re.compile(r"(?:[A-Z]{2,3}\.)?(\d+)(?:\.(\d+))?\Z")


class UnreadableSource(ValueError):
    """The text is no source path; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place a row reads: `SEG-F[r].C.S` in maps, `C.S` in data types; numbers from 1.

    `SEG[*]-F` reads every segment of the name in its own group. `repetition` 0 means every
    repetition. `segment` is "" in a data type, where `field` counts components.
    """

    segment: str
    field: int
    repetition: int = 1
    component: int = 0
    subcomponent: int = 0
    every_segment: bool = False

    @property
    def suffix(self) -> str:
        """What follows the field in a trace."""
        text = f".{self.component}" if self.component else ""
        return f"{text}.{self.subcomponent}" if self.subcomponent else text


def parse_source(path: str, *, is_type: bool) -> Source:
    """Read a source path; raises `UnreadableSource`."""
    match = (_TYPE_PATH if is_type else _SEGMENT_PATH).match(path)
    if match is None:
        form = "4 or 4.2" if is_type else "PID-5[*].1.2"
        raise UnreadableSource(f"cannot read the source {path!r}; it should look like {form}")
    if is_type:
        number, part = match.groups()
        return Source(segment="", field=int(number), component=int(part or 0))
    segment, every, number, repetition, component, part = match.groups()
    return Source(
        every_segment=bool(every),
        segment=segment,
        field=int(number),
        repetition=0 if repetition == "*" else int(repetition or 1),
        component=int(component or 0),
        subcomponent=int(part or 0),
    )


@dataclass(slots=True, eq=False)
class Scope:
    """One group of a message: its own segments, its inner groups, and the scope around it."""

    group: str
    parent: "Scope | None" = None
    segments: dict[str, list[Segment]] = field(default_factory=dict)
    inner: list["Scope"] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Segment | None:
        """Return the first segment of the name here, else in the scopes around."""
        scope: Scope | None = self
        while scope is not None:
            found = scope.segments.get(name)
            if found:
                return found[0]
            scope = scope.parent
        return None

    def part(self) -> None:
        """Let the inner scopes go, which otherwise wait for the next search for cycles."""
        for scope in self.inner:
            scope.part()
        self.inner.clear()

    def all(self) -> Iterator["Scope"]:
        """Yield this scope and all inner ones, outer first."""
        yield self
        for scope in self.inner:
            yield from scope.all()


def scopes_of(segments: Sequence[Segment], groups: Sequence[Group]) -> Scope:
    """Sort segments into groups; a segment no group starts with stays with the one before it."""
    root = Scope("")
    if not groups:
        for segment in segments:
            root.segments.setdefault(segment.name, []).append(segment)
        return root
    starters = {name: group for group in groups for name in group.starts}
    by_name = {group.name: group for group in groups}
    current = root
    for segment in segments:
        group = starters.get(segment.name)
        if group is not None:
            current = _enter(current, group, segment.name)
        else:
            current = _leave(current, by_name, segment.name)
        current.segments.setdefault(segment.name, []).append(segment)
    return root


def _enter(current: Scope, group: Group, name: str) -> Scope:
    """Return the open group that the segment continues, or a new one."""
    scope: Scope | None = current
    while scope is not None:
        if scope.group == group.name:
            place = group.starts.index(name)
            if not any(later in scope.segments for later in group.starts[place:]):
                return scope
            break
        scope = scope.parent
    outer: Scope = current
    while outer.group not in group.within and outer.parent is not None:
        outer = outer.parent
    new = Scope(group.name, outer)
    outer.inner.append(new)
    return new


def _leave(current: Scope, groups: dict[str, Group], name: str) -> Scope:
    """Close groups that list what they take and do not take this segment."""
    scope = current
    while scope.parent is not None:
        takes = groups[scope.group].takes
        if not takes or name in takes:
            return scope
        scope = scope.parent
    return scope


# What the rows of one map see while they run: fields and trace prefix of each segment it names,
# and the group for rows that read every segment of a name.
Slots = tuple[list[list[str]], list[str], Scope]
# Which fields the rows of a map read or ask about, by the segment's name.
FieldsRead = Mapping[str, Collection[int]]
# A slot, how many fields it must have, and the function that takes those read out of them.
OtherFields = tuple[int, int, Callable[[Sequence[str]], Hashable]]


class SlotNames:
    """The segments that one map reads, each with its number."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def number(self, name: str) -> int:
        """Return the number of a segment, giving it one on first use."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def others(self, main: str, reads: FieldsRead) -> list[OtherFields]:
        """Return what rows read of the segments beside the one that a map runs for."""
        return [
            (slot, max(reads[name]) + 1, operator.itemgetter(*sorted(reads[name])))
            for slot, name in enumerate(self.names)
            if name != main and reads.get(name)
        ]

    def fill(self, scope: Scope, main: Segment | None) -> Slots:
        """Return the fields of each named segment; `main` is the one the map runs for."""
        fields: list[list[str]] = []
        prefixes: list[str] = []
        own = main.name if main is not None else ""
        for name in self.names:
            if name == own:
                segment = main
            else:
                found = scope.segments.get(name)
                segment = found[0] if found else scope.find(name)
            if segment is None:
                fields.append(EMPTY)
                prefixes.append(name)
            else:
                fields.append(segment.fields)
                prefixes.append(segment.place)
        return fields, prefixes, scope


def cut(raw: str, component: int, subcomponent: int, marks: tuple[str, ...]) -> str:
    """Return one component (and subcomponent) of raw text; 0 means the text as it is."""
    if component:
        raw = _nth(raw, component, marks[0])
    return _nth(raw, subcomponent, marks[1]) if subcomponent else raw


def _nth(raw: str, number: int, mark: str) -> str:
    if not mark or mark not in raw:
        return raw if number == 1 else ""
    if number == 1:
        return raw.split(mark, 1)[0]
    parts = raw.split(mark, number)
    return parts[number - 1] if number <= len(parts) else ""


Getter = Callable[[Slots], list[str]]
