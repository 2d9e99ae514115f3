"""Events (EVN) that say only which event was sent, when and by whom: MSH says so, too.

Who keeps the header of each message need not make a Provenance of these.
"""

from collections.abc import Callable, Iterable, Mapping

from mappings.engine.context import Context, UnreadableValue
from mappings.engine.row_reading import fields_named
from mappings.engine.rows import Making, MessageMap, Row, RowMap
from mappings.engine.times import to_instant
from mappings.hl7.message import Segment

_OWN = 3
"""The first field of EVN that says something of its own: before it are the event and its time."""


def is_bare(evn: Segment, msh: Segment, context: Context) -> bool:
    """Whether this EVN says no more than MSH, with nothing in it that rows could complain of.

    A sender with more than a name (MSH-4.2) is no such: rows keep what it is known by.
    """
    code = evn.field(1)
    if any(evn.fields[_OWN:]) or msh.field(4) != context.facility or not (code + "0").isalnum():
        return False
    try:
        to_instant(evn.field(2), context)
    except UnreadableValue:
        return False
    return True


def lines_of_events(
    message_map: MessageMap,
    maps: Mapping[str, RowMap],
    rows_of: Callable[[RowMap], Iterable[Row]],
) -> frozenset[str]:
    """Return the lines that make of a bare EVN a Provenance that nothing else adds to.

    Maps are data of a site: one whose rows read other segments, ask a code table or call Python
    may tell more, and so may one that other lines fill or refer to.
    """
    return frozenset(
        making.id
        for making in message_map.makes
        if making.each == "EVN"
        and maps[making.map].to == "Provenance"
        and not (making.links or making.into)
        and all(map(_is_of_the_header, rows_of(maps[making.map])))
        and not any(_adds(other, making.id, maps) for other in message_map.makes)
    )


def _is_of_the_header(row: Row) -> bool:
    named = {place for text in (row.source, row.when, *row.reads) for place in fields_named(text)}
    if any(name not in ("EVN", "MSH") for name, _ in named) or row.py or "[*]-" in row.source:
        return False
    fires = [number for name, number in fields_named(row.source) if name == "MSH" or number < _OWN]
    return not (fires and (row.table or row.use))


def _adds(other: Making, line: str, maps: Mapping[str, RowMap]) -> bool:
    """Whether a line refers to what `line` makes, or puts more into it than a reference."""
    into = other.into.get(line)
    return line in other.links.values() or (
        into is not None and bool(maps[other.map].is_element or into.element or into.defaults)
    )
