"""Conditions read as the guide writes them."""

import pytest

from mappings.engine.conditions import UnreadableCondition, compile_condition

VALUES = {"PID-7": ["19900101"], "PID-11": ["a", "b"], "PV1-2": ["I"], "3": ["PH"]}


def _truth(text: str) -> bool:
    test = compile_condition(text, lambda path: lambda scope: scope.get(path, []))
    return test(VALUES)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("PID-7 VALUED", True),
        ("PID-25 NOT VALUED", True),
        ("IF PID-25 IS NOT VALUED", True),
        ("PID-7 LENGTH GREATER THAN 8", False),
        ("PID-7 LENGTH EQUALS 8", True),
        ("PID-11 COUNT GREATER THAN 1", True),
        ("PID-11 LST.COUNT EQUALS 1", False),
        ('PV1-2 EQUALS "I"', True),
        ('PV1-2 NOT EQUALS "P"', True),
        ('PV1-2 IN ("E", "I")', True),
        ('3 NOT IN ("Internet", "X.400") AND 7 NOT VALUED', True),
        ('NOT (PV1-2 EQUALS "I" OR PID-7 VALUED)', False),
        ("PID-7 VALUED AND PID-25 VALUED OR PV1-2 VALUED", True),
        ("PID-99 VALUED OR NOT PID-98 VALUED", True),
    ],
)
def test_a_condition_is_true_or_false(text: str, truth: bool) -> None:
    assert _truth(text) is truth


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PID-7",
        "VALUED",
        "PID-7 VALUE",
        'PV1-2 IN ("A", "S"',
        "PID-7 VALUED PID-8 VALUED",
        "PID-7 LENGTH GREATER 8",
        "(PID-7 VALUED",
        "PID-7 COUNT EQUALS x",
        "PID-7 = ",
        "PID-7 ; VALUED",
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UnreadableCondition):
        _truth(text)
