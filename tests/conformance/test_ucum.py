"""UCUM codes: what they mean, what can be converted, and what is none."""

from decimal import Decimal

import pytest

from conformance import ucum
from conformance.ucum_units import ATOMS


def test_every_listed_unit_can_be_read() -> None:
    assert [code for code in ATOMS if ucum.parse(code) is None] == []


@pytest.mark.parametrize(
    ("left", "right", "factor"),
    [
        ("g", "mg", "1000"), ("[in_i]", "cm", "2.54"), ("mm[Hg]", "Pa", "133.322"),
        ("10*9/L", "10*3/uL", "1"), ("wk", "d", "7"), ("kg/m2", "g/cm2", "0.1"),
        ("umol/(24.h)", "umol/d", "1"), ("mL/min/{1.73_m2}", "mL/min", "1"), ("m2", "cm2", "10000"),
    ],
)  # fmt: skip
def test_units_of_one_dimension_convert(left: str, right: str, factor: str) -> None:
    values = ucum.in_common_unit((Decimal(1), left), (Decimal(factor), right))
    assert values is not None
    assert abs(values[0] - values[1]) < Decimal("1e-20")


def test_temperatures_convert_with_their_offset() -> None:
    values = ucum.in_common_unit((Decimal(37), "Cel"), (Decimal("98.6"), "[degF]"))
    assert values is not None
    assert values[0] == values[1]
    assert ucum.canonical("Cel") is None


@pytest.mark.parametrize(
    "code", ["", "foo", "mg/", "(mg", "mg)", "m" * 300, "m999", "0", "毫克", "m.", "{", "m99.m99"]
)
def test_what_is_no_unit_is_none(code: str) -> None:
    assert ucum.parse(code) is None


def test_other_dimensions_do_not_convert() -> None:
    assert ucum.in_common_unit((Decimal(1), "kg"), (Decimal(1), "m")) is None
    assert not ucum.is_comparable("[iU]", "g")
