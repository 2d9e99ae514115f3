"""Dates, date-times and times of partial precision (http://hl7.org/fhirpath/N1/#date)."""

import calendar
import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

_DATE_TIME = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d))?)?"
    r"(?P<t>T(?:(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?)?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)
_TIME = re.compile(
    r"(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?)?", re.ASCII
)
# Digits written for each precision, as `precision()` counts them.
_DATE_DIGITS = (4, 6, 8, 10, 12, 14)
_TIME_DIGITS = (2, 4, 6)
# The zones that can lie farthest from UTC, in minutes; an unknown zone is one between them.
_EARLIEST_ZONE = 14 * 60
_LATEST_ZONE = -12 * 60


@dataclass(frozen=True, slots=True)
class Temporal:
    """A point in time known down to its last field.

    `kind` is Date, DateTime or Time; `fields` are year, month, day, hour, minute, second (a Time
    starts at hour), of which only the known ones stand; `zone` is minutes east of UTC or None.
    """

    kind: str
    fields: tuple[int | Decimal, ...]
    zone: int | None = None

    def __str__(self) -> str:
        if self.kind == "Time":
            return _clock(self.fields)
        date = "-".join(f"{int(number):0{4 if not i else 2}d}" for i, number in
                        enumerate(self.fields[:3]))  # fmt: skip
        if len(self.fields) <= 3:
            return date
        return f"{date}T{_clock(self.fields[3:])}{_zone_text(self.zone)}"


def _clock(fields: tuple[int | Decimal, ...]) -> str:
    parts = [f"{int(number):02d}" for number in fields[:2]]
    if len(fields) == 3:
        second = Decimal(fields[2])
        parts.append(f"{second:f}".zfill(2) if second >= 10 else f"0{second:f}")
    return ":".join(parts)


def _zone_text(zone: int | None) -> str:
    if zone is None:
        return ""
    if zone == 0:
        return "Z"
    sign = "+" if zone > 0 else "-"
    return f"{sign}{abs(zone) // 60:02d}:{abs(zone) % 60:02d}"


@lru_cache(maxsize=4096)
def parse_date_time(text: str) -> Temporal | None:
    """Read a FHIR date, dateTime or instant (or FHIRPath's partial forms); None if it is none."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    groups = match.groupdict()
    if groups["hour"] is not None and groups["day"] is None:
        return None
    fields = _fields_of(groups, ("year", "month", "day", "hour", "minute", "second"))
    zone = _zone_of(groups["zone"])
    if zone is not None and (groups["hour"] is None or abs(zone) > _EARLIEST_ZONE):
        return None
    if not _exists(fields):
        return None
    return Temporal("DateTime" if groups["t"] else "Date", fields, zone)


@lru_cache(maxsize=1024)
def parse_time(text: str) -> Temporal | None:
    """Read a FHIR time or FHIRPath's partial forms; None if it is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    fields = _fields_of(match.groupdict(), ("hour", "minute", "second"))
    return Temporal("Time", fields) if _clock_exists(fields) else None


def parse_literal(text: str) -> Temporal | None:
    """Read a literal with its leading `@`; None if there is no such date or time."""
    body = text[1:]
    return parse_time(body[1:]) if body.startswith("T") else parse_date_time(body)


def as_kind(value: Temporal, kind: str) -> Temporal:
    """Return the same fields as a Date (the time cut off) or a DateTime."""
    if value.kind == kind or value.kind == "Time":
        return value
    if kind == "Date":
        return Temporal("Date", value.fields[:3])
    return Temporal("DateTime", value.fields, value.zone)


def _fields_of(groups: dict[str, str | None], names: tuple[str, ...]) -> tuple[int | Decimal, ...]:
    fields: list[int | Decimal] = []
    for name in names:
        text = groups[name]
        if text is None:
            break
        fields.append(Decimal(text) if name == "second" else int(text))
    return tuple(fields)


