"""Reading an HL7 v2 message and writing it back."""

import pathlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.problem import InvalidStructure
from mappings.hl7.batch import split_batch
from mappings.hl7.charset import declared_charset
from mappings.hl7.escape import STANDARD, escape, unescape
from mappings.hl7.message import Location, parse, parse_location

MESSAGE = b"MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5\rPID|1||7^^^H^MR~8||Li^Hua\rZX1|a|b\r"


def test_every_shared_message_is_written_back_byte_for_byte(shared_data: pathlib.Path) -> None:
    files = sorted((shared_data / "hl7v2-messages" / "messages").glob("*.hl7"))
    assert len(files) == 139
    for file in files:
        data = file.read_bytes()
        message = parse(data)
        for segment in message.segments:
            assert segment.fields
        assert message.encode() == data, file.name


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\r\n", b"\n\r"])
def test_line_ends_of_any_kind_are_read_and_kept(end: bytes) -> None:
    data = MESSAGE.replace(b"\r", end)
    message = parse(data)
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "ZX1"]
    assert message.encode() == data


def test_mixed_line_ends_are_kept() -> None:
    data = b"MSH|^~\\&|A\r\nPID|1\rPV1|1\n\nZZ1|x"
    message = parse(data)
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "PV1", "ZZ1"]
    assert message.encode() == data


def test_a_line_feed_inside_a_field_does_not_end_the_segment() -> None:
    data = b"MSH|^~\\&|A\rNTE|1||first line\nsecond line\rPV1|1\r"
    message = parse(data)
    assert message.value("NTE", 3) == "first line\nsecond line"
    assert message.encode() == data


def test_fields_count_as_the_standard_counts() -> None:
    message = parse(MESSAGE)
    msh = message.first("MSH")
    assert msh is not None
    assert (msh.field(1), msh.field(2), msh.field(10)) == ("|", "^~\\&", "1")
    assert message.value("PID", 3, 4) == "H"
    assert message.value("PID", 3, repetition=2) == "8"
    assert message.value("PID", 99) == ""
    assert message.value("OBX", 5) == ""


def test_other_separators_are_obeyed() -> None:
    message = parse(b"MSH*:+%!*A*B\rPID*1**7:::H!1.2!ISO+8\r")
    assert message.value("PID", 3, 4) == "H"
    assert message.value("PID", 3, 4, subcomponent=3) == "ISO"
    assert message.value("PID", 3, repetition=2) == "8"


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", "MSH[1]"),
        (b"hello", "MSH[1]"),
        (b"PID|1\r", "MSH[1]"),
        (b"MSH", "MSH[1]-1"),
        (b"MSHA^~\\&", "MSH[1]-1"),
        (b"MSH|", "MSH[1]-2"),
        (b"MSH|^^\\&|", "MSH[1]-2"),
        (b"MSH|abcd|", "MSH[1]-2"),
        (b"MSH|^~\\&|A|||||||||||||||KLINGON\r", "MSH[1]-18"),
        (b"MSH|^~\\&|\xff\xfe|\rPID|\xff\r", "MSH[1]-18"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(data: bytes, place: str) -> None:
    with pytest.raises(InvalidStructure) as refused:
        parse(data)
    issue = refused.value.issues[0]
    assert issue.expression == place
    assert issue.fix_en
    assert issue.fix_zh


@pytest.mark.parametrize(
    ("declared", "codec"),
    [("UNICODE UTF-8", "utf-8"), ("GB18030", "gb18030"), ("GBK", "gb18030"), ("GB2312", "gb18030")],
)
def test_the_declared_charset_is_read_before_splitting(declared: str, codec: str) -> None:
    # 儈 is 83 7C in GB18030: its second byte is the field separator.
    text = f"MSH|^~\\&|儈院|B|C|D|1||ADT^A01|1|P|2.5||||||{declared}\rPID|1||7||儈^伮\r"
    data = text.encode(codec)
    message = parse(data, "ascii")
    assert message.value("PID", 5) == "儈"
    assert message.value("PID", 5, 2) == "伮"
    assert message.value("MSH", 3) == "儈院"
    assert declared_charset(data) == declared
    assert message.encode() == data


def test_without_msh_18_the_channel_decides() -> None:
    data = "MSH|^~\\&|A\rPID|1||7||李^雷\r".encode("gb18030")
    assert parse(data, "gb18030").value("PID", 5) == "李"
    with pytest.raises(InvalidStructure):
        parse(data, "utf-8")


def test_a_byte_order_mark_is_dropped_from_the_text_and_kept_in_the_bytes() -> None:
    data = b"\xef\xbb\xbf" + MESSAGE
    message = parse(data)
    assert message.segments[0].name == "MSH"
    assert message.encode() == data


def test_a_changed_field_leaves_everything_else_alone() -> None:
    message = parse(MESSAGE)
    pid = message.first("PID")
    assert pid is not None
    pid.set_field(8, "F")
    assert message.encode() == MESSAGE.replace(b"Li^Hua", b"Li^Hua|||F")


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("a\\F\\b", "a|b"),
        ("\\S\\\\T\\\\R\\\\E\\", "^&~\\"),
        ("one\\.br\\two", "one\ntwo"),
        ("one\\.sp2\\two", "one\n\ntwo"),
        ("\\X0D0A\\", "\r\n"),
        ("\\XE4BDA0\\", "你"),
        ("\\XE4BD\\", "\\XE4BD\\"),
        ("\\H\\bold\\N\\", "bold"),
        ("lone \\ mark", "lone \\ mark"),
        ("\\Zabc\\ kept", "\\Zabc\\ kept"),
        ("C:\\temp\\new", "C:\\temp\\new"),
    ],
)
def test_escapes_are_read(written: str, means: str) -> None:
    assert unescape(written, STANDARD) == means


@given(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
def test_what_is_escaped_reads_back_the_same(text: str) -> None:
    written = escape(text, STANDARD)
    assert not set(written) & set("|^~&\r\n")
    assert unescape(written, STANDARD) == text


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for body in (data, b"MSH|^~\\&|" + data):
        try:
            message = parse(body)
        except InvalidStructure:
            continue
        assert message.encode() == body


def test_batches_are_split_into_messages() -> None:
    one, two = b"MSH|^~\\&|A\rPID|1\r", b"MSH|^~\\&|B\rPID|2\r"
    batch = b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + one + two + b"BTS|2\rFTS|1\r"
    assert split_batch(batch) == [one, two]
    assert split_batch(one) == [one]


def test_a_large_embedded_document_is_not_copied_needlessly() -> None:
    size = 10_000_000
    data = MESSAGE + b"OBX|1|ED|PDF||^application^pdf^Base64^" + b"A" * size + b"||||||F\r"
    tracemalloc.start()
    message = parse(data)
    obx = message.first("OBX")
    assert obx is not None
    assert len(obx.field(5)) > size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * size


def test_a_place_is_written_and_read() -> None:
    place = Location(segment="PID", sequence=1, field=3, repetition=2, component=4, subcomponent=1)
    assert str(place) == "PID[1]-3[2].4.1"
    assert parse_location(str(place)) == place
    assert parse_location("Patient.name") is None
