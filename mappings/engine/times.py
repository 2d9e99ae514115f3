"""Dates and times between HL7 v2 (DTM, TM) and FHIR; a missing zone is the channel's."""

import datetime
import re
from functools import lru_cache
from typing import Any

from mappings.engine.context import Context, UnreadableValue

# HL7 v2.5.1 2.A.21 DTM: YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]
_DTM = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(\.\d{1,9})?)?)?)?)?)?([+-]\d{4})?\Z"
)
_FHIR_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?\Z"
)


def _parts(text: str) -> tuple[str | None, ...]:
    match = _DTM.match(text)
    if match is None:
        raise UnreadableValue("is not a date and time of the form YYYYMMDDHHMMSS")
    groups = match.groups()
    year, month, day, hour, minute, second = (int(group or 0) for group in groups[:6])
    if not year or not 0 <= (month or 1) <= 12 or (groups[1] and not month):
        raise UnreadableValue("is not a date: the month is not 01 to 12")
    if groups[2] and not 1 <= day <= _days(year, month):
        raise UnreadableValue("is not a date: that month has no such day")
    if hour > 23 or minute > 59 or second > 59:
        raise UnreadableValue("is not a time of day")
    if groups[7] and (int(groups[7][1:3]) > 14 or int(groups[7][3:]) > 59):
        raise UnreadableValue("has a time zone beyond 14 hours")
    return groups


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def to_date(text: str, _context: Context) -> str:
    """Return the FHIR date of a DTM."""
    return _date(text)


@lru_cache(maxsize=4096)
def _date(text: str) -> str:
    year, month, day, *_ = _parts(text)
    return f"{year}-{month}-{day}" if day else f"{year}-{month}" if month else f"{year}"


def from_date(value: Any, _context: Context) -> str:
    """Return the DTM of a FHIR date."""
    return str(value)[:10].replace("-", "")


def to_date_time(text: str, context: Context) -> str:
    """Return the FHIR dateTime of a DTM; a missing zone is the sender's."""
    return _date_time(text, context.sender.zone)


@lru_cache(maxsize=4096)
def _date_time(text: str, local: datetime.tzinfo) -> str:
    """Read a DTM; one message says the same moment in many places."""
    year, month, day, hour, minute, second, fraction, zone = _parts(text)
    if hour is None:
        return f"{year}-{month}-{day}" if day else f"{year}-{month}" if month else f"{year}"
    body = f"{year}-{month}-{day}T{hour}:{minute or '00'}:{second or '00'}"
    offset = f"{zone[:3]}:{zone[3:]}" if zone else _offset(local, body)
    return f"{body}{fraction or ''}{offset}"


def _offset(zone: datetime.tzinfo, local: str) -> str:
    delta = datetime.datetime.fromisoformat(local).replace(tzinfo=zone).utcoffset()
    minutes = int(delta.total_seconds() // 60) if delta else 0
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def from_date_time(value: Any, _context: Context) -> str:
    """Return the DTM of a FHIR dateTime."""
    match = _FHIR_DATE_TIME.match(str(value))
    if match is None:
        raise UnreadableValue("is not a FHIR dateTime")
    *digits, fraction, zone = match.groups()
    text = "".join(digit for digit in digits if digit)
    if digits[3] is None:
        return text
    return f"{text}{fraction or ''}{'+0000' if zone == 'Z' else zone.replace(':', '')}"


def to_instant(text: str, context: Context) -> str:
    """Return the FHIR instant of a DTM; raises `UnreadableValue` where it has no time of day."""
    if len(text) < 10:
        raise UnreadableValue("is not an instant: it has no time of day")
    return to_date_time(text, context)


# HL7 v2.5.1 2.A.75 TM: HH[MM[SS[.S+]]]
_TM = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d)(\.\d+)?)?)?(?:[+-]\d{4})?\Z")


def to_time(text: str, _context: Context) -> str:
    """Return the FHIR time of a TM."""
    match = _TM.match(text)
    if match is None:
        raise UnreadableValue("is not a time of the form HHMMSS")
    hour, minute, second, fraction = match.groups()
    return f"{hour}:{minute or '00'}:{second or '00'}{fraction or ''}"


def from_time(value: Any, _context: Context) -> str:
    """Return the TM of a FHIR time."""
    return str(value).replace(":", "")
