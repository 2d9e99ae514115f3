"""From a visit, a procedure or a form to the service it fulfils, behind the writes.

Whatever wrote the source (HL7, REST, an import, a form), it is followed in the order of commits,
and the Task, the claim on the source and the place of the follower are one commit: nothing is
forgotten, nothing is matched twice. docs/decisions says why this is not done inside the write.
"""

import contextlib
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from care.effects import Effect, LetGo, Put
from care.fulfilment import beyond_quota, matching
from care.fulfilment.beyond_quota import is_charge
from care.fulfilment.completing import (
    EVIDENCE_CLAIM,
    OPEN,
    is_done_by,
    is_service_task,
    reopened,
)
from care.fulfilment.items import SERVICE_ITEM
from care.fulfilment.matching import Source
from conformance import resource_json
from conformance.problem import Problem
from fhir_store.following import Followed, take_written
from fhir_store.operations import WriteContext
from fhir_store.permits import conditions_of
from fhir_store.search.query import SearchQuery
from fhir_store.service_tasks import holders_of, tasks_of_patients
from fhir_store.store import Store
from fhir_store.transaction import Transaction
from fhir_store.versions import reference_key
from ops.logs import log
from ops.repeating import repeat
from routes.operations.contract_writing import operation_of

NAME = "service-matching"
ACTOR = "qiao-matching"
_MOST = 200
_LOOK = 4_000
_QUIET_SECONDS = 0.25

_FOLLOWED = (*matching.SOURCES, "ChargeItem")

Resource = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Matching:
    """Follows the sources; `step` does a bounded amount of work in one commit."""

    store: Store
    look: int = _LOOK
    most: int = _MOST
    _maps: list[Resource] = field(default_factory=list)

    async def step(self, now: datetime.datetime | None = None) -> int:
        """Match what was written since the last step; returns how many writes were looked at."""
        moment = now or datetime.datetime.now(datetime.UTC)
        async with self.store.begin() as transaction:
            found, looked = await take_written(
                transaction.connection, NAME, _FOLLOWED, look=self.look, most=self.most
            )
            found = await _sources_among(transaction, found)
            if found:
                self._maps = await self._read_maps()
                await self._settle_all(transaction, found, moment)
            return looked

    async def _read_maps(self) -> list[Resource]:
        conditions = conditions_of("ConceptMap", [("target-system", SERVICE_ITEM)])
        query = SearchQuery(types=("ConceptMap",), conditions=conditions, count=100)
        page = await self.store.search(query)
        return [resource_json.parse(version.body) for version in page.matches]

    async def _settle_all(
        self, transaction: Transaction, found: Sequence[Followed], now: datetime.datetime
    ) -> None:
        """Settle all together; where that fails each alone, so that one stops no other."""
        try:
            async with transaction.savepoint():
                await self._settle(transaction, found, now)
            return
        except (Problem, psycopg.DataError, psycopg.IntegrityError, ValueError, KeyError):
            log.info("sources are matched one by one", count=len(found))
        for one in found:
            try:
                async with transaction.savepoint():
                    await self._settle(transaction, [one], now)
            except (Problem, psycopg.DataError, psycopg.IntegrityError, ValueError, KeyError) as no:
                log.warning(
                    "source could not be matched",
                    source=f"{one.type}/{one.id}",
                    reason=type(no).__name__,
                )

    async def _settle(
        self, transaction: Transaction, found: Sequence[Followed], now: datetime.datetime
    ) -> None:
        batch = await _Batch.of(transaction, found, self._maps)
        operations = [
            operation_of(effect)
            for one in found
            for effect in batch.effects_of(f"{one.type}/{one.id}", now)
        ]
        if operations:
            context = WriteContext(actor=ACTOR, at=now, source=NAME)
            await transaction.apply(operations, context=context)

    async def run(self) -> None:
        """Follow for ever; another process may take turns."""
        await repeat(self.step, failed="services were not matched", rest_seconds=_QUIET_SECONDS)


async def _sources_among(transaction: Transaction, found: Sequence[Followed]) -> list[Followed]:
    """Return the sources, with those that a charge has set free: they may fulfil a service."""
    sources = {(one.type, one.id): one for one in found if one.type in matching.SOURCES}
    charges = [
        resource_json.parse(one.body) for one in found if one.type == "ChargeItem" and one.body
    ]
    freed = {
        reference_key(source)
        for one in charges
        if beyond_quota.is_void(one) and (source := beyond_quota.source_of_charge(one))
    }
    missing = sorted(freed - sources.keys())
    for key, record in (await transaction.read_current(missing)).items() if missing else ():
        body = resource_json.dump(record)
        sources[key] = Followed(type=key[0], id=key[1], version=0, body=body)
    return [*sources.values()]


