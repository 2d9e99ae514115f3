"""The rows of a map, as data: what a map, a row, a group and a line of a message map are."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a map does not load: where, what and how to mend it."""

    file: str
    line: int
    row: str
    text: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: row {self.row}: {self.text}. {self.fix}"


class FaultyMaps(Exception):
    """A library of maps does not load; every fault is listed."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: a source path, a target path, and how the value gets from one to the other."""

    id: str
    line: int
    source: str = ""
    target: str = ""
    use: str = ""
    refer: str = ""
    codec: str = ""
    table: str = ""
    unknown: str = "pass"
    value: Any = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    when: str = ""
    when_fhir: str = ""
    only: str = ""
    back: Mapping[str, str] = field(default_factory=dict)
    ignore: str = ""
    loses: str = ""
    py: str = ""
    py_back: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMap:
    """One map or data type: a name, what it makes, and its rows.

    `once` makes one resource of the same words in a message, wherever they stand.
    A `to` such as `Encounter.diagnosis` makes an element of another map's resource.
    `identity` are paths to identifiers, `identity_types` which of them count: those of the first
    type present (an order's group number is an identifier and does not tell orders apart).
    `document` says kind, root and namespace of a partner's document, and which of the names that
    its rows fill are resources; `require` what it must hold, `require_when` what more under which
    condition.
    `key` are the paths that make an identity where no identifier does; two resources of a message
    that share an identifier and differ at a path of `apart` are two, the second known by its key.
    `key_of` names a map whose resources have the same key: what both make of the same words is one.
    """

    name: str
    kind: str
    file: str
    line: int
    to: str
    rows: tuple[Row, ...]
    identity: tuple[str, ...] = ()
    identity_types: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    match: str = "merge"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    includes: tuple[str, ...] = ()
    source_kind: str = "v2"
    document: Mapping[str, Any] = field(default_factory=dict)
    apart: tuple[str, ...] = ()
    key_of: str = ""
    once: bool = False
    require: tuple[str, ...] = ()
    require_any: tuple[str, ...] = ()
    require_when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_element(self) -> bool:
        """Whether it makes an element of a resource that another map makes."""
        return "." in self.to

    @property
    def reads_parts(self) -> bool:
        """Whether the rows count components (a data type, or what `refer:` makes of a field)."""
        if self.kind == "type":
            return True
        if self.source_kind != "v2":
            return False
        paths = [path for row in self.rows for path in (row.source, *row.reads) if path]
        return bool(paths) and all("-" not in path for path in paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Segments that belong together: one begins with `starts`, in the nearest group of `within`."""

    name: str
    starts: tuple[str, ...]
    within: tuple[str, ...]
    takes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Into:
    """Where a line of a message map puts a reference to what it made, or the element it made.

    `element` names a map of the rows that fill the same element as the reference.
    """

    path: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    element: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """One line of a message map: for each segment `each` of a group, make a resource.

    Where its map makes an element (`to: Patient.contact`), the element goes `into` a resource.
    """

    id: str
    line: int
    map: str
    each: str
    within: str
    when: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    into: Mapping[str, Into] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What some events of a message map ask for and the hub does not do: each message says it."""

    events: tuple[str, ...]
    text_en: str
    text_zh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageMap:
    """Which resources the messages of some events become, and how those refer to each other.

    `merges` and `relations` name lines of `makes`: which record takes another's place, and which
    records of one message are linked (`Patient.link`) or no longer linked.
    """

    name: str
    file: str
    events: tuple[str, ...]
    groups: tuple[Group, ...]
    makes: tuple[Making, ...]
    order: tuple[str, ...]
    merges: tuple[Mapping[str, str], ...]
    ignores: Mapping[str, str]
    includes: tuple[str, ...] = ()
    relations: tuple[Mapping[str, str], ...] = ()
    undone: tuple[Undone, ...] = ()

    def with_parts(self, parts: Mapping[str, "MessageMap"]) -> "MessageMap":
        """Return the message map with the lines of those it includes in front."""
        whole = self
        for name in reversed(self.includes):
            part = parts[name].with_parts(parts)
            own = {making.id: making for making in whole.makes}
            inherited = tuple(own.pop(making.id, making) for making in part.makes)
            groups = {group.name for group in whole.groups}
            whole = replace(
                whole,
                groups=(*(g for g in part.groups if g.name not in groups), *whole.groups),
                makes=(*inherited, *own.values()),  # a replaced line keeps its place
                order=whole.order or part.order,
                merges=(*part.merges, *whole.merges),
                ignores={**part.ignores, **whole.ignores},
                relations=(*part.relations, *whole.relations),
                undone=(*part.undone, *whole.undone),
            )
        return whole
