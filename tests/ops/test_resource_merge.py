"""A record that changed keeps nothing that R4 allows only with what it was before."""

import pytest

from conformance.structure import require_valid
from ops.resource_merge import merged

ACTOR = {"actor": {"display": "P1"}, "status": "accepted"}
TIMES = {"start": "2026-01-02T08:00:00Z", "end": "2026-01-02T08:10:00Z"}
CODE = {"text": "heart rate"}


@pytest.mark.parametrize(
    ("stored", "incoming", "gone"),
    [
        (
            {"status": "cancelled", "cancelationReason": {"text": "ill"}, "participant": [ACTOR]},
            {"status": "booked", **TIMES},
            "cancelationReason",
        ),
        (
            {"status": "final", "code": CODE, "dataAbsentReason": {"text": "not done"}},
            {"status": "corrected", "valueString": "60"},
            "dataAbsentReason",
        ),
    ],
)
def test_what_no_longer_holds_goes(
    stored: dict[str, object], incoming: dict[str, object], gone: str
) -> None:
    type_ = "Appointment" if "participant" in stored else "Observation"
    result = merged({"resourceType": type_, **stored}, {"resourceType": type_, **incoming})
    assert gone not in result
    require_valid(result)


def test_a_reason_stays_while_the_appointment_is_cancelled() -> None:
    stored = {
        "resourceType": "Appointment",
        "status": "cancelled",
        "cancelationReason": {"text": "ill"},
        "participant": [ACTOR],
    }
    result = merged(stored, {"resourceType": "Appointment", "comment": "called"})
    assert result["cancelationReason"] == {"text": "ill"}
    require_valid(result)
