"""What the province refuses in a registration document, and that the advice helps."""

import datetime
import importlib.resources

import pytest

from adapters.province.error_table import read_error_table
from adapters.province.registration import Checked, FieldError, is_id_card, resident_check

TODAY = datetime.date(2026, 1, 2)
CHECK = resident_check()


class Nothing:
    """A register without entries: a resident's document depends on nobody."""

    def is_registered(self, _business_type: str, _subject: str) -> bool:
        return False

    def steps_of(self, _subject: str) -> list[str]:
        return []


SAMPLE = (
    importlib.resources.files("adapters.province")
    .joinpath("resident_registration.xml")
    .read_text("utf-8")
)


def checked(*changes: tuple[str, str]) -> Checked | list[FieldError]:
    text = SAMPLE
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return CHECK(text.encode(), TODAY, Nothing())


def test_the_sample_is_taken() -> None:
    assert isinstance(checked(), Checked)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ([("<Name>演示甲</Name>", "")], "E2002", "SexCode"),
        ([("<SexCode>1", "<SexCode>男")], "E2002", "SexCode"),
        ([("<BirthDate>1990-03-07", "<BirthDate>1990-03")], "E2002", "BirthDate"),
        ([("<BirthDate>1990-03-07", "<BirthDate>12345-03-07")], "E2002", "BirthDate"),
        ([("<IdCard>999001199003071010", "<IdCard>123")], "E2002", "IdCard"),
        ([("<IdCard>999001199003071010", "<IdCard>999001199003071011")], "E2003", "IdCard"),
        ([("<BirthDate>1990-03-07", "<BirthDate>1990-03-08")], "E2005", "BirthDate"),
        ([("<BirthDate>1990-03-07", "<BirthDate>2090-03-07")], "E2007", "BirthDate"),
        ([("<SexCode>1", "<SexCode>2")], "E2006", "SexCode"),
        ([("<Phone>13900000001", "<Phone>none")], "E2002", "Phone"),
        ([("urn:qiao:province:resident:1", "urn:other")], "E2002", "ResidentRegistration"),
        ([("</Resident>", "</Residents>")], "E2001", "payload"),
        (
            [
                ("<IdCard>999001199003071010</IdCard>", ""),
                ("<HealthCard>HC9990010001</HealthCard>", ""),
                ('<MedicalRecordNumber assigner="HOSP-A">MRN0001</MedicalRecordNumber>', ""),
            ],
            "E2004",
            "IdCard",
        ),
    ],
)
def test_a_wrong_document_is_refused_by_field_and_code(
    changes: list[tuple[str, str]], code: str, field: str
) -> None:
    errors = checked(*changes)
    assert isinstance(errors, list)
    assert (errors[0].code, errors[0].field) == (code, field)
    assert code in read_error_table()


def test_no_refusal_repeats_a_value() -> None:
    errors = checked(("<IdCard>999001199003071010", "<IdCard>9990011990030710101"))
    assert isinstance(errors, list)
    assert "99900119900307" not in repr(errors)


def test_the_same_person_is_the_same_subject() -> None:
    first = checked()
    moved = checked(("演示路1号", "演示路2号"))
    other = checked(
        ("999001199003071010", "999001199305122020"),
        ("1990-03-07", "1993-05-12"),
        ("<SexCode>1", "<SexCode>2"),
    )
    assert first == moved
    assert isinstance(other, Checked)
    assert first != other


def test_every_single_wrong_digit_of_an_id_card_is_seen() -> None:
    number = "999001199003071010"
    assert is_id_card(number)
    for place in range(17):
        for digit in "0123456789":
            changed = number[:place] + digit + number[place + 1 :]
            assert is_id_card(changed) is (changed == number)
