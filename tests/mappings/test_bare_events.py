"""An EVN that says no more than MSH makes no Provenance where that is not wanted; others do."""

import dataclasses

import pytest

from mappings.channels.profile import ChannelProfile
from mappings.engine.library import load
from mappings.engine.rows import Into, Row
from mappings.translate import Translator

LIBRARY = load()
CHANNEL = ChannelProfile()
BARE = "EVN|A01|20260101080000+0800"
TELLING = [
    "EVN|A01|20260101080000||REASON",
    "EVN|A01|20260101080000|||OP1^Li^Wei",
    "EVN|A01|20260101080000||||20260101070000",
    "EVN|A01|20260101080000|||||W1",
    'EVN|A01|20260101080000|||""',
]
# What the sender is told of these would be lost with the row that reads them.
UNREADABLE = ["EVN|A01|20260101", "EVN|A01|20261341080000", "EVN|A01|", "EVN|A 01|20260101080000"]


def message(evn=BARE, facility="H1"):
    return (
        f"MSH|^~\\&|HIS|{facility}|Q|HUB|20260101080000||ADT^A01^ADT_A01|1|P|2.5.1\r{evn}\r"
        "PID|1||7^^^H1^MR||Zhang^San||19900101|M\rPV1|1|I|W1^R1^1||||||||||||||||V7^^^H1^VN\r"
    ).encode()


def types(payload, library=LIBRARY, **choices):
    found = Translator(library, **choices).translate(payload, CHANNEL)
    return [one.type for one in found.resources]


@pytest.mark.parametrize("evn", [BARE, "EVN||20260101080000", "EVN|A01|202601010800+0800||"])
def test_a_bare_event_is_left_out_and_nothing_else(evn):
    payload = message(evn)
    whole = Translator(LIBRARY).translate(payload, CHANNEL)
    assert "Provenance" in [one.type for one in whole.resources]
    found = Translator(LIBRARY, without_bare_events=True).translate(payload, CHANNEL)
    rest = {one.key: one.resource for one in whole.resources if one.type != "Provenance"}
    assert {one.key: one.resource for one in found.resources} == rest
    assert (found.notes, found.held, found.merges) == (whole.notes, whole.held, whole.merges)


@pytest.mark.parametrize("evn", TELLING + UNREADABLE)
def test_an_event_that_tells_more_or_cannot_be_read_is_made_as_ever(evn):
    payload = message(evn)
    whole = Translator(LIBRARY).translate(payload, CHANNEL)
    assert "Provenance" in [one.type for one in whole.resources]
    assert Translator(LIBRARY, without_bare_events=True).translate(payload, CHANNEL) == whole


def test_what_a_sender_is_known_by_beside_its_name_is_kept():
    payload = message(facility="H1^1.2.156.7^ISO")
    whole = Translator(LIBRARY).translate(payload, CHANNEL)
    assert Translator(LIBRARY, without_bare_events=True).translate(payload, CHANNEL) == whole


def with_row(**row):
    one = LIBRARY.maps["EVN-Provenance"]
    more = (*one.rows, Row(line=1, **row))
    maps = {**LIBRARY.maps, "EVN-Provenance": dataclasses.replace(one, rows=more)}
    return dataclasses.replace(LIBRARY, maps=maps)


def with_lines(*makings):
    common = LIBRARY.messages["ADT^A01"]
    own = [making for making in common.makes if making.id not in {one.id for one in makings}]
    one = dataclasses.replace(common, makes=(*own, *makings))
    return dataclasses.replace(LIBRARY, messages={**LIBRARY.messages, "ADT^A01": one})


def line(name, **changes):
    [found] = [one for one in LIBRARY.messages["ADT^A01"].makes if one.id == name]
    return dataclasses.replace(found, **changes)


@pytest.mark.parametrize(
    "library",
    [
        pytest.param(
            with_row(id="X", source="PV1-44", target="occurred:dateTime", codec="dtm.dateTime"),
            id="a row reads another segment",
        ),
        pytest.param(
            with_row(id="X", value="W1", target="activity.text", when="PV1-2 VALUED"),
            id="a row asks about another segment",
        ),
        pytest.param(
            with_row(id="X", source="EVN-1", target="activity", use="CWE-CodeableConcept"),
            id="a row asks code tables",
        ),
        pytest.param(
            with_lines(line("encounter", links={"subject": "patient", "basedOn[0]": "event"})),
            id="a line refers to it",
        ),
        pytest.param(
            with_lines(line("contact", into={"event": Into(path="extension[*]")})),
            id="a line puts an element into it",
        ),
    ],
)
def test_maps_of_a_site_that_make_more_of_an_event_are_run(library):
    assert "Provenance" not in types(message(), without_bare_events=True)
    assert "Provenance" in types(message(), library, without_bare_events=True)


def test_the_shared_messages_lose_bare_events_and_what_only_those_named(shared_data):
    folder = shared_data / "hl7v2-messages" / "messages"
    whole, found = Translator(LIBRARY), Translator(LIBRARY, without_bare_events=True)
    left_out = 0
    for file in sorted(folder.glob("*.hl7")):
        before = whole.translate(file.read_bytes(), CHANNEL)
        after = found.translate(file.read_bytes(), CHANNEL)
        if not hasattr(before, "resources"):
            assert after == before
            continue
        rest = {one.key: one.resource for one in after.resources}
        gone = [one for one in before.resources if one.key not in rest]
        assert {one.type for one in gone} <= {"Provenance", "Organization"}
        assert all(rest[one.key] == one.resource for one in before.resources if one.key in rest)
        assert (after.notes, after.held, after.merges) == (before.notes, before.held, before.merges)
        left_out += sum(one.type == "Provenance" for one in gone)
    assert left_out
