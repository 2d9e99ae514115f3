"""`Task/$complete-service`, `$due-worklist`, `$service-counts`: the services that are promised."""

import datetime
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from care.effects import Effect, Put
from care.fulfilment import matching
from care.fulfilment.completing import OPEN, Proof, Situation, complete
from care.fulfilment.items import SERVICE_ITEM, evidence_of
from care.periods import LOCAL, day_of, start_of
from conformance import resource_json
from conformance.cphc.operations import definition_of
from conformance.problem import Issue, NotAllowed, NotFound
from conformance.search_parameters import parameters_of
from fhir_store.operations import Version
from fhir_store.permits import conditions_of
from fhir_store.search.query import IdTest, SearchQuery
from fhir_store.service_tasks import Count, DuePlace, due_tasks, service_counts
from fhir_store.transaction import Transaction
from fhir_store.versions import RID
from routes.answer import Answer
from routes.bundle_bytes import Link, bundle, search_entries
from routes.hub import Hub
from routes.operations.contract_parameters import Given, given_in
from routes.operations.contract_writing import Following, operations_of
from routes.operations.extra_services import ExtraServices
from routes.operations.parameters import (
    bad_parameter,
    parameters_answer,
)
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import apply_permitted, once

_TERM_MONTHS = 36  # the longest term: nothing open is older
_LONGEST_PERIOD = 12  # months in which one service is due
_LONGEST_COUNT_YEARS = 5
_STEPS = {"month": 1, "quarter": 3, "year": 12}
_SOURCES = "Encounter, Procedure, QuestionnaireResponse"

Resource = Mapping[str, Any]


def fulfilment_operations(following: Following) -> tuple[Promise, ...]:
    """Return the operations as the registry wants them; `following` reads a package's items."""
    task = frozenset({"Task"})
    return (
        Promise(
            code="complete-service",
            definition=definition_of("Task", "complete-service"),
            levels=frozenset({"instance"}),
            types=task,
            handler=complete_service,
            affects_state=True,
        ),
        Promise(
            code="due-worklist",
            definition=definition_of("Task", "due-worklist"),
            levels=frozenset({"type"}),
            types=task,
            handler=due_worklist,
        ),
        Promise(
            code="service-counts",
            definition=definition_of("Task", "service-counts"),
            levels=frozenset({"type"}),
            types=task,
            handler=count_services,
        ),
        *ExtraServices(following=following).promises(),
    )


async def complete_service(hub: Hub, request: Request) -> Answer:
    """Complete a service Task with the proof that its item asks."""
    given = given_in(hub, request)
    now = datetime.datetime.now(LOCAL)
    proof = Proof(
        performed=given.instant("performed") or now,
        source=given.maybe("source"),
        id_card=given.maybe("idCard"),
        photo=given.maybe("photo"),
        location=given.maybe("location"),
        signature=_signature(given),
        note=given.maybe("note"),
    )

    async def work(transaction: Transaction) -> Answer:
        task, resident = await _locked(transaction, request.address.id)
        if proof.source:
            await _require_source(transaction, proof.source, task)
        situation = Situation(
            now=now,
            actor=request.caller.fhir_user or request.caller.subject,
            resident=resident,
            asked=await _asked_of(hub, task),
            provenance_id=str(uuid.uuid4()),
        )
        effects: list[Effect] = [*complete(situation, task, proof)]
        effects += await _chosen(transaction, proof.source, now)
        written = await apply_permitted(hub, request, transaction, operations_of(effects))
        id_ = request.address.id
        version = next(one.version for one in written if one.version.id == id_)
        return Answer(status=200, body=version.body, kind="resource")

    return await once(hub, request, work)


