"""Maps remember wards, doctors and organisations of earlier messages: no later message may differ.

Each guard of the memory has a twin that takes it away and shows what would go wrong.
"""

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mappings.channels.profile import ChannelProfile
from mappings.engine import compiled_map
from mappings.engine.context import Recalled, Sender
from mappings.engine.library import load
from mappings.translate import Translator
from mappings.translated import TranslatedMessage

CHANNEL = ChannelProfile()
LIBRARY = load()
BED, OTHER = "W3^301^02^H1", "W3^301^03^H1"


def _admission(control: str, fields: dict[int, str]) -> bytes:
    visit = [fields.get(number, "") for number in range(1, 20)]
    lines = [
        f"MSH|^~\\&|HIS|H1|HUB|Q|20260501083000||ADT^A01^ADT_A01|{control}|P|2.5.1",
        "PID|1||7001^^^H1^MR||Li^Lei",
        "PV1|" + "|".join(visit),
    ]
    return ("\r".join(lines) + "\r").encode()


MESSAGES = [
    _admission("M1", {1: "1", 2: "I", 3: BED, 7: "D1^Zhang", 19: "V1"}),
    # The same doctor twice in one message, the second time with more words.
    _admission("M2", {2: "I", 3: BED, 7: "D1^Zhang", 8: "D1^Zhang^Wei", 19: "V2"}),
    _admission("M3", {2: "I", 3: BED, 6: OTHER, 7: "D1^Zhang", 19: "V3"}),
    _admission("M4", {2: "I", 3: OTHER, 6: BED, 8: "D1^Zhang^Wei", 19: "V4"}),
    _admission("M5", {2: "I", 3: "W3", 6: BED, 7: "^Nobody", 19: "V5"}),
    _admission("M6", {2: "I", 7: "D9^Wu^^^^^^^LAB", 19: "V6"}),
    # The hospital itself numbers the doctor: its Organization is made before he is named.
    _admission("M7", {2: "I", 3: BED, 7: "D8^Xu^^^^^^^H1", 8: "D8^Xu^^^^^^^H1", 19: "V7"}),
    _admission("M1", {1: "1", 2: "I", 3: BED, 7: "D1^Zhang", 19: "V1"}).replace(b"H1", b"H2"),
]


def _differing(translator: Translator) -> list[bytes]:
    """Return the messages that a remembering translator reads otherwise than a fresh one."""
    return [
        message
        for message in (*MESSAGES, *reversed(MESSAGES))
        if translator.translate(message, CHANNEL) != Translator(LIBRARY).translate(message, CHANNEL)
    ]


def test_what_earlier_messages_named_changes_no_later_message() -> None:
    remembering = Translator(LIBRARY)
    assert _differing(remembering) == []
    assert _differing(remembering) == []


@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_remembered_doctor_refers_to_an_organisation_of_this_message(
    monkeypatch: pytest.MonkeyPatch, is_guarded: bool
) -> None:
    """What has no identifier of its own has another key in each message."""
    doctor = "D7^Sun^^^^^^^&lab.example.org&DNS"
    if not is_guarded:  # the twin: nobody looks whether what he names has the key it had
        monkeypatch.setattr(compiled_map, "Recalled", _recalling(named=()))
        monkeypatch.setattr(compiled_map, "_is_lasting", lambda _made: True)
    translator = Translator(LIBRARY)
    dangling = []
    for number, field in enumerate((7, 8, 7)):
        message = _admission(f"M{number}", {2: "I", field: doctor, 19: f"V{number}"})
        result = translator.translate(message, CHANNEL)
        assert isinstance(result, TranslatedMessage)
        dangling.append(_dangling(result))
    assert (dangling == [set()] * 3) is is_guarded


def test_the_shared_messages_are_read_alike_with_and_without_a_memory(
    shared_data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_data / "hl7v2-messages" / "messages"
    messages = [file.read_bytes() for file in sorted(folder.glob("*.hl7"))]
    remembering, forgetful = Translator(LIBRARY), Translator(LIBRARY)
    monkeypatch.setattr(forgetful, "_recall_of", lambda _context: None)
    plain = [forgetful.translate(message, CHANNEL) for message in messages]
    for _ in range(2):
        assert [remembering.translate(message, CHANNEL) for message in messages] == plain


def _recalling(**changes: Any) -> Callable[..., Recalled]:
    """Make what is remembered without one of its guards."""
    return lambda **given: replace(Recalled(**given), **changes)


def test_twin_without_the_look_for_known_resources_messages_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled_map, "Recalled", _recalling(keys=()))
    assert _differing(Translator(LIBRARY)) != []


def _dangling(result: TranslatedMessage) -> set[str]:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("reference"), str):
                yield value["reference"]
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    made = {f"urn:uuid:{one.key}" for one in result.resources}
    return {ref for one in result.resources for ref in references(one.resource)} - made


@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_remembered_doctor_brings_the_organisation_that_numbered_him(
    monkeypatch: pytest.MonkeyPatch, is_guarded: bool
) -> None:
    if not is_guarded:  # the twin: what else the doctor's words named is not made again
        monkeypatch.setattr(compiled_map, "Recalled", _recalling(named=()))
    translator = Translator(LIBRARY)
    message = next(one for one in MESSAGES if b"LAB" in one)
    first, second = (translator.translate(message, CHANNEL) for _ in range(2))
    assert isinstance(first, TranslatedMessage)
    assert isinstance(second, TranslatedMessage)
    assert _dangling(first) == set()
    assert (_dangling(second) == set()) is is_guarded


@pytest.mark.parametrize("is_guarded", [True, False])
def test_two_senders_do_not_share_what_their_messages_named(
    monkeypatch: pytest.MonkeyPatch, is_guarded: bool
) -> None:
    message = _admission("M1", {2: "I", 3: BED, 7: "D1^Zhang^^^^^^^LAB", 19: "V1"})
    others = ChannelProfile(sender=Sender(authorities={"LAB": "urn:oid:1.2.3"}))
    translator = Translator(LIBRARY)
    if not is_guarded:  # the twin: one memory for all senders
        monkeypatch.setattr(translator, "_recall_of", lambda _context, shared={}: shared)
    same = []
    for channel in (CHANNEL, others, CHANNEL):
        fresh = Translator(LIBRARY).translate(message, channel)
        same.append(translator.translate(message, channel) == fresh)
    assert all(same) is is_guarded
    assert Translator(LIBRARY).translate(message, others) != fresh


@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_fault_in_a_remembered_part_is_told_each_time(
    monkeypatch: pytest.MonkeyPatch, is_guarded: bool
) -> None:
    doctor = "D1^Zhang" + "^" * 17 + "2026X"  # XCN-19: the day from which the name holds
    message = _admission("M1", {2: "I", 7: doctor, 19: "V1"})
    if not is_guarded:  # the twin: parts are remembered whatever was found wrong in them
        monkeypatch.setattr(compiled_map, "_findings", lambda _context: (0, 0, 0))
    translator = Translator(LIBRARY)
    first, second = (translator.translate(message, CHANNEL) for _ in range(2))
    assert isinstance(first, TranslatedMessage)
    (note,) = first.notes
    assert note.expression == "PV1[1]-7[1].19"
    assert (first == second) is is_guarded


def test_the_memory_of_a_sender_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_map, "MOST_RECALLED", 20)
    translator = Translator(LIBRARY)
    for number in range(60):
        message = _admission(f"M{number}", {2: "I", 7: f"D{number}^Zhang", 19: f"V{number}"})
        translator.translate(message, CHANNEL)
    (kept,) = translator._recalls.values()
    assert 0 < len(kept[1]) <= 20
