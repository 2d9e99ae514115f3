"""The one write door: operations in, versions out; index, audit and outbox in the same commit."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, LiteralString

from psycopg import AsyncConnection

from conformance.problem import Problem
from fhir_store import statements, targets
from fhir_store.arrays import Int8s
from fhir_store.changes import Changes, Key, State
from fhir_store.claims import carry_out, may_stop_half_way
from fhir_store.conditional import identifier_criteria
from fhir_store.digests import lock_number
from fhir_store.door import Door
from fhir_store.failures import collided, translated_failures
from fhir_store.flush import flush
from fhir_store.keys import resource_key
from fhir_store.operations import (
    Claim,
    Create,
    Delete,
    Operation,
    Origin,
    Patch,
    Release,
    Resource,
    Update,
    WriteContext,
    WriteRequest,
    Written,
)
from fhir_store.outbox import OutboxRow, insert_rows
from fhir_store.resource_types import TYPES
from fhir_store.targets import Identifier, Identity, Plan, Target

_FEW = 4

# Beyond so many new ids of one commit the unique key alone keeps two writers apart; the second
# one collides and tries again. The server has room for some thousand locks of all its clients.
_LOCKED_IDS = 200


class Transaction:
    """One commit. Everything done through it becomes visible together or not at all.

    After a failure of the database leave the surrounding `savepoint` or the transaction; a
    `Problem` that `apply_each` returns has touched nothing.
    """

    def __init__(self, connection: AsyncConnection[Any], door: Door) -> None:
        self.connection = connection
        self._door = door
        self._learned: list[tuple[Any, ...]] = []
        # What this transaction has locked and not written since: nobody else can have changed it.
        self._held: dict[Key, State] = {}

    async def apply(
        self,
        operations: Sequence[Operation],
        *,
        context: WriteContext,
        link: bool = False,
        distinct: bool = False,
    ) -> list[Written]:
        """Carry the operations out in order, all or none.

        Returns one result per resource operation, in their order; Claim and Release give none.
        `link` and `distinct` are those of `WriteRequest`.
        """
        request = WriteRequest(operations=operations, context=context, link=link, distinct=distinct)
        (result,) = await self.apply_each([request])
        if isinstance(result, Problem):
            raise result
        return result

    async def apply_each(self, requests: Sequence[WriteRequest]) -> list[list[Written] | Problem]:
        """Carry out many requests in this one commit; one that fails leaves the others alone.

        The number of statements does not depend on the number of requests.
        """
        with translated_failures():
            return await self._apply([targets.plan_of(request) for request in requests])

    async def find_by_identifier(
        self, type_: str, identifiers: Sequence[Identifier], *, lock: bool = False
    ) -> Mapping[Identifier, list[str]]:
        """Return the ids of resources that carry each (system, value); unknown ones are left out.

        With `lock`, whoever else wants to create under one of these identifiers through a
        condition or this method waits until this transaction ends.
        """
        found = await self.find_identities([(type_, one) for one in identifiers], lock=lock)
        return {identifier: ids for (_, identifier), ids in found.items()}

    async def find_identities(
        self, wanted: Sequence[Identity], *, lock: bool = False
    ) -> Mapping[Identity, list[str]]:
        """Do as `find_by_identifier` for (type, (system, value)) of several types at once."""
        with translated_failures():
            if lock:
                criteria = (identifier_criteria(type_, *one) for type_, one in set(wanted))
                await targets.lock(self.connection, (one.lock_key for one in criteria))
            is_few = len(wanted) < _FEW
            return await targets.find_by_identifier(self.connection, wanted, prepare=is_few)

    async def read_for_update(self, references: Sequence[Key]) -> Mapping[Key, Resource]:
        """Return the current content of (type, id) pairs, kept from other writers until the end.

        What does not exist or is deleted is left out.
        """
        with translated_failures():
            states = await self._current(references)
        self._held.update(states)
        return {key: state.resource() for key, state in states.items() if not state.is_deleted}

    async def read_together(
        self, locked: Sequence[Key], others: Sequence[Key]
    ) -> Mapping[Key, Resource]:
        """Do as `read_for_update` for the first and as `read_current` for the others, at once."""
        with translated_failures():
            states = await self._current(locked, statement=statements.READ_TOGETHER, others=others)
        self._held.update({key: states[key] for key in locked if key in states})
        return {key: state.resource() for key, state in states.items() if not state.is_deleted}

    async def read_current(self, references: Sequence[Key]) -> Mapping[Key, Resource]:
        """Return the current content of (type, id) pairs without keeping other writers away.

        A later `Update` should name the version in `if_match`. What does not exist or is deleted
        is left out.
        """
        with translated_failures():
            states = await self._current(references, statement=statements.READ_CURRENT)
        return {key: state.resource() for key, state in states.items() if not state.is_deleted}

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo only what happens inside the block if it raises."""
        mark, held = len(self._learned), dict(self._held)
        try:
            async with self.connection.transaction():
                yield
        except BaseException:
            # The locks taken inside are gone with it; what was written inside is as it was.
            del self._learned[mark:]
            self._held = {key: held[key] for key in held.keys() & self._held.keys()}
            raise

    def note_committed(self) -> None:
        """Remember what the commit has made certain; the store calls this."""
        self._door.known.learn(self._learned)

    async def _apply(self, plans: Sequence[Plan]) -> list[list[Written] | Problem]:
        changes = await self._work_out(plans)
        await self._write(changes, self._owed(plans))
        return [plan.failure or plan.results for plan in plans]

    async def _work_out(self, plans: Sequence[Plan]) -> Changes:
        await self._settle(plans)
        changes = await self._prepare(_open(plans))
        for plan in _open(plans):
            await self._carry_out(plan, changes)
        return changes

    async def _settle(self, plans: Sequence[Plan]) -> None:
        matches = await targets.search(self.connection, self._door.match, _open(plans))
        made: targets.Made = {}
        for plan in _open(plans):
            targets.settle(plan, matches, made)

    async def _prepare(self, plans: Sequence[Plan]) -> Changes:
        """Lock and load what the operations touch, and reserve numbers for what is new."""
        found = [target for plan in plans for target in plan.targets]
        before: dict[Key, State | None] = {
            (one.type, id_): None
            for one in found
            for id_ in one.ids
            if one.is_found or not isinstance(one.operation, Create)
        }
        if before:
            before.update((key, self._held[key]) for key in before if key in self._held)
            unknown = [key for key, state in before.items() if state is None]
            if unknown:
                before.update(await self._current(unknown))
            missing = [key for key, state in before.items() if state is None]
            is_update = any(isinstance(one.operation, Update) for one in found)
            if is_update and 0 < len(missing) <= _LOCKED_IDS:
                # Two clients may choose the same new id: the second waits here and then sees it.
                await targets.lock(self.connection, (lock_number("id", *key) for key in missing))
                before.update(await self._current(missing))
        new = sum(isinstance(one.operation, Create) for one in found)
        new += sum(state is None for state in before.values())
        rids = await self._door.take_numbers(self.connection, new)
        return Changes(rids=rids, before=before)

    async def _current(
        self,
        wanted: Sequence[Key],
        *,
        statement: LiteralString = statements.LOCK_CURRENT,
        others: Sequence[Key] = (),
    ) -> dict[Key, State]:
        values = {"rkeys": Int8s(resource_key(*key) for key in wanted)}
        if statement is statements.READ_TOGETHER:
            values["others"] = Int8s(resource_key(*key) for key in others)
        cursor = await self.connection.execute(statement, values, prepare=True)
        asked = {*wanted, *others}
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

    async def _carry_out(self, plan: Plan, changes: Changes) -> None:
        """Work out what the plan's operations make; its claims are taken at once."""
        operations = plan.request.operations
        claims = [one for one in operations if isinstance(one, Claim | Release)]
        changes.begin(plan.request.context)
        try:
            if any(maker.failure for maker in plan.leans_on):
                raise collided()
            named = {(one.kind, one.holder) for one in claims}
            for target in plan.targets:
                changes.origin = _origin_of(target, plan.request.context)
                written = _written(changes, target)
                plan.results.append(written)
                lawful = self._judged(written) if target.type in self._door.laws else ()
                claims += [one for one in lawful if (one.kind, one.holder) not in named]
            # One claim that is refused has left nothing; several are undone together.
            is_half = may_stop_half_way(claims)
            async with self.connection.transaction() if is_half else nullcontext():
                await carry_out(self.connection, claims)
        except Problem as problem:
            changes.undo()
            plan.failure = problem

    def _judged(self, written: Written) -> list[Claim | Release]:
        """Return what the content of a change claims and gives up."""
        return [
            claim
            for one in (written, *written.also)
            if one.changed and one.version.version
            for claim in self._door.laws[one.version.type](one)
        ]

    async def _write(self, changes: Changes, owed: Sequence[OutboxRow]) -> None:
        for key in changes.after:
            self._held.pop(key, None)
        self._learned += await flush(self.connection, changes, self._door.known, self._door.index)
        await insert_rows(self.connection, owed)

    def _owed(self, plans: Sequence[Plan]) -> list[OutboxRow]:
        return [
            OutboxRow(
                source_type=one.version.type,
                source_id=one.version.id,
                source_version=one.version.version,
                delivery=delivery,
                trace_id=origin.trace_id,
            )
            for plan in _open(plans)
            if plan.request.context.deliveries
            for target, result in zip(plan.targets, plan.results, strict=True)
            for origin in (_origin_of(target, plan.request.context),)
            for one in (result, *result.also)
            if one.changed
            for delivery in self._door.choose_destinations(one)
            if origin.destinations is None or delivery.destination in origin.destinations
        ]


