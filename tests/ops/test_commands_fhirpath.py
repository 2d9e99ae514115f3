"""`qiao fhirpath` prints values, types and advice."""

import json
import pathlib

import pytest
from typer.testing import CliRunner

from conformance.problem import InvalidContent
from ops.commands.fhirpath import app

PATIENT = {"resourceType": "Patient", "active": True, "name": [{"given": ["甲", "乙"]}]}


@pytest.fixture
def file(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "patient.json"
    path.write_text(json.dumps(PATIENT))
    return str(path)


def test_values_are_printed_one_on_a_line(file: str) -> None:
    result = CliRunner().invoke(app, ["Patient.name.given | active | 1.50", file])
    assert result.stdout.splitlines() == ["甲", "乙", "true", "1.50"]


def test_json_keeps_types_and_digits(file: str) -> None:
    result = CliRunner().invoke(app, ["active | 1.50 | @2020-02", file, "--json"])
    assert result.stdout.strip() == (
        '[{"type":"boolean","value":true},{"type":"System.Decimal","value":1.50},'
        '{"type":"System.Date","value":"2020-02"}]'
    )


def test_an_expression_needs_no_file_and_takes_variables(tmp_path: pathlib.Path) -> None:
    rule = tmp_path / "rule.fhirpath"
    rule.write_text("%greeting & '!'")
    result = CliRunner().invoke(app, [f"@{rule}", "--variable", "greeting=你好"])
    assert result.stdout.strip() == "你好!"


def test_a_wrong_name_is_refused_when_strict(file: str) -> None:
    assert CliRunner().invoke(app, ["Patient.nam", file]).exit_code == 0
    result = CliRunner().invoke(app, ["Patient.nam", file, "--strict"])
    assert isinstance(result.exception, InvalidContent)


def test_a_missing_file_is_a_usage_fault() -> None:
    assert CliRunner().invoke(app, ["1", "nowhere.json"]).exit_code == 2


def test_value_sets_and_profiles_of_r4_and_the_package_are_asked(file: str) -> None:
    def printed(expression: str) -> str:
        return CliRunner().invoke(app, [expression, file]).stdout.strip()

    assert printed("'male'.memberOf(%`vs-administrative-gender`)") == "true"
    assert printed("'1'.memberOf(%`vs-administrative-gender`)") == "false"
    profile = "https://fhir.qiao.example/cphc/StructureDefinition/cphc-patient"
    assert printed(f"conformsTo('{profile}')") == "false"
