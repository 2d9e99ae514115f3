"""`qiao hl7 check` tells a sender what its messages lack by HL7's own structures."""

import pathlib

from typer.testing import CliRunner

from ops.commands.hl7 import app, findings

SOUND = (
    b"MSH|^~\\&|HIS|H1|HUB|Q|20260501083000||ADT^A01^ADT_A01|M1|P|2.5.1\r"
    b"EVN||20260501083000\r"
    b"PID|1||7001^^^H1^MR||Li^Lei\r"
    b"PV1|1|I\r"
)


def test_a_sound_message_has_no_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.hl7").write_bytes(SOUND)
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "error" not in result.output


def test_what_the_structure_asks_for_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.hl7").write_bytes(SOUND.replace(b"PV1|1|I\r", b""))
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert "PV1" in result.output


def test_what_is_no_message_is_an_error_and_no_crash() -> None:
    assert findings(b"nothing")[0][0] == "error"
    assert findings(SOUND.replace(b"|2.5.1", b"|9.9"))[0][0] == "error"


def test_a_file_that_is_not_there_is_usage(tmp_path: pathlib.Path) -> None:
    assert CliRunner().invoke(app, ["check", str(tmp_path / "x.hl7")]).exit_code == 2
