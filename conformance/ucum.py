"""Units of measure made comparable: the simple part of UCUM, without special units.

https://ucum.org/ucum: prefixes, powers, products, quotients and the atoms that clinical data use.
A unit outside of it has no canonical form and is compared by its code.
"""

import re
from decimal import Decimal, localcontext
from functools import lru_cache

SYSTEM = "http://unitsofmeasure.org"

_PREFIXES = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
    "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18,
}  # fmt: skip
# atom: (factor, powers of the base units), metric atoms first
_METRIC: dict[str, tuple[str, dict[str, int]]] = {
    "m": ("1", {"m": 1}), "s": ("1", {"s": 1}), "g": ("1", {"g": 1}), "K": ("1", {"K": 1}),
    "C": ("1", {"C": 1}), "cd": ("1", {"cd": 1}), "rad": ("1", {"rad": 1}),
    "mol": ("6.02214076e23", {}), "L": ("0.001", {"m": 3}), "l": ("0.001", {"m": 3}),
    "Hz": ("1", {"s": -1}), "N": ("1000", {"g": 1, "m": 1, "s": -2}),
    "Pa": ("1000", {"g": 1, "m": -1, "s": -2}), "J": ("1000", {"g": 1, "m": 2, "s": -2}),
    "W": ("1000", {"g": 1, "m": 2, "s": -3}), "A": ("1", {"C": 1, "s": -1}),
    "V": ("1000", {"g": 1, "m": 2, "s": -2, "C": -1}), "Bq": ("1", {"s": -1}),
    "Gy": ("1", {"m": 2, "s": -2}), "Sv": ("1", {"m": 2, "s": -2}),
    "bar": ("100000000", {"g": 1, "m": -1, "s": -2}), "eq": ("6.02214076e23", {}),
    "osm": ("6.02214076e23", {}), "cal": ("4184", {"g": 1, "m": 2, "s": -2}),
    "m[H2O]": ("9806650", {"g": 1, "m": -1, "s": -2}),
    "m[Hg]": ("133322000", {"g": 1, "m": -1, "s": -2}), "t": ("1000000", {"g": 1}),
    "U": ("10036901266666666.6667", {"s": -1}), "kat": ("6.02214076e23", {"s": -1}),
    "[IU]": ("1", {"[iU]": 1}), "[iU]": ("1", {"[iU]": 1}), "B": ("1", {"B": 1}),
}  # fmt: skip
_FIXED: dict[str, tuple[str, dict[str, int]]] = {
    "min": ("60", {"s": 1}), "h": ("3600", {"s": 1}), "d": ("86400", {"s": 1}),
    "wk": ("604800", {"s": 1}), "mo": ("2629800", {"s": 1}), "a": ("31557600", {"s": 1}),
    "%": ("0.01", {}), "[ppth]": ("0.001", {}), "[ppm]": ("0.000001", {}),
    "[in_i]": ("0.0254", {"m": 1}), "[ft_i]": ("0.3048", {"m": 1}),
    "[lb_av]": ("453.59237", {"g": 1}), "[oz_av]": ("28.349523125", {"g": 1}),
    "deg": ("0.0174532925199432957692", {"rad": 1}), "10*": ("10", {}), "10^": ("10", {}),
    "[drp]": ("0.00000005", {"m": 3}), "[pH]": ("1", {"[pH]": 1}),
}  # fmt: skip
_TERM = re.compile(r"(10\*|10\^|[A-Za-z%]*(?:\[[A-Za-z0-9_]+\])?[A-Za-z]*|\d+)([+-]?\d+)?")
_ANNOTATION = re.compile(r"\{[^{}]*\}")


@lru_cache(maxsize=4096)
def canonical(unit: str) -> tuple[str, Decimal] | None:
    """Return (dimension, factor to its base units), or None for a unit we cannot convert.

    `canonical("mg/dL")` is `("g.m-3", Decimal("10"))`.
    """
    if len(unit) > 60:
        return None
    plain = _ANNOTATION.sub("", unit)
    if plain == "":
        return ("1", Decimal(1))
    powers: dict[str, int] = {}
    factor = Decimal(1)
    sign = 1
    with localcontext() as context:
        context.prec = 40
        for part in re.split(r"([./])", plain):
            if part in (".", "/"):
                sign = 1 if part == "." else -1
                continue
            if part == "":
                continue
            term = _term(part)
            if term is None:
                return None
            amount, dimensions, power = term
            if abs(power) > 12:
                return None
            factor *= amount ** (power * sign)
            for base, count in dimensions.items():
                powers[base] = powers.get(base, 0) + count * power * sign
            sign = 1
    name = ".".join(f"{base}{count}" for base, count in sorted(powers.items()) if count) or "1"
    return name, factor


def _term(part: str) -> tuple[Decimal, dict[str, int], int] | None:
    match = _TERM.fullmatch(part)
    if match is None:
        return None
    atom, exponent = match.groups()
    power = int(exponent) if exponent else 1
    if atom.isdigit():
        return (Decimal(atom), {}, 1) if not exponent and Decimal(atom) else None
    if atom in _FIXED:
        value, dimensions = _FIXED[atom]
        return Decimal(value), dimensions, power
    if atom in _METRIC:
        value, dimensions = _METRIC[atom]
        return Decimal(value), dimensions, power
    for prefix, ten in _PREFIXES.items():
        if atom.startswith(prefix) and atom[len(prefix) :] in _METRIC:
            value, dimensions = _METRIC[atom[len(prefix) :]]
            return Decimal(value).scaleb(ten), dimensions, power
    return None
