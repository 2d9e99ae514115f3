"""A compiled map: it makes resources, knows them by their identity and never twice."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mappings.engine.context import Call, Context, Made, Recalled, remember
from mappings.engine.joins import add_identifiers, join, joined_again, made_again
from mappings.engine.naming import type_of
from mappings.engine.row_code import Fill
from mappings.engine.rows import RowMap
from mappings.engine.scopes import FieldsRead, Scope, SlotNames
from mappings.engine.segment_memory import WordsRead, element_of, resource_of
from mappings.engine.targets import (
    Element,
    Put,
    compile_put,
    compile_values,
    parse_target,
    values_at,
)
from mappings.hl7.message import Segment
from mappings.translated import DERIVED_KEY, Match, TraceEntry, key_of

# Parts that are read each time, and those yet to be read where nothing else has been made.
NEVER = Recalled(is_sure=False)
SEEN_AMONG_OTHERS = Recalled(is_sure=False)


class CompiledMap:
    """A map that makes resources, from segments or (by `refer:`) from a part of one."""

    __slots__ = (
        "_apart",
        "_fill",
        "_identity",
        "_is_traced",
        "_key",
        "_links",
        "_maps",
        "_match",
        "_names_itself",
        "_never_joins",
        "_read",
        "_slots",
        "row_map",
    )

    def __init__(
        self,
        row_map: RowMap,
        slots: SlotNames | None,
        fill: Fill,
        maps: "Callable[[str], CompiledMap]",
        reads: FieldsRead | None = None,
        *,
        is_traced: bool = True,
    ) -> None:
        self.row_map = row_map
        self._maps = maps
        self._slots = slots or SlotNames()
        self._fill = fill
        self._read = WordsRead(row_map.name, self._slots, reads)
        self._match = Match(row_map.match)
        self._links: dict[str, tuple[Put, str]] = {}
        self._is_traced = is_traced
        self._identity = [compile_values(parse_target(path)) for path in row_map.identity]
        # As nearly all maps do it: any of the resource's identifiers says which it is.
        self._names_itself = row_map.identity == ("identifier[*]",) and not row_map.identity_types
        self._never_joins = row_map.apart == ("$this",)
        self._apart = [parse_target(path) for path in row_map.apart if not self._never_joins]
        key = [path for path in row_map.key if path != "facility"]
        self._key = [compile_values(parse_target(path)) for path in key]

    def run(
        self,
        scope: Scope,
        segment: Segment,
        context: Context,
        links: Mapping[str, str],
        line: str = "",
    ) -> Made | None:
        """Make the resource of one segment, linked to others by path and key; None where empty.

        The trace names `line`, which is the message map's, as the row of the links.
        """
        slots = self._slots.fill(scope, segment)
        words, kept = self._read.look(slots, segment, context, (line, *links.items()))
        if words is None:
            return self._make(slots, 0, context, segment.place, links, line)

        def read() -> Made | None:
            return self._make(slots, 0, context, segment.place, links, line)

        def add(known: Made, own: Made) -> Made:
            return self._joined(known, own.resource, own.trace, context, segment.place)

        part = self._part_again(context)
        return resource_of((words, kept), context, read, part, add)

    def element(
        self, scope: Scope, segment: Segment, context: Context, target: str
    ) -> tuple[Element, list[tuple[str, str, str]]]:
        """Return the element that a segment fills (empty where no row found a value), its trace."""
        slots = self._slots.fill(scope, segment)
        words, kept = self._read.look(slots, segment, context, (target,))
        if words is None:
            return self._filled(slots, 0, context, segment.place, target)

        def read() -> tuple[Element, list[TraceEntry]]:
            return self._filled(slots, 0, context, segment.place, target)

        return element_of((words, kept), context, read, self._part_again(context))

    def _part_again(self, context: Context) -> Callable[[Call], Made | None]:
        def part_again(call: Call) -> Made | None:
            return self._maps(call.map).run_part(call.raw, call.level, context, call.source)

        return part_again

    def run_part(self, raw: str, level: int, context: Context, source: str) -> Made | None:
        """Make the resource that a field or component describes.

        A ward or doctor that an earlier message named in the same words is not read again.
        """
        if context.calls is not None:
            return self._called(raw, level, context, source)
        if self.row_map.once:
            return self._once(raw, level, context, source)
        return self._recalled(raw, level, context, source)

    def _called(self, raw: str, level: int, context: Context, source: str) -> Made | None:
        """Do the same for a segment that is to be kept."""
        calls, context.calls = context.calls, None
        count, faults = len(context.made), sum(_findings(context))
        made = self.run_part(raw, level, context, source)
        assert calls is not None
        count, faults = len(context.made) - count, sum(_findings(context)) - faults
        calls.append(Call(self.row_map.name, raw, level, source, count, faults))
        context.calls = calls
        return made

    def _recalled(self, raw: str, level: int, context: Context, source: str) -> Made | None:
        recall = context.recall
        if recall is None:
            return self._part(raw, level, context, source)
        key = (self.row_map.name, raw, level, source)
        kept = recall.get(key)
        if kept is None:
            words = (self.row_map.name, raw, level, "")
            told = recall.get(words)
            if told is None:
                segments = context.segments
                if segments is not None and segments.is_new((context.memory, words)):
                    return self._part(raw, level, context, source)
                made, told = self._told(raw, level, context, source)
                remember(recall, words, told)
                return made
            if told is SEEN_AMONG_OTHERS:
                around = context.leave()
                _, told = self._told(raw, level, context, source)
                context.come_back(around)
                told = remember(recall, words, told if told is not SEEN_AMONG_OTHERS else NEVER)
            kept = remember(recall, key, told.at(source))
        is_new = kept.is_sure and context.by_identity.keys().isdisjoint(kept.keys)
        if not is_new and not kept.joins(context):
            return self._part(raw, level, context, source)
        for name, text, depth, place, named in kept.named:
            again = self._maps(name).run_part(text, depth, context, place)
            if named != (again.key if again is not None else ""):
                return self._part(raw, level, context, source)
        return made_again(kept, context) if is_new else joined_again(kept, context)

    def _told(
        self, raw: str, level: int, context: Context, source: str
    ) -> tuple[Made | None, Recalled]:
        """Read a part; return what it makes in this message, and what later ones get of it."""
        count, named = len(context.made), len(context.named)
        joined, found = context.joined, _findings(context)
        made = self._part(raw, level, context, source)
        new = [one for one in context.made[count:] if not one.is_once]
        by_words = (context.once.get(naming[:3]) for naming in context.named[named:])
        # What depends on the rest of the message (or tells of a fault) is read each time.
        if found != _findings(context) or not all(map(_is_lasting, (*new, *by_words))):
            return made, NEVER
        if joined != context.joined:
            return made, SEEN_AMONG_OTHERS
        for one in new:
            one.is_shared = True
        kept = tuple(one.kept() for one in new)
        by_identity = {key: one for one in kept for key in one.keys}
        return made, Recalled(
            source=source,
            made=kept,
            own=next((at for at, one in enumerate(new) if one is made), -1),
            keys=tuple(by_identity),
            by_identity=by_identity,
            named=tuple(context.named[named:]),
        )

    def _once(self, raw: str, level: int, context: Context, source: str) -> Made | None:
        """Make the resource of a part that the message has not named in these words yet."""
        name = self.row_map.name
        made = context.once.get((name, raw, level))
        if made is None:
            joined = context.joined
            made = self._recalled(raw, level, context, source)
            context.joined = joined
            if made is not None:
                made.is_once = True
                context.once[name, raw, level] = made
        key = made.key if made is not None else ""
        context.named.append((name, raw, level, source, key))
        return made

    def _part(self, raw: str, level: int, context: Context, source: str) -> Made | None:
        mark = context.marks[level] if level < 2 else ""
        parts = raw.split(mark) if mark and mark in raw else [raw]
        return self._make(parts, level, context, source, {}, "")

    def _make(
        self,
        parts: Any,
        level: int,
        context: Context,
        source: str,
        links: Mapping[str, str],
        line: str,
    ) -> Made | None:
        kind = self.row_map.to
        outer = context.trace
        trace: list[TraceEntry] = []
        context.trace = trace
        out: Element = {}
        self._fill(parts, level, context, out, kind, source)
        context.trace = outer
        if not out:
            return None
        resource: dict[str, Any] = {"resourceType": kind, **out}
        for path, key in links.items():
            link = self._links.get(path)
            if link is None:
                link = self._links[path] = (compile_put(parse_target(path)), f"{kind}.{path}")
            link[0](resource, {"reference": f"urn:uuid:{key}"})
            if self._is_traced:
                trace.append((f"{link[1]}.reference", source, line))
        return self._identify(resource, trace, context, source)

    def _filled(
        self, parts: Any, level: int, context: Context, source: str, target: str
    ) -> tuple[Element, list[tuple[str, str, str]]]:
        outer, context.trace = context.trace, []
        out: Element = {}
        self._fill(parts, level, context, out, target, source)
        trace, context.trace = context.trace, outer
        return out, trace

    def _identify(
        self,
        resource: dict[str, Any],
        trace: list[tuple[str, str, str]],
        context: Context,
        source: str,
    ) -> Made:
        row_map = self.row_map
        identity = self._business_identity(resource)
        if self._never_joins and identity:
            known_by = context.by_identity
            own = [pair for pair in identity if (row_map.to, *pair) not in known_by]
            if not own:
                return known_by[row_map.to, *identity[0]]
            identity = own
        if self._apart and self._is_another(resource, identity, context):
            identity = []
        if not identity and row_map.key:
            identity = self._derived(resource, trace, context, source)
        keys = [(row_map.to, system, value) for system, value in identity]
        for one in keys:
            known = context.by_identity.get(one)
            if known is not None:
                return self._joined(known, resource, trace, context, source)
        key = (
            key_of(row_map.to, *identity[0])
            if identity
            else key_of(context.seed, row_map.name, str(len(context.made)))
        )
        match = self._match if identity else Match.CREATE
        made = Made(
            key, resource, row_map.name, trace, source, identity, keys, match,
            not (self._apart or self._never_joins),
        )  # fmt: skip
        context.made.append(made)
        for one in keys:
            context.by_identity[one] = made
        return made

    def _joined(
        self,
        known: Made,
        resource: Mapping[str, Any],
        trace: Iterable[TraceEntry],
        context: Context,
        source: str,
    ) -> Made:
        """Return the known resource with what a segment or a part of one says of it besides."""
        if "-" not in source:
            known = context.own(known)
            trace = add_identifiers(known, resource, trace)
            self._know_as(known, dict(resource), context)
        known = join(known, resource, trace, context)
        if source != known.origin and "-" not in source:
            known.parts = (*known.parts, (self.row_map.name, "$this", source))
        return known

    def _know_as(self, known: Made, resource: dict[str, Any], context: Context) -> None:
        """Let a resource be found by what another segment calls it, too."""
        if self.row_map.identity_types:
            return  # one of them is its number
        for pair in self._business_identity(resource):
            key = (self.row_map.to, *pair)
            if key not in context.by_identity:
                known.identity, known.keys = [*known.identity, pair], [*known.keys, key]
                context.by_identity[key] = known

    def _is_another(
        self, resource: dict[str, Any], identity: list[tuple[str, str]], context: Context
    ) -> bool:
        """Whether the message used the identifiers for a resource that differs in `apart`."""
        for pair in identity:
            known = context.by_identity.get((self.row_map.to, *pair))
            if known is not None:
                return any(
                    (mine := values_at(resource, steps))
                    and (theirs := values_at(known.resource, steps))
                    and mine != theirs
                    for steps in self._apart
                )
        return False

    def _business_identity(self, resource: dict[str, Any]) -> list[tuple[str, str]]:
        if self._names_itself:
            found = resource.get("identifier")
            if found is None:
                return []
            return [
                (one["system"], one["value"]) for one in found if "system" in one and "value" in one
            ]
        identifiers = [
            one
            for values in self._identity
            for one in values(resource)
            if "system" in one and "value" in one
        ]
        types = self.row_map.identity_types
        if types:
            by_type = {type_of(identifier): identifier for identifier in reversed(identifiers)}
            identifiers = [by_type[name] for name in types if name in by_type][:1]
        return [(identifier["system"], identifier["value"]) for identifier in identifiers]

    def _derived(
        self,
        resource: dict[str, Any],
        trace: list[TraceEntry],
        context: Context,
        source: str,
    ) -> list[tuple[str, str]]:
        """Give a resource without business identifier one made of its declared key."""
        values = [str(value) for values in self._key for value in values(resource)]
        if not values:
            return []
        if "facility" in self.row_map.key:
            values.append(context.facility)
        system = f"{context.sender.namespace}/{DERIVED_KEY}"
        value = key_of(self.row_map.key_of or self.row_map.name, *values)
        identifier = {"system": system, "value": value}
        if self.row_map.to not in SINGLE_IDENTIFIER:
            identifiers = resource.setdefault("identifier", [])
            identifiers.append(identifier)
            if self._is_traced:
                path = f"{self.row_map.to}.identifier[{len(identifiers) - 1}]"
                trace.append((path, source, BY_KEY))
        return [(system, value)]


# What stands for the row of an identifier that the map's `key` made.
BY_KEY = "key"
# R4 types whose `identifier` is one element or absent; their derived key is not stored in them.
SINGLE_IDENTIFIER = frozenset(
    {"Provenance", "MessageHeader", "Bundle", "Composition", "QuestionnaireResponse", "Linkage"}
)


def _findings(context: Context) -> tuple[int, int]:
    return len(context.notes), len(context.held)


def _is_lasting(made: Made | None) -> bool:
    """Whether a resource has the same key in every message that names it."""
    return made is None or bool(made.identity)
