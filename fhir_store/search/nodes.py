"""A search ready for SQL: conditions turned into keys, ranges and links, still without statements.

Every node is about one resource, known by its `rid`.
"""

from dataclasses import dataclass

TARGETS_LIMIT = 20_000  # keys one condition may expand to


@dataclass(frozen=True, slots=True)
class Keyed:
    """An ix_token row with one of these (h, sid); sid None is any."""

    entries: tuple[tuple[int, int | None], ...]


@dataclass(frozen=True, slots=True)
class Referring:
    """An ix_ref row with one of these (tgt, pid)."""

    entries: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One comparison on (lo, hi) rows under a key.

    `column` runs from `low` to `high` (None is open; `is_low_open`/`is_high_open` exclude the
    end); `also` is a further test over lo and hi, with its numbers in `numbers`.
    """

    h: int
    column: str
    low: int | float | None = None
    high: int | float | None = None
    is_low_open: bool = False
    is_high_open: bool = False
    also: str = ""
    numbers: tuple[int | float, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranged:
    """A row of ix_date or ix_num within one of the spans."""

    table: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One comparison on ix_str rows: kind is prefix, exact, equals, contains or ends."""

    h: int
    kind: str
    folded: str
    check: int = 0
    grams: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Texts:
    """An ix_str row that passes one of the comparisons."""

    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A resource by its rkey (type and id)."""

    rkeys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Typed:
    """Any resource of the types, not deleted."""

    tids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Updated:
    """A resource of the types whose last change lies in one of the spans (h unused, µs)."""

    tids: tuple[int, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """A resource without any of its type's parameters: tid → ordinals."""

    by_type: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chained:
    """A resource that refers by one of `pids` to one of a type that passes."""

    pids: tuple[int, ...]
    targets: tuple[tuple[int, "Node"], ...]  # tid, what it must pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointed:
    """A resource of `tids` that one which passes refers to by one of `pids`."""

    tids: tuple[int, ...]
    pids: tuple[int, ...]
    source: "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A position within a box and a distance of a point, in degrees and kilometres."""

    latitude_key: int
    longitude_key: int
    latitude: float
    longitude: float
    kilometres: float


@dataclass(frozen=True, slots=True)
class Worded:
    """An ix_text row of the part ("text" or "content") that matches one of the tsqueries."""

    part: str
    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unmoved:
    """Any resource, while no commit has touched what rights hang on; else the statement fails."""

    generation: int
    keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of the parts holds; none is nothing."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Node"


Node = (
    Keyed
    | Referring
    | Ranged
    | Texts
    | Named
    | Typed
    | Updated
    | Absent
    | Chained
    | Pointed
    | Near
    | Worded
    | Unmoved
    | Every
    | Some
    | Not
)
NOTHING = Some(())


def every(*parts: Node) -> Node:
    """Return the conjunction, flattened; a part that is nothing makes all nothing."""
    flat: list[Node] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Every) else (part,))
    if any(part == NOTHING for part in flat):
        return NOTHING
    unique = tuple(dict.fromkeys(flat))
    return unique[0] if len(unique) == 1 else Every(unique)


def some(*parts: Node) -> Node:
    """Return the disjunction, flattened."""
    flat: list[Node] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Some) else (part,))
    unique = tuple(dict.fromkeys(flat))
    return unique[0] if len(unique) == 1 else Some(unique)
