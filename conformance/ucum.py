"""The unit algebra of UCUM's case-sensitive codes (https://ucum.org/ucum).

A unit is a factor and the exponents of seven base units; units between which nobody can convert
(`[iU]`, `[pH]`) are dimensions of their own. Temperatures carry an offset and convert only alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

from conformance.ucum_units import ATOMS, METRIC, OFFSETS, PREFIXES

SYSTEM = "http://unitsofmeasure.org"
_BASES = ("m", "s", "g", "rad", "K", "C", "cd")
_MAX_EXPONENT = 99
_WORD = re.compile(
    r"(10[*^])([+-]?\d{1,2})?|(\d{1,30})|((?:\[[^\]]*\]|[^\d.()/\[\]{}+\-])+)([+-]?\d{1,2})?"
)
# An annotation standing alone is the unit 1; behind a unit it says nothing.
_ANNOTATION = re.compile(r"(^|[./(])\{[^{}]*\}|\{[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Unit:
    """What a code means: `value · factor (+ offset)` in base units of these exponents."""

    factor: Fraction
    exponents: Mapping[str, int] = field(default_factory=dict)
    offset: Fraction = Fraction(0)


@lru_cache(maxsize=2048)
def parse(code: str) -> Unit | None:
    """Read a UCUM code; None if it is none that we know."""
    if len(code) > 200 or not code.isascii():
        return None
    bare = _ANNOTATION.sub(lambda match: "" if match[1] is None else f"{match[1]}1", code)
    if not bare:
        return None
    if bare in OFFSETS:
        factor, offset = OFFSETS[bare]
        return Unit(Fraction(factor), {"K": 1}, Fraction(offset))
    try:
        unit, at = _term(bare, 0, 0)
    except _NotUcum:
        return None
    return unit if at == len(bare) else None


class _NotUcum(Exception):
    """The code cannot be read; stays in this module."""


def _term(code: str, at: int, depth: int) -> tuple[Unit, int]:
    """Read `component ((. | /) component)*`, from left to right."""
    if depth > 20:
        raise _NotUcum
    total = Unit(Fraction(1))
    sign = 1
    if code[at : at + 1] == "/":
        sign, at = -1, at + 1
    while True:
        unit, at = _component(code, at, depth)
        total = _product(total, unit, sign)
        operator = code[at : at + 1]
        if operator not in (".", "/") or not operator:
            return total, at
        sign, at = (1 if operator == "." else -1), at + 1


def _component(code: str, at: int, depth: int) -> tuple[Unit, int]:
    if code[at : at + 1] == "(":
        unit, at = _term(code, at + 1, depth + 1)
        if code[at : at + 1] != ")":
            raise _NotUcum
        return unit, at + 1
    match = _WORD.match(code, at)
    if match is None:
        raise _NotUcum
    ten, ten_exponent, number, name, exponent = match.groups()
    if ten:
        return Unit(Fraction(10) ** int(ten_exponent or 1)), match.end()
    if number:
        if int(number) == 0:
            raise _NotUcum
        return Unit(Fraction(int(number))), match.end()
    unit = _atom(name)
    power = int(exponent or 1)
    return Unit(unit.factor**power, {k: v * power for k, v in unit.exponents.items()}), match.end()


def _atom(name: str) -> Unit:
    known = _simple(name)
    if known is not None:
        return known
    for length in (2, 1):
        prefix = PREFIXES.get(name[:length])
        if prefix is not None and name[length:] in METRIC:
            unit = _simple(name[length:])
            if unit is not None:
                return Unit(unit.factor * Fraction(prefix), unit.exponents)
    raise _NotUcum


@lru_cache(maxsize=512)
def _simple(name: str) -> Unit | None:
    if name in _BASES:
        return Unit(Fraction(1), {name: 1})
    definition = ATOMS.get(name)
    if definition is None:
        return None
    number, code = definition
    if code == name:
        return Unit(Fraction(1), {name: 1})
    unit = parse(code)
    return Unit(Fraction(number) * unit.factor, unit.exponents) if unit is not None else None


def _product(left: Unit, right: Unit, sign: int) -> Unit:
    exponents = dict(left.exponents)
    for base, exponent in right.exponents.items():
        exponents[base] = exponents.get(base, 0) + sign * exponent
        if abs(exponents[base]) > _MAX_EXPONENT:
            raise _NotUcum
    factor = left.factor * right.factor if sign == 1 else left.factor / right.factor
    return Unit(factor, {base: exponent for base, exponent in exponents.items() if exponent})


def in_common_unit(
    left: tuple[Decimal, str], right: tuple[Decimal, str]
) -> tuple[Decimal, Decimal] | None:
    """Return both values in the larger of the two units; None without a common dimension."""
    units = parse(left[1]), parse(right[1])
    if units[0] is None or units[1] is None or units[0].exponents != units[1].exponents:
        return None
    if units[0].factor >= units[1].factor:
        return left[0], _converted(right[0], units[1], units[0])
    return _converted(left[0], units[0], units[1]), right[0]


def _converted(value: Decimal, source: Unit, target: Unit) -> Decimal:
    amount = (Fraction(value) * source.factor + source.offset - target.offset) / target.factor
    return Decimal(amount.numerator) / Decimal(amount.denominator)


def combined(left: str, right: str, sign: int) -> tuple[Decimal, str] | None:
    """Return the product (sign 1) or quotient (-1) of two units: its factor and base-unit code."""
    units = parse(left), parse(right)
    if units[0] is None or units[1] is None or units[0].offset or units[1].offset:
        return None
    try:
        product = _product(units[0], units[1], sign)
    except _NotUcum:
        return None
    factor = Decimal(product.factor.numerator) / Decimal(product.factor.denominator)
    code = ".".join(
        base if exponent == 1 else f"{base}{exponent}"
        for base, exponent in sorted(product.exponents.items())
    )
    return factor, code or "1"


@lru_cache(maxsize=4096)
def canonical(code: str) -> tuple[str, Decimal] | None:
    """Return (dimension, factor to its base units), or None for a unit we cannot convert.

    `canonical("mg/dL")` is `("g1.m-3", Decimal("10"))`. A temperature with an offset has none.
    """
    unit = parse(code) if code else Unit(Fraction(1))
    if unit is None or unit.offset:
        return None
    name = ".".join(f"{base}{power}" for base, power in sorted(unit.exponents.items())) or "1"
    with localcontext(Context(prec=40)):
        return name, Decimal(unit.factor.numerator) / Decimal(unit.factor.denominator)


def is_comparable(left: str, right: str) -> bool:
    """Say whether two codes measure the same dimension."""
    units = parse(left), parse(right)
    return (
        units[0] is not None and units[1] is not None and units[0].exponents == units[1].exponents
    )