def _zone_of(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "Z":
        return 0
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    return minutes if text[0] == "+" else -minutes


def _exists(fields: tuple[int | Decimal, ...]) -> bool:
    year, month, day = (*(int(field) for field in fields[:3]), 1, 1)[:3]
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return False
    return _clock_exists(fields[3:])


def _clock_exists(fields: tuple[int | Decimal, ...]) -> bool:
    return all(0 <= field < limit for field, limit in zip(fields, (24, 60, 60), strict=False))


def compare(left: Temporal, right: Temporal) -> int | None:
    """Return -1, 0 or 1; None where the known fields or zones cannot decide."""
    if left.zone == right.zone:
        return _compare_fields(left.fields, right.fields)
    if left.zone is not None and right.zone is not None:
        instants = (_instant(left), _instant(right))
        if len(left.fields) == len(right.fields) == 6:
            return (instants[0] > instants[1]) - (instants[0] < instants[1])
    earliest, latest = _span(left)
    other_earliest, other_latest = _span(right)
    if latest < other_earliest:
        return -1
    if earliest > other_latest:
        return 1
    if earliest == latest == other_earliest == other_latest:
        return 0
    return None


def _compare_fields(
    left: tuple[int | Decimal, ...], right: tuple[int | Decimal, ...]
) -> int | None:
    for one, other in zip(left, right, strict=False):
        if one != other:
            return -1 if one < other else 1
    return 0 if len(left) == len(right) else None


def _instant(value: Temporal, zone: int | None = None) -> Decimal:
    """Return the seconds since day 0, UTC, of the first moment the fields allow."""
    fields = (*value.fields, *(1, 1, 1, 0, 0, 0)[len(value.fields) :])
    days = dt.date(int(fields[0]), int(fields[1]), int(fields[2])).toordinal()
    minutes = days * 1440 + int(fields[3]) * 60 + int(fields[4])
    shift = value.zone if value.zone is not None else zone or 0
    return Decimal((minutes - shift) * 60) + Decimal(fields[5])


def _span(value: Temporal) -> tuple[Decimal, Decimal]:
    return (
        _instant(low_boundary(value, 17), _EARLIEST_ZONE),
        _instant(high_boundary(value, 17), _LATEST_ZONE),
    )


def precision_of(value: Temporal) -> int:
    """Return the count of digits known: 4 for a year, 17 for milliseconds."""
    digits = _TIME_DIGITS if value.kind == "Time" else _DATE_DIGITS
    known = digits[len(value.fields) - 1]
    has_seconds = len(value.fields) == len(digits)
    exponent = Decimal(value.fields[-1]).as_tuple().exponent if has_seconds else 0
    return known + (3 if isinstance(exponent, int) and exponent < 0 else 0)


def low_boundary(value: Temporal, digits: int | None = None) -> Temporal:
    """Return the first moment that the value may mean, to so many digits."""
    return _boundary(value, digits, is_high=False)


def high_boundary(value: Temporal, digits: int | None = None) -> Temporal:
    """Return the last moment that the value may mean, to so many digits."""
    return _boundary(value, digits, is_high=True)


def _boundary(value: Temporal, digits: int | None, *, is_high: bool) -> Temporal:
    table = _TIME_DIGITS if value.kind == "Time" else _DATE_DIGITS
    if digits is None:
        digits = 8 if value.kind == "Date" else table[-1] + 3
    count = sum(1 for known in table if known <= digits)
    fields = list(value.fields[:count])
    for position in range(len(fields), count):
        fields.append(_edge(fields, position, value.kind, is_high=is_high))
    if digits == table[-1] + 3:
        second = Decimal(fields[-1])
        is_whole = second.as_tuple().exponent == 0
        missing = Decimal("0.999") if is_high and is_whole else Decimal("0.000")
        fields[-1] = second + missing if is_whole else second
    kind = value.kind if value.kind == "Time" or count > 3 else "Date"
    zone = value.zone
    if value.kind != "Time" and count > 3:
        kind = "DateTime"
        if zone is None and len(value.fields) >= 3:
            zone = _LATEST_ZONE if is_high else _EARLIEST_ZONE
    return Temporal(kind, tuple(fields), zone if count > 3 else None)


def _edge(fields: list[int | Decimal], position: int, kind: str, *, is_high: bool) -> int | Decimal:
    if kind == "Time":
        position += 3
    if not is_high:
        return (1, 1, 1, 0, 0, Decimal(0))[position]
    if position == 2:
        return calendar.monthrange(int(fields[0]), int(fields[1]))[1]
    return (9999, 12, 31, 23, 59, Decimal(59))[position]


# What one unit is in its whole next smaller calendar unit; a month here is 30 days, a year 365
# (http://hl7.org/fhirpath/N1/#time-valued-quantities), used only to bring a quantity to the
# precision of a partial date.
_MONTHS = {"year": 12, "month": 1}
_SECONDS = {
    "week": Decimal(604_800),
    "day": Decimal(86_400),
    "hour": Decimal(3_600),
    "minute": Decimal(60),
    "second": Decimal(1),
    "millisecond": Decimal("0.001"),
}


def add(value: Temporal, amount: Decimal, unit: str) -> Temporal | None:
    """Return the value moved by so many calendar units; None outside years 1 to 9999.

    Above seconds the decimal part of the amount is ignored
    (http://hl7.org/fhirpath/N1/#addition-2).
    """
    if unit not in ("second", "millisecond"):
        amount = Decimal(int(amount))
    if value.kind == "Time":
        return _add_to_time(value, amount * _SECONDS[unit]) if unit in _SECONDS else value
    if unit in _MONTHS:
        return _add_months(value, int(amount) * _MONTHS[unit])
    return _add_seconds(value, amount * _SECONDS[unit])


def _add_to_time(value: Temporal, seconds: Decimal) -> Temporal:
    hour, minute, second = (*value.fields, 0, 0)[:3]
    total = (Decimal(hour) * 3600 + Decimal(minute) * 60 + Decimal(second) + seconds) % 86_400
    if total < 0:
        total += 86_400
    fields: tuple[int | Decimal, ...] = (int(total // 3600), int(total // 60 % 60), total % 60)
    return Temporal("Time", fields[: len(value.fields)])


def _add_months(value: Temporal, months: int) -> Temporal | None:
    if len(value.fields) == 1:
        months -= int(Decimal(months) % 12)
    count = int(value.fields[0]) * 12 + int((*value.fields, 1)[1]) - 1 + months
    if not 12 <= count < 120_000:
        return None
    fields = list(value.fields)
    fields[0] = count // 12
    if len(fields) > 1:
        fields[1] = count % 12 + 1
    if len(fields) > 2:
        fields[2] = min(int(fields[2]), calendar.monthrange(count // 12, count % 12 + 1)[1])
    return Temporal(value.kind, tuple(fields), value.zone)


def _add_seconds(value: Temporal, seconds: Decimal) -> Temporal | None:
    known = len(value.fields)
    if known < 3:
        days = int(seconds / 86_400)
        return _add_months(value, int(days / 365) * 12 if known == 1 else int(days / 30))
    size = (86_400, 3_600, 60)[known - 3] if known < 6 else None
    if size is not None:
        seconds = Decimal(int(seconds / size) * size)
    total = _instant(Temporal(value.kind, value.fields)) + seconds
    day = int(total // 86_400)
    if not 1 <= day <= dt.date.max.toordinal():
        return None
    date = dt.date.fromordinal(day)
    rest = total % 86_400
    fields: tuple[int | Decimal, ...] = (
        date.year, date.month, date.day, int(rest // 3600), int(rest // 60 % 60), rest % 60,
    )  # fmt: skip
    return Temporal(value.kind, fields[:known], value.zone)
