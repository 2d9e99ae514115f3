"""A decision as one commit: what care decided, and what begins and ends with it."""

import datetime
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from care.contract import content
from care.contract.ending import cancelled_tasks, handed_over_tasks, stopped_messages
from care.contract.states import is_over
from care.contract.surroundings import Surroundings
from care.effects import Decision, Effect, Hold, Put
from care.package.content import item_urls, items_among
from conformance import resource_json
from conformance.problem import Problem
from conformance.structure import require_valid
from fhir_store.operations import Claim, Create, Operation, Release, Update
from fhir_store.permits import permitted_ids
from fhir_store.search.query import QueryRules, parse_query
from fhir_store.search.searcher import Searcher
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.authorize import not_allowed
from routes.hub import Hub
from routes.request import Request
from routes.writing import context_of

Resource = Mapping[str, Any]
TasksFor = Callable[..., list[dict[str, Any]]]
"""(contract, package, plan, activities, *, now) -> the service Tasks of a package at effect."""
_OPEN_TASKS = "draft,requested,received,ready,in-progress,on-hold"
_OPEN_MESSAGES = "draft,active,on-hold"
_PAGE = 1_000
_REMEMBER_SECONDS = 60.0


def no_tasks(*_arguments: object, **_named: object) -> list[dict[str, Any]]:
    """Make nothing: a hub without the fulfilment of packages."""
    return []


@dataclass(slots=True)
class Following:
    """What begins and ends with contracts: service Tasks, messages. One per process.

    `tasks_for` makes the Tasks of a package. Definitions of items are remembered for a minute: a
    published package does not change.
    """

    searcher: Searcher
    tasks_for: TasksFor = no_tasks
    _items: dict[tuple[str, str], tuple[float, list[Resource]]] = field(default_factory=dict)

    async def effects(
        self,
        transaction: Transaction,
        decisions: Sequence[tuple[Decision, Mapping[str, Resource]]],
        now: datetime.datetime,
    ) -> list[list[Effect]]:
        """Return for each decision its effects and what follows from it.

        Beside each decision stand the PlanDefinitions of the packages that begin, by reference.
        """
        affected = [one for one, _ in decisions if one.ended or one.new_team]
        tasks = await self._open(
            transaction, "Task", "based-on", map(_own, affected), _OPEN_TASKS, _contract_of
        )
        ended = [one for one in affected if is_over(one.contract)]
        messages = await self._open(
            transaction,
            "CommunicationRequest",
            "based-on",
            map(_own, ended),
            _OPEN_MESSAGES,
            _contract_of,
        )
        closed = [content.resident_of(one.contract) for one in ended if one.closes_messages]
        to_the_dead = await self._open(
            transaction, "CommunicationRequest", "subject", closed, _OPEN_MESSAGES, _subject_of
        )
        made = []
        for decision, plans in decisions:
            effects = list(decision.effects)
            own = _own(decision)
            for package in decision.begun:
                plan = plans[package]
                items = await self.items_of(transaction, plan)
                fresh = self.tasks_for(decision.contract, package, plan, items, now=now)
                # A package may come back on the day it went: then its Tasks are there.
                is_first = not _is_amended(decision.contract)
                effects += [Put(task, is_new=is_first, is_sound=True) for task in fresh]
            if decision.new_team:
                effects += handed_over_tasks(decision, tasks.get(own, ()))
            elif decision.ended:
                effects += cancelled_tasks(decision, tasks.get(own, ()))
                said = {content.reference_to(m): m for m in messages.get(own, ())}
                if decision.closes_messages:
                    resident = content.resident_of(decision.contract)
                    dead = to_the_dead.get(resident, ())
                    said |= {content.reference_to(m): m for m in dead}
                effects += stopped_messages(said.values())
            made.append(effects)
        return made

    async def messages_to(
        self, transaction: Transaction, residents: Iterable[str]
    ) -> list[Resource]:
        """Return what is still to be said to these residents (`Patient/id`), under lock."""
        found = await self._open(
            transaction, "CommunicationRequest", "subject", residents, _OPEN_MESSAGES, _subject_of
        )
        return [message for messages in found.values() for message in messages]

    async def _open(
        self,
        transaction: Transaction,
        type_: str,
        parameter: str,
        references: Iterable[str],
        statuses: str,
        whose: Callable[[Resource], str],
    ) -> dict[str, list[Resource]]:
        """Return what is open of a type by what it belongs to, kept from other writers."""
        wanted = ",".join(dict.fromkeys(references))
        found: dict[str, list[Resource]] = {}
        if not wanted:
            return found
        pairs = [(parameter, wanted), ("status", statuses), ("_count", str(_PAGE))]
        cursor = ""
        while True:
            asked = [*pairs, ("_cursor", cursor)] if cursor else pairs
            query = parse_query(type_, asked, QueryRules(lookup=self.searcher.parameters.lookup))
            page = await self.searcher.search(transaction.connection, query)
            keys = [(type_, version.id) for version in page.matches]
            for one in (await transaction.read_for_update(keys)).values() if keys else ():
                found.setdefault(whose(one), []).append(one)
            if page.next is None:
                return found
            cursor = page.next

    async def items_of(self, transaction: Transaction, plan: Resource) -> list[Resource]:
        """Return the ActivityDefinitions that a package names, in its order."""
        key = (str(plan["id"]), str(plan.get("meta", {}).get("versionId")))
        known = self._items.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        urls = ",".join(item_urls(plan))
        found: list[Resource] = []
        if urls:
            query = parse_query("ActivityDefinition", [("url", urls), ("_count", str(_PAGE))])
            page = await self.searcher.search(transaction.connection, query)
            made = [resource_json.parse(version.body) for version in page.matches]
            found = [definition for _, definition in items_among(plan, made)]
        self._items[key] = (time.monotonic() + _REMEMBER_SECONDS, found)
        return found


