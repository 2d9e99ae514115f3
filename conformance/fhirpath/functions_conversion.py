"""Conversions between System types (http://hl7.org/fhirpath/N1/#conversion)."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from conformance.fhirpath.arithmetic import decimal_text, within_bounds
from conformance.fhirpath.evaluation import Collection, Frame, single_value
from conformance.fhirpath.nodes import Node
from conformance.fhirpath.quantity import CALENDAR_UNITS, Quantity, in_common_unit
from conformance.fhirpath.temporal import Temporal, as_kind, parse_date_time, parse_time

_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,400}(?:\.\d{1,400})?", re.ASCII)
_QUANTITY = re.compile(
    r"(?P<value>[+-]?\d{1,400}(?:\.\d{1,400})?)\s*(?:'(?P<code>[^']+)'|(?P<unit>[A-Za-z]+))?",
    re.ASCII,
)
# http://hl7.org/fhirpath/N1/#boolean-conversion-functions
_TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "0.0"})


_SAFE = 19  # so many digits are within the bounds of an Integer but for the last


def boolean_of(value: Any) -> bool | None:
    """Return the value as a Boolean, None where it is none."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | Decimal):
        return bool(value) if value in (0, 1) else None
    if isinstance(value, str):
        text = value.lower()
        return True if text in _TRUE else False if text in _FALSE else None
    return None


def integer_of(value: Any) -> int | None:
    """Return the value as an Integer, None where it is none."""
    if isinstance(value, int):
        return int(value)
    if type(value) is str and len(value) < _SAFE and value.isdigit() and value.isascii():
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        number = within_bounds(int(value))
        return None if number is None else int(number)
    return None


def decimal_of(value: Any) -> Decimal | None:
    """Return the value as a Decimal, None where it is none."""
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return Decimal(value)
    return None


def quantity_of(value: Any) -> Quantity | None:
    """Return the value as a Quantity, None where it is none."""
    if isinstance(value, Quantity):
        return value
    if isinstance(value, int | Decimal):
        return Quantity(Decimal(value), "1")
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    number = Decimal(match["value"])
    if match["unit"] is None:
        return Quantity(number, match["code"] or "1")
    unit = CALENDAR_UNITS.get(match["unit"])
    return None if unit is None else Quantity(number, unit, is_calendar=True)


def string_of(value: Any) -> str | None:
    """Return the value as a String, None where it is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return decimal_text(value)
    return str(value) if isinstance(value, int | Temporal | Quantity) else None


def date_of(value: Any) -> Temporal | None:
    """Return the value as a Date, None where it is none."""
    moment = parse_date_time(value) if isinstance(value, str) else value
    if isinstance(moment, Temporal) and moment.kind != "Time":
        return as_kind(moment, "Date")
    return None


def date_time_of(value: Any) -> Temporal | None:
    """Return the value as a DateTime, None where it is none."""
    moment = parse_date_time(value) if isinstance(value, str) else value
    if isinstance(moment, Temporal) and moment.kind != "Time":
        return as_kind(moment, "DateTime")
    return None


def time_of(value: Any) -> Temporal | None:
    """Return the value as a Time, None where it is none."""
    moment = parse_time(value) if isinstance(value, str) else value
    return moment if isinstance(moment, Temporal) and moment.kind == "Time" else None


def _to(name: str, convert: Callable[[Any], Any]) -> Callable[..., Collection]:
    what = f"{name}()"

    def function(_frame: Frame, focus: Collection) -> Collection:
        value = single_value(focus, what)
        result = None if value is None or isinstance(value, Node) else convert(value)
        return [] if result is None else [result]

    return function


def _converts(name: str, convert: Callable[[Any], Any]) -> Callable[..., Collection]:
    what = f"{name}()"

    def function(_frame: Frame, focus: Collection) -> Collection:
        value = single_value(focus, what)
        if value is None:
            return []
        return [not isinstance(value, Node) and convert(value) is not None]

    return function


to_boolean = _to("toBoolean", boolean_of)
to_integer = _to("toInteger", integer_of)
to_decimal = _to("toDecimal", decimal_of)
to_string = _to("toString", string_of)
to_date = _to("toDate", date_of)
to_date_time = _to("toDateTime", date_time_of)
to_time = _to("toTime", time_of)
converts_to_boolean = _converts("convertsToBoolean", boolean_of)
converts_to_integer = _converts("convertsToInteger", integer_of)
converts_to_decimal = _converts("convertsToDecimal", decimal_of)
converts_to_string = _converts("convertsToString", string_of)
converts_to_date = _converts("convertsToDate", date_of)
converts_to_date_time = _converts("convertsToDateTime", date_time_of)
converts_to_time = _converts("convertsToTime", time_of)


def to_quantity(frame: Frame, focus: Collection, unit: Collection | None = None) -> Collection:
    """`toQuantity([unit])`: in that unit, empty where it cannot be brought there."""
    value = single_value(focus, "toQuantity()")
    quantity = None if value is None or isinstance(value, Node) else quantity_of(value)
    if quantity is None or unit is None:
        return [] if quantity is None else [quantity]
    wanted = single_value(unit, "toQuantity()")
    if not isinstance(wanted, str):
        return []
    target = Quantity(Decimal(1), CALENDAR_UNITS.get(wanted, wanted), wanted in CALENDAR_UNITS)
    values = in_common_unit(quantity, target)
    if values is None:
        return []
    frame.run.charge(1)
    return [Quantity(values[0] / values[1], target.unit, target.is_calendar)]


def converts_to_quantity(
    frame: Frame, focus: Collection, unit: Collection | None = None
) -> Collection:
    """`convertsToQuantity([unit])`."""
    value = single_value(focus, "convertsToQuantity()")
    return [] if value is None else [bool(to_quantity(frame, focus, unit))]
