"""Comparison and arithmetic (http://hl7.org/fhirpath/N1/#comparison, #math).

Overflow gives the empty collection, as the specification asks.
"""

import decimal
import operator as operators
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from conformance.fhirpath import quantity as quantities
from conformance.fhirpath.equality import as_quantity
from conformance.fhirpath.evaluation import Collection, Run, single, single_value, wrong_type
from conformance.fhirpath.faults import invalid_use
from conformance.fhirpath.nodes import system_value
from conformance.fhirpath.quantity import Quantity
from conformance.fhirpath.temporal import Temporal
from conformance.fhirpath.temporal import add as moved
from conformance.fhirpath.temporal import compare as compare_moments

_LARGEST = 2**63
_LARGEST_EXPONENT = 1000
OF_INTEGERS: Mapping[str, Callable[[int, int], int]] = {
    "+": operators.add,
    "-": operators.sub,
    "*": operators.mul,
}
"""What of arithmetic gives an Integer for any two Integers."""


def is_number(value: Any) -> bool:
    """Say whether a System value is an Integer or a Decimal."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def within_bounds(number: int | Decimal) -> int | Decimal | None:
    """Return the number; None if it overflows what we calculate with."""
    if isinstance(number, int):
        return number if -_LARGEST <= number < _LARGEST else None
    is_usable = number.is_finite() and abs(number.adjusted()) <= _LARGEST_EXPONENT
    return number if is_usable else None


def bounded(number: int) -> Collection:
    """Return an Integer as a collection, empty if it overflows."""
    return [number] if -_LARGEST <= number < _LARGEST else []


def order_of(left: Any, right: Any, operator: str) -> int | None:
    """Return -1, 0 or 1 for two items; None where nobody can tell; raises on other types."""
    one, other = system_value(left), system_value(right)
    if one is None or other is None:
        return None
    if (is_number(one) and is_number(other)) or (isinstance(one, str) and isinstance(other, str)):
        return int(one > other) - int(one < other)
    if isinstance(one, Temporal) and isinstance(other, Temporal):
        if (one.kind == "Time") != (other.kind == "Time"):
            raise wrong_type(f"`{operator}`", "two values of one type", other)
        return compare_moments(one, other)
    if isinstance(one, Quantity) or isinstance(other, Quantity):
        quantity, against = as_quantity(one), as_quantity(other)
        if quantity is not None and against is not None:
            values = quantities.in_common_unit(quantity, against)
            return (
                None if values is None else int(values[0] > values[1]) - int(values[0] < values[1])
            )
    raise wrong_type(f"`{operator}`", "two numbers, strings, dates, times or quantities", other)


def compare(left: Collection, right: Collection, operator: str) -> Collection:
    """Apply `<`, `<=`, `>` or `>=`."""
    if not left or not right:
        return []
    one, other = single(left, f"`{operator}`"), single(right, f"`{operator}`")
    order = order_of(one, other, operator)
    if order is None:
        return []
    match operator:
        case "<":
            return [order < 0]
        case "<=":
            return [order <= 0]
        case ">":
            return [order > 0]
    return [order >= 0]


def calculate(left: Collection, right: Collection, operator: str, run: Run) -> Collection:
    """Apply `+`, `-`, `*`, `/`, `div` or `mod`."""
    if not left or not right:
        return []
    one = single_value(left, f"`{operator}`")
    other = single_value(right, f"`{operator}`")
    if one is None or other is None:
        return []
    if isinstance(one, str) and isinstance(other, str) and operator == "+":
        return [run.check_text(one + other)]
    try:
        result = _calculated(one, other, operator)
    except ArithmeticError:
        return []
    return [] if result is None else [result]


def _calculated(one: Any, other: Any, operator: str) -> Any:
    if is_number(one) and is_number(other):
        return _numbers(one, other, operator)
    if isinstance(one, Temporal) and operator in ("+", "-"):
        return _moment(one, other, operator)
    quantity, against = as_quantity(one), as_quantity(other)
    if quantity is None or against is None:
        raise wrong_type(f"`{operator}`", "operands that fit each other", other)
    match operator:
        case "*":
            return quantities.multiply(quantity, against)
        case "/":
            return quantities.divide(quantity, against)
        case "+" | "-":
            return _sum(quantity, against, 1 if operator == "+" else -1)
    raise wrong_type(f"`{operator}`", "two numbers", other)


def _numbers(one: Any, other: Any, operator: str) -> Any:
    match operator:
        case "+":
            return within_bounds(one + other)
        case "-":
            return within_bounds(one - other)
        case "*":
            return within_bounds(one * other)
    if other == 0:
        return None
    if operator == "/":
        return within_bounds(Decimal(one) / Decimal(other))
    quotient = int(Decimal(one) / Decimal(other))
    if operator == "div":
        return within_bounds(quotient)
    if isinstance(one, int) and isinstance(other, int):
        return within_bounds(
            one - other * (abs(one) // abs(other)) * (1 if one * other > 0 else -1)
        )
    return within_bounds(Decimal(one) % Decimal(other))


def _moment(one: Temporal, other: Any, operator: str) -> Temporal | None:
    if not isinstance(other, Quantity):
        raise wrong_type(f"`{operator}` on a date or time", "a time-valued quantity", other)
    unit = quantities.calendar_unit_of(other)
    if unit is None:
        raise invalid_use(
            f"A date or time cannot be moved by the unit '{other.unit[:20]}'",
            f"日期或时间不能按单位 '{other.unit[:20]}' 加减",
            fix_en="Use years, months, weeks, days, hours, minutes, seconds or milliseconds.",
            fix_zh="请使用 years、months、weeks、days、hours、minutes、seconds 或 milliseconds。",
        )
    return moved(one, other.value if operator == "+" else -other.value, unit)


def _sum(one: Quantity, other: Quantity, sign: int) -> Quantity | None:
    values = quantities.in_common_unit(one, other)
    if values is None:
        return None
    # in_common_unit answers in the larger unit; say the sum in the unit its value came from.
    unit = one if values[0] == one.value else other
    return Quantity(values[0] + sign * values[1], unit.unit, unit.is_calendar)


def negate(collection: Collection, operator: str) -> Collection:
    """Apply the unary `+` or `-`."""
    value = single_value(collection, f"unary `{operator}`")
    if value is None:
        return []
    if isinstance(value, Quantity):
        sign = -1 if operator == "-" else 1
        return [Quantity(sign * value.value, value.unit, value.is_calendar)]
    if not is_number(value):
        raise wrong_type(f"unary `{operator}`", "a number or a quantity", value)
    return [-value if operator == "-" else value]


def concatenate(left: Collection, right: Collection, run: Run) -> Collection:
    """Apply `&`: an empty side counts as the empty string."""
    parts = []
    for side in (left, right):
        value = single_value(side, "`&`")
        if value is not None and not isinstance(value, str):
            raise wrong_type("`&`", "two strings", value)
        parts.append(value or "")
    return [run.check_text("".join(parts))]


def decimal_text(number: Decimal) -> str:
    """Return the number without an exponent, unless that would be absurdly long."""
    is_short = number.is_finite() and abs(number.adjusted()) <= 100
    return f"{number:f}" if is_short else str(number)


def real(value: Any, operation: str) -> Decimal | None:
    """Apply `sqrt`, `ln` or `exp` and round away the last doubtful digits."""
    try:
        result = getattr(Decimal(value), operation)()
    except (decimal.InvalidOperation, decimal.Overflow, decimal.DivisionByZero):
        return None
    return tidy(result)


def tidy(number: Decimal) -> Decimal | None:
    """Round to 24 digits, so that an exact result looks exact."""
    bounded = within_bounds(number)
    if bounded is None:
        return None
    return decimal.Context(prec=24).plus(Decimal(bounded)).normalize()
