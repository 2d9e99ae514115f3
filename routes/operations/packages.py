"""Packages of services (服务包): whom they suit, publishing, retiring, and how many have signed."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from care.effects import Effect, Resource
from care.package.content import item_canonicals, item_urls
from care.package.population import applicable, populations_on
from care.package.publishing import publish, retire
from care.periods import day_of
from conformance import resource_json
from conformance.cphc.operations import definition_of
from fhir_store.authorization import Authorization
from fhir_store.search.query import QueryRules, parse_query
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.hub import Hub
from routes.operations.contract_facts import key_of, no_resident, unknown
from routes.operations.contract_parameters import given_in
from routes.operations.contract_writing import operations_of
from routes.operations.parameters import parameters_answer, parameters_in
from routes.registry import Level
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import apply_permitted, once

_MOST = "1000"
_TYPE: frozenset[Level] = frozenset({"type"})
_INSTANCE: frozenset[Level] = frozenset({"instance"})


def package_operations() -> tuple[Promise, ...]:
    """Return the operations as the registry wants them."""
    rows = (
        ("applicable-packages", applicable_packages, _TYPE, False),
        ("package-detail", package_detail, _INSTANCE, False),
        ("publish-package", publish_package, _INSTANCE, True),
        ("retire-package", retire_package, _INSTANCE, True),
    )
    return tuple(
        Promise(
            code=code,
            definition=definition_of("PlanDefinition", code),
            levels=levels,
            types=frozenset({"PlanDefinition"}),
            handler=handler,
            affects_state=affects,
        )
        for code, handler, levels, affects in rows
    )


async def applicable_packages(hub: Hub, request: Request) -> Answer:
    """Return the populations of a resident and the packages they may take on a day."""
    given = given_in(hub, request)
    _, id_ = key_of(given.text("patient"), "Patient", "patient")
    named = given.maybe("date") is not None
    day = given.day("date") if named else day_of(datetime.datetime.now(datetime.UTC))
    rights = await hub.authorize(request.caller, "r", "Patient")
    residents = await _found(hub, "Patient", [("_id", id_)], rights)
    if not residents:
        raise no_resident()
    patient = f"Patient/{id_}"
    # Whoever may see the resident is told the populations; the records behind them only by name.
    conditions = await _found(hub, "Condition", [("patient", patient)])
    episodes = await _found(hub, "EpisodeOfCare", [("patient", patient), ("status", "active")])
    populations = populations_on(residents[0], conditions, episodes, day)
    plans = await _found(hub, "PlanDefinition", [("status", "active")])
    parameters: list[dict[str, Any]] = [
        {
            "name": "population",
            "part": [
                {"name": "code", "valueCode": code},
                {"name": "because", "valueString": reason},
            ],
        }
        for code, reason in sorted(populations.items())
    ]
    parameters += [
        {"name": "package", "resource": plan} for plan in applicable(plans, populations, day)
    ]
    return parameters_answer(parameters)


async def package_detail(hub: Hub, request: Request) -> Answer:
    """Return a package with its items, and how many contracts on it are in which state."""
    parameters_in(hub, request)
    id_ = request.address.id
    plans = await _found(hub, "PlanDefinition", [("_id", id_)])
    if not plans:
        raise unknown("PlanDefinition", id_)
    plan = plans[0]
    items = await _activities(hub, plan)
    counts = []
    for name, statuses in (
        ("in-effect", "executed,disputed"),
        ("to-be-signed", "offered,negotiable,executable"),
        ("ended", "terminated,revoked,cancelled"),
    ):
        pairs = [
            ("package", f"PlanDefinition/{id_}"),
            ("status", statuses),
            ("_count", "0"),
            ("_total", "accurate"),
        ]
        query = parse_query("Contract", pairs, QueryRules(lookup=hub.store.parameters.lookup))
        page = await hub.store.search(query)
        counts.append({"name": name, "valueInteger": page.total or 0})
    parameters: list[dict[str, Any]] = [
        {"name": "package", "resource": plan},
        {"name": "items", "valueInteger": len(item_canonicals(plan))},
        {"name": "contracts", "part": counts},
        *({"name": "item", "resource": item} for item in items),
    ]
    return parameters_answer(parameters)


async def publish_package(hub: Hub, request: Request) -> Answer:
    """Put a draft into force; an earlier version of the same url retires in the same commit."""
    parameters_in(hub, request)

    async def work(transaction: Transaction) -> Answer:
        plan = await _locked(transaction, request.address.id)
        url = str(plan.get("url", ""))
        pairs = [("url", url), ("status", "active")]
        known = await _found(hub, "PlanDefinition", pairs) if url else []
        keys = [("PlanDefinition", one["id"]) for one in known]
        others = await transaction.read_for_update(keys) if keys else {}
        activities = await _activities(hub, plan)
        now = datetime.datetime.now(datetime.UTC)
        return await _write(
            hub, request, transaction, publish(plan, activities, others.values(), now)
        )

    return await once(hub, request, work)


async def retire_package(hub: Hub, request: Request) -> Answer:
    """Take a published package out of offer; contracts on it go on."""
    parameters_in(hub, request)

    async def work(transaction: Transaction) -> Answer:
        plan = await _locked(transaction, request.address.id)
        now = datetime.datetime.now(datetime.UTC)
        return await _write(hub, request, transaction, retire(plan, now))

    return await once(hub, request, work)


async def _write(
    hub: Hub, request: Request, transaction: Transaction, effects: Iterable[Effect]
) -> Answer:
    written = await apply_permitted(hub, request, transaction, operations_of(effects))
    return Answer(status=200, body=written[-1].version.body, kind="resource")


async def _locked(transaction: Transaction, id_: str) -> Resource:
    key = ("PlanDefinition", id_)
    found = await transaction.read_for_update([key])
    if key not in found:
        raise unknown(*key)
    return found[key]


async def _activities(hub: Hub, plan: Resource) -> list[dict[str, Any]]:
    urls = ",".join(item_urls(plan))
    return await _found(hub, "ActivityDefinition", [("url", urls)]) if urls else []


async def _found(
    hub: Hub,
    type_: str,
    pairs: Sequence[tuple[str, str]],
    rights: Authorization | None = None,
) -> list[dict[str, Any]]:
    query = parse_query(type_, [*pairs, ("_count", _MOST)])
    if rights is None:
        page = await hub.store.search(query)
    else:
        page = await hub.store.search(query, authorization=rights)
    return [resource_json.parse(version.body) for version in page.matches]
