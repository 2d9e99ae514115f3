"""What the province refuses in documents that depend on each other, and that the advice helps."""

import datetime
import importlib.resources
from collections.abc import Sequence

import lxml.etree
import pytest

from adapters.province.document_checks import SCHEMAS, all_checks, read_steps
from adapters.province.error_table import read_error_table
from adapters.province.registration import Checked, FieldError

TODAY = datetime.date(2026, 1, 3)
CHECKS = all_checks()
FOLDER = importlib.resources.files("adapters.province")
PARENTS = ("institution", "doctor", "team", "resident", "contract")


def sample(kind: str, *changes: tuple[str, str]) -> bytes:
    text = FOLDER.joinpath(f"{kind}_registration.xml").read_text("utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return text.encode()


class Registered:
    """What was taken so far, as the simulator's ledger remembers it."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Checked]] = []

    def is_registered(self, business_type: str, subject: str) -> bool:
        return any((kind, one.subject) == (business_type, subject) for kind, one in self.entries)

    def steps_of(self, subject: str) -> Sequence[str]:
        return [
            one.step for kind, one in self.entries if (kind, one.subject) == ("contract", subject)
        ]

    def take(self, kind: str, *changes: tuple[str, str]) -> list[tuple[str, str]]:
        found = CHECKS[kind](sample(kind, *changes), TODAY, self)
        if isinstance(found, Checked):
            self.entries.append((kind, found))
            return []
        return [(one.field, one.code) for one in found]


SECOND_DOCTOR = [("999001D000001", "999001D000002"), ("D999001000001", "D999001000002")]


@pytest.fixture
def known() -> Registered:
    """A province that knows everybody whom the sample contract names."""
    registered = Registered()
    for kind, *changes in (
        ("institution",), ("doctor",), ("doctor", *SECOND_DOCTOR), ("team",), ("resident",)
    ):  # fmt: skip
        assert registered.take(kind, *changes) == []
    return registered


@pytest.mark.parametrize("kind", PARENTS)
def test_the_samples_are_valid(kind: str) -> None:
    schema = lxml.etree.XMLSchema(lxml.etree.parse(str(FOLDER.joinpath(SCHEMAS[kind]))))
    schema.assertValid(lxml.etree.fromstring(sample(kind)))


def test_parents_registered_first_open_the_way(known: Registered) -> None:
    assert known.take("contract") == []
    kind, contract = known.entries[-1]
    assert (kind, contract.number, contract.step) == ("contract", "FD-2026-0001", "03")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("institution", []),
        ("doctor", [("Institution", "E2101")]),
        ("team", [("Institution", "E2101"), ("Member", "E2102")]),
        ("contract", [("Resident", "E2104"), ("Team", "E2103"), ("Doctor", "E2102")]),
    ],
)
def test_a_child_without_its_parents_is_refused_by_field(
    kind: str, expected: list[tuple[str, str]]
) -> None:
    assert Registered().take(kind) == expected


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("institution", [("91350100M000100Y43", "91350100M000100Y44")],
         ("SocialCreditCode", "E2008")),
        ("institution", [("<TypeCode>1", "<TypeCode>7")], ("TypeCode", "E2002")),
        ("institution", [("<Phone>", "<Parent><Code>X</Code><Name>无</Name></Parent><Phone>")],
         ("Parent", "E2101")),
        ("doctor", [("<Phone>", "<IdCard>999001199003071011</IdCard><Phone>")],
         ("IdCard", "E2003")),
        ("doctor", [("<StateCode>1", "<StateCode>8")], ("StateCode", "E2002")),
        ("team", [("<StandsInFor>999001D000001", "<StandsInFor>999001D000009")],
         ("StandsInFor", "E2108")),
        ("contract", [("<EndOn>2027", "<EndOn>2025")], ("EndOn", "E2107")),
        ("contract", [("<StepOn>2026-01-03", "<StepOn>2026-01-04")], ("StepOn", "E2107")),
        ("contract", [("<Step>03", "<Step>77")], ("Step", "E2105")),
        ("contract", [("<Step>03", "<Step>08")], ("EndReasonCode", "E2009")),
        ("contract", [("<Step>03", "<Step>04")], ("Step", "E2106")),
        ("contract", [("<Step>03", "<Step>07")], ("PreviousNumber", "E2009")),
        ("contract", [("<Step>03", "<PreviousNumber>FD-0</PreviousNumber><Step>07")],
         ("PreviousNumber", "E2109")),
        ("contract", [("999001199003071010", "999001199003071029")], ("Resident", "E2104")),
        ("contract", [("<AgreementHash>cc", "<AgreementHash>CC")], ("AgreementHash", "E2002")),
    ],
)  # fmt: skip
def test_a_wrong_document_is_refused_by_field_and_code(
    known: Registered, kind: str, changes: list[tuple[str, str]], expected: tuple[str, str]
) -> None:
    errors = known.take(kind, *changes)
    assert errors[0] == expected
    assert {code for _, code in errors} <= set(read_error_table())


def test_the_steps_of_a_contract_come_in_order_and_end_once(known: Registered) -> None:
    def step(code: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
        return known.take("contract", ("<Step>03", f"<Step>{code}"), *more)

    end = ("</EndOn>", "</EndOn><EndReasonCode>02</EndReasonCode>")
    for code in ("01", "02", "03", "04", "05", "06", "05"):
        assert step(code) == []
    assert step("01") == [("Step", "E2106")]
    assert step("08", end) == []
    assert step("05") == [("Step", "E2106")]
    assert step("08", end) == [("Step", "E2106")]


def test_a_renewal_follows_a_registered_contract(known: Registered) -> None:
    renewal = (
        ("<Number>FD-2026-0001", "<Number>FD-2026-0002"),
        ("<Step>03", "<PreviousNumber>FD-2026-0001</PreviousNumber><Step>07"),
    )
    assert known.take("contract", *renewal) == [("PreviousNumber", "E2109")]
    assert known.take("contract") == []
    assert known.take("contract", *renewal) == []


def test_no_refusal_repeats_a_value() -> None:
    for kind in PARENTS:
        found = CHECKS[kind](sample(kind), TODAY, Registered())
        for error in found if isinstance(found, list) else ():
            assert isinstance(error, FieldError)
            assert "999001" not in error.message


def test_every_step_may_follow_only_steps_of_the_table() -> None:
    steps = read_steps()
    assert {before for after, _ in steps.values() for before in after} <= {*steps, "-"}
