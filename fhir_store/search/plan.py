"""Which statement answers a search: what drives it, in which order, from where.

Orders: "new" is rid descending (newest first, stable while others write), "walk" the own order of
one range or text condition, "link" that of the way a chain or `_has` goes, "sort" the wish of
`_sort`. A page's token names its order, so later pages keep it whatever the statistics say by then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_store.search import nodes as n
from fhir_store.search.links import is_walkable
from fhir_store.search.sets import is_gatherable

SPARSE = 2000  # up to so many matches are gathered and sorted; more are walked
SPARSE_LINKED = 400  # the same behind a chain or _has
SORT_LIMIT = 100_000  # matches that may be sorted when no index gives the order


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page ended: the order, its sort values, and the rid."""

    order: str
    values: tuple[Any, ...]
    rid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SortColumn:
    """One sort key in SQL terms.

    `kind` is date, number, string (rows of a table under the keys `hs`), code (`hs` to `words`),
    reference (`pids`), lu or fid.
    """

    kind: str
    is_descending: bool
    hs: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A decided search: the driving part, what is probed, and the order."""

    order: str  # "new", "walk:<number of the part>", "link:<number of the part>" or "sort"
    parts: tuple[n.Node, ...]
    driver: n.Node
    tids: tuple[int, ...]
    is_gathered: bool
    is_hedged: bool = False  # gathered if few, else walked by type: the statement itself decides
    is_guarded: bool = False  # says so, instead of going on, where there is more than expected
    is_dense: bool = False  # sorted although many match: the number must be looked at first
    sort: tuple[SortColumn, ...] = ()

    @property
    def probes(self) -> tuple[n.Node, ...]:
        """Return the parts that are tested one by one."""
        return tuple(part for part in self.parts if part is not self.driver)


TABLES = {"date": ("ix_date", "lo"), "number": ("ix_num", "lo"), "string": ("ix_str", "v")}


def parts_of(node: n.Node) -> tuple[n.Node, ...]:
    """Return the conjuncts of a node."""
    return node.parts if isinstance(node, n.Every) else (node,)


def walks_by_rid(node: n.Node) -> bool:
    """Say whether an index gives the matches by rid."""
    return isinstance(node, n.Keyed | n.Referring | n.Typed)


def walks_by_value(node: n.Node) -> bool:
    """Say whether an index gives the matches in an order of their values."""
    if isinstance(node, n.Ranged):
        return len(node.spans) == 1 and _is_bound(node.spans[0])
    if isinstance(node, n.Texts):
        return len(node.texts) == 1 and node.texts[0].kind in ("prefix", "exact", "equals")
    return isinstance(node, n.Updated) and len(node.tids) == 1 and len(node.spans) == 1


def _is_within(node: n.Node) -> bool:
    """Say whether a node asks for texts that contain something."""
    return isinstance(node, n.Texts) and len(node.texts) == 1 and node.texts[0].kind == "contains"


def _is_bound(one: n.Span) -> bool:
    return one.low is not None or one.high is not None


def _begins_at_bound(node: n.Node) -> bool:
    """Say whether a descending walk begins where the condition ends, not at the newest row.

    Of "since" and "until" together, walking from "until" meets both at once.
    """
    return not isinstance(node, n.Ranged) or node.spans[0].high is not None


def needs_estimates(parts: Sequence[n.Node], *, is_sorted: bool) -> bool:
    """Say whether the choice of the driver depends on how many resources match."""
    candidates = [part for part in parts if is_gatherable(part)]
    return len(candidates) > 1 or (is_sorted and bool(candidates))


def choose(
    parts: tuple[n.Node, ...],
    tids: tuple[int, ...],
    counts: dict[n.Node, int],
    sort: tuple[SortColumn, ...],
    after: Place | None,
    is_fruitful: Callable[[n.Node], bool | None],
) -> Plan:
    """Return the plan; `counts` hold how many match each candidate, up to SPARSE + 1.

    `is_fruitful` says of a link whether following it from its far end soon fills a page, of a text
    within others whether there are more than can be gathered.
    """
    typed = n.Typed(tids)
    if not _says_type(parts):
        parts = (*parts, typed)
    candidates = [part for part in parts if is_gatherable(part)]
    known = sorted(candidates, key=lambda part: counts.get(part, SPARSE + 2))
    best = known[0] if known else typed
    is_sparse = bool(known) and (
        (len(known) == 1 and not counts) or counts.get(best, 0) <= most_gathered(best)
    )
    if sort:
        is_gathered = is_sparse or not _walks_sorted(sort, tids)
        driver = best if is_sparse else typed
        if is_gathered and not is_sparse and known:
            driver = best
        return Plan(
            order="sort",
            parts=parts,
            driver=driver,
            tids=tids,
            is_gathered=is_gathered,
            is_dense=is_gathered and not is_sparse,
            sort=sort,
        )
    if after is not None and after.order.startswith(("walk:", "link:")):
        kind, _, written = after.order.partition(":")
        number = int(written)
        goes_on = walks_by_value if kind == "walk" else is_walkable
        if number < len(parts) and goes_on(parts[number]):
            best = parts[number]
            return Plan(order=after.order, parts=parts, driver=best, tids=tids, is_gathered=False)
    if len(known) == 1 and isinstance(best, n.Chained | n.Pointed) and is_walkable(best):
        fruitful = is_fruitful(best)
        if fruitful is False:
            return Plan(order="new", parts=parts, driver=typed, tids=tids, is_gathered=False)
        if after is None:
            return Plan(
                order=f"link:{parts.index(best)}",
                parts=parts,
                driver=best,
                tids=tids,
                is_gathered=False,
                is_guarded=fruitful is None,
            )
    if len(known) == 1 and _is_within(best):
        if is_fruitful(best):
            return Plan(order="new", parts=parts, driver=typed, tids=tids, is_gathered=False)
        if after is None:
            return Plan(
                order="new", parts=parts, driver=best, tids=tids, is_gathered=True, is_guarded=True
            )
    must_be_new = after is not None and after.order == "new"
    return _choose_unsorted(parts, tids, known, is_sparse=is_sparse, must_be_new=must_be_new)


def most_gathered(node: n.Node) -> int:
    """Return up to how many matches a driver is gathered; following references costs more."""
    return SPARSE_LINKED if isinstance(node, n.Chained | n.Pointed) else SPARSE


def _choose_unsorted(
    parts: tuple[n.Node, ...],
    tids: tuple[int, ...],
    known: list[n.Node],
    *,
    is_sparse: bool,
    must_be_new: bool,
) -> Plan:
    typed = n.Typed(tids)
    best = known[0] if known else typed
    if not is_sparse and known:  # everything is dense: read an index in its order
        best = next((part for part in known if walks_by_rid(part)), typed)
        if best == typed and not must_be_new:
            walks = [part for part in known if walks_by_value(part)]
            best = next(
                (part for part in walks if _begins_at_bound(part)), walks[0] if walks else typed
            )
    if walks_by_rid(best):
        return Plan(order="new", parts=parts, driver=best, tids=tids, is_gathered=False)
    if walks_by_value(best) and not must_be_new and len(known) == 1:
        order = f"walk:{parts.index(best)}"
        return Plan(order=order, parts=parts, driver=best, tids=tids, is_gathered=False)
    if walks_by_value(best) and not must_be_new and not is_sparse:
        order = f"walk:{parts.index(best)}"
        return Plan(order=order, parts=parts, driver=best, tids=tids, is_gathered=False)
    return Plan(
        order="new",
        parts=parts,
        driver=best,
        tids=tids,
        is_gathered=True,
        is_hedged=len(known) == 1 and not isinstance(best, n.Named),
    )


def _says_type(parts: Sequence[n.Node]) -> bool:
    """Say whether some part is about the types alone, so that no other type can slip in."""
    return any(says_type(part) for part in parts)


def says_type(node: n.Node) -> bool:
    """Say whether what passes is of a type, or of some types, that the node itself tells."""
    if isinstance(node, n.Not | n.Worded | n.Unmoved):
        return False
    if isinstance(node, n.Every):
        return any(says_type(part) for part in node.parts)
    if isinstance(node, n.Some):
        return all(says_type(part) for part in node.parts)
    return True


def _walks_sorted(sort: tuple[SortColumn, ...], tids: tuple[int, ...]) -> bool:
    if len(sort) != 1 or len(tids) != 1:
        return False
    return sort[0].kind in ("lu", "fid") or (sort[0].kind in TABLES and len(sort[0].hs) == 1)
