"""A death, wherever it was written, closes contracts and stops messages: behind the write, at once.

Followed in the order of commits with the place of the follower in the same commit, so that no death
is forgotten and a reminder to the dead is never sent twice.
"""

import datetime
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from care.contract import content, ending
from care.contract.states import LAWFUL, Event, state_of
from care.contract.surroundings import Surroundings, is_deceased
from care.effects import Decision, Effect
from conformance import resource_json
from conformance.problem import Problem
from fhir_store.following import take_written
from fhir_store.operations import WriteContext
from fhir_store.search.query import parse_query
from fhir_store.store import Store
from fhir_store.transaction import Transaction
from ops.logs import log
from ops.repeating import repeat
from routes.operations.contract_writing import Following, operations_of

NAME = "resident-deaths"
ACTOR = "qiao-deaths"
_LOOK = 4_000
_MOST = 500
_QUIET_SECONDS = 0.25
_OPEN = "offered,negotiable,executable,executed,disputed"

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaths:
    """Follows the residents' records; `step` does a bounded amount of work in one commit."""

    store: Store
    following: Following

    async def run(self) -> None:
        """Follow for ever; another process may take turns."""
        await repeat(self.step, failed="deaths were not followed", rest_seconds=_QUIET_SECONDS)

    async def step(self, now: datetime.datetime | None = None) -> int:
        """Close what ends with the deaths written since the last step; returns the writes seen."""
        moment = now or datetime.datetime.now(datetime.UTC)
        async with self.store.begin() as transaction:
            found, looked = await take_written(
                transaction.connection, NAME, ("Patient",), look=_LOOK, most=_MOST
            )
            # Cheap first: nearly nobody has died.
            bodies = [one.body for one in found if b'"deceased' in one.body]
            dead = [one for one in map(resource_json.parse, bodies) if is_deceased(one)]
            for resident in dead:
                await self._close(transaction, resident, moment)
            return looked

    async def _close(
        self, transaction: Transaction, resident: Resource, now: datetime.datetime
    ) -> None:
        """End every contract of a resident and stop what was still to be said; or nothing of it."""
        reference = f"Patient/{resident['id']}"
        try:
            async with transaction.savepoint():
                decisions = await self._decisions(transaction, resident, now)
                effects: list[Effect] = []
                for one in await self.following.effects(
                    transaction, [(decision, {}) for decision in decisions], now
                ):
                    effects += one
                if not decisions:
                    messages = await self.following.messages_to(transaction, [reference])
                    effects += ending.stopped_messages(messages)
                if effects:
                    context = WriteContext(actor=ACTOR, at=now, source=NAME)
                    await transaction.apply(_once_each(effects), context=context)
                    log.info("contracts of the deceased closed", contracts=len(decisions))
        except (Problem, KeyError, IndexError, ValueError) as no:
            log.warning("a death closed nothing", resident=reference, reason=type(no).__name__)

    async def _decisions(
        self, transaction: Transaction, resident: Resource, now: datetime.datetime
    ) -> list[Decision]:
        pairs = [("patient", f"Patient/{resident['id']}"), ("status", _OPEN), ("_count", "100")]
        searcher = self.store.searcher
        page = await searcher.search(transaction.connection, parse_query("Contract", pairs))
        keys = [("Contract", version.id) for version in page.matches]
        contracts = await transaction.read_for_update(keys) if keys else {}
        around = Surroundings(
            now=now,
            actor=ACTOR,
            resident=resident,
            packages={},
            team={},
            qualified=frozenset(),
            prices={},
            new_id=lambda: str(uuid.uuid4()),
        )
        return [
            ending.terminate(around, contract, ending.DEATH)
            for contract in contracts.values()
            if Event.TERMINATE in LAWFUL[state_of(contract)]
        ]


def _once_each(effects: Sequence[Effect]) -> list[Any]:
    """Return the operations, each resource once: a message may belong to two contracts."""
    seen: dict[str, Any] = {}
    others = []
    for operation in operations_of(effects):
        resource = getattr(operation, "resource", None)
        if resource is None:
            others.append(operation)
        else:
            seen[content.reference_to(resource)] = operation
    return [*others, *seen.values()]
