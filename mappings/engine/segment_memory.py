"""What segments of earlier messages became, made again where a sender repeats them word by word.

A patient's PID, PV1, NK1 and IN1 stand in every message of a stay. What a map makes of a segment
depends on its text, on the fields it reads of other segments, on the resources it is linked to and
on which of the resources it names the message has made already: the first three are the key, the
last is looked at each time. The parts that a segment names (doctors, wards) are made again one by
one, as `CompiledMap.run_part` does it. A segment is kept when it is met for the second time, so
that one that never comes again costs one look.
"""

from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
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


Once = tuple[str, str, int]  # map, raw text and level of a part that is made once a message


class Known(NamedTuple):
    """What a message has made already of that which a segment names, by identity and by words."""

    by_identity: Mapping[Key, Made]
    once: Mapping[Once, Made]

    def names(self) -> Hashable:
        """Return which resources they are."""
        return (
            tuple([(key, one.key) for key, one in self.by_identity.items()]),
            tuple([(part, one.key) for part, one in self.once.items()]),
        )


NOTHING_KNOWN = Known({}, {})


class KeptSegment(NamedTuple):
    """What a segment became: its resource or element, the parts it named, what was wrong in it.

    `own` is None where no row found a value. `keys` are those of the resource itself, `others`
    those of all that its parts made, each with the key of the resource it means, `once` the words
    of parts that are made once a message.
    """

    own: Made | None = None
    element: Element | None = None
    trace: tuple[TraceEntry, ...] = ()
    calls: tuple[Call, ...] = ()
    keys: tuple[Key, ...] = ()
    others: Mapping[Key, str] = MappingProxyType({})
    once: tuple[Once, ...] = ()
    notes: tuple[Issue, ...] = ()
    held: tuple[HeldCode, ...] = ()


# The words of a segment met before, and what is kept of it: None where it was met once.
Met = tuple[Hashable, KeptSegment | None]
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

    def look(
        self, slots: Slots, segment: Segment, context: Context, more: tuple[Hashable, ...]
    ) -> tuple[Hashable, KeptSegment | None]:
        """Return the words of a run for one segment with `more`, and what is kept of it.

        The words are None where the segment is to be read: met for the first time, or never kept.
        """
        memory = context.segments
        if memory is None or not segment.words or self._reads is None:
            return None, None
        name = segment.name
        others = self._others.get(name)
        if others is None:
            others = self._others[name] = self._slots.others(name, self._reads)
        words: list[Hashable] = [context.memory, self._name, segment.place, segment.words]
        for slot, count, fields_of in others:
            words.append(slots[1][slot])
            words.append(fields_of(full(slots[0][slot], count)))
        whole = (*words, *more)
        kept = memory.get(whole)
        return (None if kept is None and memory.is_new(whole) else whole), kept


def resource_of(
    met: Met,
    context: Context,
    read: Callable[[], Made | None],
    part: Callable[[Call], object],
    add: Callable[[Made, Made], Made],
) -> Made | None:
    """Return the resource of a segment, `read` anew or as an earlier message made it.

    `part` makes what a part of the segment names, `add` adds the resource to that which the message
    has made already.
    """
    kept = _kept(met, context, lambda known: _alone(context, read, known))
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
    met: Met,
    context: Context,
    read: Callable[[], tuple[Element, list[TraceEntry]]],
    part: Callable[[Call], object],
) -> tuple[Element, list[TraceEntry]]:
    """Return the element that a segment fills and its trace, both free to be changed."""
    kept = _kept(met, context, lambda known: _element_alone(context, read, known))
    if kept is None:
        return read()
    _name_again(kept, context, part)
    element: Element = copied(kept.element)
    return element, list(kept.trace)


