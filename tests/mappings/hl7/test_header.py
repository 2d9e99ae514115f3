"""The one look at most headers finds what the whole reading finds."""

import random

import pytest

from mappings.hl7 import header
from mappings.hl7.header import read_header

HEADERS = [
    b"MSH|^~\\&|HIS|H1|QIAO|HUB|20260101||ADT^A01^ADT_A01|1|P|2.5.1||||||UNICODE UTF-8\rPID|1\r",
    b"MSH|^~\\&|HIS|H1|||20260101||ADT^A01|1|P|2.5\r",
    b"MSH|^~\\&#|HIS|H1|||20260101||ADT^A01|1|P|2.5||||||GB18030~GBK\r",
    b"MSH#*+!%#HIS#H1#####ADT*A01#1#P#2.5######8859/1+ASCII\nPID#1\n",
    b"MSH|^~\\&|A|B|C|D|1||ADT^A01|1|P|2.5||||||ISO IR87\rPID|1|\x1b$B$\"\x1b(B\r",
    b"MSH|^~\\&|A\x1b$B$\"\x1b(B|B|C|D|1||ADT^A01|1|P|2.5||||||ISO IR87\r",
    b"\xef\xbb\xbfMSH|^~\\&|A|B\r",
    "MSH|^~\\&|张|市医院|||1||ADT^A01|1|P|2.5||||||GB18030\r".encode("gb18030"),
    "MSH|^~\\&|张|市医院|||1||ADT^A01|1|P|2.5||||||UNICODE UTF-8\r".encode(),
    b"MSH|^^~&|A\r", b"MSH|\r", b"MSH||A\r", b"MSHA^~\\&|A", b"FHS|^~\\&|A", b"PID|1", b"", b"MSH",
    b"MSH|^~\\&!?*+-=|A|B\r", b"MSH|^~\\&!?*+-=^|A|B\r", b"MSH|" + b"x" * 70_000,
]  # fmt: skip
CHARSETS = ("utf-8", "gb18030", "ascii", "utf-16", "iso2022_jp")


def mutations():
    chance = random.Random(7)
    for text in HEADERS:
        yield text
        for _ in range(60):
            changed = bytearray(text[:400])
            for _ in range(chance.randint(1, 3)):
                place = chance.randint(0, len(changed))
                changed[place : place + chance.randint(0, 2)] = chance.choice(
                    (b"|", b"^", b"~", b"\\", b"\r", b"\n", b"\x1b", b"\xd5", b"MSH", b"1", b"")
                )
            yield bytes(changed)


@pytest.mark.parametrize("charset", CHARSETS)
def test_both_ways_of_reading_find_the_same(charset):
    for data in mutations():
        assert read_header(data, charset) == header._of_any(data, charset), data


def test_twin_without_the_look_at_the_charset_another_header_would_be_read(monkeypatch):
    every = header.OVER_ASCII | {"utf-16", "iso2022_jp"}
    monkeypatch.setattr(header, "OVER_ASCII", every)
    assert any(
        read_header(data, "utf-16") != header._of_any(data, "utf-16") for data in mutations()
    )
