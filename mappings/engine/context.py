"""What one run of a map carries along: the channel's facts, the trace, and what was found wrong."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from conformance.problem import Issue
from mappings.hl7.escape import STANDARD, Separators
from mappings.translated import HeldCode, Match, TraceEntry, TranslatedResource

if TYPE_CHECKING:
    from mappings.engine.segment_memory import SegmentMemory


class UnreadableValue(ValueError):
    """A value is not what its row says it is; the text says what it should be, never the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """What a channel knows about its sender and a map may ask.

    `authorities` turns an assigning authority (namespace, `namespace@facility` or OID) into an
    identifier system; `code_systems` does the same for the names of coding systems,
    `identifier_types` for identifier types (CX-5) that mean one system whoever assigned them.
    `namespace` is the URI under which unknown names become systems.
    """

    zone: datetime.tzinfo = datetime.UTC
    namespace: str = "https://fhir.qiao.example/cphc/sid"
    authorities: Mapping[str, str] = field(default_factory=dict)
    code_systems: Mapping[str, str] = field(default_factory=dict)
    identifier_types: Mapping[str, str] = field(default_factory=dict)
    code_overlay: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


# Type, system and value of an identifier.
Key = tuple[str, str, str]


class Made:
    """A resource under construction, with the keys it is known by.

    `keys` are its identifiers with its type, as `Context.by_identity` holds them, `parts` the
    elements that other maps filled: map, path in the resource, origin.
    """

    # A message makes dozens: what few of them have stands in the class until they have it.
    parts: tuple[tuple[str, str, str], ...] = ()
    is_once = False  # of a map with `once`, which what is recalled names anew
    is_shared = False  # later messages get this `resource` too: copy before a change
    is_silent = False  # who names it again adds nothing
    is_kept = False  # all messages of the sender share this: `Context.own` before a change
    handed: TranslatedResource | None = None  # as later messages get it, with this `trace`
    # Elements that are still shared after `own`: as a whole, or (False) what is within them.
    borrowed: dict[str, bool] | None = None

    def __init__(
        self,
        key: str,
        resource: dict[str, Any],
        map_name: str,
        trace: list[TraceEntry],
        origin: str = "",
        identity: Sequence[tuple[str, str]] = (),
        keys: Sequence[Key] = (),
        match: Match = Match.MERGE,
        is_joining: bool = False,  # who names it again adds to it, whatever else the message says
    ) -> None:
        self.key = key
        self.resource = resource
        self.map_name = map_name
        self.trace = trace
        self.origin = origin
        self.identity = identity
        self.keys = keys
        self.match = match
        self.is_joining = is_joining

    @property
    def type(self) -> str:
        """The resource type."""
        return str(self.resource["resourceType"])

    def kept(self) -> "Made":
        """Return the same as it stands, for later messages."""
        kept = self.again()
        kept.trace, kept.is_kept, kept.is_once, kept.handed = list(self.trace), True, False, None
        return kept

    def again(self) -> "Made":
        """Return what was kept, for one message, which shares resource and trace with it."""
        again = Made(
            self.key, self.resource, self.map_name, self.trace, self.origin,
            self.identity, self.keys, self.match, self.is_joining,
        )  # fmt: skip
        again.is_once, again.is_silent, again.is_shared = self.is_once, self.is_silent, True
        again.handed = self.hand() if self.is_kept else None
        return again

    def borrow(self, elements: Iterable[str]) -> None:
        """Remember that elements of the resource may belong to another, which messages share."""
        if not self.is_shared:
            self.borrowed = {**(self.borrowed or {}), **dict.fromkeys(elements, True)}

    def own(self, element: str, *, is_deep: bool = True) -> None:
        """Part from what other messages share, before a change in place.

        The element is set, or (if a list) gets one more item; with `is_deep`, what is within it is
        changed.
        """
        if self.is_shared:
            self.resource, self.is_shared = dict(self.resource), False
            self.borrowed = dict.fromkeys(self.resource, True)
        borrowed = self.borrowed
        if borrowed is not None and element in borrowed:
            value = self.resource[element]
            if is_deep:
                self.resource[element] = copied(value)
                del borrowed[element]
            elif borrowed[element]:
                self.resource[element] = list(value) if type(value) is list else value
                borrowed[element] = False
        self.tell(())

    def tell(self, trace: Iterable[TraceEntry]) -> None:
        """Add to the trace of what has changed."""
        if self.handed is not None:
            self.trace, self.handed = list(self.trace), None
        self.trace.extend(trace)

    def hand(self) -> TranslatedResource:
        """Return what the translation hands over."""
        handed = self.handed
        if handed is None:
            handed = TranslatedResource(
                self.key,
                self.resource,
                tuple(self.identity),
                self.match,
                tuple(self.trace),
                self.map_name,
                self.origin,
                self.parts,
            )
            if self.is_kept:
                self.handed = handed
        return handed


def copied(value: Any) -> Any:
    """Return a copy of an element that may be changed in place."""
    if type(value) is dict:
        return {name: one if type(one) is str else copied(one) for name, one in value.items()}
    return [copied(one) for one in value] if type(value) is list else value


