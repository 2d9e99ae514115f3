"""The shared messages: every field read or declared, restored or declared lossy, facts compared."""

import pathlib
import zoneinfo
from dataclasses import replace

import pytest

from mappings.channels.profile import ChannelProfile
from mappings.coverage import cover
from mappings.engine.context import Sender
from mappings.engine.library import Library, load
from mappings.engine.rows import RowMap
from mappings.facts_score import read_ledger, score
from mappings.put_back import PutBack
from mappings.round_trip import round_trip
from mappings.translate import Translator
from mappings.translated import TranslatedMessage

CHANNEL = ChannelProfile()
LIBRARY = load()


@pytest.fixture(scope="module")
def messages(shared_data: pathlib.Path) -> list[tuple[str, bytes]]:
    folder = shared_data / "hl7v2-messages" / "messages"
    return [(file.name, file.read_bytes()) for file in sorted(folder.glob("*.hl7"))]


def _without(library: Library, map_name: str, row: str) -> Library:
    row_map: RowMap = library.maps[map_name]
    rows = tuple(one for one in row_map.rows if one.id != row)
    assert len(rows) < len(row_map.rows)
    return replace(library, maps={**library.maps, map_name: replace(row_map, rows=rows)})


def test_every_populated_field_is_read_or_declared(messages: list[tuple[str, bytes]]) -> None:
    coverage = cover((data for _, data in messages), Translator(LIBRARY, watched=True), CHANNEL)
    assert coverage.populated > 20_000
    assert dict(coverage.unread) == {}
    assert coverage.ignored_share <= 0.10


def test_the_gate_sees_a_field_that_no_row_reads(messages: list[tuple[str, bytes]]) -> None:
    """A row that stands for the field in another event, or in a map that did not run, is no row."""
    library = _without(LIBRARY, "PID-Patient", "PID-8")
    some = (data for _, data in messages[:12])
    coverage = cover(some, Translator(library, watched=True), CHANNEL)
    assert set(coverage.unread) == {"PID-8"}


def test_a_reason_names_what_the_field_means() -> None:
    reasons = [
        (f"{row_map.name}/{row.id}", row.ignore)
        for row_map in LIBRARY.maps.values()
        for row in row_map.rows
        if row.ignore
    ]
    reasons += [
        (name, why) for one in LIBRARY.messages.values() for name, why in one.ignores.items()
    ]
    assert len(reasons) > 40
    vague = [one for one in reasons if len(one[1].split()) < 4 or "not used" in one[1]]
    assert vague == []


def test_mapped_values_return_or_their_rows_say_that_they_do_not(
    messages: list[tuple[str, bytes]],
) -> None:
    found = round_trip(messages, Translator(LIBRARY), CHANNEL)
    assert found.messages == 136
    assert found.values > 50_000
    assert found.share_with_original == 1.0
    assert dict(found.undeclared) == {}
    assert found.share_without_original > 0.70


def test_a_row_that_says_nothing_of_its_loss_is_found(messages: list[tuple[str, bytes]]) -> None:
    """Two-way by its word, and nothing comes back: `undeclared` must name it."""
    row_map = LIBRARY.maps["PID-Patient"]
    silent = tuple(
        replace(row, when_fhir="nothing exists") if row.id == "PID-23" else row
        for row in row_map.rows
    )
    library = replace(LIBRARY, maps={**LIBRARY.maps, "PID-Patient": replace(row_map, rows=silent)})
    found = round_trip(messages[:12], Translator(library), CHANNEL)
    assert {name.split()[0] for name in found.undeclared} == {"PID-23"}


def test_facts_beside_those_of_another_converter(shared_data: pathlib.Path) -> None:
    channel = ChannelProfile(sender=Sender(zone=zoneinfo.ZoneInfo("Asia/Kolkata")))
    found = score(shared_data / "hl7v2-messages", Translator(LIBRARY), channel)
    report = found.report()
    assert report["precision"] >= 0.98
    assert report["recall"] >= 0.85
    assert report["raw_recall"] >= 0.70
    assert {"Patient", "Encounter", "Observation"} <= set(report["by_resource"])
    # The raw figures leave the ledger out.
    assert report["raw_precision"] == round(found.both.total() / found.ours.total(), 4)
    assert report["raw_recall"] == round(found.both.total() / found.theirs.total(), 4)
    assert found.apart_ours.total() + found.surplus.total() == (
        found.ours.total() - found.both.total()
    )


def test_every_line_of_the_ledger_has_a_verdict_and_a_reason() -> None:
    ledger = read_ledger()
    assert {one.verdict for one in ledger} <= {"convention", "guide", "ours", "theirs"}
    assert {one.side for one in ledger} <= {"surplus", "missing", "both"}
    assert all(len(one.why) > 10 for one in ledger)


MESSAGE = (
    b"MSH|^~\\&|HIS|H1|HUB|Q|20260501083000||ADT^A01^ADT_A01|M1|P|2.5.1\r"
    b"EVN|A01|20260501083000||||20260501080000\r"
    b"PID|1||7001^^^H1^MR||Li^Lei\r"
    b"NK1|1|Han^Meimei|SPO||139\r"
    b"PV1|1|I|W3^301^02^H1||||D01^Zhang^Wei||||||||||||V9001\r"
    b"DG1|1||I10^Hypertension^I10|||A|||||||||2\r"
)


def test_elements_are_filled_from_other_segments_and_return_to_them() -> None:
    result = Translator(LIBRARY).translate(MESSAGE, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    by_type = {one.type: one for one in result.resources}
    encounter, patient = by_type["Encounter"], by_type["Patient"]
    (diagnosis,) = encounter.resource["diagnosis"]
    assert diagnosis["rank"] == 2
    assert diagnosis["use"]["coding"][0]["code"] == "AD"
    assert diagnosis["condition"]["reference"].startswith("urn:uuid:")
    assert ("DG1-Diagnosis", "diagnosis[0]", "DG1[1]") in encounter.parts
    assert ("Encounter.diagnosis[0].rank", "DG1[1]-15[1]", "DG1-15") in encounter.trace
    assert patient.resource["contact"][0]["name"] == {"family": "Han", "given": ["Meimei"]}
    provenance = by_type["Provenance"].resource
    assert provenance["target"] == [{"reference": f"urn:uuid:{patient.key}"}]
    assert provenance["occurredDateTime"] == "2026-05-01T08:00:00+08:00"
    made = dict(PutBack(LIBRARY).rebuild(result.resources))
    assert made["DG1[1]"]["DG1", 15] == "2"
    # References are followed: ward and doctor return to the fields they came from.
    assert made["PV1[1]"]["PV1", 3] == "W3^301^02^H1"
    assert made["PV1[1]"]["PV1", 7].startswith("D01^Zhang^Wei")
