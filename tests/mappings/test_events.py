"""Each event becomes resources that R4 allows, from a plain message of its own."""

import pytest

from conformance import resource_json
from conformance.structure import check
from mappings.channels.profile import ChannelProfile
from mappings.engine.library import load
from mappings.translate import Translator
from mappings.translated import TranslatedMessage

TRANSLATOR = Translator(load())
PID = "PID|1||P1^^^H1^MR||张^三||19800101|F|||路1号^^北京^^100000^CHN||13900000000|||M"
OTHER = "PID|2||P2^^^H1^MR||王^五||19810101|M"
PV1 = "PV1|1|I|W^R^B|E|||D1^李^四|||MED" + "|" * 9 + "V1^^^H1"
BED = "PV1|2|I|W^R^C" + "|" * 16 + "V2^^^H1"
ORC = "ORC|NW|O1^H|F1^H||IP||||20260101100000|||D1^李^四"
OBR = "OBR|1|O1^H|F1^H|718-7^Hb^LN|||20260101100000"
OBX = "OBX|1|NM|718-7^Hb^LN||120|g/L^g/L^UCUM|110-160|N|||F"
SPM = "SPM|1|S1||BLD^血^L"
DG1 = "DG1|1||I10^高血压^I10|||A"
SCH = "SCH|A1^H|A2^H|||||R^常规|N^x|||^^30^20260101090000^20260101093000"
ADT = [
    "EVN||20260101120000", PID, "NK1|1|王^五|SPO", PV1, "AL1|1|DA|PEN^青霉素^L|SV|皮疹", DG1,
    "PR1|1||P^手术^L||20260101", "IN1|1|P1^医保|C1|医保局", "GT1|1||王^五",
    "IAM|1||X^x^L||||A",
]  # fmt: skip
APPOINTMENT = [SCH, PID, PV1, "RGS|1", "AIS|1||S^x^L|20260101090000", "AIP|1||D1^李^四"]
EVENTS: dict[str, list[str]] = {
    **{
        f"ADT^A{number:02}": ADT
        for number in (
            *range(1, 17),
            *range(21, 24),
            *range(25, 30),
            *range(31, 34),
            38,
            *range(52, 56),
            *range(60, 63),
        )
    },
    **{f"ADT^A{number}": ["EVN||20260101120000", PID, PV1, OTHER] for number in (24, 37)},
    "ADT^A17": ["EVN||20260101120000", PID, PV1, OTHER, BED],
    **{
        f"ADT^A{number}": ["EVN||20260101120000", PID, "MRG|P2^^^H1^MR||AC1||V9^^^H1", PV1]
        for number in (18, 30, *range(34, 37), *range(39, 43), *range(44, 52))
    },
    "ORM^O01": [PID, PV1, ORC, OBR, "NTE|1||空腹", OBX],
    **{
        f"OM{order}": [PID, PV1, ORC, "TQ1|1||||||20260101", OBR, SPM]
        for order in ("G^O19", "L^O21")
    },
    **{f"OML^O{number}": [PID, SPM, ORC, OBR] for number in (33, 35)},
    "OMP^O09": [PID, PV1, ORC, "RXO|D1^药^L|5||mg^mg^UCUM", "RXR|PO"],
    "ORU^R01": [PID, PV1, ORC, OBR, OBX, SPM],
    **{
        f"MDM^T{number:02}": [
            "EVN||20260101120000",
            PID,
            PV1,
            "TXA|1|CN|TX|20260101|D1^李^四||||||DOC1^H||||||AU",
            "OBX|1|TX|1^x^L||正文||||||F",
        ]
        for number in range(1, 12)
    },
    **{f"SIU^S{number}": APPOINTMENT for number in (*range(12, 25), 26, 27)},
    "VXU^V04": [
        PID,
        PV1,
        ORC,
        "RXA|0|1|20260101||08^HepB^CVX|0.5|mL^mL^UCUM||00||||||LOT1|20271231",
        "RXR|IM^x",
    ],
    "DFT^P03": ["EVN||20260101120000", PID, PV1, "FT1|1|T1||20260101||CG|C^费^L|||1|10&CNY"],
    **{f"BAR^P{number:02}": [*ADT, "ACC|20260101"] for number in (1, 2, 5, 6, 12)},
    "BAR^P10": [
        "EVN||20260101120000",
        PID,
        PV1,
        DG1,
        "GP1|131|0450~0360|0|1~2|12.5&CNY",
        "PR1|1||P^手术^L||20260101",
        "GP2|0450|2|30&CNY|1|0|1|5012^门诊^L|1|2|0|25&CNY|1|5&CNY|12.5",
    ],
    **{
        f"RDE^O{number}": [PID, PV1, ORC, "RXE|1^^^20260101|D1^药^L|5||mg^mg^UCUM", "RXR|PO"]
        for number in (11, 25)
    },
    "RDS^O13": [PID, PV1, ORC, "RXD|1|D1^药^L|20260101|5|mg^mg^UCUM||RX1", "RXR|PO"],
    **{
        f"REF^I{number}": ["RF1|P|R|C|||R1^H", "PRD|RP|李^四", "PRD|RT|王^六", PID, DG1, OBR, OBX]
        for number in range(12, 16)
    },
}


def _resources(event: str, *changed: tuple[str, str]) -> list[dict]:
    head = f"MSH|^~\\&|HIS|H1|Q|Q|20260101120000+0800||{event}|1|P|2.5.1"
    text = "\r".join([head, *EVENTS[event]])
    for was, now in changed:
        text = text.replace(was, now)
    result = TRANSLATOR.translate(text.encode(), ChannelProfile())
    assert isinstance(result, TranslatedMessage), event
    return [dict(one.resource) for one in result.resources]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_becomes_resources_that_r4_allows(event: str) -> None:
    resources = _resources(event)
    assert {"Patient", "MessageHeader"} <= {one["resourceType"] for one in resources}
    for one in resources:
        issues = check(resource_json.parse(resource_json.dump(one)))
        assert [i.text_en for i in issues if i.severity in {"error", "fatal"}] == [], one


