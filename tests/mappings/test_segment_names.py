"""A segment whose name is in small letters is kept, read by nothing, and said to be so."""

import pytest

from mappings.channels.profile import ChannelProfile
from mappings.coverage import cover
from mappings.engine.library import load
from mappings.hl7.message import parse
from mappings.translate import Translator
from mappings.translated import TranslatedMessage

TRANSLATOR = Translator(load())
MESSAGE = b"MSH|^~\\&|HIS|H1|Q|Q|1||ADT^A08|1|P|2.5\rEVN||20260101\rpid|1||7^^^H1^MR\rZPI|x\r"


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_a_name_in_small_letters_is_noted(end: bytes) -> None:
    data = MESSAGE.replace(b"\r", end)
    result = TRANSLATOR.translate(data, ChannelProfile())
    assert isinstance(result, TranslatedMessage)
    notes = [note for note in result.notes if note.key == "hl7-segment-name"]
    assert [note.expression for note in notes] == ["pid[1]"]
    assert "'PID'" in notes[0].text_en
    assert parse(data).encode() == data


def test_proper_names_and_those_of_the_sender_are_not_noted() -> None:
    result = TRANSLATOR.translate(MESSAGE.replace(b"pid", b"PID"), ChannelProfile())
    assert isinstance(result, TranslatedMessage)
    assert not [note for note in result.notes if note.key == "hl7-segment-name"]


def test_coverage_counts_its_fields_as_unread() -> None:
    watched = Translator(load(), watched=True)
    assert cover([MESSAGE], watched, ChannelProfile()).unread["pid-3"] == 1


def test_a_word_of_a_text_that_goes_on_in_a_new_line_begins_no_segment() -> None:
    data = MESSAGE.replace(b"\r", b"\n").replace(b"ZPI|x", b"NTE|1||first\nsee|RE")
    assert [segment.name for segment in parse(data).segments][-1] == "NTE"
    assert parse(data).segments[-1].field(3) == "first\nsee"
