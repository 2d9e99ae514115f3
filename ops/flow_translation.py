"""From inbox entries to resources: the second commit of a message.

Every resource of a message finds the stored one it is about by its business identifiers, or is
made; whoever makes one first holds a lock on the identifier, so that two lanes cannot both.
"""

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from conformance.problem import Issue
from conformance.structure import require_valid
from fhir_store.lanes import Entry, Finished
from fhir_store.operations import Operation, Origin, WriteContext, Written
from fhir_store.transaction import Transaction
from mappings.channels.profile import ChannelProfile
from mappings.engine.library import Library
from mappings.translate import Translator
from mappings.translated import HeldCode, TranslatedMessage, TranslatedResource, Unmapped
from ops.application_answers import ApplicationAnswers
from ops.channel import Channel
from ops.lanes import Ended, Held
from ops.record_desk import Desk, Pair, Resource

Reading = TranslatedMessage | Unmapped
Translate = Callable[[bytes, ChannelProfile], Reading]

NOT_KEPT = frozenset({"MessageHeader"})
"""What the maps make and the store does not get: the inbox row says it (decision 8)."""


def translator_of(library: Library) -> Translator:
    """Return the translator of the lanes: it makes nothing that the inbox row says already."""
    return Translator(library, without=NOT_KEPT, without_bare_events=True)


_OF_THE_ROW = re.compile(r"MSH\[|EVN\[\d+\](-[12]\b|$)")
"""Sources whose fields the inbox row keeps as columns: MSH, and EVN-1 and EVN-2."""

_SHARED_TYPES = frozenset({"Location", "Organization", "Practitioner", "PractitionerRole"})
_MOST_CHECKED = 5000


@dataclass(slots=True, kw_only=True)
class Translation:
    """Reads entries with the maps and writes what they say; the work of the lanes."""

    channels: Mapping[str, Channel]
    translate: Translate
    require_valid: Callable[[Resource], None] = require_valid
    answers: ApplicationAnswers | None = None
    now: Callable[[], datetime.datetime] = field(
        default=lambda: datetime.datetime.now(datetime.UTC)
    )
    _checked: dict[tuple[str, Sequence[Pair]], Resource] = field(default_factory=dict)

    def read(self, entry: Entry) -> Reading | Held:
        """Translate one message and check what comes out; raises where it never can be right."""
        reading = self.translate(entry.raw, self._channel(entry).profile)
        if isinstance(reading, TranslatedMessage):
            if reading.held:
                return Held(issues=[_unknown_code(one) for one in reading.held])
            for one in reading.resources:
                if one.resource["resourceType"] == "Provenance":
                    reading = self._told(reading)
                    break
            for one in reading.resources:
                self._require_valid(one)
        return reading

    def _told(self, reading: TranslatedMessage) -> TranslatedMessage:
        """Leave out each Provenance that says what the inbox row says, and date the others."""
        kept = [self._dated(one) for one in reading.resources if not _is_bare(one)]
        return replace(reading, resources=tuple(kept))

    def _dated(self, one: TranslatedResource) -> TranslatedResource:
        """Give a Provenance whose sender names no instant (EVN-2 may be a day) that of its reading.

        R4 asks for `recorded`; without it the whole message would wait for a person.
        """
        resource = one.resource
        if (
            resource["resourceType"] != "Provenance"
            or "recorded" in resource
            or "_recorded" in resource
        ):
            return one
        recorded = self.now().isoformat(timespec="seconds")
        return one._replace(resource={**resource, "recorded": recorded})

    def _require_valid(self, one: TranslatedResource) -> None:
        """Check a resource, unless it is a ward or doctor that was found right as it stands."""
        type_ = one.type
        if type_ not in _SHARED_TYPES or not one.identity:
            self.require_valid(one.resource)
            return
        key = (type_, one.identity)
        checked = self._checked.get(key)
        if checked is one.resource or checked == one.resource:
            return
        self.require_valid(one.resource)
        if len(self._checked) >= _MOST_CHECKED:
            self._checked.clear()
        self._checked[key] = one.resource

    async def write(
        self, transaction: Transaction, readings: Sequence[tuple[Entry, Reading]]
    ) -> list[Finished]:
        """Write all messages in their order with one call of the store's door."""
        messages = [(e, m) for e, m in readings if isinstance(m, TranslatedMessage)]
        desk = await Desk.prepare(transaction, [message for _, message in messages])
        operations: list[Operation] = []
        owners: list[int] = []
        for entry, message in messages:
            named = self._channel(entry).profile.destinations
            origin = Origin(
                trace_id=entry.trace_id,
                source=f"{entry.channel}/{entry.id}",
                destinations=frozenset(named) if named else None,
            )
            made = desk.operations_of(message, origin)
            operations += made
            owners += [entry.id] * len(made)
        written = await self._apply(transaction, operations)
        by_entry: dict[int, list[Written]] = {}
        for owner, one in zip(owners, written, strict=True):
            by_entry.setdefault(owner, []).append(one)
        return [_finished(entry, r, by_entry.get(entry.id, ()), desk) for entry, r in readings]

    async def _apply(
        self, transaction: Transaction, operations: Sequence[Operation]
    ) -> Sequence[Written]:
        if not operations:
            return ()
        context = WriteContext(actor="hl7", at=self.now())
        return await transaction.apply(operations, context=context)

    async def tell(self, transaction: Transaction, ended: Sequence[Ended]) -> None:
        """Keep what senders are to be told of the end of their messages."""
        if self.answers is not None:
            await self.answers.give(transaction, ended)

    def _channel(self, entry: Entry) -> Channel:
        return self.channels.get(entry.channel) or Channel(name=entry.channel)


def _is_bare(one: TranslatedResource) -> bool:
    """Whether this Provenance says only what the inbox row says: which event was sent, when.

    One that tells more (a reason, an operator, a place, the time of the event itself) is kept.
    """
    if one.resource["resourceType"] != "Provenance" or not one.trace:
        return False
    return all(
        _OF_THE_ROW.match(source) or target.startswith("Provenance.target")
        for target, source, _ in one.trace
    )


def _finished(entry: Entry, reading: Reading, written: Sequence[Written], desk: Desk) -> Finished:
    if isinstance(reading, Unmapped):
        return Finished(entry=entry, state="unmapped", issues=(_unmapped(reading.event),))
    references = desk.made[id(reading)]
    trace = {
        "map": reading.map_name,
        "hash": reading.map_hash,
        "resources": {references["urn:uuid:" + one.key]: one.trace for one in reading.resources},
    }
    return Finished(
        entry=entry,
        state="translated",
        written=[f"{w.version.type}/{w.version.id}/_history/{w.version.version}" for w in written],
        trace=orjson.dumps(trace),
        issues=reading.notes,
    )


def _unmapped(event: str) -> Issue:
    return Issue(
        severity="information",
        code="not-supported",
        key="unmapped",
        text_en=f"No map covers {event}",
        text_zh=f"没有覆盖 {event} 的映射",
        fix_en="Add a map for the event and replay, or skip the entry.",
        fix_zh="请为该事件添加映射后重放，或跳过。",
        expression="MSH[1]-9",
    )


def _unknown_code(held: HeldCode) -> Issue:
    return Issue(
        code="code-invalid",
        key="code-held",
        text_en=f"{held.source} has a code that table {held.table} does not know (row {held.row})",
        text_zh=f"{held.source} 的代码不在表 {held.table} 中（行 {held.row}）",
        fix_en="Add the code to the sender's table and replay the entry.",
        fix_zh="请将该代码加入发送方代码表后重放。",
        expression=held.source,
    )
