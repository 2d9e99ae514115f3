"""What a role gives ends at the midnight of China, wherever the clock of the machine stands."""

from datetime import UTC, datetime

import pytest

from routes import care_relations


class HalfPastMidnight(datetime):
    """00:30 of 22 November in China, while UTC has the 21st."""

    @classmethod
    def now(cls, tz: object = None) -> "HalfPastMidnight":
        return cls(2026, 11, 21, 16, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("role", "is_current"),
    [
        ({}, True),
        ({"active": False}, False),
        ({"period": {"end": "2026-11-21"}}, False),
        ({"period": {"end": "2026-11-22"}}, True),
        ({"period": {"end": "2026-11"}}, True),
        ({"period": {"start": "2026-11-22"}}, True),
        ({"period": {"start": "2026-11-23"}}, False),
        ({"period": {"end": "2026-11-21T16:29:59Z"}}, False),
    ],
)
def test_a_role_holds_on_the_days_of_china(
    role: dict[str, object], is_current: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care_relations, "datetime", HalfPastMidnight)
    assert care_relations._is_current(role) is is_current
