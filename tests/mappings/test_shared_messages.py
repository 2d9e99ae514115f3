"""The shared messages: every field read or declared, restored or declared lossy, facts compared."""

import pathlib
import re
import zoneinfo
from dataclasses import replace
from typing import Any

import pytest

from mappings.channels.profile import ChannelProfile
from mappings.coverage import cover
from mappings.engine.context import Sender
from mappings.engine.library import Library, load
from mappings.engine.rows import RowMap
from mappings.facts_score import Ledger, Ours, read_ledger, score
from mappings.put_back import PutBack
from mappings.round_trip import round_trip
from mappings.translate import Translator
from mappings.translated import TranslatedMessage

CHANNEL = ChannelProfile()
LIBRARY = load()
TRANSLATOR = Translator(LIBRARY)
LEDGER = Ledger(read_ledger())


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


@pytest.mark.slow
def test_facts_beside_those_of_another_converter(shared_data: pathlib.Path) -> None:
    channel = ChannelProfile(sender=Sender(zone=zoneinfo.ZoneInfo("Asia/Kolkata")))
    found = score(shared_data / "hl7v2-messages", Translator(LIBRARY), channel)
    report = found.report()
    assert report["precision"] >= 0.98
    assert report["recall"] >= 0.85
    assert report["raw_recall"] >= 0.72
    assert report["raw_precision"] >= 0.65
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
    # Each says of which fields it speaks, or of which values.
    assert all(one.fields or one.values for one in ledger)
    # Any value at all is excused only for the words beside a code.
    anything = {one.match.pattern for one in ledger if one.values and one.values.fullmatch("\0?")}
    assert len(anything) == 1
    assert all(one.side == "missing" for one in ledger if one.match.pattern in anything)
    assert {one.side for one in ledger if "*" in one.fields} == {"surplus"}


WRONG = "Seeded 0"
SEEDED = ("ADT-A01-01", "BAR-P12-01", "DFT-P03-01", "ORM-O01-06", "OUL-R22-01", "RDS-O13-02")


def test_the_ledger_excuses_no_wrong_value_of_ours(shared_data: pathlib.Path) -> None:
    """Each value that it excuses is replaced by a wrong one, which must be reported."""
    excused = 0
    anything = Ledger([replace(one, values=re.compile(".+")) for one in read_ledger()])
    for name in SEEDED:
        file = shared_data / "hl7v2-messages" / "messages" / f"{name}.hl7"
        ours = Ours.of(TRANSLATOR, file.read_bytes(), CHANNEL)
        for fact in list(ours.facts):
            if ours.excuse_of_ours(fact, LEDGER) is None:
                continue
            kind, path, _ = fact
            seeded = (kind, path, WRONG)
            ours.facts[seeded] = ours.facts[fact]
            if path.endswith(".reference"):
                continue  # only the type is a fact
            excused += 1
            assert ours.excuse_of_ours(seeded, LEDGER) is None, seeded
            assert ours.excuse_of_ours(seeded, anything) is not None
    assert excused > 1000


@pytest.mark.parametrize(
    ("map_name", "row", "change", "message", "told"),
    [
        (
            "RXE-MedicationRequest",
            "RXE-i",
            {"value": "plan"},
            "RDE-O11-02",
            "MedicationRequest intent",
        ),
        (
            "PID-Patient",
            "PID-17",
            {"source": "PID-16"},
            "ADT-A01-01",
            "Patient extension(patient-religion)",
        ),
        (
            "OBX-Observation",
            "OBX-7",
            {"source": "OBX-6"},
            "OUL-R22-01",
            "Observation referenceRange.text",
        ),
        (
            "PV1-Encounter",
            "PV1-16",
            {"source": "PV1-18"},
            "ADT-A01-01",
            "Encounter hospitalization.specialC",
        ),
        (
            "PV1-Encounter",
            "PV1-42",
            {"defaults": {"status": "left"}},
            "ADT-A01-01",
            "Encounter location.status",
        ),
    ],
)
def test_a_map_that_reads_another_field_is_reported_in_spite_of_the_ledger(
    shared_data: pathlib.Path,
    map_name: str,
    row: str,
    change: dict[str, Any],
    message: str,
    told: str,
) -> None:
    row_map = LIBRARY.maps[map_name]
    rows = tuple(replace(one, **change) if one.id == row else one for one in row_map.rows)
    assert rows != row_map.rows
    library = replace(LIBRARY, maps={**LIBRARY.maps, map_name: replace(row_map, rows=rows)})
    data = (shared_data / "hl7v2-messages" / "messages" / f"{message}.hl7").read_bytes()
    right, wrong = (
        {
            f"{kind} {path} = {value}"
            for kind, path, value in ours.facts
            if f"{kind} {path}".startswith(told)
            and ours.excuse_of_ours((kind, path, value), LEDGER) is None
        }
        for ours in (
            Ours.of(TRANSLATOR, data, CHANNEL),
            Ours.of(Translator(library), data, CHANNEL),
        )
    )
    assert wrong - right


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
