"""A seed misbehaves the same way every time."""

import random

import pytest

from adapters.province.mischief import KINDS, PRESETS, Mischief, parse_faults


def drawn(seed: int, order: list[str]) -> dict[str, list[str]]:
    mischief = Mischief(PRESETS["many"], seed)
    moods: dict[str, list[str]] = {}
    for msg_id in order:
        moods.setdefault(msg_id, []).append(mischief.draw(msg_id))
    return moods


def test_moods_depend_on_seed_message_and_attempt_and_not_on_the_order() -> None:
    order = [f"m{number}" for number in range(200)] * 3
    other = order.copy()
    random.Random(1).shuffle(other)
    assert drawn(7, order) == drawn(7, other)
    assert drawn(7, order) != drawn(8, order)


def test_every_kind_happens_and_refusal_is_for_good() -> None:
    moods = drawn(7, [f"m{number}" for number in range(500)] * 3)
    assert {mood for each in moods.values() for mood in each} == {"", *KINDS}
    for each in moods.values():
        assert each.count("refuse") in (0, 3)


def test_shares_are_kept_roughly() -> None:
    moods = drawn(3, [f"m{number}" for number in range(2000)])
    quiet = sum(each == [""] for each in moods.values())
    assert 0.30 < quiet / 2000 < 0.50


@pytest.mark.parametrize(
    ("text", "faults"),
    [("none", {}), ("timeout=0.2", {"timeout": 0.2}), ("busy=1", {"busy": 1.0}), ("", {})],
)
def test_faults_are_read(text: str, faults: dict[str, float]) -> None:
    assert parse_faults(text) == faults


@pytest.mark.parametrize(
    ("text", "words"),
    [("sulk=0.1", "delay, timeout"), ("busy", "busy=0.1"), ("busy=0.7,fault=0.7", "at most 1")],
)
def test_wrong_faults_are_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_faults(text)