class Call(NamedTuple):
    """A part of a segment that made resources: its map, raw text, level and source.

    `made` is how many it made, `faults` how many notes and held codes it gave.
    """

    map: str
    raw: str
    level: int
    source: str
    made: int
    faults: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What a part of a message made: all its resources, which of them it names, their keys.

    `by_identity` says which resource a key means, `source` where the part stood. Where not
    `is_sure`, the part is to be read each time.
    """

    source: str = ""
    made: tuple[Made, ...] = ()
    own: int = -1
    keys: tuple[Key, ...] = ()
    by_identity: Mapping[Key, Made] = field(default_factory=dict)
    named: tuple["Naming", ...] = ()
    is_sure: bool = True

    def at(self, source: str) -> "Recalled":
        """Return the same for a part of the same words in another place."""
        if source == self.source or not self.is_sure:
            return self
        made = tuple(one.kept() for one in self.made)
        for one in made:
            one.trace = [(to, self._moved(was, source), row) for to, was, row in one.trace]
            one.origin = self._moved(one.origin, source)
        return replace(
            self,
            made=made,
            by_identity={key: one for one in made for key in one.keys},
            named=tuple(
                (name, raw, level, self._moved(was, source), key)
                for name, raw, level, was, key in self.named
            ),
            source=source,
        )

    def _moved(self, was: str, source: str) -> str:
        """Return a place within the part as it is called where the part stands at `source`."""
        is_within = was == self.source or was.startswith(f"{self.source}.")
        return source + was[len(self.source) :] if is_within else was

    def joins(self, context: "Context") -> bool:
        """Whether all of these, read again, would name each other as they do."""
        for one in self.made:
            known = context.known(one)
            if not one.is_joining or (known is not None and known.key != one.key):
                return False
        return self.is_sure


# A part that named a resource made once a message: its map, raw text, level, source and key.
Naming = tuple[str, str, int, str, str]
# map, raw text, level and source of a part ("" means any) -> what it made
Recall = dict[tuple[str, str, int, str], Recalled]
MOST_RECALLED = 5000


def remember(recall: Recall, key: tuple[str, str, int, str], told: Recalled) -> Recalled:
    """Keep what a part made; a full memory begins anew."""
    if len(recall) >= MOST_RECALLED:
        recall.clear()
    recall[key] = told
    return told


@dataclass(slots=True, kw_only=True, eq=False)
class Context:
    """One run over one message; `trace` is the list of the resource being filled.

    `recall` keeps what parts of earlier messages of this sender made, `segments` what segments of
    all senders became (`memory` is the number of this one's); both None where a run is watched.
    `calls` are the parts that a segment names while it is read alone.
    `looked` are the fields (`PID[1]-3`) that rows of a watched run read or asked about.
    `joined` counts the resources found again in this message, `once` holds those made once of the
    same words, `named` where parts named them, `marks` the separators of component, subcomponent
    and escape. On the way back `resources` holds
    those that references may mean, by their reference.
    """

    sender: Sender = field(default_factory=Sender)
    separators: Separators = STANDARD
    codec: str = "utf-8"
    facility: str = ""
    seed: str = ""
    trace: list[tuple[str, str, str]] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    by_identity: dict[Key, Made] = field(default_factory=dict)
    held: list[HeldCode] = field(default_factory=list)
    notes: list[Issue] = field(default_factory=list)
    conditions: dict[str, set[bool]] | None = None
    fired: set[str] | None = None
    looked: set[str] | None = None
    recall: Recall | None = None
    segments: "SegmentMemory | None" = None
    memory: int = 0
    calls: list[Call] | None = None
    joined: int = 0
    once: dict[tuple[str, str, int], Made] = field(default_factory=dict)
    named: list[Naming] = field(default_factory=list)
    marks: tuple[str, str, str] = field(init=False)
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        separators = self.separators
        self.marks = (separators.component, separators.subcomponent, separators.escape)

    def known(self, one: Made) -> Made | None:
        """Return the resource of the message that another is, None where it has none."""
        for key in one.keys:
            if key in self.by_identity:
                return self.by_identity[key]
        return None

    def leave(self) -> "Around":
        """Return what the message has made so far, and begin without."""
        around = (
            self.made, self.by_identity, self.once, self.named, self.held, self.notes, self.joined
        )  # fmt: skip
        self.made, self.by_identity, self.once, self.named = [], {}, {}, []
        self.held, self.notes, self.joined = [], [], 0
        return around

    def come_back(self, around: "Around") -> None:
        """Go on with what the message had made."""
        self.made, self.by_identity, self.once, self.named = around[:4]
        self.held, self.notes, self.joined = around[4:]

    def own(self, made: Made) -> Made:
        """Return this message's own of a resource that it may share, before a change."""
        if not made.is_kept:
            return made
        made = self.by_identity[made.keys[0]]  # another part may have changed it already
        if not made.is_kept:
            return made
        own = made.again()
        self.made[self.made.index(made)] = own
        for key in made.keys:
            if self.by_identity.get(key) is made:
                self.by_identity[key] = own
        if made.is_once:
            for part, known in self.once.items():
                if known is made:
                    self.once[part] = own
        return own

    def fire(self, row: str) -> None:
        """Remember that a row wrote a value, where a run is watched."""
        if self.fired is not None:
            self.fired.add(row)

    def note(self, row: str, source: str, reason: str, *, is_kept: bool = False) -> None:
        """Report a value that a row could not carry (or only as text); the rest goes on."""
        left, left_zh = (
            ("kept it as text", "按文本保留")
            if is_kept
            else ("left its target empty", "未写入目标")
        )
        self.notes.append(
            Issue(
                severity="warning",
                code="value",
                key="map-value",
                text_en=f"{source} {reason}; row {row} {left}",
                text_zh=f"{source} 的值不符合要求（{reason}）；映射行 {row} {left_zh}",
                fix_en="Ask the sender to correct the field, or change the row's codec.",
                fix_zh="请发送方更正该字段，或调整该映射行的编解码方式。",
                expression=source,
            )
        )


Around = tuple[
    list[Made],
    dict[Key, Made],
    dict[tuple[str, str, int], Made],
    list[Naming],
    list[HeldCode],
    list[Issue],
    int,
]