def _kept(met: Met, context: Context, alone: Callable[[Known], KeptSegment]) -> KeptSegment | None:
    """Return what a segment became, None where it is to be read.

    Where the message knows what the segment names by other keys, that is kept apart.
    """
    words, kept = met
    if kept is None:
        assert context.segments is not None
        kept = alone(NOTHING_KNOWN)
        context.segments.keep(words, kept)
    if kept is NEVER:
        return None
    by_identity = context.by_identity
    if by_identity.keys().isdisjoint(kept.others):
        return kept
    if all(by_identity[key].key == name for key, name in kept.others.items() if key in by_identity):
        return kept
    once = context.once
    known = Known(
        {key: by_identity[key] for key in kept.others if key in by_identity},
        {part: once[part] for part in kept.once if part in once},
    )
    return _kept_of((words, known.names()), context, alone, known)


def _kept_of(
    words: Hashable,
    context: Context,
    alone: Callable[[Known], KeptSegment],
    known: Known,
) -> KeptSegment | None:
    memory = context.segments
    assert memory is not None
    kept = memory.get(words)
    if kept is None:
        if memory.is_new(words):
            return None
        kept = alone(known)
        memory.keep(words, kept)
    return None if kept is NEVER else kept


def _name_again(kept: KeptSegment, context: Context, part: Callable[[Call], object]) -> None:
    for call in kept.calls:
        part(call)
    if kept.notes:
        context.notes += kept.notes
    if kept.held:
        context.held += kept.held


def _alone(context: Context, read: Callable[[], Made | None], known: Known) -> KeptSegment:
    """Read a segment where only some resources are known; return what later messages get of it."""
    around = context.leave()
    count = _know(context, known)
    own = read()
    kept = _told(context, own, count)
    context.come_back(around)
    if kept is NEVER or own is None:
        return kept
    if not own.identity:
        return NEVER  # it has another key in each message
    return kept._replace(own=own.kept(), keys=tuple(own.keys))


def _element_alone(
    context: Context,
    read: Callable[[], tuple[Element, list[TraceEntry]]],
    known: Known,
) -> KeptSegment:
    """Read the element of a segment where only some resources are known."""
    around = context.leave()
    count = _know(context, known)
    element, trace = read()
    kept = _told(context, None, count)
    context.come_back(around)
    if kept is NEVER:
        return kept
    return kept._replace(element=copied(element), trace=tuple(trace))


def _know(context: Context, known: Known) -> int:
    """Begin with copies of known resources; return how many."""
    context.calls = []
    copies: dict[str, Made] = {}
    for one in (*known.by_identity.values(), *known.once.values()):
        if one.key not in copies:
            copy = copies[one.key] = one.again()
            copy.trace, copy.handed = list(one.trace), None
            context.made.append(copy)
    context.by_identity.update({key: copies[one.key] for key, one in known.by_identity.items()})
    context.once.update({part: copies[one.key] for part, one in known.once.items()})
    return len(copies)


def _told(context: Context, own: Made | None, count: int) -> KeptSegment:
    """Return what a segment that was read alone named, and what was wrong in it.

    The first `count` resources were known before.
    """
    calls, context.calls = context.calls or [], None
    others = [one for one in context.made[count:] if one is not own]
    faults, of_parts = len(context.notes) + len(context.held), sum(call.faults for call in calls)
    if (
        # A part that is made again tells its own faults; whose came first is not known.
        of_parts not in {0, faults}
        # What is made otherwise than by a part, or was known itself, is made each time.
        or sum(call.made for call in calls) != len(others)
        or any(one is own for one in context.made[:count])
        or not all(map(_is_lasting, others))
    ):
        return NEVER
    return KeptSegment(
        calls=tuple(calls),
        others={key: one.key for key, one in context.by_identity.items() if one is not own},
        once=tuple(naming[:3] for naming in context.named),
        notes=() if of_parts else tuple(context.notes),
        held=() if of_parts else tuple(context.held),
    )


def _is_lasting(made: Made) -> bool:
    """Whether a resource has the same key in every message, and joins what has it already."""
    return bool(made.identity) and made.is_joining
