"""Mutated messages are translated, unmapped or refused by name; nothing crashes."""

import pathlib
import random

import pytest

from conformance.problem import Problem
from mappings.channels.profile import ChannelProfile
from mappings.engine.library import load
from mappings.hl7.header import read_header
from mappings.translate import Translator


def _mutated(data: bytes, chance: random.Random) -> bytes:
    body = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(body))
        kind = chance.randrange(5)
        if kind == 0:
            body[at] = chance.randrange(256)
        elif kind == 1:
            del body[at : at + chance.randint(1, 40)]
        elif kind == 2:
            body[at:at] = chance.choice([b"|", b"^", b"~", b"&", b"\\", b"\r", b"\n", b'""'])
        elif kind == 3:
            other = chance.randrange(len(body))
            body[at:at] = body[other : other + chance.randint(1, 60)]
        else:
            del body[at:]
        if not body:
            body = bytearray(b"M")
    return bytes(body)


@pytest.mark.parametrize(
    "count", [400, pytest.param(200_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_no_mutation_crashes_the_translation(count: int, shared_data: pathlib.Path) -> None:
    files = sorted((shared_data / "hl7v2-messages" / "messages").glob("*.hl7"))
    messages = [file.read_bytes() for file in files]
    translator, channel = Translator(load()), ChannelProfile()
    chance = random.Random(5)
    for _ in range(count):
        data = _mutated(chance.choice(messages), chance)
        read_header(data)
        try:
            translator.translate(data, channel)
        except Problem as refused:
            assert refused.issues[0].expression  # noqa: PT017 - most mutations are translated


def test_a_sender_without_subcomponents_or_repetitions_is_translated() -> None:
    for encoding in ("^", "^~", "^~\\", "^~\\&"):
        data = "\r".join(
            (
                f"MSH|{encoding}|HIS|YY|QIAO|SQ|20260101||ADT^A01^ADT_A01|1|P|2.5",
                "EVN|A01|20260101",
                "PID|1||7^^^HIS^MR||QIAO^YI",
                "PV1|1|I|W1^R2^B3^YY^^C^^^corner^W1&R2",
                "OBX|1|ST|1^a||x|kg",
                "",
            )
        )
        Translator(load()).translate(data.encode(), ChannelProfile())