async def carry_out(
    request: Request,
    transaction: Transaction,
    following: Following,
    decision: Decision,
    around: Surroundings,
    status: int = 200,
) -> Answer:
    """Write a decision and what follows from it; answer with the contract."""
    (effects,) = await following.effects(transaction, [(decision, around.packages)], around.now)
    operations = operations_of(effects)
    written = await transaction.apply(operations, context=context_of(request))
    own = _own(decision)
    version = next(one.version for one in written if f"{one.version.type}/{one.version.id}" == own)
    headers = ((b"location", f"{request.base}/{own}/_history/{version.version}".encode()),)
    return Answer(status=status, body=version.body, kind="resource", headers=headers)


async def require_may_act(
    hub: Hub, request: Request, transaction: Transaction, resident: str, missing: Problem
) -> None:
    """Refuse a caller without a scope to write contracts, or whom the resident is hidden from.

    What a step writes is decided by care, so the rights are asked for the step as a whole:
    residents and their relatives change contracts and tasks through steps alone. `missing` is what
    a hidden resident looks like.
    """
    caller = request.caller
    if caller.is_unrestricted:
        return
    if not any(scope.covers("Contract", letter) for scope in caller.scopes for letter in "cu"):
        raise not_allowed()
    await require_may_see(hub, request, transaction, resident, missing)


async def require_may_see(
    hub: Hub,
    request: Request,
    transaction: Transaction,
    resident: str,
    missing: Problem,
    letter: str = "r",
) -> None:
    """Refuse a caller whom the resident is hidden from, or who may not change the record (`u`)."""
    if request.caller.is_unrestricted:
        return
    rights = await hub.authorize(request.caller, letter, "Patient")
    if rights.criteria_of("Patient") is None:
        return
    ids = [resident.partition("/")[2]]
    seen = await permitted_ids(transaction.connection, hub.store.searcher, "Patient", ids, rights)
    if not seen:
        raise missing


def operations_of(effects: Iterable[Effect]) -> list[Operation]:
    """Return the operations of effects, the claims first, as they refuse without a trace."""
    operations = []
    for effect in effects:
        operation = operation_of(effect)
        if isinstance(effect, Put) and not effect.is_sound:
            assert isinstance(operation, Create | Update)
            require_valid(operation.resource)
        operations.append(operation)
    return sorted(operations, key=lambda one: not isinstance(one, Claim | Release))


def operation_of(effect: Effect) -> Operation:
    """Return what the store is asked for an effect."""
    if isinstance(effect, Put):
        resource = effect.resource
        if not effect.is_sound:
            resource = resource_json.parse(resource_json.dump(resource))
        if effect.is_new:
            return Create(resource=resource, id=str(resource["id"]))
        return Update(resource=resource)
    if isinstance(effect, Hold):
        return Claim(
            kind=effect.kind,
            key=effect.key,
            holder=effect.holder,
            period=(effect.start, effect.end),
            taken=effect.taken,
        )
    return Release(kind=effect.kind, holder=effect.holder)


def _is_amended(contract: Resource) -> bool:
    return content.legal_state_of(contract) in ("amended", "appended")


def _own(decision: Decision) -> str:
    return content.reference_to(decision.contract)


def _contract_of(resource: Resource) -> str:
    references = [str(one.get("reference", "")) for one in resource.get("basedOn", ())]
    return next((one for one in references if one.startswith("Contract/")), "")


def _subject_of(resource: Resource) -> str:
    return str(resource.get("subject", {}).get("reference", ""))
