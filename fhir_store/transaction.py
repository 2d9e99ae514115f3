"""The one write door: operations in, versions out; index, audit and outbox in the same commit."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.range import TimestamptzRange

from conformance.problem import EditConflict, Issue
from fhir_store import statements, targets
from fhir_store.arrays import Int8s
from fhir_store.body import to_milliseconds
from fhir_store.changes import Changes, Key, State
from fhir_store.conditional import identifier_criteria
from fhir_store.digests import lock_number
from fhir_store.door import Door
from fhir_store.failures import translated_failures
from fhir_store.flush import flush
from fhir_store.keys import resource_key
from fhir_store.operations import (
    Claim,
    Create,
    Delete,
    Operation,
    Patch,
    Release,
    Resource,
    Update,
    WriteContext,
    Written,
)
from fhir_store.outbox import OutboxRow, insert_rows
from fhir_store.resource_types import TYPES
from fhir_store.targets import Identifier, Target


class Transaction:
    """One commit. Everything done through it becomes visible together or not at all."""

    def __init__(self, connection: AsyncConnection[Any], door: Door) -> None:
        self.connection = connection
        self._door = door
        self._learned: list[tuple[Any, ...]] = []

    async def apply(
        self, operations: Sequence[Operation], *, context: WriteContext, link: bool = False
    ) -> list[Written]:
        """Carry the operations out in order, all or none.

        Returns one result per resource operation, in their order; Claim and Release give none.
        With `link`, references to another operation's `full_url` and conditional references
        (`Patient?identifier=…`) first become `Type/id`. After a failure leave the surrounding
        `savepoint` or the transaction.
        """
        with translated_failures():
            found = await targets.resolve(self.connection, self._door.match, operations)
            if link:
                await targets.link(self.connection, self._door.match, found)
            changes = await self._prepare(found, context)
            results = [_carry_out(changes, one) for one in found]
            self._learned += await flush(
                self.connection, changes, self._door.known, self._door.index
            )
            for operation in operations:
                if isinstance(operation, Release):
                    await self._release(operation)
                elif isinstance(operation, Claim):
                    await self._claim(operation)
            if context.deliveries:
                await self._owe(found, results, context)
        return results

    async def find_by_identifier(
        self, type_: str, identifiers: Sequence[Identifier], *, lock: bool = False
    ) -> Mapping[Identifier, list[str]]:
        """Return the ids of resources that carry each (system, value); unknown ones are left out.

        With `lock`, whoever else wants to create under one of these identifiers through a
        condition or this method waits until this transaction ends.
        """
        with translated_failures():
            if lock:
                wanted = [identifier_criteria(type_, *one) for one in set(identifiers)]
                await targets.lock(self.connection, (one.lock_key for one in wanted))
            return await targets.find_by_identifier(self.connection, type_, identifiers)

    async def read_for_update(self, references: Sequence[Key]) -> Mapping[Key, Resource]:
        """Return the current content of (type, id) pairs, kept from other writers until the end.

        What does not exist or is deleted is left out.
        """
        with translated_failures():
            states = await self._current(references)
        return {key: state.resource() for key, state in states.items() if not state.is_deleted}

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo only what happens inside the block if it raises."""
        mark = len(self._learned)
        try:
            async with self.connection.transaction():
                yield
        except BaseException:
            del self._learned[mark:]
            raise

    def note_committed(self) -> None:
        """Remember what the commit has made certain; the store calls this."""
        self._door.known.learn(self._learned)

    async def _prepare(self, found: Sequence[Target], context: WriteContext) -> Changes:
        """Lock and load what the operations touch, and reserve numbers for what is new."""
        before: dict[Key, State | None] = {
            (one.type, id_): None
            for one in found
            for id_ in one.ids
            if one.is_found or not isinstance(one.operation, Create)
        }
        if before:
            before.update(await self._current(list(before)))
            missing = [key for key, state in before.items() if state is None]
            if missing and any(isinstance(one.operation, Update) for one in found):
                # Two clients may choose the same new id: the second waits here and then sees it.
                await targets.lock(self.connection, (resource_key(*key) for key in missing))
                before.update(await self._current(missing))
        new = sum(isinstance(one.operation, Create) and not one.is_found for one in found)
        new += sum(state is None for state in before.values())
        return Changes(
            context=context,
            at=to_milliseconds(context.at),
            rids=await self._door.take_numbers(self.connection, new),
            before=before,
        )

    async def _current(self, wanted: Sequence[Key]) -> dict[Key, State]:
        rkeys = Int8s(resource_key(*key) for key in wanted)
        cursor = await self.connection.execute(
            statements.LOCK_CURRENT, {"rkeys": rkeys}, prepare=True
        )
        asked = set(wanted)
        states = {}
        for rid, tid, fid, version, last_updated, op, chash, body in await cursor.fetchall():
            if (key := (TYPES[tid - 1], fid)) in asked:
                states[key] = State(
                    rid=rid,
                    type=key[0],
                    id=fid,
                    version=version,
                    last_updated=last_updated,
                    op=op,
                    chash=chash,
                    body=(body or "").encode(),
                )
        return states

    async def _claim(self, claim: Claim) -> None:
        start, end = claim.period or (None, None)
        cursor = await self.connection.execute(
            statements.TAKE_CLAIM,
            {
                "k": lock_number("claim", claim.kind, claim.key),
                "kind": claim.kind,
                "key": claim.key,
                "period": TimestamptzRange(start, end, "[)"),
                "holder": claim.holder,
            },
        )
        if await cursor.fetchone() is None:
            raise EditConflict(_taken(claim.kind))

    async def _release(self, release: Release) -> None:
        await self.connection.execute(
            statements.RELEASE_CLAIMS,
            {"kind": release.kind, "holder": release.holder, "key": release.key},
        )

    async def _owe(
        self, found: Sequence[Target], results: Sequence[Written], context: WriteContext
    ) -> None:
        rows = [
            OutboxRow(
                source_type=one.version.type,
                source_id=one.version.id,
                source_version=one.version.version,
                delivery=delivery,
                trace_id=(getattr(target.operation, "origin", None) or context).trace_id,
            )
            for target, result in zip(found, results, strict=True)
            for one in (result, *result.also)
            if one.changed
            for delivery in self._door.choose_destinations(one)
        ]
        await insert_rows(self.connection, rows)


def _carry_out(changes: Changes, target: Target) -> Written:
    operation = target.operation
    changes.origin = getattr(operation, "origin", None) or changes.context
    match operation:
        case Create():
            if target.is_found or (target.type, target.ids[0]) in changes.after:
                return changes.unchanged((target.type, target.ids[0]), "create")
            return changes.create(operation.resource, target.ids[0])
        case Update():
            return changes.update(operation, target.ids[0])
        case Patch():
            return changes.patch(operation, target.ids[0])
        case Delete():
            if not target.ids:
                return changes.nothing(operation.type)
            first, *others = [changes.delete(operation, id_) for id_ in target.ids]
            return Written(
                version=first.version,
                changed=first.changed,
                previous=first.previous,
                also=tuple(others),
            )


def _taken(kind: str) -> Issue:
    return Issue(
        code="conflict",
        key="claim-taken",
        text_en=f"The {kind} is already taken for this period",
        text_zh=f"该时段已被占用（{kind}）",
        fix_en="Choose another period, or release the earlier one first.",
        fix_zh="请选择其他时段，或先释放已有的占用。",
    )
