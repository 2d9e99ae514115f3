"""ID cards, credit codes and organisation codes are checked by their own digits."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.identity_numbers import (
    TEST_REGION,
    NotAnIdCard,
    check_character_of_id_card,
    id_card_from_15_digits,
    is_organisation_code,
    is_uscc,
    read_id_card,
)

TODAY = datetime.date(2026, 11, 21)


def made(region: str = TEST_REGION, birth: str = "19900307", serial: str = "123") -> str:
    first17 = region + birth + serial
    return first17 + check_character_of_id_card(first17)


def test_the_published_vectors() -> None:
    assert check_character_of_id_card("11010519491231002") == "X"
    assert is_uscc("91350100M000100Y43")
    assert is_organisation_code("D2143569-X")


def test_a_number_tells_region_birth_date_and_gender() -> None:
    card = read_id_card(made(), today=TODAY, test_regions={TEST_REGION})
    assert (card.region, card.birth_on, card.gender) == (
        TEST_REGION, datetime.date(1990, 3, 7), "male",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        ("", "17 digits"),
        (made()[:-1], "17 digits"),
        ("９" + made()[1:], "17 digits"),
        (made()[:-1] + ("1" if made()[-1] == "0" else "0"), "last character"),
        (made(birth="19900230"), "date of birth"),
        (made(birth="20991231"), "future"),
    ],
)
def test_a_broken_number_is_refused_by_the_rule_it_breaks(number: str, rule: str) -> None:
    with pytest.raises(NotAnIdCard, match=rule):
        read_id_card(number, today=TODAY, test_regions={TEST_REGION})


def test_the_test_region_passes_only_where_it_is_let_in() -> None:
    with pytest.raises(NotAnIdCard, match="QIAO_TEST_REGIONS"):
        read_id_card(made(), today=TODAY)


def test_an_old_number_grows_a_century_and_a_check_character() -> None:
    old = TEST_REGION + "900307" + "123"
    assert id_card_from_15_digits(old) == made()


@given(st.integers(0, 16), st.integers(1, 9))
def test_every_single_wrong_digit_is_found(place: int, shift: int) -> None:
    number = made()
    wrong = str((int(number[place]) + shift) % 10)
    changed = number[:place] + wrong + number[place + 1 :]
    assert check_character_of_id_card(changed[:17]) != number[17]


@given(st.integers(0, 16), st.sampled_from("0123456789ABCDEFGHJKLMNPQRTUWXY"))
def test_every_single_wrong_character_of_a_credit_code_is_found(place: int, other: str) -> None:
    code = "91350100M000100Y43"
    changed = code[:place] + other + code[place + 1 :]
    assert is_uscc(changed) == (changed == code)
