"""What a replay would do, without doing it: the same steps in a transaction that is undone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from conformance.problem import Issue, Problem
from fhir_store import message_browser
from fhir_store.inbox import lane_of
from fhir_store.lanes import Entry, Finished
from fhir_store.operations import Operation, Written
from fhir_store.store import Store
from fhir_store.transaction import Transaction
from mappings.bundles import differences
from mappings.channels.profile import ChannelProfile
from mappings.translated import Unmapped
from ops.channel import Channel
from ops.channels import ChannelBook
from ops.flow_translation import Reading, Translation
from ops.lanes import Held


class _Undone(Exception):
    """Rolls the rehearsal's transaction back."""


@dataclass(slots=True, kw_only=True)
class _Rehearsing(Translation):
    """Translates and writes as the lanes do, and remembers what was written."""

    seen: list[Written] = field(default_factory=list)

    async def _apply(
        self, transaction: Transaction, operations: Sequence[Operation]
    ) -> Sequence[Written]:
        # Named, not zero-argument: a slotted dataclass is another class than the one written here.
        written = await Translation._apply(self, transaction, operations)
        self.seen += written
        return written


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsals:
    """Rehearses entries of the inbox with the channels in force."""

    store: Store
    book: ChannelBook

    async def rehearse(self, id_: int, codes: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """Return the outcome, the issues, and per resource what would change by which row."""
        async with self.store.pool.connection() as connection:
            row = await message_browser.read_message(connection, id_)
        entry = _entry_of(row)
        profile = self._profile(entry.channel, codes)
        channel = replace(Channel.of(profile), name=entry.channel)
        work = _Rehearsing(channels={entry.channel: channel}, translate=self.book.translate)
        try:
            reading = work.read(entry)
        except Problem as problem:
            return _answer("parked", issues=problem.issues)
        if isinstance(reading, Held):
            return _answer("held", issues=reading.issues)
        if isinstance(reading, Unmapped):
            return _answer("unmapped")
        try:
            finished = await self._write_and_undo(work, entry, reading)
        except Problem as problem:
            return _answer("parked", issues=problem.issues)
        rows = _rows_of(finished)
        changes = [_change(one, rows) for one in work.seen if one.changed]
        return _answer("translated", issues=reading.notes, changes=changes)

    async def _write_and_undo(self, work: _Rehearsing, entry: Entry, reading: Reading) -> Finished:
        finished: list[Finished] = []
        try:
            async with self.store.begin() as transaction:
                finished += await work.write(transaction, [(entry, reading)])
                raise _Undone
        except _Undone:
            return finished[0]

    def _profile(self, channel: str, codes: Mapping[str, Mapping[str, str]]) -> ChannelProfile:
        known = self.book.channels.get(channel)
        profile = known.profile if known else ChannelProfile(name=channel)
        overlay = {table: dict(rows) for table, rows in profile.sender.code_overlay.items()}
        for table, rows in codes.items():
            overlay[table] = {**overlay.get(table, {}), **rows}
        return replace(profile, sender=replace(profile.sender, code_overlay=overlay))


def _entry_of(row: Mapping[str, Any]) -> Entry:
    return Entry(
        id=row["id"],
        channel=row["channel"],
        event=row["event"],
        control_id=row["control_id"],
        lane=lane_of(row["order_key"], row["trace_id"]),
        order_key=row["order_key"],
        also_keys=row["also_keys"],
        state="received",
        attempts=0,
        has_backed_off=False,
        trace_id=row["trace_id"],
        raw=bytes(row["raw"]),
    )


def _rows_of(finished: Finished) -> dict[tuple[str, str], str]:
    """Return the row that wrote each path: (`Patient/1`, `name[0].family`) -> row."""
    found = {}
    traced = orjson.loads(finished.trace)["resources"] if finished.trace else {}
    for reference, entries in traced.items():
        for target, _, row in entries:
            found[reference, target.partition(".")[2]] = row
    return found


def _change(one: Written, rows: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    reference = f"{one.version.type}/{one.version.id}"
    before, after = _content(one.previous), _content(one.resource)
    return {
        "reference": reference,
        "is_new": one.created,
        "differences": [
            {"path": path, "was": was, "becomes": becomes, "row": rows.get((reference, path), "")}
            for path, was, becomes in differences(before, after)
        ],
    }


def _content(resource: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (resource or {}).items() if name not in ("meta", "id")}


def _answer(
    outcome: str, *, issues: Sequence[Issue] = (), changes: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "issues": [issue.to_fhir() for issue in issues],
        "changes": list(changes),
    }
