"""Which service Task a visit, a procedure or a form fulfils: the earliest due of its item.

Everything here looks at what a source is now, not at what happened to it: the same source leads to
the same answer however often it is asked.
"""

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from care.effects import Effect, Hold, Put, Resource
from care.fulfilment.completing import EVIDENCE_CLAIM, OPEN, SOURCE_USED, period_of_task
from care.fulfilment.items import SERVICE_ITEM
from care.fulfilment.schedule import business_status
from care.periods import day_of
from conformance.cphc import BASE

SOURCES = ("Encounter", "Procedure", "QuestionnaireResponse")
MATCH_TASK = f"{BASE}/CodeSystem/cphc-task-code"
EVIDENCE = f"{BASE}/StructureDefinition/cphc-task-match-evidence"
_NAMES = uuid.UUID("0f5bb0d3-29f1-5a5b-9a3c-8f4e2b7b8d50")
_COUNTING = {
    "Encounter": frozenset({"in-progress", "onleave", "finished"}),
    "Procedure": frozenset({"in-progress", "completed"}),
    "QuestionnaireResponse": frozenset({"completed", "amended"}),
}
_NO_MATCH = frozenset({"unmatched", "disjoint"})

Code = tuple[str, str]
Items = frozenset[Code]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What may fulfil a service: whose, on which local day, coded how."""

    reference: str
    patient: str
    day: datetime.date
    codes: frozenset[Code]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The Task that a source fulfils, or the candidates among which a person chooses."""

    task: Resource | None = None
    candidates: tuple[Resource, ...] = ()


def source_of(resource: Resource) -> Source | None:
    """Return a source that counts; None where it is planned, cancelled, undated or of nobody."""
    type_ = str(resource.get("resourceType"))
    patient = str(resource.get("subject", {}).get("reference", ""))
    moment = _moment_of(type_, resource)
    if (
        resource.get("status") not in _COUNTING.get(type_, ())
        or not patient.startswith("Patient/")
        or moment is None
    ):
        return None
    return Source(
        reference=f"{type_}/{resource['id']}",
        patient=patient,
        day=moment,
        codes=frozenset(_codes_of(type_, resource)),
    )


def service_items(codes: Iterable[Code], maps: Iterable[Resource]) -> Items:
    """Return the items that codes stand for: by themselves, or by a ConceptMap.

    Of a ConceptMap each group counts whose `target` is `cphc-service-item`.
    """
    wanted = frozenset(codes)
    found = {code for code in wanted if code[0] == SERVICE_ITEM}
    for concept_map in maps:
        for group in concept_map.get("group", ()):
            if group.get("target") != SERVICE_ITEM:
                continue
            for element in group.get("element", ()):
                if (str(group.get("source", "")), str(element.get("code", ""))) in wanted:
                    found.update(
                        (SERVICE_ITEM, str(target["code"]))
                        for target in element.get("target", ())
                        if "code" in target and target.get("equivalence") not in _NO_MATCH
                    )
    return frozenset(found)


def match(source: Source, items: Items, tasks: Iterable[Resource]) -> Match:
    """Return the earliest due open Task among those of the source's items and day.

    Several items, or two Tasks of one item that end on the same day, are left to a person.
    """
    fitting = sorted(
        (task for task in tasks if is_fitting(source, items, task) and task["status"] in OPEN),
        key=lambda task: (*reversed(period_of_task(task)), str(task["id"])),
    )
    if not fitting:
        return Match()
    first = period_of_task(fitting[0])
    is_tied = any(period_of_task(task) == first for task in fitting[1:])
    if is_tied or len(frozenset(item for t in fitting for item in items_of_task(t) & items)) > 1:
        return Match(candidates=tuple(fitting))
    return Match(task=fitting[0])


def is_fitting(source: Source, items: Items, task: Resource) -> bool:
    """Say whether a Task, open or done, is of one of the items and due on the source's day."""
    begin, end = period_of_task(task)
    return bool(
        items_of_task(task) & items
        and begin <= source.day <= end
        and task.get("for", {}).get("reference") == source.patient
    )


