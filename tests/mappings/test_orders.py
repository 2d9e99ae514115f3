"""Orders, their drugs and their specimens: what belongs to one order stays with it."""

from typing import Any

from mappings.channels.profile import ChannelProfile
from mappings.engine.converters import NULL
from mappings.engine.library import load
from mappings.put_back import PutBack
from mappings.translate import Translator
from mappings.translated import TranslatedMessage

LIBRARY = load()
TRANSLATOR = Translator(LIBRARY)
HEAD = (
    "MSH|^~\\&|HIS|H1|HUB|Q|20260501083000||{event}|M1|P|2.5.1\r"
    "PID|1||7001^^^H1^MR||Li^Lei\r"
    "ORC|NW|A1^HIS|||||||20260501083000\r"
)


def _translate(event: str, *segments: str) -> TranslatedMessage:
    message = HEAD.format(event=event) + "\r".join(segments) + "\r"
    result = TRANSLATOR.translate(message.encode(), ChannelProfile())
    assert isinstance(result, TranslatedMessage)
    return result


def _all(result: TranslatedMessage, kind: str) -> list[dict[str, Any]]:
    return [dict(one.resource) for one in result.resources if one.type == kind]


def test_an_encoded_order_keeps_its_own_route_and_timing_behind_a_participation() -> None:
    """PRT behind RXE is part of the encoded order; the RXR that follows is not the request's."""
    asked, encoded = _all(
        _translate(
            "RDE^O11^RDE_O11",
            "RXO|1^Ampicillin^L|2||caps^capsule",
            "RXR|IV^Infusion",
            "RXE||2^Nicardipine^L|5||mg/hr^mg/hr|||||||||||PN1",
            "PRT|1|AD||AD",
            "TQ1|1|2^&cp|BID||||||S||Before meals",
            "RXR|PO^Oral",
        ),
        "MedicationRequest",
    )
    assert asked["dosageInstruction"][0]["route"]["coding"][0]["code"] == "IV"
    dosage = encoded["dosageInstruction"][0]
    assert dosage["route"]["coding"][0]["code"] == "PO"
    assert dosage["timing"]["code"]["coding"][0]["code"] == "BID"
    assert dosage["text"] == "Before meals"
    assert encoded["intent"] == "filler-order"
    assert encoded["basedOn"][0]["reference"].startswith("urn:uuid:")
    assert encoded["priority"] == "stat"


def test_two_drugs_under_one_placer_number_are_two_requests() -> None:
    segments = ("RXO|1^Ampicillin^L|2", "ORC|NW|A1^HIS|||||||20260501083000", "RXO|2^Heparin^L|3")
    result = _translate("OMP^O09^OMP_O09", *segments)
    doses = [
        one["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["value"]
        for one in _all(result, "MedicationRequest")
    ]
    assert list(map(int, doses)) == [2, 3]
    identities = [one.identity for one in result.resources if one.type == "MedicationRequest"]
    assert len(set(identities)) == 2
    # The same order said twice is one request.
    same = ("RXO|1^Ampicillin^L|2", "ORC|NW|A1^HIS|||||||20260501083000", "RXO|1^Ampicillin^L|2")
    assert len(_all(_translate("OMP^O09^OMP_O09", *same), "MedicationRequest")) == 1


def test_an_offset_is_counted_in_minutes() -> None:
    """R4 Timing.repeat.offset: minutes from the event; RPT-10 names the sender's unit."""
    order = "OBR|1|A1^HIS||OP1^Biopsy^L"
    offsets = {}
    for pattern in ("120^s", "3^hr", "5", "30^s", "x^s", "1^ann"):
        (request,) = _all(
            _translate("OMG^O19^OMG_O19", f"TQ1|1||P^^^^^^^AC^{pattern}", order), "ServiceRequest"
        )
        offsets[pattern] = request["occurrenceTiming"]["repeat"].get("offset")
    assert offsets == {"120^s": 2, "3^hr": 180, "5": 5, "30^s": None, "x^s": None, "1^ann": None}
    noted = _translate("OMG^O19^OMG_O19", "TQ1|1||P^^^^^^^AC^30^s", order).notes
    assert any("whole number of minutes" in note.text_en for note in noted)
    # The way back names the unit.
    result = _translate("OMG^O19^OMG_O19", "TQ1|1||P^^^^^^^AC^120^s", order)
    made = dict(PutBack(LIBRARY).rebuild(result.resources))
    assert made["TQ1[1]"]["TQ1", 3] == "P^^^^^^^AC^2^min"


def test_an_order_that_speaks_of_its_specimen_has_one() -> None:
    """Sheet OBR[Specimen]; a time of observation alone is no specimen."""
    result = _translate(
        "ORU^R01^ORU_R01",
        "OBR|1|A1^HIS|F1|CBC^Count^L|||20260501080000||2^mL^UCUM|D1^Li^Na||||20260501081500|BLD&Blood",
    )
    (specimen,) = _all(result, "Specimen")
    assert specimen["collection"]["collectedDateTime"] == "2026-05-01T08:00:00+08:00"
    assert specimen["receivedTime"] == "2026-05-01T08:15:00+08:00"
    assert specimen["type"]["coding"][0]["code"] == "BLD"
    (request,) = _all(result, "ServiceRequest")
    assert request["specimen"][0]["reference"].startswith("urn:uuid:")
    assert not _all(
        _translate("ORU^R01^ORU_R01", "OBR|1|A1^HIS|F1|ECG^Echo^L|||20260501080000"), "Specimen"
    )


def test_a_specimen_names_its_parent_and_both_numbers_return() -> None:
    result = _translate(
        "ORU^R01^ORU_R01",
        "OBR|1|A1^HIS|F1|CBC^Count^L",
        "SPM|1|P9&HIS^F9&LAB|P1&HIS^F1&LAB|BLD",
    )
    child, *_ = [one for one in _all(result, "Specimen") if "parent" in one]
    assert {one["value"] for one in child["identifier"]} == {"P9", "F9"}
    made = dict(PutBack(LIBRARY).rebuild(result.resources))
    assert made["SPM[1]"]["SPM", 2] == "P9&HIS^F9&LAB"
    assert made["SPM[1]"]["SPM", 3] == "P1&HIS^F1&LAB"
    assert NULL not in made["SPM[1]"].values()
