"""What segments of earlier messages became, made again where a sender repeats them word by word.

A patient's PID, PV1, NK1 and IN1 stand in every message of a stay. What a map makes of a segment
depends on its text, on the fields it reads of other segments, on the resources it is linked to and
on which of the resources it names the message has made already: the first three are the key, the
last is looked at each time. The parts that a segment names (doctors, wards) are made again one by
one, as `CompiledMap.run_part` does it. A segment is kept when it is met for the second time, so
that one that never comes again costs one look.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

from conformance.problem import Issue
from mappings.engine.context import Call, Context, Key, Made, copied
from mappings.engine.row_reading import full
from mappings.engine.scopes import FieldsRead, OtherFields, SlotNames, Slots
from mappings.engine.targets import Element
from mappings.hl7.message import Segment
from mappings.translated import HeldCode, TraceEntry

MOST_SEGMENTS = 4_000
MOST_MET = 40_000


class KeptSegment(NamedTuple):
    """What a segment became: its resource or element, the parts it named, what was wrong in it.

    `own` is None where no row found a value. `keys` are those of the resource itself, `others`
    those of all that its parts made, each with the key of the resource it means.
    """

    own: Made | None = None
    element: Element | None = None
    trace: tuple[TraceEntry, ...] = ()
    calls: tuple[Call, ...] = ()
    keys: tuple[Key, ...] = ()
    others: tuple[tuple[Key, str], ...] = ()
    notes: tuple[Issue, ...] = ()
    held: tuple[HeldCode, ...] = ()


# A segment that is read each time: what it becomes depends on the rest of the message.
NEVER = KeptSegment()


class SegmentMemory:
    """The segments of the messages of all senders, the latest few thousand of them."""

    __slots__ = ("_met", "_older", "_younger")

    def __init__(self) -> None:
        self._younger: dict[Hashable, KeptSegment] = {}
        self._older: dict[Hashable, KeptSegment] = {}
        self._met: set[int] = set()

    def __len__(self) -> int:
        return len(self._younger) + len(self._older)

    def get(self, words: Hashable) -> KeptSegment | None:
        """Return what a segment became, None where it is not kept."""
        kept = self._younger.get(words)
        if kept is None and (kept := self._older.get(words)) is not None:
            self.keep(words, kept)
        return kept

    def keep(self, words: Hashable, kept: KeptSegment) -> None:
        """Keep what a segment became; what was not asked for the longest is forgotten."""
        if len(self._younger) >= MOST_SEGMENTS:
            self._older, self._younger = self._younger, {}
        self._younger[words] = kept

    def is_new(self, words: Hashable) -> bool:
        """Whether words, of a segment or a part of one, are met for the first time."""
        mark, met = hash(words), self._met
        if mark in met:
            return False
        if len(met) >= MOST_MET:
            met.clear()
        met.add(mark)
        return True


class WordsRead:
    """What the rows of one map may read of a message, as a key.

    `reads` is None where they read all segments of a name.
    """

    __slots__ = ("_name", "_others", "_reads", "_slots")

    def __init__(self, name: str, slots: SlotNames, reads: FieldsRead | None) -> None:
        self._name = name
        self._slots = slots
        self._reads = reads
        self._others: dict[str, list[OtherFields]] = {}

    def words(self, slots: Slots, segment: Segment, context: Context) -> list[Hashable] | None:
        """Return the words of a run for one segment, None where it is not to be kept."""
        if context.segments is None or not segment.words or self._reads is None:
            return None
        name = segment.name
        others = self._others.get(name)
        if others is None:
            others = self._others[name] = self._slots.others(name, self._reads)
        words: list[Hashable] = [context.memory, self._name, segment.place, segment.words]
        for slot, count, fields_of in others:
            words.append(slots[1][slot])
            words.append(fields_of(full(slots[0][slot], count)))
        return words


def resource_of(
    words: Hashable,
    context: Context,
    read: Callable[[], Made | None],
    part: Callable[[Call], object],
    add: Callable[[Made, Made], Made],
) -> Made | None:
    """Return the resource of a segment, `read` anew or as an earlier message made it.

    `part` makes what a part of the segment names, `add` adds the resource to that which the message
    has made already.
    """
    kept = _kept(words, context, lambda: _alone(context, read))
    if kept is None:
        return read()
    own, by_identity = kept.own, context.by_identity
    is_new = by_identity.keys().isdisjoint(kept.keys)
    if own is not None and not is_new and not own.is_joining:
        return read()
    _name_again(kept, context, part)
    if own is None:
        return None
    if not is_new:
        return add(next(by_identity[key] for key in kept.keys if key in by_identity), own)
    context.made.append(own)
    for key in kept.keys:
        by_identity[key] = own
    return own


def element_of(
    words: Hashable,
    context: Context,
    read: Callable[[], tuple[Element, list[TraceEntry]]],
    part: Callable[[Call], object],
) -> tuple[Element, list[TraceEntry]]:
    """Return the element that a segment fills and its trace, both free to be changed."""
    kept = _kept(words, context, lambda: _element_alone(context, read))
    if kept is None:
        return read()
    _name_again(kept, context, part)
    element: Element = copied(kept.element)
    return element, list(kept.trace)


def _kept(
    words: Hashable, context: Context, alone: Callable[[], KeptSegment]
) -> KeptSegment | None:
    """Return what a segment became, None where it is to be read."""
    memory = context.segments
    assert memory is not None
    kept = memory.get(words)
    if kept is None:
        if memory.is_new(words):
            return None
        kept = alone()
        memory.keep(words, kept)
    if kept is NEVER:
        return None
    known = context.by_identity
    for key, name in kept.others:
        other = known.get(key)
        if other is not None and other.key != name:
            return None
    return kept


def _name_again(kept: KeptSegment, context: Context, part: Callable[[Call], object]) -> None:
    for call in kept.calls:
        part(call)
    if kept.notes:
        context.notes += kept.notes
    if kept.held:
        context.held += kept.held


def _alone(context: Context, read: Callable[[], Made | None]) -> KeptSegment:
    """Read a segment as the first of its message; return what later messages get of it."""
    around, context.calls = context.leave(), []
    own = read()
    kept = _told(context, own)
    context.come_back(around)
    if kept is NEVER or own is None:
        return kept
    if not own.identity:
        return NEVER  # it has another key in each message
    return kept._replace(own=own.kept(), keys=tuple(own.keys))


def _element_alone(
    context: Context, read: Callable[[], tuple[Element, list[TraceEntry]]]
) -> KeptSegment:
    """Read the element of a segment as the first of its message."""
    around, context.calls = context.leave(), []
    element, trace = read()
    kept = _told(context, None)
    context.come_back(around)
    if kept is NEVER:
        return kept
    return kept._replace(element=copied(element), trace=tuple(trace))


def _told(context: Context, own: Made | None) -> KeptSegment:
    """Return what a segment that was read alone named, and what was wrong in it."""
    calls, context.calls = context.calls or [], None
    others = [one for one in context.made if one is not own]
    faults, of_parts = len(context.notes) + len(context.held), sum(call.faults for call in calls)
    if (
        # A part that is made again tells its own faults; whose came first is not known.
        of_parts not in {0, faults}
        or sum(call.made for call in calls) != len(others)
        or not all(map(_is_lasting, others))
    ):
        return NEVER
    return KeptSegment(
        calls=tuple(calls),
        others=tuple((key, one.key) for key, one in context.by_identity.items() if one is not own),
        notes=() if of_parts else tuple(context.notes),
        held=() if of_parts else tuple(context.held),
    )


def _is_lasting(made: Made) -> bool:
    """Whether a resource has the same key in every message, and joins what has it already."""
    return bool(made.identity) and made.is_joining
