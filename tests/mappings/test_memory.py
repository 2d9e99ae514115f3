"""Maps remember wards, doctors and organisations of earlier messages: no later message may differ.

Each guard of the memory has a twin that takes it away and shows what would go wrong.
"""

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mappings.channels.profile import ChannelProfile
from mappings.engine import compiled_map, context, segment_memory
from mappings.engine.context import Context, Made, Recall, Recalled, Sender
from mappings.engine.library import load
from mappings.engine.scopes import SlotNames
from mappings.engine.segment_memory import KeptSegment, Known, SegmentMemory
from mappings.hl7.message import parse
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
    monkeypatch.setattr(forgetful, "_remind", lambda _context: None)
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
        shared: Recall = {}
        segments = SegmentMemory()
        monkeypatch.setattr(translator, "_remind", lambda context: _give(context, shared, segments))
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
    messages = [_admission(f"M{n}", {2: "I", 7: doctor, 19: f"V{n}"}) for n in range(3)]
    if not is_guarded:  # the twin: parts are remembered whatever was found wrong in them
        monkeypatch.setattr(compiled_map, "_findings", lambda _context: (0, 0, 0))
    translator = Translator(LIBRARY)
    first, _, last = (translator.translate(message, CHANNEL) for message in messages)
    assert isinstance(first, TranslatedMessage)
    assert isinstance(last, TranslatedMessage)
    (note,) = first.notes
    assert note.expression == "PV1[1]-7[1].19"
    assert (first.notes == last.notes) is is_guarded


def test_the_memory_of_a_sender_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "MOST_RECALLED", 20)
    translator = Translator(LIBRARY)
    for number in range(120):
        doctor = f"D{number // 2}^Zhang"
        message = _admission(f"M{number}", {2: "I", 7: doctor, 19: f"V{number}"})
        translator.translate(message, CHANNEL)
    ((_, _, kept),) = translator._recalls.values()
    assert 0 < len(kept) <= 20


def _give(context: Context, parts: Recall, segments: SegmentMemory) -> None:
    context.recall, context.segments = parts, segments


def _message(control: str, *lines: str, at: str = "20260501083000", event: str = "A01") -> bytes:
    header = f"MSH|^~\\&|HIS|H1|HUB|Q|{at}||ADT^{event}|{control}|P|2.5.1"
    return ("\r".join((header, *lines)) + "\r").encode()


PATIENT = "PID|1||7001^^^H1^MR~7002^^^LAB||Li^Lei||19900101|M|||1 Road^^Suzhou||138^PRN^CP"
VISIT = f"PV1|1|I|{BED}||||D1^Zhang||||||||||||V1"
NEAREST = "NK1|1|Han^Mei|SPO^Spouse^HL70063||139"
ORDER = "OBR|1|P1^LAB|F1^LAB|1^x^L|||20260501|||||||||D1^Zhang"
ONE_NUMBER = "PID|1||7001^^^H1^MR||Li^Lei"
DEVOUT = ONE_NUMBER + "|" * 12 + "BUD"
LABORATORY, BY_OID = "LAB&1.2.3&ISO", "&1.2.3&ISO"
OF_LABORATORY = f"{VISIT}^^^{LABORATORY}"
SEGMENTS = [
    _message("S1", PATIENT, VISIT),
    # The same visit, by an event that says its end.
    _message("S2", PATIENT, VISIT, at="20260502", event="A03"),
    # More of the same patient, put into the resource that is kept.
    _message("S3", PATIENT, NEAREST, VISIT, "DG1|1||J06^Cold^I10|||A"),
    # The same visit and diagnosis of another patient.
    _message("S4", PATIENT.replace("7001", "8001"), NEAREST, VISIT, "DG1|1||J06^Cold^I10|||A"),
    # A fault in a segment, and one in a part of it.
    _message("S5", PATIENT, VISIT + "|" * 25 + "2026X"),
    _message("S6", PATIENT, VISIT.replace("D1^Zhang", "D1^Zhang" + "^" * 17 + "2026X")),
    # The same person named before with more words, and the patient twice.
    _message("S7", "EVN|A01|20260501|||D1^Zhang^Wei", PATIENT, VISIT),
    _message("S8", PATIENT, VISIT, PATIENT, NEAREST),
    _message("S9", PATIENT, ORDER, at="20260503"),
    _message("S10", PATIENT, "ORC|NW|P1^LAB|||||||20260504", ORDER, at="20260505"),
    # The same visit of the same patient, where the authority was named by its OID alone before.
    _message("S12", ONE_NUMBER.replace("H1", LABORATORY), f"{VISIT}^^^{LABORATORY}"),
    _message("S13", ONE_NUMBER.replace("H1", "&1.2.3&ISO"), f"{VISIT}^^^{LABORATORY}"),
    # What one segment lacks and another, which is kept, has: a remark is put beside it.
    _message("S14", PATIENT.replace("7001", "9001"), DEVOUT),
    _message("S15", PATIENT.replace("7001", "9001"), DEVOUT),
    _message("S16", f"{ONE_NUMBER}^Mei", DEVOUT, "NTE|1||Walks"),
    _message("S17", PATIENT.replace("7001", "9001"), DEVOUT),
    # The authority is two organisations: its words mean the one they meant first in the message.
    _message("S18", f"PID|1||7001^^^{BY_OID}~8^^^{LABORATORY}~9^^^LAB||Li^Lei", OF_LABORATORY),
    _message("S19", f"PID|1||7001^^^{BY_OID}~9^^^LAB||Li^Lei", OF_LABORATORY),
    # An organisation without identifier has another key in each message.
    _message("S11", PATIENT, VISIT.replace("D1^Zhang", "D7^Sun^^^^^^^&lab.example.org&DNS")),
]


