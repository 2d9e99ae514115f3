"""The public terminology cases: requests and the answers a reference server gives."""

import datetime
import importlib.util
import json
import pathlib
from typing import Any

from conformance.problem import Problem, to_operation_outcome
from conformance.terminology.library import Library
from conformance.terminology.operations import OPERATIONS

NOW = datetime.datetime(2026, 11, 21, 8, 0, tzinfo=datetime.UTC)
OPERATION_OF = {
    "expand": ("ValueSet", "expand"),
    "validate-code": ("ValueSet", "validate-code"),
    "lookup": ("CodeSystem", "lookup"),
    "translate": ("ConceptMap", "translate"),
}


def load_module(name: str) -> Any:
    path = pathlib.Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tx_cases = load_module("tx_cases")


def run_case(folder: pathlib.Path, library: Library, case: dict) -> list[str]:
    request = json.loads((folder / case["request"]).read_text("utf-8-sig"))
    expected = json.loads((folder / case["response"]).read_text("utf-8-sig"))
    try:
        answer = OPERATIONS[OPERATION_OF[case["operation"]]](request, library, NOW)
    except Problem as problem:
        if not case.get("http-code", "").startswith("4"):
            return [f"refused: {problem}"]
        issue = to_operation_outcome(problem.issues)["issue"][0]
        wanted = expected["issue"][0]
        same_text = wanted["details"]["text"] in issue["details"]["text"]
        return [] if same_text and issue["code"] in wanted["code"] else [f"other issue: {issue}"]
    return tx_cases.differences(expected, tx_cases.as_r5(answer))


def test_all_91_cases_agree(shared_data: pathlib.Path) -> None:
    folder = shared_data / "terminology" / "tests"
    suites = json.loads((folder / "test-cases.json").read_text())["suites"]
    failed: dict[str, list[str]] = {}
    total = 0
    for suite in suites:
        setup = [json.loads((folder / name).read_text("utf-8-sig")) for name in suite["setup"]]
        library = Library(setup)
        for case in suite["tests"]:
            total += 1
            if found := run_case(folder, library, case):
                failed[case["name"]] = found
    assert total == 91
    assert failed == {}
