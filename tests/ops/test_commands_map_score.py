"""`qiao map-score`: both figures of the round trip, and the facts with their ledger."""

import json
import pathlib

import pytest
from typer.testing import CliRunner

from mappings.engine.library import default_folder
from ops.commands.map_score import app

CASES = default_folder() / "maps" / "hl7v2.cases"


def test_both_figures_of_the_round_trip_are_printed() -> None:
    result = CliRunner().invoke(app, ["round-trip", str(CASES / "002-results" / "in.hl7")])
    assert result.exit_code == 0, result.output
    assert "with the original at hand: 100.00% restored" in result.output
    assert "with the original withheld: " in result.output
    assert "0 undeclared" in result.output


SOME = ("ADT-A01-01", "ADT-A06-01", "BAR-P12-01")


def test_facts_are_reported_raw_and_with_the_ledger(
    shared_data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = shared_data / "hl7v2-messages"
    if not folder.is_dir():
        pytest.skip("the shared messages are not here")
    (tmp_path / "messages").symlink_to(folder / "messages")
    (tmp_path / "expected").mkdir()
    for name in SOME:
        (file,) = (folder / "expected").rglob(f"{name}-expected.json")
        (tmp_path / "expected" / file.name).symlink_to(file)
    result = CliRunner().invoke(app, ["facts", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["precision"] > report["raw_precision"]
    assert report["by_resource"]["Patient"]["expected"] > 100
    assert report["verdicts"]["theirs missing"] > 0  # the ledger also counts against us
