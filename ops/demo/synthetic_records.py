"""Ten synthetic resources for one resident: what figures are counted in."""

import datetime
from collections.abc import Iterator
from typing import Any

from ops.demo.synthetic_district import Person, patient_of, people

_LOINC = "http://loinc.org"
_UCUM = "http://unitsofmeasure.org"
_CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"
_START = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)
_MEASUREMENTS = (
    ("8867-4", "Heart rate", "/min", 58, 40),
    ("8310-5", "Body temperature", "Cel", 36, 2),
    ("29463-7", "Body weight", "kg", 45, 50),
    ("8302-2", "Body height", "cm", 150, 35),
    ("2339-0", "Glucose [Mass/volume] in Blood", "mg/dL", 70, 60),
)


def records(seed: int, count: int) -> Iterator[list[dict[str, Any]]]:
    """Yield, for each of `count` residents, the Patient and nine resources about it."""
    for person in people(seed, count):
        yield record_of(person)


def record_of(person: Person) -> list[dict[str, Any]]:
    """Return a Patient, an Encounter, a Condition, five Observations, a prescription, a shot."""
    patient = patient_of(person, "station-1")
    key, at = person.number, _START + datetime.timedelta(minutes=person.number % 400_000)
    subject = {"reference": f"Patient/{patient['id']}", "display": person.name}
    encounter = {"reference": f"Encounter/visit-{key}"}
    when = at.isoformat()
    return [
        patient,
        {
            "resourceType": "Encounter",
            "id": f"visit-{key}",
            "status": "finished",
            "class": {
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                "code": "AMB",
            },
            "subject": subject,
            "period": {"start": when, "end": (at + datetime.timedelta(minutes=15)).isoformat()},
            "serviceProvider": {"reference": "Organization/station-1"},
        },
        {
            "resourceType": "Condition",
            "id": f"problem-{key}",
            "clinicalStatus": _concept(
                "http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "Active"
            ),
            "code": _concept("http://hl7.org/fhir/sid/icd-10", f"I1{key % 6}", "高血压"),
            "subject": subject,
            "encounter": encounter,
            "recordedDate": when,
        },
        *(_observation(key, number, subject, encounter, when) for number in range(5)),
        {
            "resourceType": "MedicationRequest",
            "id": f"prescription-{key}",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": _concept(
                "http://www.whocc.no/atc", f"C09AA0{key % 9}", "降压药"
            ),
            "subject": subject,
            "encounter": encounter,
            "authoredOn": when,
            "dosageInstruction": [{"text": "每日一次，每次一片"}],
        },
        {
            "resourceType": "Immunization",
            "id": f"shot-{key}",
            "status": "completed",
            "vaccineCode": _concept("http://hl7.org/fhir/sid/cvx", f"{100 + key % 50}", "疫苗"),
            "patient": subject,
            "occurrenceDateTime": when,
        },
    ]


def _observation(
    key: int, number: int, subject: dict[str, str], encounter: dict[str, str], when: str
) -> dict[str, Any]:
    code, display, unit, low, spread = _MEASUREMENTS[number]
    return {
        "resourceType": "Observation",
        "id": f"measurement-{key}-{number}",
        "status": "final",
        "category": [_concept(_CATEGORIES, "vital-signs", "Vital Signs")],
        "code": _concept(_LOINC, code, display),
        "subject": subject,
        "encounter": encounter,
        "effectiveDateTime": when,
        "valueQuantity": {
            "value": low + key % spread,
            "unit": unit,
            "system": _UCUM,
            "code": unit,
        },
    }


def _concept(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}
