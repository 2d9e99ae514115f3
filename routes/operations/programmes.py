"""Programmes of care as operations on EpisodeOfCare: apply, review, close."""

import datetime
import uuid
from collections.abc import Awaitable, Callable, Sequence

from care import programme
from care.effects import Effect, Resource
from care.fulfilment.completing import is_service_task
from care.programme import Moment
from conformance import resource_json
from conformance.cphc.operations import definition_of
from fhir_store.search.query import QueryRules, parse_query
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.authorize import not_allowed
from routes.hub import Hub
from routes.operations.contract_facts import key_of, no_resident, unknown
from routes.operations.contract_parameters import given_in
from routes.operations.contract_writing import operations_of, require_may_see
from routes.operations.parameters import bad_parameter
from routes.own_records import is_lay
from routes.registry import Handler, Level
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import context_of, once

_OPEN = "requested,ready"
_MOST = 100  # services that a plan names
Decide = Callable[[Moment, Resource, Transaction], Awaitable[Sequence[Effect]]]


def programme_operations() -> tuple[Promise, ...]:
    """Return the operations as the registry wants them."""
    rows: tuple[tuple[str, Level, Handler], ...] = (
        ("apply-for-programme", "type", apply_for),
        ("review-programme", "instance", review),
        ("close-programme", "instance", close),
    )
    return tuple(
        Promise(
            code=code,
            definition=definition_of("EpisodeOfCare", code),
            levels=frozenset({level}),
            types=frozenset({"EpisodeOfCare"}),
            handler=handler,
            affects_state=True,
        )
        for code, level, handler in rows
    )


async def apply_for(hub: Hub, request: Request) -> Answer:
    """Apply for a programme for a resident.

    Parameters: `resident`, `programme` (a code of `cphc-programme-type`), `team`, `reason`, `id`.
    """
    given = given_in(hub, request)
    resident = key_of(given.text("resident"), "Patient", "resident")
    team = key_of(given.text("team"), "CareTeam", "team")
    code, id_ = given.text("programme"), given.maybe("id") or str(uuid.uuid4())

    async def work(transaction: Transaction) -> Answer:
        await _require_may_act(hub, request, transaction, "/".join(resident))
        known = await transaction.read_together([resident], [team, ("EpisodeOfCare", id_)])
        if resident not in known:
            raise no_resident()
        if team not in known:
            raise unknown(*team)
        if ("EpisodeOfCare", id_) in known:
            raise bad_parameter("id", "Choose one that is not taken.", "请使用未被占用的 id。")
        effects = programme.apply_for(
            _moment(request), known[resident], known[team], id_=id_, programme=code,
            reason=given.maybe("reason") or "",
        )  # fmt: skip
        return await _written(request, transaction, effects, id_, 201)

    return await once(hub, request, work)


async def review(hub: Hub, request: Request) -> Answer:
    """Approve or reject an application. Parameters: `verdict` (approve, reject), `reason`."""
    given = given_in(hub, request)
    verdict, reason = given.text("verdict"), given.maybe("reason") or ""

    async def decide(
        moment: Moment, episode: Resource, transaction: Transaction
    ) -> Sequence[Effect]:
        key = programme.task_key(episode["id"])
        task = (await transaction.read_for_update([key])).get(key)
        if task is None:
            raise unknown(*key)
        services = await _services(hub, transaction, episode)
        return programme.decide(moment, episode, task, services, verdict=verdict, reason=reason)

    return await _on_instance(hub, request, decide)


async def close(hub: Hub, request: Request) -> Answer:
    """Close an active programme with its plan. Parameter: `reason`."""
    given = given_in(hub, request)

    async def decide(
        moment: Moment, episode: Resource, transaction: Transaction
    ) -> Sequence[Effect]:
        key = programme.plan_key(episode["id"])
        plan = (await transaction.read_for_update([key])).get(key)
        return programme.close(moment, episode, plan, reason=given.maybe("reason") or "")

    return await _on_instance(hub, request, decide)


async def _on_instance(hub: Hub, request: Request, decide: Decide) -> Answer:
    id_ = request.address.id

    async def work(transaction: Transaction) -> Answer:
        key = ("EpisodeOfCare", id_)
        episode = (await transaction.read_for_update([key])).get(key)
        if episode is None:
            raise unknown(*key)
        await _require_may_act(hub, request, transaction, episode["patient"]["reference"])
        effects = await decide(_moment(request), episode, transaction)
        return await _written(request, transaction, effects, id_, 200)

    return await once(hub, request, work)


async def _require_may_act(
    hub: Hub, request: Request, transaction: Transaction, resident: str
) -> None:
    """Refuse a caller without a scope for programmes, or whom the resident is hidden from."""
    caller = request.caller
    if caller.is_unrestricted:
        return
    if not any(scope.covers("EpisodeOfCare", letter) for scope in caller.scopes for letter in "cu"):
        raise not_allowed()
    hidden = unknown("EpisodeOfCare", request.address.id) if request.address.id else no_resident()
    await require_may_see(hub, request, transaction, resident, hidden)


async def _services(hub: Hub, transaction: Transaction, episode: Resource) -> list[Resource]:
    """Return the open services that packages promise the resident."""
    pairs = [("patient", episode["patient"]["reference"]), ("status", _OPEN)]
    query = parse_query(
        "Task", [*pairs, ("_count", str(_MOST))], QueryRules(lookup=hub.store.parameters.lookup)
    )
    page = await hub.store.searcher.search(transaction.connection, query)
    found = (resource_json.parse(version.body) for version in page.matches)
    return [one for one in found if is_service_task(one)]


async def _written(
    request: Request, transaction: Transaction, effects: Sequence[Effect], id_: str, status: int
) -> Answer:
    written = await transaction.apply(operations_of(effects), context=context_of(request))
    own = ("EpisodeOfCare", id_)
    body = next(o.version.body for o in written if (o.version.type, o.version.id) == own)
    return Answer(status=status, body=body, kind="resource")


def _moment(request: Request) -> Moment:
    caller = request.caller
    return Moment(
        now=datetime.datetime.now(datetime.UTC),
        actor=caller.fhir_user or caller.subject,
        is_lay=is_lay(caller),
    )