@dataclass(slots=True, kw_only=True)
class _Batch:
    """Some sources and everything that bears on them, kept current while they are settled.

    `records` are the followed resources as they are, `sources` what of them may fulfil a service.
    """

    records: dict[str, Resource]
    sources: dict[str, Source]
    items: dict[str, matching.Items]
    holders: dict[str, str]
    tasks: dict[str, Resource]
    choices: dict[str, Resource]
    charges: dict[str, Resource]

    @classmethod
    async def of(
        cls, transaction: Transaction, found: Sequence[Followed], maps: Sequence[Resource]
    ) -> "_Batch":
        """Read, under lock, the Tasks that these sources may fulfil or have fulfilled."""
        records: dict[str, Resource] = {
            f"{one.type}/{one.id}": resource_json.parse(one.body) for one in found if one.body
        }
        sources: dict[str, Source] = {}
        for record in records.values():
            with contextlib.suppress(KeyError, TypeError, AttributeError):
                source = matching.source_of(record)
                if source is not None:
                    sources[source.reference] = source
        items = {
            reference: matching.service_items(source.codes, maps)
            for reference, source in sources.items()
        }
        asked = [f"{one.type}/{one.id}" for one in found]
        holders = await holders_of(transaction.connection, EVIDENCE_CLAIM, asked)
        coded = [sources[reference] for reference, found_items in items.items() if found_items]
        candidates = await tasks_of_patients(
            transaction.connection,
            {source.patient for source in coded},
            {code for source in coded for code in items[source.reference]},
        )
        tasks = {f"Task/{task['id']}": task for task in candidates if is_service_task(task)}
        missing = [one for one in holders.values() if one not in tasks and not is_charge(one)]
        charged = [one for one in holders.values() if is_charge(one)]
        choice_keys = [
            *(("Task", matching.choice_id(reference)) for reference in asked),
            *(("Task", beyond_quota.review_id(one)) for one in charged),
        ]
        charge_keys = [reference_key(one) for one in charged]
        more = await transaction.read_for_update(
            [*map(reference_key, missing), *choice_keys, *charge_keys]
        )
        choices = {key[1]: more[key] for key in choice_keys if key in more}
        charges = {"/".join(key): more[key] for key in charge_keys if key in more}
        others = more.keys() - {*choice_keys, *charge_keys}
        tasks.update({"/".join(key): more[key] for key in others})
        return cls(
            records=records, sources=sources, items=items, holders=holders, tasks=tasks,
            choices=choices, charges=charges,
        )  # fmt: skip

    def effects_of(self, reference: str, now: datetime.datetime) -> list[Effect]:
        """Return what one source asks for, and take it into account for the next ones."""
        effects: list[Effect] = []
        source, items = self.sources.get(reference), self.items.get(reference, frozenset())
        holder = self.holders.get(reference, "")
        if is_charge(holder):
            charged = self.charges.get(holder)
            if charged is None or beyond_quota.stands(charged, self.records.get(reference)):
                return self._choice(reference, source, (), now)
            if beyond_quota.review_id(holder) not in self.choices:
                effects += beyond_quota.taken_back(charged, now)
            if charged["status"] == "billed":
                return effects + self._choice(reference, source, (), now)
        held = self.tasks.get(holder)
        if held is not None and held["status"] == "completed":
            if matching.still_stands(source, items, held):
                return []
            if is_done_by(held, reference):
                effects += reopened(held, now)
                self._note(effects)
        elif holder and not is_charge(holder):
            effects.append(LetGo(kind=EVIDENCE_CLAIM, holder=holder))
        candidates: tuple[Resource, ...] = ()
        if source is not None and items:
            matched = matching.match(source, items, self.tasks.values())
            candidates = matched.candidates
            if matched.task is not None:
                effects += matching.fulfilled(source, matched.task)
        effects += self._choice(reference, source, candidates, now)
        self._note(effects)
        return effects

    def _choice(
        self,
        reference: str,
        source: Source | None,
        candidates: tuple[Resource, ...],
        now: datetime.datetime,
    ) -> list[Effect]:
        known = self.choices.get(matching.choice_id(reference))
        if source is not None and candidates:
            return [Put(matching.choice_task(source, candidates, now))]
        if known is not None and known["status"] in OPEN:
            return [Put(matching.closed_choice(known, "cancelled", now))]
        return []

    def _note(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Put) and is_service_task(effect.resource):
                self.tasks[f"Task/{effect.resource['id']}"] = effect.resource
