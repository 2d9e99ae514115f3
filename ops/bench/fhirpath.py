"""All search expressions of R4 over example resources: compiled FHIRPath against fhirpathpy."""

import importlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from conformance import fhirpath, invariants, resource_json, structure
from conformance.r4 import tables

ROUNDS, MOST_ROUNDS, SECONDS = 5, 200, 0.5
MAX_EXAMPLES = 120
OWN_EXAMPLE = {
    "resourceType": "Patient",
    "id": "p",
    "active": True,
    "name": [{"use": "official", "family": "Chalmers", "given": ["Peter", "James"]}],
    "telecom": [{"system": "phone", "value": "1", "use": "work"}],
    "gender": "male",
    "birthDate": "1974-12-25",
    "address": [{"use": "home", "city": "PleasantVille", "postalCode": "3999"}],
    "managingOrganization": {"reference": "Organization/1"},
}

Pair = tuple[str, dict[str, Any]]


def examples(*, every: int | None = None) -> list[dict[str, Any]]:
    """Return official R4 examples where they lie beside the checkout, else one of our own."""
    named = os.environ.get("QIAO_SHARED")
    root = pathlib.Path(__file__).resolve().parents[2]
    places = [pathlib.Path(named)] if named else [p / "shared" for p in list(root.parents)[:2]]
    files = [file for place in places for file in (place / "data/r4-examples").glob("*.json")]
    step = every or max(1, len(files) // MAX_EXAMPLES)
    found = [resource_json.parse(file.read_bytes()) for file in sorted(files)[::step]]
    return found or [OWN_EXAMPLE]


def pairs(resources: list[dict[str, Any]]) -> Iterator[Pair]:
    """Yield each resource with each search expression of its type."""
    for parameter in tables.load().search_parameters:
        for resource in resources:
            if parameter.expression and resource["resourceType"] in parameter.bases:
                yield parameter.expression, resource


def microseconds(work: list[tuple[Callable[[Any], Any], Any]]) -> float:
    """Return the least mean processor time of one call, over half a second of rounds.

    Processor time, so that another load on the machine counts less.
    """
    least, spent, rounds = float("inf"), 0.0, 0
    while rounds < ROUNDS or (spent < SECONDS and rounds < MOST_ROUNDS):
        begin = time.process_time()
        for call, argument in work:
            call(argument)
        taken = time.process_time() - begin
        least, spent, rounds = min(least, taken), spent + taken, rounds + 1
    return least / len(work) * 1e6


def runs(call: Callable[[Any], Any], argument: Any) -> bool:
    """Say whether the other side can evaluate an expression at all."""
    try:
        call(argument)
    except Exception:  # noqa: BLE001 - whatever it raises, it is left out of the comparison
        return False
    return True


async def run() -> dict[str, Any]:
    """Return microseconds for one expression on one resource, and the ratio to fhirpathpy."""
    other: Any = importlib.import_module("fhirpathpy")
    model = importlib.import_module("fhirpathpy.models").models["r4"]
    resources = examples()
    theirs: list[tuple[Callable[[Any], Any], Any]] = []
    ours: list[tuple[Callable[[Any], Any], Any]] = []
    engine: list[tuple[Callable[[Any], Any], Any]] = []
    raw: list[tuple[Callable[[Any], Any], Any]] = []
    compiled: dict[str, Any] = {}
    for expression, resource in pairs(resources):
        if expression not in compiled:
            compiled[expression] = other.compile(expression, model)
        if not runs(compiled[expression], resource):
            continue
        mine = fhirpath.compile(expression, as_filters=True)
        theirs.append((compiled[expression], resource))
        ours.append((mine.evaluate, resource))
        engine.append((mine.nodes, resource))
        raw.append((dict.copy, {"name": 1}))
    slow, fast = microseconds(theirs), microseconds(ours)
    general, bare = microseconds(engine), microseconds(raw)
    form = microseconds([(structure.check, resource) for resource in resources])
    rules = microseconds([(invariants.check, resource) for resource in resources])
    return {
        "evaluations": len(ours),
        "resources": len(resources),
        "fhirpathpy_us": round(slow, 2),
        "ours_us": round(fast, 2),
        "general_engine_us": round(general, 2),
        "raw_copy_of_a_small_dict_us": round(bare, 3),
        "times_faster_than_fhirpathpy": round(slow / fast, 1),
        "structure_check_us_per_resource": round(form, 1),
        "constraints_us_per_resource": round(rules, 1),
    }
