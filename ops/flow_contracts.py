"""What happens to contracts by the calendar: they end, they begin, delegations are over.

Each is found by the claim that is over or has begun, a part at a time; a part is one commit in
which a contract that cannot be written stops no other. Who looks a second time finds nothing.
"""

import datetime
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from care.contract import by_calendar, content, delegation
from care.contract.steps import SERVICE, START
from care.contract.surroundings import Surroundings
from care.effects import Decision, Effect, LetGo
from conformance.problem import Problem
from fhir_store.claims import Claimed, take_begun, take_over
from fhir_store.operations import WriteContext, WriteRequest
from fhir_store.store import Store
from fhir_store.transaction import Transaction
from fhir_store.versions import reference_key
from ops.flow_renewals import ConsentRenewals
from ops.logs import log
from ops.repeating import repeat
from routes.operations.contract_facts import MaySign, may_sign_by_record, require_agreement
from routes.operations.contract_writing import Following, operations_of

ACTOR = "qiao-calendar"
PART = 200
LOOK_SECONDS = 30.0

Resource = Mapping[str, Any]
Decide = Callable[[Surroundings, Resource], Decision | None]


@dataclass(slots=True, kw_only=True)
class DayFigures:
    """What was done in one look; `failed` are holders that stay and need a person."""

    expired: int = 0
    renewed: int = 0
    started: int = 0
    delegations: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Return how many things were done."""
        return self.expired + self.started + self.delegations


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractCalendar:
    """Does what is due; any number of processes may."""

    store: Store
    following: Following
    may_sign: MaySign = may_sign_by_record
    part: int = PART

    async def run(self) -> None:
        """Look for what is due for ever."""
        await repeat(
            self._look_and_tell, failed="the calendar was not looked at", rest_seconds=LOOK_SECONDS
        )

    async def _look_and_tell(self) -> None:
        figures = await self.look()
        if figures.done or figures.failed:
            log.info(
                "contracts by the calendar",
                expired=figures.expired,
                renewed=figures.renewed,
                started=figures.started,
                delegations=figures.delegations,
                failed=len(figures.failed),
            )

    async def look(
        self,
        now: datetime.datetime | None = None,
        on_part: Callable[[DayFigures], None] = lambda _: None,
    ) -> DayFigures:
        """Do everything that is due at an instant; `on_part` hears the figures after each part."""
        moment = now or datetime.datetime.now(datetime.UTC)
        figures = DayFigures()
        for one_part in (self._expire, self._start, self._close_delegations):
            after: Claimed | None = None
            while True:
                async with self.store.begin() as transaction:
                    found = await one_part(transaction, moment, after, figures)
                on_part(figures)
                if len(found) < self.part:
                    break
                after = found[-1]
        return figures

    async def _expire(
        self,
        transaction: Transaction,
        now: datetime.datetime,
        after: Claimed | None,
        figures: DayFigures,
    ) -> list[Claimed]:
        found = await take_over(transaction.connection, SERVICE, now, self.part, after)
        contracts = await _contracts(transaction, found)
        made = await self._decide(transaction, found, contracts, now, by_calendar.expire, figures)
        figures.expired += made
        agreements = {k: one for k, one in contracts.items() if _is_agreement(one)}
        renewals = ConsentRenewals(following=self.following, may_sign=self.may_sign, actor=ACTOR)
        wanted = await renewals.effects(transaction, agreements.values(), now)
        # Who has signed a following contract already is not renewed a second time: no failure.
        made = await _write_each(transaction, wanted, now, DayFigures())
        figures.renewed += made
        return found

    async def _start(
        self,
        transaction: Transaction,
        now: datetime.datetime,
        after: Claimed | None,
        figures: DayFigures,
    ) -> list[Claimed]:
        found = await take_begun(transaction.connection, START, now, self.part, after)
        contracts = await _contracts(transaction, found)
        made = await self._decide(transaction, found, contracts, now, by_calendar.begin, figures)
        figures.started += made
        return found

    async def _close_delegations(
        self,
        transaction: Transaction,
        now: datetime.datetime,
        after: Claimed | None,
        figures: DayFigures,
    ) -> list[Claimed]:
        found = await take_over(transaction.connection, delegation.KIND, now, self.part, after)
        keys = [("Task", one.holder.partition("/")[2]) for one in found]
        tasks = await transaction.read_for_update(keys) if keys else {}
        wanted: list[tuple[str, Sequence[Effect]]] = []
        for one, key in zip(found, keys, strict=True):
            if key in tasks and tasks[key].get("status") == "in-progress":
                wanted.append((one.holder, delegation.close(now, tasks[key])))
            else:
                wanted.append((one.holder, [LetGo(kind=delegation.KIND, holder=one.holder)]))
        figures.delegations += await _write_each(transaction, wanted, now, figures)
        return found

    async def _decide(
        self,
        transaction: Transaction,
        found: Sequence[Claimed],
        contracts: Mapping[str, Resource],
        now: datetime.datetime,
        decide: Decide,
        figures: DayFigures,
    ) -> int:
        """Decide and write each, and return how many were; what is over lets go of its claim."""
        around_by_resident = await self._surroundings(transaction, contracts.values(), now)
        decided: list[tuple[str, Decision, Mapping[str, Resource]]] = []
        left: list[Effect] = []
        for one in found:
            contract = contracts.get(one.holder)
            if contract is not None and not _is_agreement(contract):
                _note_failure(figures, one.holder, ValueError("no agreement"))
                continue
            if contract is None or by_calendar.is_settled(contract):
                left += by_calendar.given_up(one.holder)
                continue
            around = around_by_resident[content.resident_of(contract)]
            try:
                decision = decide(around, contract)
            except Problem as no:
                _note_failure(figures, one.holder, no)
                continue
            if decision is None:
                left.append(LetGo(kind=START, holder=one.holder))
            elif all(package in around.packages for package in decision.begun):
                decided.append((one.holder, decision, around.packages))
            else:
                _note_failure(figures, one.holder, KeyError("PlanDefinition"))
        if left:
            await transaction.apply(operations_of(left), context=_context(now))
        effects = await self.following.effects(
            transaction, [(decision, plans) for _, decision, plans in decided], now
        )
        wanted = [(holder, one) for (holder, _, _), one in zip(decided, effects, strict=True)]
        return await _write_each(transaction, wanted, now, figures)

    async def _surroundings(
        self, transaction: Transaction, contracts: Any, now: datetime.datetime
    ) -> dict[str, Surroundings]:
        """Return what is known of each resident: alive or not, and the packages of all of them."""
        residents, packages = set[str](), set[str]()
        for contract in contracts:
            if _is_agreement(contract) and not by_calendar.is_settled(contract):
                residents.add(content.resident_of(contract))
                packages.update(content.packages_of(contract))
        keys = [reference_key(reference) for reference in sorted(residents | packages)]
        known = await transaction.read_current(keys) if keys else {}
        plans = {"/".join(k): one for k, one in known.items() if k[0] == "PlanDefinition"}
        return {
            resident: Surroundings(
                now=now,
                actor=ACTOR,
                resident=known.get(reference_key(resident), {}),
                packages=plans,
                team={},
                qualified=frozenset(),
                prices={},
                new_id=lambda: str(uuid.uuid4()),
            )
            for resident in residents
        }


async def _write_each(
    transaction: Transaction,
    wanted: Iterable[tuple[str, Sequence[Effect]]],
    now: datetime.datetime,
    figures: DayFigures,
) -> int:
    """Write the effects of each holder or none of them, and return how many were written."""
    holders, requests = [], []
    for holder, effects in wanted:
        try:
            operations = operations_of(effects)
        except Problem as no:
            _note_failure(figures, holder, no)
            continue
        holders.append(holder)
        requests.append(WriteRequest(operations=operations, context=_context(now)))
    results = await transaction.apply_each(requests) if requests else []
    written = 0
    for holder, result in zip(holders, results, strict=True):
        if isinstance(result, Problem):
            _note_failure(figures, holder, result)
        else:
            written += 1
    return written


async def _contracts(transaction: Transaction, found: Sequence[Claimed]) -> dict[str, Resource]:
    keys = [reference_key(one.holder) for one in found]
    known = await transaction.read_for_update(keys) if keys else {}
    return {"/".join(key): contract for key, contract in known.items()}


def _is_agreement(contract: Resource) -> bool:
    """Say whether a Contract has what the steps read; a plain write may have left it out."""
    try:
        require_agreement(contract)
    except Problem:
        return False
    return True


def _context(now: datetime.datetime) -> WriteContext:
    return WriteContext(actor=ACTOR, at=now, source="calendar")


def _note_failure(figures: DayFigures, holder: str, failure: Exception) -> None:
    figures.failed.append(holder)
    reason = failure.issues[0].key if isinstance(failure, Problem) else type(failure).__name__
    log.warning("contract was left by the calendar", contract=holder, reason=reason)