def _only(resources: list[dict], kind: str) -> dict:
    (one,) = (one for one in resources if one["resourceType"] == kind)
    return one


def test_a_cancelled_pre_admission_is_a_cancelled_encounter() -> None:
    assert _only(_resources("ADT^A38"), "Encounter")["status"] == "cancelled"
    left = ("V1^^^H1", "V1^^^H1" + "|" * 26 + "20260102")  # PV1-45, the day of discharge
    assert _only(_resources("ADT^A38", left), "Encounter")["status"] == "cancelled"
    assert _only(_resources("ADT^A01", left), "Encounter")["status"] == "finished"


@pytest.mark.parametrize(
    ("event", "status"),
    [("A21", "onleave"), ("A22", "in-progress"), ("A23", "entered-in-error"),
     ("A52", "in-progress"), ("A53", "onleave"), ("A54", "in-progress")],
)  # fmt: skip
def test_the_event_says_the_status_of_a_visit_beyond_the_guides_table(
    event: str, status: str
) -> None:
    assert _only(_resources(f"ADT^{event}"), "Encounter")["status"] == status


def test_an_ended_account_is_inactive_since_the_event() -> None:
    account = ("|||M", "|||M||AC1")  # PID-16 and PID-18
    ended = _only(_resources("BAR^P06", account), "Account")
    assert (ended["status"], ended["servicePeriod"]) == (
        "inactive",
        {"end": "2026-01-01T12:00:00+08:00"},
    )
    open_one = _only(_resources("BAR^P01", account), "Account")
    assert (open_one["status"], "servicePeriod" in open_one) == ("active", False)


def test_a_payment_classification_stands_with_the_visit_and_the_procedure() -> None:
    resources = _resources("BAR^P10")
    for kind, part in (("Encounter", "outlier-cost"), ("Procedure", "charge")):
        (grouping,) = (
            one
            for one in _only(resources, kind)["extension"]
            if one["url"].endswith("/payment-grouping")
        )
        assert any(one["url"].endswith(part) for one in grouping["extension"]), kind


def _translated(event: str, lines: list[str]) -> TranslatedMessage:
    head = f"MSH|^~\\&|HIS|H1|Q|Q|20260101120000+0800||{event}|1|P|2.5.1"
    result = TRANSLATOR.translate("\r".join([head, *lines]).encode(), ChannelProfile())
    assert isinstance(result, TranslatedMessage)
    return result


@pytest.mark.parametrize("event", ["A18", "A30", "A34", "A36", "A39", "A40", "A46", "A47"])
def test_a_merge_of_patients_names_both_records(event: str) -> None:
    result = _translated(f"ADT^{event}", EVENTS[f"ADT^{event}"])
    (merge,) = result.merges
    assert [pairs[0][1] for pairs in (merge.surviving, merge.prior)] == ["P1", "P2"]
    assert [note.key for note in result.notes] == ["map-undone"] * (event == "A36")


@pytest.mark.parametrize("number", [35, 41, 42, 44, 45, 49, 50, 51])
def test_what_is_not_done_to_an_account_or_a_visit_is_said(number: int) -> None:
    result = _translated(f"ADT^A{number}", EVENTS[f"ADT^A{number}"])
    assert result.merges == ()
    (note,) = result.notes
    assert note.key == "map-undone"
    assert note.text_zh
    (patient,) = (one.resource for one in result.resources if one.type == "Patient")
    assert any(one["url"].endswith("/prior-record") for one in patient["extension"])


@pytest.mark.parametrize(("event", "is_linked"), [("A24", True), ("A37", False)])
def test_a_link_names_two_records_that_stay_two(event: str, is_linked: bool) -> None:
    result = _translated(f"ADT^{event}", EVENTS[f"ADT^{event}"])
    (relation,) = result.relations
    assert relation.is_linked is is_linked
    assert [end[0][1] for end in relation.ends] == ["P1", "P2"]
    assert result.order_keys == ("P1^H1", "P2^H1")


def test_a_moved_number_writes_no_patient() -> None:
    lines = ["EVN||20260101120000", PID.replace("P1", "P2^^^H1^MR~P1"), "MRG|P2^^^H1^MR~P3^^^H1^MR"]
    result = _translated("ADT^A43", lines)
    assert "Patient" not in {one.type for one in result.resources}
    assert [note.key for note in result.notes] == ["map-undone"]
    assert result.order_keys == ("P2^H1",)


def test_two_patients_who_swap_beds_are_each_in_their_own() -> None:
    resources = _resources("ADT^A17")
    patients = [one for one in resources if one["resourceType"] == "Patient"]
    assert [one["identifier"][0]["value"] for one in patients] == ["P1", "P2"]
    encounters = [one for one in resources if one["resourceType"] == "Encounter"]
    assert len({one["subject"]["reference"] for one in encounters}) == 2
    assert len({one["location"][0]["location"]["reference"] for one in encounters}) == 2


@pytest.mark.parametrize(
    ("event", "status"),
    [("S12", "booked"), ("S15", "cancelled"), ("S16", "cancelled"), ("S17", "entered-in-error"),
     ("S18", "booked"), ("S22", "booked"), ("S23", "booked"), ("S24", "cancelled"),
     ("S26", "noshow")],
)  # fmt: skip
def test_the_event_says_the_status_of_an_appointment(event: str, status: str) -> None:
    assert _only(_resources(f"SIU^{event}"), "Appointment")["status"] == status