async def due_worklist(hub: Hub, request: Request) -> Answer:
    """Return the open services of a team that are due, the earliest end first, with residents.

    Parameters: `team`; `date` (today); `_count`, `_cursor`.
    """
    given = given_in(hub, request)
    team = _team(given)
    day = given.day("date") if given.named("date") else day_of(datetime.datetime.now(LOCAL))
    count = _count(given, hub)
    after = _cursor(given)
    months = [_month_after(day, n) for n in range(-_TERM_MONTHS, _LONGEST_PERIOD + 1)]
    reached = datetime.datetime.fromtimestamp(max(0, after.hi) / 1e6, LOCAL).strftime("%Y-%m")
    keys = [f"{team}/{month:%Y-%m}" for month in months if f"{month:%Y-%m}" >= reached]
    authorization = await hub.authorize(request.caller, "s", "Task")
    async with hub.store.pool.connection() as connection:
        permitted = await hub.store.searcher.condition_of(connection, ("Task",), authorization, RID)
        found, last = await due_tasks(
            connection,
            keys=keys,
            on=start_of(day + datetime.timedelta(days=1)) - datetime.timedelta(microseconds=1),
            after=after,
            count=count,
            permitted=permitted,
        )
    base = request.base
    entries = search_entries(found, "match", base, request.shape)
    residents = await _residents(hub, request, found)
    entries += search_entries(residents, "include", base, request.shape)
    asked = {"team": team, "date": str(day), "_count": str(count)}
    url = f"{base}/Task/$due-worklist?"
    links = [Link(relation="self", url=url + urllib.parse.urlencode(asked))]
    if last is not None:
        asked["_cursor"] = f"{last.hi}.{last.rid}"
        links.append(Link(relation="next", url=url + urllib.parse.urlencode(asked)))
    return Answer(status=200, body=bundle("searchset", entries, links=links))


async def _residents(hub: Hub, request: Request, tasks: Sequence[Version]) -> Sequence[Version]:
    """Return the residents of Tasks, as far as the caller may see them."""
    ids = dict.fromkeys(
        orjson.loads(one.body)["for"]["reference"].partition("/")[2] for one in tasks
    )
    if not ids:
        return ()
    try:
        authorization = await hub.authorize(request.caller, "s", "Patient")
    except NotAllowed:
        return ()
    query = SearchQuery(types=("Patient",), conditions=(IdTest(tuple(ids)),), count=len(ids))
    return (await hub.store.search(query, authorization=authorization)).matches


def _count(given: Given, hub: Hub) -> int:
    number = given.number("_count")
    if number is None:
        return hub.limits.page_default
    if not 1 <= number <= hub.limits.page_maximum:
        most = hub.limits.page_maximum
        raise bad_parameter("_count", f"Give 1 to {most}.", f"请给出 1 到 {most}。")
    return int(number)


def _cursor(given: Given) -> DuePlace:
    text = given.maybe("_cursor")
    if text is None:
        return DuePlace()
    end, _, number = text.partition(".")
    if not (end.isascii() and number.isascii() and end.isdigit() and number.isdigit()):
        raise bad_parameter("_cursor", "Take the next link as it is.", "请原样使用 next 链接。")
    if max(len(end), len(number)) > 18:
        raise bad_parameter("_cursor", "Take the next link as it is.", "请原样使用 next 链接。")
    return DuePlace(hi=int(end), rid=int(number))


async def count_services(hub: Hub, request: Request) -> Answer:
    """Return how many services a team promised, did and owes, by item and period.

    Parameters: `team`; `start`, `end`; `step` (month, quarter, year).
    """
    given = given_in(hub, request)
    team, first, last = _team(given), given.day("start"), given.day("end")
    step = given.maybe("step") or "month"
    if step not in _STEPS:
        raise bad_parameter(
            "step", "Give month, quarter or year.", "请给出 month、quarter 或 year。"
        )
    if not first <= last <= first + datetime.timedelta(days=366 * _LONGEST_COUNT_YEARS):
        raise bad_parameter(
            "end", "Let it be after start, 5 years at most.", "应晚于 start，最长 5 年。"
        )
    periods = _periods(first, last, _STEPS[step])
    authorization = await hub.authorize(request.caller, "s", "Task")
    async with hub.store.pool.connection() as connection:
        permitted = await hub.store.searcher.condition_of(connection, ("Task",), authorization, RID)
        counts = await service_counts(
            connection,
            team=team,
            system=SERVICE_ITEM,
            due=parameters_of("Task")["due"].number,
            periods=[(start_of(a), start_of(b)) for a, b in periods],
            now=datetime.datetime.now(datetime.UTC),
            permitted=permitted,
        )
    return parameters_answer([_count_part(one, periods[one.period]) for one in counts])


