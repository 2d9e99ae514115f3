"""`qiao map-score`: both figures of the round trip, and the facts with their ledger."""

import json
import pathlib

import pytest
from typer.testing import CliRunner

from mappings.engine.library import default_folder
from ops.commands_map_score import app

CASES = default_folder() / "maps" / "hl7v2.cases"


def test_both_figures_of_the_round_trip_are_printed() -> None:
    result = CliRunner().invoke(app, ["round-trip", str(CASES / "002-results" / "in.hl7")])
    assert result.exit_code == 0, result.output
    assert "with the original at hand: 100.00% restored" in result.output
    assert "with the original withheld: " in result.output
    assert "0 undeclared" in result.output


def test_facts_are_reported_raw_and_with_the_ledger(shared_data: pathlib.Path) -> None:
    folder = shared_data / "hl7v2-messages"
    if not folder.is_dir():
        pytest.skip("the shared messages are not here")
    result = CliRunner().invoke(app, ["facts", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["precision"] > report["raw_precision"]
    assert report["by_resource"]["Patient"]["expected"] > 1000
    assert report["verdicts"]["theirs missing"] > 0  # the ledger also counts against us
