"""What the commands of maps and messages say to inputs they cannot use: never a stack trace."""

import json
import pathlib
import shutil

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mappings.engine.library import default_folder
from ops.cli import main
from ops.commands.hl7 import app as hl7
from ops.commands.map import app

RUNNER = CliRunner()
MESSAGE = (
    b"MSH|^~\\&|HIS|H1|HUB|Q|20260101120000||ADT^A08|1|P|2.5\rEVN|A08|20260101120000\r"
    b"PID|1||7^^^H1||Li||19900101|M\rPV1|1|I\r"
)
OTHER = MESSAGE.replace(b"|7^", b"|8^").replace(b"Li", b"Wu")
NO_MESSAGE = b"\x00\x01 nothing"


def _run(*arguments: str | pathlib.Path) -> Result:
    result = RUNNER.invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def _patients(result: Result) -> list[list[str]]:
    found = []
    for line in result.stdout.splitlines():
        resources = [entry["resource"] for entry in json.loads(line)["entry"]]
        patients = [one for one in resources if one["resourceType"] == "Patient"]
        found.append([one["identifier"][0]["value"] for one in patients])
    return found


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two messages with one between them that is none."""
    folder = tmp_path / "messages"
    folder.mkdir()
    for name, data in (("1", MESSAGE), ("2", NO_MESSAGE), ("3", OTHER)):
        (folder / f"{name}.hl7").write_bytes(data)
    return folder


def test_a_message_that_cannot_be_read_does_not_end_the_others(folder: pathlib.Path) -> None:
    result = _run("run", folder)
    assert result.exit_code == 1
    assert _patients(result) == [["7"], ["8"]]
    assert "2.hl7: The message does not begin with an MSH segment" in result.stderr
    for command in (("cover", folder), ("shadow", default_folder(), folder)):
        result = _run(*command)
        assert result.exit_code == 1
        assert "2.hl7: The message does not begin" in result.stderr
        assert "2 messages" in result.output
    (folder / "2.hl7").unlink()
    assert _run("run", folder).exit_code == _run("cover", folder).exit_code == 0


@pytest.mark.parametrize("between", [b"", b"\n", b"\r\n"])
def test_messages_that_follow_each_other_in_a_file_stay_apart(
    tmp_path: pathlib.Path, between: bytes
) -> None:
    file = tmp_path / "two.hl7"
    file.write_bytes(MESSAGE + between + OTHER)
    assert _patients(_run("run", file)) == [["7"], ["8"]]
    file.write_bytes(b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + MESSAGE + OTHER + b"BTS|2\rFTS|1\r")
    assert _patients(_run("run", file)) == [["7"], ["8"]]
    result = _run("back", file)
    assert (result.exit_code, "holds 2 messages" in result.stderr) == (2, True)
    found = RUNNER.invoke(hl7, ["check", str(file)]).stdout.splitlines()
    assert {line.split(":")[0] for line in found} == {"two.hl7", "two.hl7[2]"}


@pytest.mark.parametrize("command", ["run", "cover", "back"])
def test_nothing_to_work_on_is_said_and_not_success(tmp_path: pathlib.Path, command: str) -> None:
    for path in (tmp_path / "nowhere.hl7", tmp_path):
        result = _run(command, path)
        assert result.exit_code == 2
        assert "does not exist" in result.stderr or "holds no .hl7 file" in result.stderr


def test_a_message_without_an_event_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.hl7").write_bytes(b"MSH|^~\\&\r")
    for command in ("run", "back"):
        assert "no map covers a message" in _run(command, tmp_path / "a.hl7").stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no Bundle whose entries have fullUrl and resource"),
        ('{"resourceType": "Bundle", "entry": [{}]}', "no Bundle whose entries"),
        ('{"resourceType": "Bundle", "entry": [{"fullUrl": "u", "resource": {}}]}', "no Bundle"),
        ("[]", "not an object"),
        ("{", "not JSON"),
    ],
)
def test_what_is_no_bundle_is_refused_for_every_kind_of_original(
    tmp_path: pathlib.Path, text: str, words: str
) -> None:
    message, edited = tmp_path / "in.hl7", tmp_path / "edited.json"
    message.write_bytes(MESSAGE)
    edited.write_text(text)
    document = default_folder() / "maps" / "province.cases" / "002-doctor" / "in.xml"
    table = default_folder() / "maps" / "registry.cases" / "001-centre-and-station" / "in.csv"
    for original in (message, document, table):
        result = _run("back", original, "--with", edited, "--out", tmp_path / "out.csv")
        assert result.exit_code == 1
        assert words in result.stderr
    result = _run("back", message, "--with", tmp_path / "nowhere.json")
    assert (result.exit_code, "no file that exists" in result.stderr) == (2, True)


def test_what_a_message_cannot_say_of_a_bundle_is_named(tmp_path: pathlib.Path) -> None:
    message, edited = tmp_path / "in.hl7", tmp_path / "edited.json"
    message.write_bytes(MESSAGE)
    changed = _run("run", message).stdout.replace('"gender":"male"', '"gender":"female"')
    edited.write_text(changed)
    assert _run("back", message, "--with", edited).exit_code == 0
    edited.write_text(changed.replace('"gender"', '"active":true,"gender"'))
    result = _run("back", message, "--with", edited)
    assert result.exit_code == 5
    assert result.stdout_bytes == MESSAGE.replace(b"|M\r", b"|F\r")
    wanted = "in.hl7: Patient PID[1]: active shall be True; the message says nothing of it\n"
    assert result.stderr == wanted


def test_a_case_that_is_not_whole_is_told_and_the_others_run(tmp_path: pathlib.Path) -> None:
    for name in ("1", "2", "3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "in.hl7").write_bytes(MESSAGE)
        assert _run("accept", tmp_path / name).exit_code == 0
    (tmp_path / "1" / "out.fhir.json").unlink()
    (tmp_path / "2" / "out.fhir.json").write_text("{")
    result = _run("test", tmp_path)
    assert result.exit_code == 1
    assert "1: out.fhir.json does not exist. Write it with `qiao map accept CASE`" in result.stderr
    assert "2: out.fhir.json is no JSON" in result.stderr
    assert "3 cases, 2 differ" in result.stderr
    (tmp_path / "3" / "in.hl7").write_bytes(NO_MESSAGE)
    assert _run("accept", tmp_path / "3").exit_code == 1
    for command in (("accept", tmp_path), ("test", tmp_path / "nowhere")):
        assert _run(*command).exit_code == 2


def test_shadow_and_export_name_a_folder_that_is_wrong(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.hl7").write_bytes(MESSAGE)
    result = _run("shadow", tmp_path / "nowhere", tmp_path / "a.hl7")
    assert (result.exit_code, "holds no maps" in result.stdout) == (1, True)
    for name in ("rows.txt", "nowhere/rows.csv"):
        result = _run("export", tmp_path / name)
        assert (result.exit_code, "no .csv or .xlsx file" in result.stderr) == (2, True)


def test_one_sheet_of_the_guide_is_imported(
    tmp_path: pathlib.Path, shared_data: pathlib.Path
) -> None:
    guide = shared_data / "hl7-v2-to-fhir" / "mappings"
    (segment,) = (guide / "segments").glob("* PID?Patient? *.csv")
    result = _run("import", segment, "--out", tmp_path)
    assert result.exit_code == 0
    assert "0 tables, 1 drafts" in result.stderr
    draft = (tmp_path / "drafts" / "PID-Patient.yaml").read_text(encoding="utf-8")
    assert '{id: PID-5, v2: "PID-5", fhir: ' in draft
    (table,) = (guide / "codesystems").glob("* AdditivePreservative *.csv")
    renamed = tmp_path / "table.csv"
    shutil.copy(table, renamed)
    assert "1 tables, 0 drafts" in _run("import", renamed, "--out", tmp_path).stderr
    made = json.loads((tmp_path / "tables" / "table.json").read_text(encoding="utf-8"))
    assert made["group"][0]["element"][0]["code"] == "F10"
    (tmp_path / "none").mkdir()
    assert _run("import", tmp_path / "none").exit_code == 2


def test_a_bundle_in_the_place_of_the_original_is_told_where_it_belongs(
    tmp_path: pathlib.Path,
) -> None:
    bundle = tmp_path / "bundle.json"
    bundle.write_text('{"resourceType": "Bundle", "type": "collection"}')
    result = _run("back", bundle)
    assert result.exit_code == 2
    assert f"qiao map back ORIGINAL --with {bundle}" in result.output


def test_a_row_of_a_function_is_explained_by_what_it_reads() -> None:
    result = _run("explain", "OBX-5un")
    assert "OBX-2, OBX-5 becomes valueString, by mappings.maps.python.result_text" in result.output
    assert "use 'home'" in _run("explain", "PID-13").output


@pytest.mark.parametrize(
    ("row", "near"),
    [
        ("pid-8", "PID-Patient/PID-8"), ("PID-3.1", "PID-Patient/PID-3"),
        ("birthDate", "PID-Patient/PID-7"), ("PID", "PID-Patient/PID-3"), ("PDI-8", "PID-8"),
        ("", "PID-8"),
    ],
)  # fmt: skip
def test_a_row_nobody_knows_is_answered_with_rows_like_it(row: str, near: str) -> None:
    result = _run("explain", row)
    assert result.exit_code == 2
    assert near in result.stderr.partition("one like ")[2]


def test_what_a_command_does_not_read_is_told_what_does(tmp_path: pathlib.Path) -> None:
    table = tmp_path / "list.csv"
    table.mkdir()
    for command in (("run", table), ("import", table), ("back", table, "--out", "x.csv")):
        result = _run(*command)
        assert (result.exit_code, "is no file that exists" in result.stderr) == (2, True)
    document = tmp_path / "in.xml"
    document.write_text("<a/>")
    for command in (("cover", document), ("shadow", default_folder(), document)):
        result = _run(*command)
        assert result.exit_code == 2
        assert f"Next: qiao map run {document}" in result.stderr
    (tmp_path / "in.hl7").write_bytes(MESSAGE)
    result = _run("import", tmp_path / "in.hl7")
    assert (result.exit_code, "Next: name the guide's folder" in result.stderr) == (2, True)
    result = _run("run", tmp_path / "in.hl7", "--channel", tmp_path / "nowhere")
    assert (result.exit_code, "is no folder that exists" in result.stderr) == (2, True)
    assert "Next: put an in.hl7" in _run("test", table).stderr


def test_a_path_that_cannot_be_written_ends_in_advice(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").mkdir()
    monkeypatch.setattr("sys.argv", ["qiao", "map", "export", str(tmp_path / "rows.csv")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'rows.csv'}: Is a directory\nNext:")
