"""What of several types a caller may see, said as shortly as it can be.

Rights are compiled type by type; those of one kind (a patient's compartment, a team's patients)
differ in the numbers of reference parameters alone, and are read together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from conformance.search_parameters import type_number
from fhir_store.search import nodes as n
from fhir_store.search.compile import Compiler
from fhir_store.search.plan import says_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """All of the types `free` (their tids); of the others what passes `node`.

    `is_all` where every type asked for is free.
    """

    free: tuple[int, ...] = ()
    node: n.Node = n.NOTHING
    is_all: bool = False


async def visible(types: tuple[str, ...], compiler: Compiler) -> Visible:
    """Return what of the types the compiler's rights show."""
    grounds = compiler.authorization.hangs_on
    timeless = replace(compiler, authorization=replace(compiler.authorization, hangs_on=None))
    free: list[int] = []
    ways: list[n.Node] = []
    for type_ in types:
        right, tid = await timeless.right(type_), type_number(type_)
        if right is None:
            free.append(tid)
        elif right != n.NOTHING:
            ways.append(right if says_type(right) else n.every(n.Typed((tid,)), right))
    node = n.some(*_joined(ways))
    if ways and grounds is not None:
        node = n.every(node, n.Unmoved(grounds.generation, grounds.keys))
    return Visible(free=tuple(free), node=node, is_all=len(free) == len(types))


def _joined(ways: Iterable[n.Node]) -> list[n.Node]:
    """Return the ways with those of one kind made one: each says of which type it is."""
    entries: dict[tuple[int, int], None] = {}
    rkeys: dict[int, None] = {}
    links: dict[tuple[tuple[int, n.Node], ...], dict[int, None]] = {}
    rest: list[n.Node] = []
    for way in ways:
        for part in way.parts if isinstance(way, n.Some) else (way,):
            if isinstance(part, n.Referring):
                entries |= dict.fromkeys(part.entries)
            elif isinstance(part, n.Named):
                rkeys |= dict.fromkeys(part.rkeys)
            elif isinstance(part, n.Chained):
                links.setdefault(part.targets, {}).update(dict.fromkeys(part.pids))
            else:
                rest.append(part)
    joined: list[n.Node] = [
        n.Chained(pids=tuple(pids), targets=targets) for targets, pids in links.items()
    ]
    joined += [n.Referring(tuple(entries))] if entries else []
    joined += [n.Named(tuple(rkeys))] if rkeys else []
    return [*joined, *rest]
