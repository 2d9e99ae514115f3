"""A district of synthetic patients, ten resources each, for the search benchmark."""

import random
from collections.abc import Iterator
from typing import Any

Resource = dict[str, Any]

FAMILIES = ["张", "王", "李", "赵", "陈", "Smith", "Müller", "García", "Okafor", "Nowak"]
GIVENS = ["伟", "芳", "娜", "敏", "静", "Anna", "Peter", "José", "Amara", "Zofia"]
LOINC = [f"{number}-{number % 10}" for number in range(8000, 8200)]
CONDITIONS = [f"C{number:03}" for number in range(300)]
COMMON_CONDITIONS = CONDITIONS[:10]  # seven cases in ten are one of these
SCREENING_DAY = "03-15"  # one observation in five is of this day of a year
BUSY_MONTH = "06"  # one visit in three is in this month
COMMON_GIVEN = "伟"  # three in ten are called so
CITIES = ["海淀区", "朝阳区", "Springfield", "Gdańsk", "Lagos"]
ORGANIZATIONS = 20
PRACTITIONERS = 50


def concept(system: str, code: str, text: str = "") -> Resource:
    """Return a CodeableConcept of one coding."""
    coding = {"system": system, "code": code, "display": text or f"Display of {code}"}
    return {"coding": [coding]}


def world(patients: int, seed: int = 7) -> Iterator[Resource]:
    """Yield organisations, practitioners, and ten resources for each patient."""
    chance = random.Random(seed)  # noqa: S311 synthetic data
    for number in range(ORGANIZATIONS):
        yield {"resourceType": "Organization", "id": f"org{number}", "name": f"Clinic {number}"}
    for number in range(PRACTITIONERS):
        name = {"family": chance.choice(FAMILIES), "given": [chance.choice(GIVENS)]}
        yield {"resourceType": "Practitioner", "id": f"doc{number}", "name": [name]}
    for number in range(patients):
        yield from _of_patient(number, chance)


def _of_patient(number: int, chance: random.Random) -> Iterator[Resource]:
    me = {"reference": f"Patient/p{number}"}
    day = f"{chance.randint(1930, 2020)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
    family = f"{chance.choice(FAMILIES)}{number if chance.random() < 0.5 else ''}"
    yield {
        "resourceType": "Patient",
        "id": f"p{number}",
        "identifier": [{"system": "urn:mrn", "value": f"M{number:07}"}],
        "active": True,
        "name": [{"family": family, "given": [_given(chance)]}],
        "gender": chance.choice(["male", "female"]),
        "birthDate": day,
        "address": [{"city": chance.choice(CITIES)}],
        "telecom": [{"system": "phone", "value": f"139{number:08}"}],
        "managingOrganization": {"reference": f"Organization/org{number % ORGANIZATIONS}"},
    }
    for visit in range(2):
        month = BUSY_MONTH if chance.random() < 0.3 else f"{chance.randint(1, 12):02}"
        day = f"20{chance.randint(10, 25)}-{month}-{chance.randint(1, 28):02}"
        yield {
            "resourceType": "Encounter",
            "id": f"e{number}-{visit}",
            "status": "finished",
            "class": {"code": chance.choice(["AMB", "IMP", "EMER"])},
            "subject": me,
            "period": {"start": f"{day}T08:00:00+08:00", "end": f"{day}T09:00:00+08:00"},
            "serviceProvider": {"reference": f"Organization/org{number % ORGANIZATIONS}"},
        }
    for measure in range(5):
        yield _observation(number, measure, me, chance)
    yield {
        "resourceType": "Condition",
        "id": f"c{number}",
        "code": concept("urn:icd", _condition(chance)),
        "subject": me,
        "recordedDate": day,
    }
    yield {
        "resourceType": "MedicationRequest",
        "id": f"m{number}",
        "status": chance.choice(["active", "completed"]),
        "intent": "order",
        "medicationCodeableConcept": concept("urn:atc", f"A{chance.randint(0, 99):02}"),
        "subject": me,
        "requester": {"reference": f"Practitioner/doc{number % PRACTITIONERS}"},
    }


def _given(chance: random.Random) -> str:
    return COMMON_GIVEN if chance.random() < 0.3 else chance.choice(GIVENS)


def _condition(chance: random.Random) -> str:
    return chance.choice(COMMON_CONDITIONS if chance.random() < 0.7 else CONDITIONS)


def _observation(number: int, measure: int, me: Resource, chance: random.Random) -> Resource:
    day = f"{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
    if chance.random() < 0.2:
        day = SCREENING_DAY
    day = f"20{chance.randint(10, 25)}-{day}"
    value = round(chance.gauss(100, 25), 1)
    return {
        "resourceType": "Observation",
        "id": f"o{number}-{measure}",
        "status": "final",
        "category": [concept("urn:category", "laboratory" if measure else "vital-signs")],
        "code": concept("http://loinc.org", chance.choice(LOINC) if measure else "8480-6"),
        "subject": me,
        "encounter": {"reference": f"Encounter/e{number}-{measure % 2}"},
        "performer": [{"reference": f"Practitioner/doc{number % PRACTITIONERS}"}],
        "effectiveDateTime": f"{day}T08:30:00+08:00",
        "valueQuantity": {
            "value": value,
            "unit": "mm[Hg]",
            "system": "http://unitsofmeasure.org",
            "code": "mm[Hg]",
        },
    }
