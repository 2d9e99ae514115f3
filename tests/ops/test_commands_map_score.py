"""`qiao map-score`: both figures of the round trip, and the facts with their ledger."""

import json
import pathlib
import zoneinfo

import pytest
import yaml
from typer.testing import CliRunner

from mappings.channels.profile import ChannelProfile
from mappings.engine.context import Sender
from mappings.engine.library import default_folder, load
from mappings.facts_score import read_ledger, score
from mappings.translate import Translator
from ops.commands.map_score import app

CASES = default_folder() / "maps" / "hl7v2.cases"


def test_both_figures_of_the_round_trip_are_printed() -> None:
    result = CliRunner().invoke(app, ["round-trip", str(CASES / "002-results" / "in.hl7")])
    assert result.exit_code == 0, result.output
    assert "with the original at hand: 100.00% restored" in result.output
    assert "with the original withheld: " in result.output
    assert "0 undeclared" in result.output


SOME = ("ADT-A01-01", "ADT-A06-01", "BAR-P12-01")


LEDGER = default_folder() / "facts_ledger.yaml"


@pytest.fixture
def messages(shared_data: pathlib.Path) -> pathlib.Path:
    folder = shared_data / "hl7v2-messages"
    if not folder.is_dir():
        pytest.skip("the shared messages are not here")
    return folder


@pytest.fixture
def some(messages: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with three of the messages and what is expected of them."""
    (tmp_path / "messages").symlink_to(messages / "messages")
    (tmp_path / "expected").mkdir()
    for name in SOME:
        (file,) = (messages / "expected").rglob(f"{name}-expected.json")
        (tmp_path / "expected" / file.name).symlink_to(file)
    return tmp_path


def test_every_disagreement_has_a_line_and_every_line_a_disagreement(
    messages: pathlib.Path,
) -> None:
    channel = ChannelProfile(sender=Sender(zone=zoneinfo.ZoneInfo("Asia/Kolkata")))
    lines = read_ledger()
    found = score(messages, Translator(load()), channel, lines)
    assert found.unlined == {}
    assert [line.why for line in lines if not found.used[line]] == []


def test_without_its_line_a_disagreement_ends_the_command_with_1(
    some: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    lines = yaml.safe_load(LEDGER.read_text(encoding="utf-8"))
    kept = [line for line in lines if not line["match"].startswith("VeteranMilitaryStatus")]
    assert len(kept) == len(lines) - 1
    short = tmp_path / "ledger.yaml"
    short.write_text(yaml.safe_dump(kept, allow_unicode=True), encoding="utf-8")
    assert CliRunner().invoke(app, ["facts", str(some)]).exit_code == 0
    result = CliRunner().invoke(app, ["facts", str(some), "--ledger", str(short)])
    assert result.exit_code == 1
    assert "no line in the ledger: missing Patient extension(" in result.output
    assert "VeteranMilitaryStatus" in result.output


def test_a_line_holds_in_the_events_that_it_names_alone(
    some: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    text = LEDGER.read_text(encoding="utf-8")
    head = '- match: "VeteranMilitaryStatus"\n'
    assert head in text
    for events, code in (("A01 A06 P12", 0), ("A40", 1)):
        other = tmp_path / "ledger.yaml"
        other.write_text(text.replace(head, f'{head}  events: "{events}"\n'), encoding="utf-8")
        result = CliRunner().invoke(app, ["facts", str(some), "--ledger", str(other)])
        assert result.exit_code == code, result.output


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({"match": "^Task ", "values": "x"}, "is about all that a type says; name the elements"),
        ({"match": "^Task code"}, "excuses nothing; name the fields or values"),
        ({"match": "^Task code", "values": "x", "verdict": "fine"}, "has the verdict fine"),
        ({"match": "^Task code", "values": "x", "value": "y"}, "has the unknown key value"),
    ],
)
def test_a_line_that_excuses_too_much_or_is_none_is_refused(
    some: pathlib.Path, tmp_path: pathlib.Path, line: dict[str, str], fault: str
) -> None:
    ledger = tmp_path / "ledger.yaml"
    ledger.write_text(yaml.safe_dump([{"verdict": "ours", "why": "so", **line}]), encoding="utf-8")
    result = CliRunner().invoke(app, ["facts", str(some), "--ledger", str(ledger)])
    assert result.exit_code == 1
    assert f"ledger.yaml: line 1 ({line['match']}): {fault}" in result.stderr


def test_facts_are_reported_raw_and_with_the_ledger(some: pathlib.Path) -> None:
    result = CliRunner().invoke(app, ["facts", str(some), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["precision"] > report["raw_precision"]
    assert report["by_resource"]["Patient"]["expected"] > 100
    assert report["verdicts"]["theirs missing"] > 0  # the ledger also counts against us
