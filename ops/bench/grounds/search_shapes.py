"""The query shapes of the search benchmark."""

import random
from collections.abc import Callable
from typing import Any

from ops.bench.grounds.search_world import (
    BUSY_MONTH,
    CITIES,
    COMMON_CONDITIONS,
    COMMON_GIVEN,
    FAMILIES,
    LOINC,
    SCREENING_DAY,
)

Pairs = list[tuple[str, str]]
Shape = Callable[[random.Random], tuple[str, Pairs]]


def shapes(patients: int) -> dict[str, Shape]:
    """Return name → a maker of (type, parameters).

    At any size the values exist and fill a page, or find one or a patient's few, or nothing: a
    short page against a full one would say nothing about growth.
    """

    def one(chance: random.Random) -> int:
        return chance.randrange(patients)

    def year(chance: random.Random) -> int:
        return chance.randint(2010, 2024)

    def shape(type_: str, *pairs: tuple[str, Any]) -> Shape:
        def make(chance: random.Random) -> tuple[str, Pairs]:
            return type_, [(n, v(chance) if callable(v) else v) for n, v in pairs]

        return make

    loinc = "http://loinc.org"
    return {
        "all of a type": shape("Patient"),
        "id": shape("Patient", ("_id", lambda c: f"p{one(c)}")),
        "identifier": shape("Patient", ("identifier", lambda c: f"urn:mrn|M{one(c):07}")),
        "identifier, ten": shape(
            "Patient",
            ("identifier", lambda c: ",".join(f"urn:mrn|M{one(c):07}" for _ in range(10))),
        ),
        "no such identifier": shape("Patient", ("identifier", "urn:mrn|none")),
        "dense token": shape("Patient", ("gender", "female")),
        "dense token with system": shape("Observation", ("category", "urn:category|laboratory")),
        "code": shape("Observation", ("code", lambda c: f"{loinc}|{c.choice(LOINC)}")),
        "three codes": shape("Observation", ("code", lambda c: ",".join(c.sample(LOINC, 3)))),
        "no such code": shape("Observation", ("code", "none")),
        "code of a system": shape("Encounter", ("class", "AMB")),
        "two dense tokens": shape("Observation", ("category", "laboratory"), ("status", "final")),
        "dense and sparse token": shape(
            "Observation", ("status", "final"), ("code", lambda c: c.choice(LOINC))
        ),
        "token not": shape("Encounter", ("class:not", "AMB")),
        "token text": shape(
            "Condition", ("code:text", lambda c: f"display of {c.choice(COMMON_CONDITIONS)}")
        ),
        "missing": shape("Patient", ("birthdate:missing", "false")),
        "patient's": shape("Observation", ("patient", lambda c: f"p{one(c)}")),
        "patient's code": shape(
            "Observation", ("patient", lambda c: f"Patient/p{one(c)}"), ("code", "8480-6")
        ),
        "patient's since": shape(
            "Observation", ("patient", lambda c: f"p{one(c)}"), ("date", lambda c: f"ge{year(c)}")
        ),
        "family begins": shape("Patient", ("family", lambda c: c.choice(FAMILIES))),
        "family exact": shape("Patient", ("family:exact", lambda c: c.choice(FAMILIES))),
        "name begins": shape("Patient", ("name", lambda c: c.choice(FAMILIES))),
        "address begins": shape("Patient", ("address", lambda c: c.choice(CITIES))),
        "city begins": shape("Patient", ("address-city", lambda c: c.choice(CITIES))),
        "name contains": shape(
            "Patient", ("family:contains", lambda c: c.choice(["mit", "kafo", "üll"]))
        ),
        "pinyin": shape("Patient", ("name-pinyin", "zhang")),
        "two names": shape(
            "Patient",
            ("family", lambda c: c.choice(FAMILIES)),
            ("given", COMMON_GIVEN),
        ),
        "no such name": shape("Patient", ("family", "nobody")),
        "birth date": shape("Patient", ("birthdate", lambda c: f"19{c.randint(30, 99)}-05-07")),
        "born since": shape("Patient", ("birthdate", lambda c: f"ge{c.randint(1940, 2010)}")),
        "day": shape("Observation", ("date", lambda c: f"{year(c)}-{SCREENING_DAY}")),
        "month": shape("Encounter", ("date", lambda c: f"{year(c)}-{BUSY_MONTH}")),
        "between": shape(
            "Observation", ("date", lambda c: f"ge{year(c)}-02"), ("date", "le2025-01")
        ),
        "quantity above": shape("Observation", ("value-quantity", "gt150")),
        "rare quantity": shape(
            "Observation", ("value-quantity", "gt400|http://unitsofmeasure.org|mm[Hg]")
        ),
        "code and value": shape("Observation", ("code-value-quantity", f"{loinc}|8480-6$gt150")),
        "code and value without system": shape(
            "Observation", ("code-value-quantity", "8480-6$ge120||mm[Hg]")
        ),
        "chain, one patient": shape(
            "Observation", ("patient.identifier", lambda c: f"urn:mrn|M{one(c):07}")
        ),
        "chain, many patients": shape("Observation", ("patient.gender", "female")),
        "chain of two": shape("Observation", ("encounter.service-provider.name", "Clinic 7")),
        "has": shape(
            "Patient", ("_has:Condition:patient:code", lambda c: c.choice(COMMON_CONDITIONS))
        ),
        "has, dense": shape("Patient", ("_has:Observation:patient:code", "8480-6")),
        "sorted, dense": shape("Observation", ("status", "final"), ("_sort", "-date")),
        "sorted, a patient's": shape(
            "Observation", ("patient", lambda c: f"p{one(c)}"), ("_sort", "-date")
        ),
        "sorted by name": shape("Patient", ("_sort", "family")),
        "last updated": shape("Patient", ("_sort", "-_lastUpdated")),
        "include": shape(
            "Observation", ("code", lambda c: c.choice(LOINC)), ("_include", "Observation:patient")
        ),
        "revinclude": shape(
            "Patient",
            ("identifier", lambda c: f"M{one(c):07}"),
            ("_revinclude", "Observation:patient"),
        ),
    }
