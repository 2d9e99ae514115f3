"""`qiao map shadow --stored` runs what the hub has kept through two versions of the maps."""

import asyncio
import json
import pathlib
import re
import shutil

import pytest
from typer.testing import CliRunner

from fhir_store import code_overlays
from fhir_store.store import make_pool
from mappings.engine.library import default_folder
from ops.commands.map import app
from ops.workbench import stored
from tests.partners.kept_messages import keep_messages

RUNNER = CliRunner()


@pytest.fixture
def old(tmp_path, monkeypatch, database_url) -> pathlib.Path:
    """Give maps that read PID-7 otherwise, beside a hub that has kept messages."""
    monkeypatch.setenv("QIAO_DATABASE_URL", database_url)
    monkeypatch.setenv("QIAO_HOME", str(tmp_path))
    keep_messages(database_url, "F", "M", "?")
    keep_messages(database_url, "M", channel="lab")
    for name in ("maps", "tables"):
        shutil.copytree(default_folder() / name, tmp_path / "old" / name)
    file = tmp_path / "old" / "maps" / "hl7v2" / "patient.yaml"
    text = file.read_text(encoding="utf-8")
    changed = text.replace("fhir: birthDate, as: dtm.date", "fhir: birthDate, as: code")
    assert changed != text
    file.write_text(changed, encoding="utf-8")
    return tmp_path / "old"


def _shadow(*arguments: object) -> tuple[int, dict[str, list[str]]]:
    result = RUNNER.invoke(app, ["shadow", *map(str, arguments), "--stored", "--json"])
    assert result.exit_code in (0, 1), result.output
    return result.exit_code, json.loads(result.stdout)


def _numbers(by_row: dict[str, list[str]]) -> list[str]:
    return [line.partition(":")[0] for line in by_row["PID-Patient/PID-7"]]


def test_stored_messages_differ_by_row_the_newest_first(old, monkeypatch) -> None:
    monkeypatch.setattr(stored, "_PAGE", 2)  # so that pages follow each other
    code, by_row = _shadow(old)
    assert code == 1
    assert _numbers(by_row) == ["message 4", "message 3", "message 2", "message 1"]
    assert _numbers(_shadow(old, "--last", 3)[1]) == ["message 4", "message 3", "message 2"]
    assert _numbers(_shadow(old, "--of", "lab")[1]) == ["message 4"]
    assert _shadow(default_folder()) == (0, {})


def test_stored_messages_are_read_with_the_codes_that_people_resolved(old, database_url) -> None:
    file = old / "maps" / "hl7v2" / "patient.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"(?m)^  - \{id: PID-8, .*$", "", text), encoding="utf-8")
    lines = _shadow(old, "--of", "his")[1]["PID-Patient/PID-8"]
    assert [line.rpartition(": ")[2] for line in lines] == ["None -> male", "None -> female"]

    async def resolve() -> None:
        async with make_pool(database_url, size=1) as pool, pool.connection() as connection:
            await code_overlays.resolve(
                connection, channel="his", table="AdministrativeSex", code="?",
                target="other", actor="test", reason="",
            )  # fmt: skip

    asyncio.run(resolve())
    lines = _shadow(old, "--of", "his")[1]["PID-Patient/PID-8"]
    assert lines[0].endswith("gender: None -> other")
    assert len(lines) == 3


@pytest.mark.parametrize(
    "arguments", [[], ["--stored", "in.hl7"], ["--stored", "--channel", "channels"]]
)
def test_files_and_stored_messages_exclude_each_other(arguments) -> None:
    result = RUNNER.invoke(app, ["shadow", str(default_folder()), *arguments])
    assert result.exit_code == 2
    assert "Next: qiao map shadow OLD" in result.stderr
