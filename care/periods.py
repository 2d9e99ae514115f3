"""Periods and days of China: when something holds, to the local midnight or to the instant."""

import datetime
from collections.abc import Mapping
from typing import Any

LOCAL = datetime.timezone(datetime.timedelta(hours=8))
"""China has one time zone; a day begins and a term ends at its midnight."""


def day_of(now: datetime.datetime) -> datetime.date:
    """Return the local calendar day of an instant."""
    return now.astimezone(LOCAL).date()


def start_of(day: datetime.date) -> datetime.datetime:
    """Return local midnight at the beginning of a day."""
    return datetime.datetime.combine(day, datetime.time(), LOCAL)


def end_of(day: datetime.date) -> datetime.datetime:
    """Return local midnight at the end of a day, the first instant after it."""
    return start_of(day + datetime.timedelta(days=1))


def holds_on(period: Mapping[str, Any], day: datetime.date) -> bool:
    """Say whether a FHIR Period covers some of a local day; an absent bound is open."""
    begin, over = bounds_of(period)
    return (begin is None or begin < end_of(day)) and (over is None or over > start_of(day))


def holds_at(period: Mapping[str, Any], now: datetime.datetime) -> bool:
    """Say whether a FHIR Period covers an instant; a date as end is meant to its midnight."""
    begin, over = bounds_of(period)
    return (begin is None or begin <= now) and (over is None or now < over)


def bounds_of(
    period: Mapping[str, Any],
) -> tuple[datetime.datetime | None, datetime.datetime | None]:
    """Return the first instant of a FHIR Period and the first one after it; None is open."""
    start, end = period.get("start"), period.get("end")
    return (
        _first_instant(str(start)) if start else None,
        _instant_after(str(end)) if end else None,
    )


def _first_instant(text: str) -> datetime.datetime:
    if len(text) > 10:
        return _instant(text)
    year, month, day = [*(int(part) for part in text.split("-")), 1, 1][:3]
    return start_of(datetime.date(year, month, day))


def _instant_after(text: str) -> datetime.datetime:
    if len(text) > 10:
        return _instant(text)
    parts = [int(part) for part in text.split("-")]
    if len(parts) == 3:
        return end_of(datetime.date(*parts))
    if len(parts) == 2:
        year, month = parts
        return start_of(datetime.date(year + month // 12, month % 12 + 1, 1))
    return start_of(datetime.date(parts[0] + 1, 1, 1))


def _instant(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=LOCAL)
