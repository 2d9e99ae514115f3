"""`qiao validate` names file, line, column and remedy."""

import json
import pathlib

import pytest
from typer.testing import CliRunner

from ops.commands.validate import app

GOOD = '{"resourceType": "Patient", "birthDate": "1990-02-28"}'
BAD = """{
  "resourceType": "Observation",
  "code": {"text": "x"},
  "valueQuantity": {
    "value": "1.10"
  },
  "subject": {"reference": "Practitioner/1"}
}
"""
BAD_XML = """<?xml version="1.0" encoding="UTF-8"?>
<Observation xmlns="http://hl7.org/fhir">
  <code><text value="x"/></code>
  <valueQuantity>
    <value value="one"/></valueQuantity>
</Observation>
"""


def write(folder: pathlib.Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_good_file_passes(tmp_path: pathlib.Path) -> None:
    result = CliRunner().invoke(app, [write(tmp_path, "a.json", GOOD)])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "1 checked, 0 refused" in result.stderr


def test_json_issues_have_line_and_column(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "b.json", BAD)
    result = CliRunner().invoke(app, [name])
    assert result.exit_code == 1
    assert f"{name}:5:5: error not-a-decimal Observation.value.ofType(Quantity).value" in (
        result.stdout
    )
    assert f"{name}:7:15: error reference-target Observation.subject.reference" in result.stdout
    assert f"{name}:1:1: error missing-element Observation.status" in result.stdout
    assert "Next: Write the number as in 72.50. / 请写成 72.50 这样的数字。" in result.stdout


def test_xml_issues_have_line_and_column(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "b.xml", BAD_XML)
    result = CliRunner().invoke(app, [name])
    assert f"{name}:5:5: error not-a-decimal Observation.value.ofType(Quantity).value" in (
        result.stdout
    )
    assert f"{name}:2:1: error missing-element Observation.status" in result.stdout


def test_text_that_is_no_json_has_its_place(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "c.json", '{\n "resourceType": "Patient",\n "active": tru }')
    result = CliRunner().invoke(app, [name])
    assert result.exit_code == 1
    assert f"{name}:3:12: fatal json-syntax active" in result.stdout


def test_a_line_of_ndjson_is_told_by_its_number(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "d.ndjson", GOOD + "\n\n" + '{"resourceType": "Patient", "x": 1}\n')
    result = CliRunner().invoke(app, [name])
    assert f"{name}:3:1: error unknown-element Patient" in result.stdout
    assert "2 checked, 1 refused" in result.stderr


def test_json_output_carries_an_operation_outcome_a_resource(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "a.json", GOOD)
    write(tmp_path, "b.json", BAD)
    result = CliRunner().invoke(app, ["--json", str(tmp_path)])
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["valid"] is True
    assert second["valid"] is False
    assert second["outcome"]["issue"][0]["expression"]
    assert second["outcome"]["issue"][0]["extension"][0]["valueInteger"] == 5


def test_a_missing_file_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["/nowhere/x.json"])
    assert result.exit_code == 2
    assert "There is no file" in result.stderr


PROFILE = {
    "resourceType": "StructureDefinition",
    "url": "http://example.com/StructureDefinition/named",
    "type": "Patient",
    "kind": "resource",
    "derivation": "constraint",
    "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
    "differential": {"element": [{"path": "Patient.name", "min": 1}]},
}


def test_profiles_are_checked_by_their_address(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "a.json", GOOD)
    definitions = write(tmp_path, "profile.json", json.dumps(PROFILE))
    result = CliRunner().invoke(app, [name, "-d", definitions, "-p", PROFILE["url"]])
    assert result.exit_code == 1
    assert f"{name}:1:1: error min Patient" in result.stdout
    assert "error profile-missing" in CliRunner().invoke(app, [name, "-p", "urn:x"]).stdout


def test_constraints_are_checked_and_warnings_shown_when_asked(tmp_path: pathlib.Path) -> None:
    text = '{"resourceType": "Patient", "contact": [{"gender": "male"}]}'
    name = write(tmp_path, "c.json", text)
    assert "error pat-1 Patient.contact[0]" in CliRunner().invoke(app, [name]).stdout
    form = write(
        tmp_path, "d.json", '{"resourceType": "Questionnaire", "status": "active", "name": "x"}'
    )
    assert CliRunner().invoke(app, [form]).stdout == ""
    assert "warning que-0" in CliRunner().invoke(app, [form, "--warnings"]).stdout


STRANGE = """{
  "resourceType": "List", "status": "current", "mode": "working",
  "entry": [{"item": {"reference": "XXX/_history/1"}}]
}"""


def test_a_strange_reference_is_refused_and_only_told_where_references_are_trusted(
    tmp_path: pathlib.Path,
) -> None:
    name = write(tmp_path, "list.json", STRANGE)
    refused = CliRunner().invoke(app, [name])
    assert refused.exit_code == 1
    assert f"{name}:3:23: error bad-reference List.entry[0].item.reference" in refused.stdout
    trusted = CliRunner().invoke(app, [name, "--trust-references", "--warnings"])
    assert trusted.exit_code == 0
    assert f"{name}:3:23: warning bad-reference List.entry[0].item.reference" in trusted.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"resourceType": "StructureDefinition",', ": fatal"),
        ('{"resourceType": "StructureDefinition", "differential": 5}', "not-an-object"),
        ('{"resourceType": "StructureDefinition", "url": "urn:p", "type": ["Patient"]}', "type"),
    ],
)
def test_a_definition_that_cannot_be_used_is_named(
    tmp_path: pathlib.Path, text: str, told: str
) -> None:
    good = write(tmp_path, "a.json", GOOD)
    bad = write(tmp_path, "bad-profile.json", text)
    result = CliRunner().invoke(app, [good, "--definitions", bad])
    assert result.exit_code == 2
    assert "bad-profile.json" in result.stderr
    assert told in result.stderr
