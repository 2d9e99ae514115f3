"""The official R4 FHIRPath cases, each judged; the ones we decide otherwise are named."""

import json
import pathlib
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest

from conformance import fhirpath, resource_json, resource_xml
from conformance.problem import Problem

EXCEPTIONS = json.loads((pathlib.Path(__file__).parent / "suite_exceptions.json").read_bytes())


def read_input(folder: pathlib.Path, name: str | None) -> dict[str, Any] | None:
    if name is None:
        return None
    path = folder / "input" / name
    if not path.exists():
        path = folder / "input_json" / f"{pathlib.Path(name).stem}.json"
    parser = resource_xml if path.suffix == ".xml" else resource_json
    return parser.parse(path.read_bytes())


def text_of(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def is_same(expected: dict[str, Any], found: fhirpath.Value) -> bool:
    name = found.type.removeprefix("System.").lower()
    if expected["type"] is not None and expected["type"].lower() != name:
        return False
    wanted, text = expected["value"], text_of(found.value)
    if text in (wanted, wanted.removeprefix("@"), wanted.removeprefix("@T")):
        return True
    try:
        return Decimal(wanted) == Decimal(text)
    except InvalidOperation:
        return False


def agrees(case: dict[str, Any], folder: pathlib.Path) -> bool:
    resource = read_input(folder, case["input"])
    strict = case["mode"] == "strict" or case["invalid"] == "semantic"
    type_name = resource["resourceType"] if resource and strict else None
    try:
        compiled = fhirpath.compile(case["expression"], type_name, strict=strict)
        found = compiled.values(resource)
    except Problem:
        return case["invalid"] is not None
    if case["invalid"] is not None:
        return False
    if case["predicate"]:
        found = [fhirpath.Value("System.Boolean", bool(found))]
    expected = case["output"]
    if not case["ordered"]:
        found = sorted(found, key=lambda value: text_of(value.value))
        expected = sorted(expected, key=lambda value: value["value"])
    return len(found) == len(expected) and all(map(is_same, expected, found))


@pytest.fixture(scope="module")
def verdicts(shared_data: pathlib.Path) -> list[tuple[str, bool]]:
    folder = shared_data / "fhirpath-r4"
    cases = json.loads((folder / "cases_r4.json").read_bytes())
    return [(case["name"], agrees(case, folder)) for case in cases]


def test_the_suite_agrees_on_all_but_the_named_cases(verdicts: list[tuple[str, bool]]) -> None:
    assert len(verdicts) == 935
    differing = [name for name, verdict in verdicts if not verdict]
    assert differing == [exception["name"] for exception in EXCEPTIONS]
    assert len(EXCEPTIONS) <= 10


def test_every_exception_names_its_clause() -> None:
    assert all(exception["clause"] and exception["ours"] for exception in EXCEPTIONS)