def _signature(given: Given) -> Mapping[str, Any] | None:
    for part in given.named("signature"):
        value = part.get("valueSignature")
        if not isinstance(value, Mapping):
            raise bad_parameter(
                "signature", "Send it as valueSignature.", "请以 valueSignature 发送。"
            )
        return value
    return None


def _team(given: Given) -> str:
    team = given.text("team")
    kind, _, id_ = team.partition("/")
    if kind != "CareTeam" or not id_ or any(one in id_ for one in "/,|$\\"):
        raise bad_parameter("team", "Write CareTeam/id.", "请写成 CareTeam/id。")
    return team


async def _locked(transaction: Transaction, id_: str) -> tuple[Resource, Resource]:
    """Return the Task and its resident, kept from other writers."""
    found = await transaction.read_for_update([("Task", id_)])
    task = found.get(("Task", id_))
    if task is None:
        raise NotFound(
            Issue(
                code="not-found",
                key="not-found",
                text_en=f"Task/{id_} is not known",
                text_zh=f"Task/{id_} 不存在",
                fix_en="Take a Task from Task/$due-worklist.",
                fix_zh="请从 Task/$due-worklist 中选择任务。",
                expression="Task.id",
            )
        )
    patient = str(task.get("for", {}).get("reference", ""))
    key = ("Patient", patient.partition("/")[2])
    return task, (await transaction.read_current([key])).get(key, {})


async def _require_source(transaction: Transaction, source: str, task: Resource) -> None:
    kind, _, id_ = source.partition("/")
    if kind not in matching.SOURCES or not id_:
        raise bad_parameter("source", f"Name one of {_SOURCES}.", f"请指定 {_SOURCES} 之一。")
    found = (await transaction.read_current([(kind, id_)])).get((kind, id_))
    if found is None or found.get("subject", {}).get("reference") != task["for"]["reference"]:
        raise bad_parameter(
            "source", "Name a record of this very resident.", "请指定该居民本人的服务记录。"
        )


async def _asked_of(hub: Hub, task: Resource) -> frozenset[str]:
    """Return what the item's evidence rule asks; of several versions the Task's own."""
    url, _, version = str(task.get("instantiatesCanonical", "")).partition("|")
    if not url:
        return frozenset()
    pairs = [("url", url)] + ([("version", version)] if version else [])
    conditions = conditions_of("ActivityDefinition", pairs)
    query = SearchQuery(types=("ActivityDefinition",), conditions=conditions, count=1)
    page = await hub.store.search(query)
    return frozenset[str]().union(
        *(evidence_of(resource_json.parse(one.body)) for one in page.matches)
    )


async def _chosen(
    transaction: Transaction, source: str | None, now: datetime.datetime
) -> list[Effect]:
    """Return the worklist entry of an ambiguous source, closed by this choice."""
    if source is None:
        return []
    key = ("Task", matching.choice_id(source))
    choice = (await transaction.read_for_update([key])).get(key)
    if choice is None or choice.get("status") not in OPEN:
        return []
    return [Put(matching.closed_choice(choice, "completed", now))]


def _month_after(day: datetime.date, months: int) -> datetime.date:
    number = day.year * 12 + day.month - 1 + months
    return datetime.date(number // 12, number % 12 + 1, 1)


def _periods(
    first: datetime.date, last: datetime.date, months: int
) -> list[tuple[datetime.date, datetime.date]]:
    """Return [start, end) of each step, cut to the span that was asked for."""
    found = []
    begin = first
    while begin <= last:
        number = begin.year * 12 + begin.month - 1
        number = number - number % months + months
        after = min(
            datetime.date(number // 12, number % 12 + 1, 1), last + datetime.timedelta(days=1)
        )
        found.append((begin, after))
        begin = after
    return found


def _count_part(one: Count, period: tuple[datetime.date, datetime.date]) -> dict[str, Any]:
    start, after = period
    coding = {"system": SERVICE_ITEM, "code": one.code}
    if one.display:
        coding["display"] = one.display
    end = after - datetime.timedelta(days=1)
    numbers = ("promised", "done", "open", "overdue")
    return {
        "name": "count",
        "part": [
            {"name": "period", "valuePeriod": {"start": str(start), "end": str(end)}},
            {"name": "item", "valueCoding": coding},
            *({"name": name, "valueInteger": getattr(one, name)} for name in numbers),
        ],
    }
