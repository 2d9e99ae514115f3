"""From a package at effect to the service Tasks of a contract, each with its due period."""

import calendar
import datetime
import uuid
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from care.contract import content
from care.effects import Resource
from care.fulfilment.items import ServiceItem, items_of
from care.periods import day_of
from conformance.cphc import BASE

BUSINESS_STATUS = f"{BASE}/CodeSystem/cphc-task-business-status"
PACKAGE_OF_CONTRACT = "urn:qiao:package-of-contract"
_NAMES = uuid.UUID("6b0f7c0e-95a6-5d53-8a0b-1f3f3c1c6f11")
_MOST = 1_000  # services of one item in one term; a package that asks for more is a mistake

Period = tuple[datetime.date, datetime.date]
Rhythm = tuple[int | None, tuple[int, str] | None, int]
"""Quota, every and frequency of a ServiceItem."""


def tasks_for(
    contract: Resource,
    package: str,
    plan: Resource,
    activities: Iterable[Resource],
    *,
    now: datetime.datetime,
) -> list[dict[str, Any]]:
    """Return the Tasks of one package (`PlanDefinition/id`) for the rest of the contract's term.

    The same contract, package and first day give the same ids, so that nothing is made twice.
    """
    begin, end = content.period_of(contract)
    today = day_of(now)
    first = max(begin, today)
    own = content.reference_to(contract)
    shared: dict[str, Any] = {
        "basedOn": [{"reference": own}],
        "groupIdentifier": {
            "system": PACKAGE_OF_CONTRACT,
            "value": f"{contract['id']}/{package.partition('/')[2]}",
        },
        "for": {"reference": content.resident_of(contract)},
        "owner": {"reference": content.team_of(contract)},
        "authoredOn": now.isoformat(),
    }
    return [
        _task(
            shared,
            item,
            window,
            name=f"{own} {package} {item.canonical} {window[0]} {number}",
            is_due=window[0] <= today,
        )
        for item in items_of(plan, activities)
        for number, window in enumerate(windows_of(item, first, end))
    ]


def windows_of(item: ServiceItem, first: datetime.date, last: datetime.date) -> tuple[Period, ...]:
    """Return the periods in which each service of an item is due, first and last day included.

    Quota and timing begin anew with each year of the term. A last period that is cut to less than
    half its length by the end of the year or term is left out.
    """
    return _windows((item.quota, item.every, item.frequency), first, last)


@lru_cache(maxsize=1_024)  # contracts of a day have the same term and items
def _windows(rhythm: Rhythm, first: datetime.date, last: datetime.date) -> tuple[Period, ...]:
    quota = rhythm[0]
    windows: list[Period] = []
    for year in _spans(first, last, (1, "a")):
        limit = min(year[1], last)
        found = [
            (begin, min(end, limit))
            for begin, end in _windows_of_year(rhythm, year)
            if begin <= limit and (limit >= end or (limit - begin).days * 2 >= (end - begin).days)
        ]
        windows += found if quota is None else found[:quota]
    return tuple(windows[:_MOST])


def _windows_of_year(rhythm: Rhythm, year: Period) -> Iterator[Period]:
    quota, every, frequency = rhythm
    number, unit = every or (1, "a")
    frequency = frequency if every is not None else quota or 0
    months = {"mo": number, "a": 12 * number}.get(unit, 0)
    if months > 12:  # the quota counts by years, so an item is promised once a year at least
        number, unit, months = 1, "a", 12
    if months and frequency and months % frequency == 0:
        yield from _spans(*year, (months // frequency, "mo"))
        return
    for span in _spans(*year, (number, unit)):
        yield from _pieces(span, frequency)


def _spans(first: datetime.date, last: datetime.date, every: tuple[int, str]) -> Iterator[Period]:
    """Yield whole periods from `first` on while they begin by `last`."""
    number, unit = every
    for count in range(_MOST):
        begin, after = (_later(first, number * n, unit) for n in (count, count + 1))
        if begin > last:
            return
        yield begin, after - datetime.timedelta(days=1)


def _pieces(span: Period, count: int) -> Iterator[Period]:
    """Divide a period into `count` parts of about as many days each."""
    begin, end = span
    days = (end - begin).days + 1
    count = min(count, days)
    for n in range(count):
        yield (
            begin + datetime.timedelta(days=days * n // count),
            begin + datetime.timedelta(days=days * (n + 1) // count - 1),
        )


def _later(day: datetime.date, number: int, unit: str) -> datetime.date:
    """Return a day that much later; the 31st becomes the last day of a shorter month."""
    if unit in ("d", "wk"):
        return day + datetime.timedelta(days=number * (7 if unit == "wk" else 1))
    month = day.month - 1 + number * (12 if unit == "a" else 1)
    year, month = day.year + month // 12, month % 12 + 1
    return day.replace(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def opened(task: Resource) -> dict[str, Any]:
    """Return a Task whose period has begun: it is due."""
    kept = {key: value for key, value in task.items() if key != "meta"}
    return {**kept, "status": "ready", "businessStatus": business_status("due")}


def _task(
    shared: Resource, item: ServiceItem, window: Period, *, name: str, is_due: bool
) -> dict[str, Any]:
    begin, end = window
    return {
        "resourceType": "Task",
        "id": str(uuid.uuid5(_NAMES, name)),
        **({"extension": list(item.notices)} if item.notices else {}),
        "instantiatesCanonical": item.canonical,
        "status": "ready" if is_due else "requested",
        "businessStatus": business_status("due" if is_due else "not-due"),
        "intent": "order",
        "code": item.code,
        "description": item.title,
        **shared,
        "restriction": {"period": {"start": begin.isoformat(), "end": end.isoformat()}},
    }


def business_status(code: str) -> dict[str, Any]:
    """Return a code of `cphc-task-business-status`."""
    return {"coding": [{"system": BUSINESS_STATUS, "code": code}]}
