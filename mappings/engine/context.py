"""What one run of a map carries along: the channel's facts, the trace, and what was found wrong."""

import copy
import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.problem import Issue
from mappings.hl7.escape import STANDARD, Separators
from mappings.translated import HeldCode, Match, TraceEntry, TranslatedResource


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


@dataclass(slots=True, kw_only=True, eq=False)
class Made:
    """A resource under construction, with the keys it is known by.

    `parts` are the elements that other maps filled: map, path in the resource, origin.
    """

    key: str
    resource: dict[str, Any]
    map_name: str
    identity: list[tuple[str, str]] = field(default_factory=list)
    match: Match = Match.MERGE
    trace: list[tuple[str, str, str]] = field(default_factory=list)
    origin: str = ""
    parts: list[tuple[str, str, str]] = field(default_factory=list)
    is_once: bool = False  # of a map with `once`, which what is recalled names anew
    is_shared: bool = False  # later messages get this `resource` too: copy before a change
    handed: TranslatedResource | None = None  # as later messages get it, with this `trace`

    @property
    def type(self) -> str:
        """The resource type."""
        return str(self.resource["resourceType"])

    def kept(self) -> "Made":
        """Return the same as it stands, for later messages."""
        return Made(
            key=self.key,
            resource=self.resource,
            map_name=self.map_name,
            identity=self.identity,
            match=self.match,
            trace=list(self.trace),
            origin=self.origin,
            is_shared=True,
        )

    def again(self) -> "Made":
        """Return what was kept, for one message, which shares resource and trace with it."""
        if self.handed is None:
            self.handed = self.hand()
        return Made(
            key=self.key,
            resource=self.resource,
            map_name=self.map_name,
            identity=self.identity,
            match=self.match,
            trace=self.trace,
            origin=self.origin,
            is_shared=True,
            handed=self.handed,
        )

    def own(self) -> None:
        """Part from what other messages share, before a change of the resource in place."""
        if self.is_shared:
            self.resource, self.is_shared = copy.deepcopy(self.resource), False
        self.tell(())

    def tell(self, trace: Iterable[TraceEntry]) -> None:
        """Add to the trace of what has changed."""
        if self.handed is not None:
            self.trace, self.handed = list(self.trace), None
        self.trace.extend(trace)

    def hand(self) -> TranslatedResource:
        """Return what the translation hands over."""
        return self.handed or TranslatedResource(
            key=self.key,
            resource=self.resource,
            identity=tuple(self.identity),
            match=self.match,
            trace=tuple(self.trace),
            map_name=self.map_name,
            origin=self.origin,
            parts=tuple(self.parts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What a part of a message made: all its resources, which of them it names, their keys."""

    made: tuple[Made, ...]
    own: int
    keys: tuple[tuple[str, str, str], ...]
    named: tuple["Naming", ...] = ()


# A part that named a resource made once a message: its map, raw text, level and source.
Naming = tuple[str, str, int, str]
# map, raw text, level and source of a part -> what it made
Recall = dict[tuple[str, str, int, str], Recalled]


@dataclass(slots=True, kw_only=True, eq=False)
class Context:
    """One run over one message; `trace` is the list of the resource being filled.

    `recall` keeps what parts of earlier messages of this sender made; None where a run is watched.
    `looked` are the fields (`PID[1]-3`) that rows of a watched run read or asked about.
    `joined` counts the resources found again in this message, `once` holds those made once of the
    same words, `named` where parts named them. On the way back `resources` holds
    those that references may mean, by their reference.
    """

    sender: Sender = field(default_factory=Sender)
    separators: Separators = STANDARD
    codec: str = "utf-8"
    facility: str = ""
    seed: str = ""
    trace: list[tuple[str, str, str]] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    by_identity: dict[tuple[str, str, str], Made] = field(default_factory=dict)
    held: list[HeldCode] = field(default_factory=list)
    notes: list[Issue] = field(default_factory=list)
    conditions: dict[str, set[bool]] | None = None
    fired: set[str] | None = None
    looked: set[str] | None = None
    recall: Recall | None = None
    joined: int = 0
    once: dict[tuple[str, str, int], Made] = field(default_factory=dict)
    named: list[Naming] = field(default_factory=list)
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def fire(self, row: str) -> None:
        """Remember that a row wrote a value, where a run is watched."""
        if self.fired is not None:
            self.fired.add(row)

    def note(self, row: str, source: str, reason: str) -> None:
        """Report a value that a row could not carry; the rest of the message goes on."""
        self.notes.append(
            Issue(
                severity="warning",
                code="value",
                key="map-value",
                text_en=f"{source} {reason}; row {row} left its target empty",
                text_zh=f"{source} 的值不符合要求（{reason}）；映射行 {row} 未写入目标",
                fix_en="Ask the sender to correct the field, or change the row's codec.",
                fix_zh="请发送方更正该字段，或调整该映射行的编解码方式。",
                expression=source,
            )
        )
