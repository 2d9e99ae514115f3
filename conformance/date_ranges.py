"""Dates as ranges: what a FHIR date, dateTime, instant or Period covers, in microseconds UTC.

http://hl7.org/fhir/R4/search.html#date: a partial date means all its moments. A value without
a zone is read in the zone given. Ends are inclusive.
"""

import datetime as dt
import re
from functools import lru_cache
from zoneinfo import ZoneInfo

Range = tuple[int, int]

ALWAYS = -(2**62)  # before every moment: the start of a period without one
NEVER = 2**62  # after every moment
DAY = 86_400_000_000
DEFAULT_ZONE = "Asia/Shanghai"
_EPOCH = dt.date(1970, 1, 1).toordinal()
_FORM = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?"
    r"(Z|[+-]\d\d:\d\d)?)?)?)?"
)


@lru_cache(maxsize=65536)
def range_of(text: str, zone: str = DEFAULT_ZONE) -> Range:
    """Return the first and last microsecond a date or time text covers; raise ValueError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError("not a date of the form YYYY[-MM[-DD[Thh:mm[:ss[.f]][zone]]]]")
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    if hour is None:
        first, following = _days(int(year), month, day)
        return _at_midnight(first, zone), _at_midnight(following, zone) - 1
    date = dt.date(int(year), int(month), int(day))
    if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 60:
        raise ValueError("no such time of day")
    clock = (int(hour) * 60 + int(minute)) * 60 + min(int(second or 0), 59)
    start = (date.toordinal() - _EPOCH) * DAY + clock * 1_000_000
    start -= _offset(offset, date, clock, zone)
    if second is None:
        return start, start + 59_999_999
    if fraction is None:
        return start, start + 999_999
    digits = fraction[:6]
    unit = 10 ** (6 - len(digits))
    start += int(digits) * unit
    return start, start + unit - 1


def _days(year: int, month: str | None, day: str | None) -> tuple[dt.date, dt.date | None]:
    """Return the first day and the day after the last; None is past the calendar's end."""
    if day is not None:
        first = dt.date(year, int(month or 1), int(day))
        return first, None if first == dt.date.max else first + dt.timedelta(days=1)
    if month is not None:
        first = dt.date(year, int(month), 1)
        year, number = (year + 1, 1) if first.month == 12 else (year, first.month + 1)
        return first, None if year > 9999 else dt.date(year, number, 1)
    first = dt.date(year, 1, 1)
    return first, None if year >= 9999 else dt.date(year + 1, 1, 1)


def _at_midnight(day: dt.date | None, zone: str) -> int:
    if day is None:
        return (dt.date.max.toordinal() + 1 - _EPOCH) * DAY
    return (day.toordinal() - _EPOCH) * DAY - _zone_offset(day, 0, zone)


def _offset(text: str | None, date: dt.date, clock: int, zone: str) -> int:
    if text is None:
        return _zone_offset(date, clock, zone)
    if text == "Z":
        return 0
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 14 or minutes > 59:
        raise ValueError("no such time zone")
    size = (hours * 60 + minutes) * 60_000_000
    return -size if text[0] == "-" else size


def _zone_offset(date: dt.date, clock: int, zone: str) -> int:
    moment = dt.datetime.combine(date, dt.time.min, ZoneInfo(zone)) + dt.timedelta(seconds=clock)
    offset = moment.utcoffset() or dt.timedelta()
    return offset // dt.timedelta(microseconds=1)
