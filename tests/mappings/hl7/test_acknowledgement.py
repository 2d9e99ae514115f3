"""Acknowledgements answer any bytes, in the sender's charset and separators."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.problem import InvalidStructure, Issue
from mappings.hl7.acknowledgement import Answer, Code, acknowledge
from mappings.hl7.header import read_header
from mappings.hl7.message import parse

AT = datetime.datetime(2026, 5, 1, 8, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=8)))
ISSUE = Issue(
    key="required",
    code="required",
    text_en="PID-3 is empty",
    text_zh="PID-3 为空",
    fix_en="Send an identifier.",
    fix_zh="请填写患者标识。",
    expression="PID[1]-3[2].4",
)


def _answer(code: Code, *issues: Issue) -> Answer:
    return Answer(code=code, control_id="ACK1", at=AT, trace_id="t|1", issues=issues)


def test_an_acceptance_swaps_the_addresses_and_names_the_message() -> None:
    data = "MSH|^~\\&|卫生院|F1|HUB|F2|1||ADT^A01^ADT_A01|77|T|2.4||||||GBK\r".encode("gb18030")
    answer = acknowledge(read_header(data), _answer(Code.AA))
    message = parse(answer)
    assert [segment.name for segment in message.segments] == ["MSH", "MSA"]
    assert message.codec == "gb18030"
    assert message.value("MSH", 3) == "HUB"
    assert message.value("MSH", 5) == "卫生院"
    assert message.value("MSH", 7) == "20260501083000+0800"
    assert message.value("MSH", 9) == "ACK"
    assert message.value("MSH", 9, 2) == "A01"
    assert message.value("MSH", 11) == "T"
    assert message.value("MSH", 12) == "2.4"
    assert message.value("MSA", 1) == "AA"
    assert message.value("MSA", 2) == "77"
    assert message.value("MSA", 3) == "trace=t|1"


def test_an_error_carries_place_code_and_advice() -> None:
    data = b"MSH*:+%!*A*B*C*D*1**ADT:A01*5*P*2.6\r"
    message = parse(acknowledge(read_header(data), _answer(Code.AE, ISSUE)))
    assert [message.value("ERR", 2, part) for part in (1, 2, 3, 4, 5)] == [
        "PID",
        "1",
        "3",
        "2",
        "4",
    ]
    assert message.value("ERR", 3) == "101"
    assert message.value("ERR", 4) == "E"
    assert message.value("ERR", 7) == "Send an identifier. / 请填写患者标识。"
    assert message.value("ERR", 8) == "PID-3 is empty / PID-3 为空"


@pytest.mark.parametrize("charset", ["ASCII", "8859/1"])
def test_what_the_senders_charset_has_no_letters_for_is_left_out(charset: str) -> None:
    data = f"MSH|^~\\&|A|B|C|D|1||ADT^A01|5|P|2.6||||||{charset}\r".encode()
    message = parse(acknowledge(read_header(data), _answer(Code.AE, ISSUE)))
    assert message.value("ERR", 7) == "Send an identifier."
    assert message.value("ERR", 8) == "PID-3 is empty"


def test_before_version_2_5_the_error_is_one_field() -> None:
    data = b"MSH|^~\\&|A|B|C|D|1||ADT^A01|5|P|2.3\r"
    message = parse(acknowledge(read_header(data), _answer(Code.AE, ISSUE)))
    assert message.value("ERR", 1, 1) == "PID"
    assert message.value("ERR", 1, 3) == "3"
    assert message.value("ERR", 1, 4) == "101"


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1", b"MSH", b"MSH|", b"MSHx", b"MSH|^^^^|A"])
def test_what_has_no_header_is_answered_too(data: bytes) -> None:
    with pytest.raises(InvalidStructure) as refused:
        parse(data)
    answer = acknowledge(read_header(data), _answer(Code.AR, *refused.value.issues))
    message = parse(answer)
    assert message.value("MSA", 1) == "AR"
    assert message.value("ERR", 2) == "MSH"


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_get_exactly_one_readable_acknowledgement(data: bytes, prefixed: bool) -> None:
    body = b"MSH|^~\\&|" + data if prefixed else data
    message = parse(acknowledge(read_header(body), _answer(Code.AE, ISSUE)))
    assert [segment.name for segment in message.segments] == ["MSH", "MSA", "ERR"]


def test_the_event_and_mode_are_read() -> None:
    header = read_header(b"MSH|^~\\&|A|B|C|D|1||ORU^R01^ORU_R01|9|P|2.5|||AL|NE\r")
    assert header.event == "ORU^R01"
    assert header.control_id == "9"
    assert header.is_enhanced
    assert not read_header(b"nothing").is_readable