def _changed(translator: Translator) -> list[bytes]:
    """Return the messages of repeated segments that a remembering translator reads otherwise."""
    rounds = (*SEGMENTS, *SEGMENTS, *reversed(SEGMENTS))
    fresh = {message: Translator(LIBRARY).translate(message, CHANNEL) for message in SEGMENTS}
    results = [(one, translator.translate(one, CHANNEL)) for one in rounds]
    return [one for one, result in results if result != fresh[one]]


def test_segments_that_are_repeated_become_the_same() -> None:
    translator = Translator(LIBRARY)
    assert _changed(translator) == []
    assert len(translator._segments) > 20


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the name of each map that reads a segment or a part."""
    read: list[str] = []
    make = compiled_map.CompiledMap._make

    def counted(self: compiled_map.CompiledMap, *given: Any) -> Made | None:
        read.append(self.row_map.name)
        return make(self, *given)

    monkeypatch.setattr(compiled_map.CompiledMap, "_make", counted)
    return read


def test_a_repeated_segment_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read = _count_reads(monkeypatch)
    translator = Translator(LIBRARY)
    counts = []
    for number in range(4):
        translator.translate(_message(f"S{number}", PATIENT, VISIT), CHANNEL)
        counts.append((read.count("PID-Patient"), read.count("PV1-Encounter")))
    assert counts == [(1, 1), (2, 2), (2, 2), (2, 2)]


def _keeping(**changes: Any) -> Callable[..., KeptSegment]:
    """Keep segments without one of the guards."""
    return lambda **given: KeptSegment(**{**given, **changes})


@pytest.mark.parametrize("guard", [{"others": {}}, {"calls": ()}, {"notes": ()}])
def test_twin_without_what_else_a_segment_named_or_told_messages_differ(
    monkeypatch: pytest.MonkeyPatch, guard: dict[str, Any]
) -> None:
    monkeypatch.setattr(segment_memory, "KeptSegment", _keeping(**guard))
    assert _changed(Translator(LIBRARY)) != []


def test_a_segment_among_resources_known_otherwise_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = _count_reads(monkeypatch)
    translator = Translator(LIBRARY)
    counts = []
    for number in range(5):
        other = f"PID|1||7001^^^{BY_OID}||Li^Lei"
        translator.translate(_message(f"S{number}", other, OF_LABORATORY), CHANNEL)
        counts.append(read.count("PV1-Encounter"))
    # Read, read alone and as it is, read among what is known; then no more.
    assert counts == [1, 3, 4, 4, 4]


def test_twin_without_what_words_meant_first_messages_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Known.names
    monkeypatch.setattr(Known, "names", lambda self: names(self._replace(once={})))
    assert _changed(Translator(LIBRARY)) != []


def test_twin_without_the_fields_of_other_segments_messages_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SlotNames, "others", lambda *_: [])
    assert _changed(Translator(LIBRARY)) != []


def test_twin_without_the_resources_it_is_linked_to_messages_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = segment_memory.WordsRead.look

    def without_links(read: Any, slots: Any, segment: Any, context: Any, more: Any) -> Any:
        return whole(read, slots, segment, context, more[:1])

    monkeypatch.setattr(segment_memory.WordsRead, "look", without_links)
    assert _changed(Translator(LIBRARY)) != []


def test_twin_that_changes_what_messages_share_messages_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Made, "own", lambda self, _element, *, is_deep: self.tell(()))
    assert _changed(Translator(LIBRARY)) != []


def test_twin_that_changes_what_was_joined_messages_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Made, "borrow", lambda _self, _elements: None)
    assert _changed(Translator(LIBRARY)) != []


def test_twin_that_shares_elements_messages_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_memory, "copied", lambda value: value)
    assert _changed(Translator(LIBRARY)) != []


def test_a_segment_that_was_changed_is_read_as_it_is_now() -> None:
    translator = Translator(LIBRARY)
    for _ in range(3):
        translator.translate(parse(SEGMENTS[0]), CHANNEL)
    message = parse(SEGMENTS[0])
    message.segments[1].set_field(8, "F")
    result = translator.translate(message, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    (patient,) = (one.resource for one in result.resources if one.type == "Patient")
    assert patient["gender"] == "female"


def test_the_memory_of_segments_keeps_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_memory, "MOST_SEGMENTS", 4)
    memory, kept = SegmentMemory(), KeptSegment(notes=())
    for number in range(20):
        memory.keep(number, kept)
        assert len(memory) <= 8
        memory.get(0)
    assert memory.get(0) is kept
    assert memory.get(19) is kept
    assert memory.get(8) is None


@pytest.mark.parametrize("is_guarded", [True, False])
def test_what_has_another_key_in_each_message_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, is_guarded: bool
) -> None:
    if not is_guarded:
        monkeypatch.setattr(segment_memory, "_is_lasting", lambda _made: True)
        monkeypatch.setattr(compiled_map, "_is_lasting", lambda _made: True)
    assert (_changed(Translator(LIBRARY)) == []) is is_guarded
