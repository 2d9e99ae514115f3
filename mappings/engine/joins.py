"""What a message says in several places of one resource, put together."""

from collections.abc import Iterable, Mapping
from typing import Any

from mappings.engine.context import Context, Made, Recalled
from mappings.translated import TraceEntry

# The choice elements of R4 that our maps write; one of a kind excludes the others.
_CHOICES = (
    "collected", "deceased", "effective", "event", "medication", "multipleBirth", "occurrence",
    "onset", "performed", "value",
)  # fmt: skip


def _filled(known: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the known resource with what it had no word about yet."""
    if more.keys() <= known.keys():
        return known
    known = dict(known)
    for name, value in more.items():
        if name in known:
            continue
        choice = next((prefix for prefix in _CHOICES if name.startswith(prefix)), None)
        if choice is None or not any(have.startswith(choice) for have in known):
            known[name] = value
    return known


def join(
    known: Made, resource: Mapping[str, Any], trace: Iterable[TraceEntry], context: Context
) -> Made:
    """Return the resource that the message has made already, with what else it says of it."""
    context.joined += 1
    known = context.own(known)
    filled = _filled(known.resource, resource)
    if filled is not known.resource:
        known.borrow(filled.keys() - known.resource.keys())
        known.resource = filled
    known.tell(trace)
    return known


def add_identifiers(
    known: Made, resource: Mapping[str, Any], trace: Iterable[TraceEntry]
) -> Iterable[TraceEntry]:
    """Add the identifiers that the known resource lacks; return the trace with their places."""
    mine, theirs = known.resource.get("identifier"), resource.get("identifier")
    if not isinstance(mine, list) or not isinstance(theirs, list):
        return trace
    mine = list(mine)
    places: dict[str, str] = {}
    for number, one in enumerate(theirs):
        pair = (one.get("system"), one.get("value"))
        at = next((n for n, m in enumerate(mine) if (m.get("system"), m.get("value")) == pair), -1)
        if at < 0:
            at = len(mine)
            mine.append(one)
        places[f"{known.type}.identifier[{number}]"] = f"{known.type}.identifier[{at}]"
    if len(mine) > len(known.resource["identifier"]):
        known.resource = {**known.resource, "identifier": mine}
        known.borrow(("identifier",))  # the new ones may be a kept segment's
    return [(_moved(target, places), source, row) for target, source, row in trace]


def _moved(target: str, places: Mapping[str, str]) -> str:
    """Return a path of the trace where its identifier stands in the joined resource."""
    head, bracket, rest = target.partition("]")
    return places.get(head + bracket, head + bracket) + rest


def made_again(kept: Recalled, context: Context) -> Made | None:
    """Put what an earlier message made into this one."""
    context.made += kept.made
    context.by_identity.update(kept.by_identity)
    return kept.made[kept.own] if kept.own >= 0 else None


def joined_again(kept: Recalled, context: Context) -> Made | None:
    """Put what an earlier message made into this one, which has made some of it already."""
    found = []
    for one in kept.made:
        known = context.known(one)
        if known is None:
            context.made.append(one)
            context.by_identity.update((key, one) for key in one.keys)
            found.append(one)
        elif one.is_silent:
            context.joined += 1
            found.append(known)
        else:
            found.append(join(known, one.resource, one.trace, context))
    return found[kept.own] if kept.own >= 0 else None
