"""Mathematics and boundaries (http://hl7.org/fhirpath/N1/#math)."""

import decimal
import math
from collections.abc import Callable
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

from conformance import ucum
from conformance.fhirpath import temporal
from conformance.fhirpath.arithmetic import is_number, real, tidy, within_bounds
from conformance.fhirpath.equality import rounded
from conformance.fhirpath.evaluation import (
    Collection,
    Frame,
    single_integer,
    single_value,
    wrong_type,
)
from conformance.fhirpath.quantity import Quantity, in_common_unit
from conformance.fhirpath.temporal import Temporal

# http://hl7.org/fhirpath/#lowboundary: a decimal has at most 31 decimals, by default 8.
_MOST_DIGITS = 31
_DEFAULT_DIGITS = 8


def _number(focus: Collection, what: str) -> Any:
    value = single_value(focus, what)
    if value is not None and not is_number(value):
        raise wrong_type(what, "a number", value)
    return value


def abs_(_frame: Frame, focus: Collection) -> Collection:
    """`abs()`, of quantities too."""
    value = single_value(focus, "abs()")
    if isinstance(value, Quantity):
        return [Quantity(abs(value.value), value.unit, value.is_calendar)]
    return [] if value is None else [abs(_number(focus, "abs()"))]


def _whole(name: str, change: Callable[[Any], int]) -> Callable[..., Collection]:
    def function(_frame: Frame, focus: Collection) -> Collection:
        value = _number(focus, f"{name}()")
        if value is None or within_bounds(value) is None:
            return []
        result = within_bounds(change(value))
        return [] if result is None else [result]

    return function


ceiling = _whole("ceiling", math.ceil)
floor = _whole("floor", math.floor)
truncate = _whole("truncate", math.trunc)


def _real(name: str, operation: str) -> Callable[..., Collection]:
    def function(_frame: Frame, focus: Collection) -> Collection:
        value = _number(focus, f"{name}()")
        result = None if value is None else real(value, operation)
        return [] if result is None else [result]

    return function


exp = _real("exp", "exp")
ln = _real("ln", "ln")
sqrt = _real("sqrt", "sqrt")


def log(_frame: Frame, focus: Collection, base: Collection) -> Collection:
    """`log(base)`."""
    value, radix = _number(focus, "log()"), _number(base, "log()")
    if value is None or radix is None or value <= 0 or radix <= 0 or radix == 1:
        return []
    result = tidy(Decimal(value).ln() / Decimal(radix).ln())
    return [] if result is None else [result]


def power(_frame: Frame, focus: Collection, exponent: Collection) -> Collection:
    """`power(exponent)`; empty where the result is not real or overflows."""
    value, by = _number(focus, "power()"), _number(exponent, "power()")
    if value is None or by is None:
        return []
    try:
        result = within_bounds(Decimal(value) ** Decimal(by))
    except (decimal.InvalidOperation, decimal.Overflow, decimal.DivisionByZero):
        return []
    if result is None:
        return []
    if isinstance(value, int) and isinstance(by, int) and by >= 0:
        whole = within_bounds(int(result))
        return [] if whole is None else [whole]
    return [result]


def round_(_frame: Frame, focus: Collection, precision: Collection | None = None) -> Collection:
    """`round([precision])`, halves away from zero."""
    value = _number(focus, "round()")
    digits = 0 if precision is None else single_integer(precision, "round()")
    if value is None or digits is None or digits < 0:
        return []
    return [rounded(Decimal(value), min(digits, _MOST_DIGITS))]


def precision(_frame: Frame, focus: Collection) -> Collection:
    """`precision()`: decimals of a number, digits of a date or time."""
    value = single_value(focus, "precision()")
    if isinstance(value, Temporal):
        return [temporal.precision_of(value)]
    if is_number(value):
        exponent = Decimal(value).as_tuple().exponent
        return [max(0, -exponent) if isinstance(exponent, int) else 0]
    return []


def low_boundary(_frame: Frame, focus: Collection, digits: Collection | None = None) -> Collection:
    """`lowBoundary([precision])`: the least the value may mean."""
    return _boundary(focus, digits, "lowBoundary()", is_high=False)


def high_boundary(_frame: Frame, focus: Collection, digits: Collection | None = None) -> Collection:
    """`highBoundary([precision])`: the most the value may mean."""
    return _boundary(focus, digits, "highBoundary()", is_high=True)


def _boundary(
    focus: Collection, digits: Collection | None, what: str, *, is_high: bool
) -> Collection:
    value = single_value(focus, what)
    if value is None:
        return []
    wanted = None if digits is None else single_integer(digits, what)
    if isinstance(value, Temporal):
        return _temporal_boundary(value, wanted, is_high=is_high)
    places = _DEFAULT_DIGITS if wanted is None else wanted
    if not 0 <= places <= _MOST_DIGITS:
        return []
    if isinstance(value, Quantity):
        edge = _decimal_boundary(value.value, places, is_high=is_high)
        return [Quantity(edge, value.unit, value.is_calendar)]
    if is_number(value):
        return [_decimal_boundary(Decimal(value), places, is_high=is_high)]
    raise wrong_type(what, "a number, quantity, date or time", value)


def _temporal_boundary(value: Temporal, digits: int | None, *, is_high: bool) -> Collection:
    known = (2, 4, 6, 9) if value.kind == "Time" else (4, 6, 8, 10, 12, 14, 17)
    if digits is not None and digits not in known:
        return []
    edge = temporal.high_boundary if is_high else temporal.low_boundary
    return [edge(value, digits)]


def _decimal_boundary(value: Decimal, places: int, *, is_high: bool) -> Decimal:
    """Move half a unit of the last decimal; outwards round it, inwards cut it to `places`."""
    exponent = value.as_tuple().exponent
    half = Decimal(5).scaleb((min(exponent, 0) if isinstance(exponent, int) else 0) - 1)
    is_outward = is_high == (value >= 0)
    with decimal.localcontext(decimal.Context(prec=80)):
        edge = value + half if is_high else value - half
        rounding = ROUND_HALF_UP if is_outward else ROUND_DOWN
        return edge.quantize(Decimal(1).scaleb(-places), rounding=rounding)


def comparable(_frame: Frame, focus: Collection, other: Collection) -> Collection:
    """`comparable(quantity)`: whether both units measure the same."""
    one, against = single_value(focus, "comparable()"), single_value(other, "comparable()")
    if not isinstance(one, Quantity) or not isinstance(against, Quantity):
        return []
    if in_common_unit(one, against) is not None:
        return [True]
    return [ucum.is_comparable(one.unit, against.unit)]
