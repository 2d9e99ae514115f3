"""One HL7 v2 message as FHIR resources, by the message map of its event."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance.problem import Issue
from mappings.bare_events import is_bare, lines_of_events
from mappings.channels.profile import ChannelProfile
from mappings.engine.condition_code import line_condition
from mappings.engine.context import Context, Made, Recall, Sender
from mappings.engine.forward import Compiler, made_by_id
from mappings.engine.library import Library
from mappings.engine.places import IntoPlace
from mappings.engine.rows import Into, Making, MessageMap
from mappings.engine.scopes import Scope, SlotNames, Slots, scopes_of
from mappings.engine.segment_memory import SegmentMemory
from mappings.engine.targets import values_at
from mappings.hl7.charset_doubt import doubts_of
from mappings.hl7.escape import Separators, unescape
from mappings.hl7.message import Message, Segment, parse
from mappings.record_effects import merges_of, notes_of_undone, relations_of
from mappings.segment_names import notes_of_names
from mappings.translated import TranslatedMessage, Unmapped

_MOST_SENDERS = 64
_MOST_GROUPS = 2000  # one for each set of segments that groups of messages hold


@dataclass(slots=True, kw_only=True, eq=False)
class Watch:
    """What a watched run saw: rows that fired, fields they looked at, truths of conditions.

    `looked` is of the last message, the others of all.
    """

    fired: set[str] = field(default_factory=set)
    looked: set[str] = field(default_factory=set)
    conditions: dict[str, set[bool]] = field(default_factory=dict)


class Translator:
    """A library of maps compiled once; `translate` is a pure function of message and channel.

    `without` names resource types that the lines of message maps shall not make;
    `without_bare_events` leaves out each Provenance of an EVN that says no more than MSH.
    """

    def __init__(
        self,
        library: Library,
        *,
        traced: bool = True,
        watched: bool = False,
        without: Collection[str] = (),
        without_bare_events: bool = False,
    ) -> None:
        self.library = library
        self._traced = traced
        self._without = frozenset(without)
        self._without_bare_events = without_bare_events
        self._events: dict[str, frozenset[str]] = {}
        self._lines: dict[str, Mapping[str, Sequence[Making]]] = {}
        self._lines_present: dict[tuple[str, ...], Sequence[Making]] = {}
        self._compiler: Compiler = library.compile(traced=traced, watched=watched)
        self._conditions: dict[str, tuple[SlotNames, Callable[[Slots, Context], bool]]] = {}
        self._intos: dict[int, IntoPlace] = {}
        self._elements = {name for name, one in library.maps.items() if one.is_element}
        self._recalls: dict[tuple[int, Separators, str, str], tuple[Sender, int, Recall]] = {}
        self._count = 0
        self._segments = SegmentMemory()

    def translate(
        self, message: bytes | Message, channel: ChannelProfile, *, watch: Watch | None = None
    ) -> TranslatedMessage | Unmapped:
        """Return the message's resources with identity, order keys, merges, trace and notes.

        Bytes that are no message, or of another charset than they say, raise `InvalidStructure`;
        an event without a map is `Unmapped`.
        """
        doubt: list[Issue] = []
        if not isinstance(message, Message):
            data = message
            message = parse(data, channel.charset)
            doubt = doubts_of(data, message.codec, channel.charset_doubt)
        msh = message.segments[0]
        event = _event(message, msh)
        control_id = msh.field(10)
        message_map = self.library.message_map(channel.event_of(event))
        if message_map is None:
            return Unmapped(
                event=event,
                control_id=control_id,
                order_keys=order_keys(message, channel.order),
            )
        context = Context(
            sender=channel.sender,
            separators=message.separators,
            codec=message.codec,
            facility=_first(message, msh.field(4)),
            seed=f"{msh.field(3)}\x1f{msh.field(4)}\x1f{control_id}\x1f{msh.field(7)}",
        )
        if watch is not None:
            watch.looked.clear()
            context.fired, context.conditions = watch.fired, watch.conditions
            context.looked = watch.looked
        else:
            self._remind(context)
        root = scopes_of(message.segments, message_map.groups)
        by_id = self._make_all(message_map, root, context)
        merges = merges_of(message_map, root, by_id) if message_map.merges else ()
        relations = relations_of(message_map, root, by_id) if message_map.relations else ()
        context.notes += doubt
        context.notes += notes_of_names(message)
        if message_map.undone:
            context.notes += notes_of_undone(message_map, event)
        root.part()
        return TranslatedMessage(
            event=event,
            control_id=control_id,
            order_keys=order_keys(message, channel.order or message_map.order),
            resources=tuple([made.handed or made.hand() for made in context.made]),
            merges=merges,
            held=tuple(context.held),
            notes=tuple(context.notes),
            map_name=message_map.name,
            map_hash=self.library.hash,
            relations=relations,
        )

    def _remind(self, context: Context) -> None:
        """Let a message know what is kept of earlier ones that are read as it is."""
        key = (id(context.sender), context.separators, context.codec, context.facility)
        known = self._recalls.get(key)
        if known is None:
            if len(self._recalls) >= _MOST_SENDERS:
                self._recalls.clear()
            self._count += 1
            # Held with its sender, whose `id` then cannot become another's.
            known = self._recalls[key] = (context.sender, self._count, {})
        _, context.memory, context.recall = known
        context.segments = self._segments

    def _make_all(self, message_map: MessageMap, root: Scope, context: Context) -> dict[str, Made]:
        """Run every line of the message map, outer groups first."""
        by_key: dict[str, Made] = {}
        events = self._lines_of_events(message_map) if self._without_bare_events else ()
        msh = root.segments["MSH"][0]
        for scope in root.all():
            segments = scope.segments
            for making in self._lines_for(message_map, scope):
                for segment in segments[making.each]:
                    if making.when and not self._holds(making, scope, segment, context):
                        continue
                    if making.id in events and is_bare(segment, msh, context):
                        continue
                    self._run_line(making, scope, segment, context, by_key)
        return by_key

    def _lines_of_events(self, message_map: MessageMap) -> frozenset[str]:
        """Return the lines that a bare EVN is left out of, found once for each message map."""
        lines = self._events.get(message_map.name)
        if lines is None:
            lines = lines_of_events(message_map, self.library.maps, self._compiler.rows_of)
            self._events[message_map.name] = lines
        return lines

    def _lines_for(self, message_map: MessageMap, scope: Scope) -> Sequence[Making]:
        """Return the lines for a group that holds some segments, put together once."""
        key = (message_map.name, scope.group, *scope.segments)
        lines = self._lines_present.get(key)
        if lines is None:
            if len(self._lines_present) >= _MOST_GROUPS:
                self._lines_present.clear()
            in_group = self._lines_of(message_map).get(scope.group, ())
            lines = [making for making in in_group if making.each in scope.segments]
            self._lines_present[key] = lines
        return lines

    def _lines_of(self, message_map: MessageMap) -> Mapping[str, Sequence[Making]]:
        """Return the lines of a message map by their group, put together once."""
        lines = self._lines.get(message_map.name)
        if lines is None:
            by_group: dict[str, list[Making]] = {}
            for making in message_map.makes:
                if self.library.maps[making.map].to not in self._without:
                    by_group.setdefault(making.within, []).append(making)
            lines = self._lines[message_map.name] = by_group
        return lines

    def _run_line(
        self,
        making: Making,
        scope: Scope,
        segment: Segment,
        context: Context,
        by_key: dict[str, Made],
    ) -> None:
        """Run one line for one segment: make a resource, or fill an element of another."""
        made = None
        if making.map not in self._elements:
            made = self._make(making, scope, segment, context)
            if made is None:
                return
            by_key[made.key] = made
            scope.made.setdefault(making.id, made.key)
        for name, into in making.into.items():
            key = made_by_id(scope, name)
            if key is None or key not in by_key or (made is not None and key == made.key):
                continue
            self._put_into(into, making, (scope, segment, made), (by_key, key), context)

    def _put_into(
        self,
        into: Into,
        making: Making,
        given: tuple[Scope, Segment, Made | None],
        at: tuple[dict[str, Made], str],
        context: Context,
    ) -> None:
        """Let an outer resource refer to what was made, with the element around the reference."""
        scope, segment, made = given
        by_key, key = at
        holder = by_key[key]
        reference = None if made is None else {"reference": f"urn:uuid:{made.key}"}
        place = self._intos.get(id(into))
        if place is None:
            place = self._intos[id(into)] = IntoPlace(into, is_element=made is None)
        # Two rows of a message may name one person.
        if reference is not None and reference in values_at(holder.resource, place.steps):
            return
        element: dict[str, Any] = {}
        trace: list[tuple[str, str, str]] = []
        name = into.element or ("" if made is not None else making.map)
        path = ""
        if name:
            path = place.path(holder.resource)
            target = f"{holder.type}.{path}"
            element, trace = self._compiler.map(name).element(scope, segment, context, target)
            if reference is None and not element:
                return
        if holder.is_kept:
            holder = by_key[key] = context.own(holder)
        holder.own(place.steps[0].name, is_deep=place.is_deep)
        written = place.put(holder.resource, element, reference)
        if self._traced:
            trace += [(holder.type + beside, segment.place, making.id) for beside in written]
        holder.tell(trace)
        if name:
            holder.parts = (*holder.parts, (name, path, segment.place))

    def _holds(self, making: Making, scope: Scope, segment: Segment, context: Context) -> bool:
        """Whether the condition of a line of the message map is true."""
        ready = self._conditions.get(making.when)
        if ready is None:
            ready = self._conditions[making.when] = line_condition(making.when)
        slots, condition = ready
        return condition(slots.fill(scope, segment), context)

    def _make(
        self, making: Making, scope: Scope, segment: Segment, context: Context
    ) -> Made | None:
        links: dict[str, str] = {}
        for path, name in making.links.items():
            key = made_by_id(scope, name)
            if key is not None:
                links[path] = key
        made_by = self._compiler.map(making.map)
        return made_by.run(scope, segment, context, links, making.id)


def _event(message: Message, msh: Segment) -> str:
    parts = msh.field(9).split(message.separators.component)
    return "^".join(parts[:2])


def _first(message: Message, raw: str) -> str:
    """Return the first component of a raw field, unescaped."""
    part = raw.split(message.separators.component, 1)[0]
    return unescape(part, message.separators, message.codec)


def order_keys(message: Message, fields: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys under which a message keeps its order, such as `7^H` of PID-3.

    The first repetition's id and authority count; a message with two (A40) waits for both.
    """
    keys: list[str] = []
    separators = message.separators
    for name in fields:
        segment_name, _, number = name.partition("-")
        for segment in message.all(segment_name):
            raw = segment.field(int(number)).split(separators.repetition or "\0", 1)[0]
            parts = raw.split(separators.component)
            key = f"{parts[0]}^{parts[3] if len(parts) > 3 else ''}"
            if parts[0] and key not in keys:
                keys.append(key)
    return tuple(keys)
