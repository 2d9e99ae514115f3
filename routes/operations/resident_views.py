"""What an app shows a resident at a glance: the own family doctor, and everything that was done."""

import datetime
from collections.abc import AsyncIterator, Sequence
from typing import Any

from care.contract import content
from care.package.content import item_urls
from care.periods import LOCAL
from conformance import resource_json
from conformance.cphc.operations import definition_of
from conformance.problem import Issue, NotAllowed, TooCostly
from fhir_store.operations import Version
from fhir_store.search.query import parse_query
from routes.answer import Answer
from routes.bundle_bytes import Link, bundle, search_entries
from routes.hub import Hub
from routes.interactions.read import version_asked_for
from routes.operations.contract_parameters import given_in
from routes.operations.parameters import bad_parameter, parameters_answer, parameters_in
from routes.registry import Operation as Promise
from routes.request import Request

MOST = 500
"""Entries of one type on a timeline; a longer one is asked for in parts."""
_OPEN = "offered,negotiable,executable,executed,disputed,resolved"
_DATED = {
    "Encounter": ("date", "period"),
    "Procedure": ("date", "performedDateTime"),
    "Immunization": ("date", "occurrenceDateTime"),
    "QuestionnaireResponse": ("authored", "authored"),
    "Communication": ("sent", "sent"),
    "Task": ("period", "executionPeriod"),
}
"""Type -> the search parameter and the element of when something was done."""

Pairs = Sequence[tuple[str, str]]


def resident_views() -> tuple[Promise, ...]:
    """Return the operations as the registry wants them."""
    rows = (("my-family-doctor", my_family_doctor), ("timeline", timeline))
    return tuple(
        Promise(
            code=code,
            definition=definition_of("Patient", code),
            levels=frozenset({"instance"}),
            types=frozenset({"Patient"}),
            handler=handler,
        )
        for code, handler in rows
    )


async def my_family_doctor(hub: Hub, request: Request) -> Answer:
    """Return each open contract of a resident with its team, doctors, packages, items and services.

    Every resource is judged by the caller's rights; what is hidden is left out.
    """
    parameters_in(hub, request)
    await version_asked_for(hub, request)
    patient = f"Patient/{request.address.id}"
    pairs = [("patient", patient), ("status", _OPEN), ("_sort", "-issued"), ("_count", "20")]
    contracts = await _found(hub, request, "Contract", pairs)
    parts = [
        {"name": "contract", "part": [part async for part in _parts(hub, request, one)]}
        for one in contracts
    ]
    return parameters_answer(parts)


async def _parts(
    hub: Hub, request: Request, contract: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    yield _part("resource", contract)
    plans = await _named(hub, request, content.packages_of(contract))
    # Who may see the contract may see who serves it.
    _, _, team = content.team_of(contract).partition("/")
    page = await hub.store.search(parse_query("CareTeam", [("_id", team)]))
    teams = [resource_json.parse(one.body) for one in page.matches]
    people = [
        str(one.get("member", {}).get("reference", ""))
        for team in teams
        for one in team.get("participant", ())
    ]
    places = [
        str(one.get("reference", ""))
        for team in teams
        for one in team.get("managingOrganization", ())
    ]
    urls = ",".join(dict.fromkeys(url for plan in plans for url in item_urls(plan)))
    items = await _found(hub, request, "ActivityDefinition", [("url", urls)]) if urls else []
    services = [
        ("based-on", content.reference_to(contract)),
        ("status", "requested,ready,in-progress"),
        ("_count", "200"),
    ]
    for name, resources in (
        ("package", plans),
        ("item", items),
        ("team", teams),
        ("member", await _named(hub, request, people)),
        ("institution", await _named(hub, request, places)),
        ("service", await _found(hub, request, "Task", services)),
    ):
        for one in resources:
            if name != "service" or "restriction" in one:
                yield _part(name, one)


async def timeline(hub: Hub, request: Request) -> Answer:
    """Return what was done for a resident, the latest first, as far as the caller may see it.

    `start` and `end` (days) bound it; visits, procedures, vaccinations, forms, messages and the
    services of contracts that are done.
    """
    given = given_in(hub, request)
    await version_asked_for(hub, request)
    bounds = [
        (mark, given.day(name).isoformat())
        for name, mark in (("start", "ge"), ("end", "le"))
        if given.named(name)
    ]
    if len(bounds) == 2 and bounds[0][1] > bounds[1][1]:
        raise bad_parameter("end", "Let it be start or later.", "应不早于 start。")
    found: list[tuple[datetime.datetime, Version]] = []
    for type_, (parameter, element) in _DATED.items():
        pairs = [("patient", f"Patient/{request.address.id}")]
        pairs += [(parameter, mark + day) for mark, day in bounds]
        pairs += [("status", "completed")] if type_ == "Task" else []
        matches = await _matches(hub, request, type_, [*pairs, ("_count", str(MOST + 1))])
        if len(matches) > MOST:
            raise TooCostly(_TOO_LONG)
        parsed = [(resource_json.parse(one.body), one) for one in matches]
        # Of Tasks the services: work on a contract is done for the team, not for the resident.
        found += [
            (_when(resource, element), one)
            for resource, one in parsed
            if type_ != "Task" or element in resource
        ]
    found.sort(key=lambda pair: pair[0], reverse=True)
    matches = [one for _, one in found]
    entries = search_entries(matches, "match", request.base, request.shape)
    link = Link(relation="self", url=f"{request.base}/Patient/{request.address.id}/$timeline")
    return Answer(status=200, body=bundle("searchset", entries, total=len(found), links=[link]))


def _when(resource: dict[str, Any], element: str) -> datetime.datetime:
    """Return when something was done; what does not say so stands at the end."""
    value = resource.get(element) or resource.get("performedPeriod") or ""
    text = str(value.get("start") or value.get("end") or "") if isinstance(value, dict) else value
    padded = text if len(text) >= 10 else (text + "-01-01")[:10]
    try:
        moment = datetime.datetime.fromisoformat(padded)
    except ValueError:
        return datetime.datetime.min.replace(tzinfo=LOCAL)
    return moment if moment.tzinfo else moment.replace(tzinfo=LOCAL)


async def _named(hub: Hub, request: Request, references: Sequence[str]) -> list[dict[str, Any]]:
    """Return the resources of references, each once, as far as the caller may see them."""
    by_type: dict[str, list[str]] = {}
    for type_, _, id_ in (one.partition("/") for one in dict.fromkeys(references)):
        if id_:
            by_type.setdefault(type_, []).append(id_)
    return [
        one
        for type_, ids in by_type.items()
        for one in await _found(hub, request, type_, [("_id", ",".join(ids))])
    ]


async def _found(hub: Hub, request: Request, type_: str, pairs: Pairs) -> list[dict[str, Any]]:
    return [resource_json.parse(one.body) for one in await _matches(hub, request, type_, pairs)]


async def _matches(hub: Hub, request: Request, type_: str, pairs: Pairs) -> Sequence[Version]:
    try:
        rights = await hub.authorize(request.caller, "s", type_)
    except NotAllowed:
        return ()
    return (await hub.store.search(parse_query(type_, pairs), authorization=rights)).matches


def _part(name: str, resource: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "resource": resource}


_TOO_LONG = Issue(
    code="too-costly",
    key="timeline-too-long",
    text_en=f"The timeline has more than {MOST} entries of one kind",
    text_zh=f"时间轴同类记录超过 {MOST} 条",
    fix_en="Ask for a part of it with start and end.",
    fix_zh="请用 start 和 end 分段查询。",
    expression="Parameters.parameter",
)
