"""Chinese in one charset under the name of the other is seen, and proper text is left alone."""

import pathlib
import re

import pytest

from conformance.problem import InvalidStructure
from mappings.channels.profile import ChannelProfile
from mappings.engine.library import load
from mappings.hl7.charset import decode
from mappings.hl7.charset_doubt import doubt_of
from mappings.translate import Translator
from mappings.translated import TranslatedMessage

TRANSLATOR = Translator(load())
MESSAGE = (
    "MSH|^~\\&|HIS|H1|Q|Q|20260101120000||ADT^A08|1|P|2.5.1||||||{charset}\r"
    "EVN||20260101120000\rPID|1||7^^^H1^MR||{name}|||F\r"
)
ROOT = pathlib.Path(__file__).parents[3]


def _message(charset: str, name: str, codec: str) -> bytes:
    return MESSAGE.format(charset=charset, name=name).encode(codec)


@pytest.mark.parametrize(
    ("charset", "name", "codec"),
    [
        ("GB18030", "李雷", "utf-8"),
        ("GB 18030-2000", "李雷", "utf-8"),
        ("8859/1", "李^雷", "utf-8"),
        ("UNICODE UTF-8", "血压", "gb18030"),
        ("", "血压", "gb18030"),
    ],
)
def test_bytes_of_another_charset_are_held_noted_or_trusted(
    charset: str, name: str, codec: str
) -> None:
    data = _message(charset, name, codec)
    decode(data, "utf-8")  # the decoder alone sees nothing
    with pytest.raises(InvalidStructure) as held:
        TRANSLATOR.translate(data, ChannelProfile())
    (issue,) = held.value.issues
    assert (issue.key, issue.expression) == ("hl7-charset-doubt", "MSH[1]-18")
    assert "charset_doubt" in issue.fix_en
    for policy, notes in (("note", 1), ("trust", 0)):
        result = TRANSLATOR.translate(data, ChannelProfile(charset_doubt=policy))
        assert isinstance(result, TranslatedMessage)
        assert [note.key for note in result.notes] == ["hl7-charset-doubt"] * notes
        assert all(note.severity == "warning" for note in result.notes)


def test_without_the_check_the_name_becomes_other_letters() -> None:
    result = TRANSLATOR.translate(
        _message("GB18030", "李雷", "utf-8"), ChannelProfile(charset_doubt="trust")
    )
    assert isinstance(result, TranslatedMessage)
    (patient,) = (one.resource for one in result.resources if one.type == "Patient")
    assert patient["name"][0]["family"] != "李雷"


@pytest.mark.parametrize(
    ("charset", "name", "codec"),
    [
        ("GB18030", "李^雷", "gb18030"),
        ("UNICODE UTF-8", "李^雷", "utf-8"),
        ("", "李^雷", "utf-8"),
        ("UNICODE UTF-8", "Dvořák^Željko", "utf-8"),
        ("UNICODE UTF-8", "Иванова^Наташа", "utf-8"),
        ("UNICODE UTF-8", "Γιώργος^Ελένη", "utf-8"),
        ("UNICODE UTF-8", "ئالىم", "utf-8"),
        ("8859/1", "Müller^José", "iso8859-1"),
        ("ASCII", "Li^Lei", "ascii"),
    ],
)
def test_what_is_what_it_says_is_read(charset: str, name: str, codec: str) -> None:
    data = _message(charset, name, codec)
    assert doubt_of(data, decode(data, "utf-8")[1]) is None


def test_the_chinese_of_the_project_is_told_apart_both_ways() -> None:
    texts: set[str] = set()
    for file in [*ROOT.glob("docs/**/*.md"), *ROOT.glob("mappings/**/*.yaml")]:
        texts.update(re.findall("[\u4e00-\u9fff]+", file.read_text(encoding="utf-8")))
    assert len(texts) > 800
    for text in texts:
        utf8, gb18030 = (_message("", text, codec) for codec in ("utf-8", "gb18030"))
        assert doubt_of(utf8, "gb18030") is not None, text
        assert doubt_of(utf8, "utf-8") is None, text
        assert doubt_of(gb18030, "gb18030") is None, text