async def commit(
    connection: AsyncConnection[Any], door: Door, requests: Sequence[WriteRequest]
) -> list[list[Written] | Problem]:
    """Carry out the requests in one commit of their own.

    Creates that need no look-up and owe nothing are one statement without BEGIN and COMMIT.
    """
    transaction = Transaction(connection, door)
    with translated_failures():
        plans = [targets.plan_of(request) for request in requests]
        if all(_is_plain(plan, door) for plan in plans):
            changes = await transaction._work_out(plans)
            owed = transaction._owed(plans)
            async with connection.transaction() if owed else nullcontext():
                await transaction._write(changes, owed)
            results = [plan.failure or plan.results for plan in plans]
        else:
            async with connection.transaction():
                results = await transaction._apply(plans)
    transaction.note_committed()
    return results


def _is_plain(plan: Plan, door: Door) -> bool:
    """Say whether a plan is only creates, with nothing to look up, lock or claim."""
    return not plan.references and all(
        isinstance(one, Create)
        and one.if_none_exist is None
        and str(one.resource.get("resourceType")) not in door.laws
        for one in plan.request.operations
    )


def _open(plans: Sequence[Plan]) -> list[Plan]:
    return [plan for plan in plans if plan.failure is None]


def _origin_of(target: Target, context: WriteContext) -> Origin | WriteContext:
    operation = target.operation
    own = operation.origin if isinstance(operation, Create | Update) else None
    return own or context


def _written(changes: Changes, target: Target) -> Written:
    operation = target.operation
    if target.is_found and not isinstance(operation, Delete):
        changes.require_there((target.type, target.ids[0]))
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