def still_stands(source: Source | None, items: Items, task: Resource) -> bool:
    """Say whether a Task that a source fulfilled is fulfilled by what the source is now.

    What a person decided (no `task-match-evidence`) stands while the source is about the resident.
    """
    if source is None or task.get("for", {}).get("reference") != source.patient:
        return False
    is_automatic = any(
        extension.get("url") == EVIDENCE
        for output in task.get("output", ())
        for extension in output.get("extension", ())
    )
    return not is_automatic or is_fitting(source, items, task)


def fulfilled(source: Source, task: Resource) -> tuple[Effect, ...]:
    """Return the Task as done by a source, and the claim that the source fulfils no other."""
    day = source.day.isoformat()
    done = {
        **{key: value for key, value in task.items() if key != "meta"},
        "status": "completed",
        "businessStatus": business_status("done"),
        "executionPeriod": {"start": day, "end": day},
        "output": [
            {
                "extension": [{"url": EVIDENCE, "valueReference": {"reference": source.reference}}],
                "type": {"text": "服务记录 (record)"},
                "valueReference": {"reference": source.reference},
            }
        ],
    }
    holder = f"Task/{task['id']}"
    hold = Hold(kind=EVIDENCE_CLAIM, key=source.reference, holder=holder, taken=SOURCE_USED)
    return hold, Put(done)


def items_of_task(task: Resource) -> frozenset[Code]:
    """Return the codes of a service Task."""
    return frozenset(
        (str(one.get("system", "")), str(one["code"]))
        for one in task.get("code", {}).get("coding", ())
        if "code" in one
    )


def choice_id(source: str) -> str:
    """Return the id of the Task by which a person chooses for an ambiguous source."""
    return str(uuid.uuid5(_NAMES, source))


def choice_task(
    source: Source, candidates: Sequence[Resource], now: datetime.datetime
) -> dict[str, Any]:
    """Return the worklist entry of an ambiguous source: its candidates are the inputs."""
    return {
        "resourceType": "Task",
        "id": choice_id(source.reference),
        "status": "requested",
        "intent": "order",
        "code": {
            "coding": [{"system": MATCH_TASK, "code": "match-service"}],
            "text": "履约匹配待确认 (choose which service was done)",
        },
        "focus": {"reference": source.reference},
        "for": {"reference": source.patient},
        "owner": candidates[0]["owner"],
        "authoredOn": now.isoformat(),
        "input": [
            {
                "type": {"text": "候选任务 (candidate)"},
                "valueReference": {"reference": f"Task/{task['id']}"},
            }
            for task in candidates
        ],
    }


def closed_choice(choice: Resource, status: str, now: datetime.datetime) -> dict[str, Any]:
    """Return the worklist entry when a person has chosen, or nothing is left to choose."""
    kept = {key: value for key, value in choice.items() if key != "meta"}
    return {**kept, "status": status, "lastModified": now.isoformat()}


def _moment_of(type_: str, resource: Resource) -> datetime.date | None:
    if type_ == "Encounter":
        period: Mapping[str, Any] = resource.get("period", {})
        text = period.get("start") or period.get("end")
    elif type_ == "Procedure":
        period = resource.get("performedPeriod", {})
        text = resource.get("performedDateTime") or period.get("start") or period.get("end")
    else:
        text = resource.get("authored")
    return local_day(str(text)) if text else None


def local_day(text: str) -> datetime.date | None:
    """Return the day of a FHIR date or dateTime in China; None where it is less than a day."""
    try:
        if len(text) == 10:
            return datetime.date.fromisoformat(text)
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.date() if moment.tzinfo is None else day_of(moment)


def _codes_of(type_: str, resource: Resource) -> Iterable[Code]:
    concepts: list[Mapping[str, Any]] = []
    if type_ == "Encounter":
        concepts += resource.get("type", ())
        concepts += [resource.get("serviceType", {}), {"coding": [resource.get("class", {})]}]
        concepts += resource.get("reasonCode", ())
    elif type_ == "Procedure":
        concepts += [resource.get("code", {}), resource.get("category", {})]
    else:
        # A form's canonical address is read as system (`…/Questionnaire`) and code (its name).
        url = str(resource.get("questionnaire", "")).partition("|")[0]
        system, _, name = url.rpartition("/")
        if name:
            yield system, name
    for concept in concepts:
        for coding in concept.get("coding", ()):
            if "code" in coding:
                yield str(coding.get("system", "")), str(coding["code"])
