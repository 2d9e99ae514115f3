"""Numbers that carry their own check: 身份证 (ID card), 统一社会信用代码 (USCC), 组织机构代码.

GB 11643 with ISO 7064 MOD 11-2; GB 32100-2015; GB 11714.
"""

import datetime
from collections.abc import Container
from dataclasses import dataclass

ID_CARD_SYSTEM = "urn:oid:2.16.156.10011.1.3"
TEST_REGION = "999001"  # reserved: no such place, so no such person

_ID_CARD_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CARD_CHECKS = "10X98765432"
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdCard:
    """What an ID-card number says of its holder."""

    region: str
    birth_on: datetime.date
    gender: str


class NotAnIdCard(ValueError):
    """The number breaks a rule of GB 11643; the text names the rule and not the number."""


def check_character_of_id_card(first17: str) -> str:
    """Return the 18th character that belongs to 17 digits."""
    total = sum(
        int(digit) * weight for digit, weight in zip(first17, _ID_CARD_WEIGHTS, strict=True)
    )
    return _ID_CARD_CHECKS[total % 11]


def read_id_card(number: str, *, today: datetime.date, test_regions: Container[str] = ()) -> IdCard:
    """Check an 18-character number and return what it says; raises `NotAnIdCard`.

    A region that begins with 99 exists for tests only and passes where `test_regions` has it.
    """
    if len(number) != 18 or not (number[:17].isascii() and number[:17].isdigit()):
        raise NotAnIdCard("it has not 17 digits and a check character")
    if check_character_of_id_card(number[:17]) != number[17].upper():
        raise NotAnIdCard("its last character does not belong to the first 17 digits")
    region = number[:6]
    if region.startswith("99") and region not in test_regions:
        raise NotAnIdCard("its region is reserved for tests; QIAO_TEST_REGIONS lets it pass")
    try:
        birth_on = datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        raise NotAnIdCard("digits 7 to 14 are no date of birth") from None
    if birth_on > today:
        raise NotAnIdCard("its date of birth lies in the future")
    return IdCard(
        region=region, birth_on=birth_on, gender="male" if int(number[16]) % 2 else "female"
    )


def id_card_from_15_digits(old: str) -> str:
    """Return the 18-character form of a number of the first generation (born in 19xx)."""
    first17 = f"{old[:6]}19{old[6:]}"
    return first17 + check_character_of_id_card(first17)


def is_uscc(code: str) -> bool:
    """Say whether an 18-character 统一社会信用代码 (unified social credit code) is well formed."""
    if len(code) != 18 or any(character not in _USCC_ALPHABET for character in code):
        return False
    total = sum(_USCC_ALPHABET.index(c) * pow(3, i, 31) for i, c in enumerate(code[:17]))
    return _USCC_ALPHABET[-total % 31] == code[17]


def is_organisation_code(code: str) -> bool:
    """Say whether a 组织机构代码 (organisation code, `XXXXXXXX-C`) is well formed."""
    body, dash, check = code.partition("-")
    if (
        not dash
        or len(body) != 8
        or not (body.isascii() and body.isalnum() and body.upper() == body)
    ):
        return False
    total = sum(int(c, 36) * weight for c, weight in zip(body, _ORGANISATION_WEIGHTS, strict=True))
    return "0123456789X0"[11 - total % 11] == check
