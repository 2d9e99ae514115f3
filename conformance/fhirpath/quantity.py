"""Numbers with a unit (http://hl7.org/fhirpath/N1/#quantity)."""

from dataclasses import dataclass
from decimal import Decimal

from conformance import ucum

UCUM = ucum.SYSTEM
CALENDAR_UNITS = {
    spelling: unit
    for unit in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for spelling in (unit, f"{unit}s")
}
# Definite durations that a calendar duration equals
# (http://hl7.org/fhirpath/N1/#time-valued-quantities); a year and a month have none.
_DEFINITE = {"week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s",
             "millisecond": "ms"}  # fmt: skip
_SIMILAR = {**_DEFINITE, "year": "a", "month": "mo"}
_FROM_UCUM = {code: unit for unit, code in _DEFINITE.items()}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A System.Quantity: `unit` is a UCUM code or, with `is_calendar`, a calendar unit's name."""

    value: Decimal
    unit: str
    is_calendar: bool = False

    def __str__(self) -> str:
        if self.is_calendar:
            return f"{self.value} {self.unit}{'' if self.value == 1 else 's'}"
        return f"{self.value} '{self.unit}'"


def calendar_unit_of(quantity: Quantity) -> str | None:
    """Return the calendar unit by which a date may be moved; None where there is none.

    `'a'` and `'mo'` are definite durations of 365.25 and 30.4375 days and move no date.
    """
    if quantity.is_calendar:
        return quantity.unit
    return _FROM_UCUM.get(quantity.unit) or CALENDAR_UNITS.get(quantity.unit)


def ucum_code_of(quantity: Quantity) -> str:
    """Return the UCUM code of the unit; a calendar duration has that of the definite one like it.

    https://hl7.org/fhir/R4/fhirpath.html#quantity
    """
    return _SIMILAR[quantity.unit] if quantity.is_calendar else quantity.unit


def _ucum_of(quantity: Quantity, table: dict[str, str]) -> str | None:
    return table.get(quantity.unit) if quantity.is_calendar else quantity.unit


def in_common_unit(
    left: Quantity, right: Quantity, *, is_loose: bool = False
) -> tuple[Decimal, Decimal] | None:
    """Return both values in one unit; None where the units have no common dimension.

    Loosely (for equivalence), a calendar year or month counts as `'a'` or `'mo'`.
    """
    if left.unit == right.unit and left.is_calendar == right.is_calendar:
        return left.value, right.value
    if left.is_calendar and right.is_calendar:
        table = {"year": "a", "month": "mo"}
        if left.unit in table and right.unit in table:
            months = {"year": 12, "month": 1}
            return left.value * months[left.unit], right.value * months[right.unit]
    table = _SIMILAR if is_loose else _DEFINITE
    codes = _ucum_of(left, table), _ucum_of(right, table)
    if codes[0] is None or codes[1] is None:
        return None
    if codes[0] == codes[1]:
        return left.value, right.value
    return ucum.in_common_unit((left.value, codes[0]), (right.value, codes[1]))


def multiply(left: Quantity, right: Quantity) -> Quantity | None:
    """Return the product; None where a unit cannot be read."""
    return _combined(left, right, 1)


def divide(left: Quantity, right: Quantity) -> Quantity | None:
    """Return the quotient; None where a unit cannot be read or the divisor is zero."""
    return None if right.value == 0 else _combined(left, right, -1)


def _combined(left: Quantity, right: Quantity, sign: int) -> Quantity | None:
    codes = _ucum_of(left, _SIMILAR), _ucum_of(right, _SIMILAR)
    if codes[0] is None or codes[1] is None:
        return None
    value = left.value * right.value if sign == 1 else left.value / right.value
    if codes[1] == "1":
        return Quantity(value, codes[0])
    if codes[0] == "1" and sign == 1:
        return Quantity(value, codes[1])
    product = ucum.combined(codes[0], codes[1], sign)
    if product is None:
        return None
    factor, unit = product
    return Quantity(value * factor, unit)
