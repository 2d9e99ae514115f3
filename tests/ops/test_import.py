"""`qiao import`: lines and Bundles go in, refused lines are reported, interruptions do no harm."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections import Counter

import psycopg
import pytest

from ops import importing
from ops.demo.synthetic_records import records
from ops.importing import STRETCH_BYTES, stretches_of

QIAO = pathlib.Path(sys.executable).with_name("qiao")


@pytest.fixture
def database_url(fresh_database_url: str) -> str:
    """Without the package: what is written here is counted."""
    return fresh_database_url


@pytest.fixture
def start_import(database_url, tmp_path):
    """A function that starts the command and returns the process."""

    def start(*arguments):
        return subprocess.Popen(
            [QIAO, "import", "--json", "--report", tmp_path / "report.ndjson", *arguments],
            env={**os.environ, "QIAO_DATABASE_URL": database_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.fixture
def run_import(start_import):
    """A function that runs the command and returns exit code and result."""

    def run(*arguments):
        process = start_import(*arguments)
        output, errors = process.communicate(timeout=100)
        assert process.returncode in (0, 5), errors
        return process.returncode, json.loads(output)

    return run


def write_ndjson(path, patients):
    with path.open("w", encoding="utf-8") as file:
        for record in records(5, patients):
            for resource in record:
                file.write(json.dumps(resource, ensure_ascii=False) + "\n")
    return patients * 10


def counts_in(database_url):
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT name, count(*), max(ver) FROM resource JOIN rtype USING (tid) GROUP BY name"
        ).fetchall()
    return {name: (count, version) for name, count, version in rows}


def test_lines_go_in_and_bad_ones_are_reported_with_their_number(
    run_import, database_url, tmp_path
):
    path = tmp_path / "records.ndjson"
    write_ndjson(path, 3)
    lines = path.read_text().splitlines()
    lines[4] = "{not json"
    lines[7] = json.dumps({"resourceType": "Patient", "id": "x", "gender": "unknownn"})
    lines.insert(9, "")
    path.write_text("\n".join(lines))
    code, result = run_import(path)
    assert code == 5
    assert (result["lines"], result["written"], result["refused"]) == (31, 28, 2)
    report = [json.loads(line) for line in (tmp_path / "report.ndjson").read_text().splitlines()]
    assert [one["line"] for one in report] == [5, 8]
    assert all(one["outcome"]["issue"][0]["diagnostics"] for one in report)
    assert counts_in(database_url)["Patient"] == (3, 1)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        body = connection.execute("SELECT body FROM resource LIMIT 1").fetchone()[0]
    assert json.loads(body)["meta"]["source"].startswith("urn:qiao:import:")


def test_what_is_in_is_skipped_and_again_changes_nothing(run_import, database_url, tmp_path):
    path = tmp_path / "records.ndjson"
    written = write_ndjson(path, 3)
    assert run_import(path)[1]["written"] == written
    assert not (tmp_path / "report.ndjson").exists()
    _, skipped = run_import(path)
    assert (skipped["written"], skipped["stretches_skipped"]) == (0, 1)
    _, again = run_import(path, "--again")
    assert (again["lines"], again["written"]) == (written, 0)
    assert {version for _, version in counts_in(database_url).values()} == {1}


def test_an_import_that_was_killed_goes_on_without_loss_or_double(
    start_import, run_import, database_url, tmp_path
):
    path = tmp_path / "records.ndjson"
    written = write_ndjson(path, 1_000)
    assert len(list(stretches_of(path))) > 3
    first = start_import(path, "--workers", "2")
    deadline = time.monotonic() + 60
    with psycopg.connect(database_url, autocommit=True) as connection:
        query = "SELECT count(*) FROM import_stretch"
        while connection.execute(query).fetchone()[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        done = connection.execute(query).fetchone()[0]
    _, result = run_import(path)
    assert result["stretches_skipped"] >= done > 0
    counts = counts_in(database_url)
    assert sum(count for count, _ in counts.values()) == written
    assert {version for _, version in counts.values()} == {1}


@pytest.mark.parametrize("is_told_before", [True, False])
def test_an_end_right_after_a_commit_loses_no_refused_line(
    database_url, tmp_path, monkeypatch, is_told_before
):
    """Twin: where the lines are listed after the commit, such an end loses them."""
    path, report = tmp_path / "few.ndjson", tmp_path / "report.ndjson"
    path.write_text('{"resourceType": "Patient", "id": "a"}\n{not json\n')
    whole = importing.Outcome

    def ended(**_):
        raise SystemExit

    monkeypatch.setattr(importing, "Outcome", ended)
    if not is_told_before:
        monkeypatch.setattr(importing, "_report", lambda *_: None)
    stretches = list(stretches_of(path))
    with pytest.raises(SystemExit):
        importing.import_stretches(database_url, stretches, report)
    monkeypatch.setattr(importing, "Outcome", whole)
    due, before = importing.open_stretches(database_url, stretches)
    assert (due, before.failed) == ([], 1)
    told = report.read_text().splitlines() if report.exists() else []
    assert [json.loads(one)["line"] for one in told] == ([2] if is_told_before else [])


def test_the_report_keeps_the_last_word_on_a_line_and_nothing_cut_off(tmp_path):
    report = tmp_path / "report.ndjson"
    first, second, other = (
        json.dumps({"file": file, "line": line, "outcome": outcome})
        for file, line, outcome in (("a", 1, "old"), ("a", 1, "new"), ("b", 1, "own"))
    )
    report.write_text(f"{first}\n{other}\n{second}\n{second[:9]}")
    importing.drop_repeats(report)
    assert report.read_text().splitlines() == [other, second]


def test_lines_that_were_refused_before_are_told_again(run_import, tmp_path):
    path = tmp_path / "few.ndjson"
    path.write_text('{"resourceType": "Patient", "id": "a"}\n{not json\n')
    assert run_import(path)[0] == 5
    code, result = run_import(path)
    assert (code, result["stretches_skipped"], result["refused_before"]) == (5, 1, 1)
    assert len((tmp_path / "report.ndjson").read_text().splitlines()) == 1


def test_stretches_cover_every_line_once(tmp_path):
    path = tmp_path / "long.ndjson"
    lines = [b'{"n":%d,"x":"%s"}' % (n, b"x" * (n % 3000)) for n in range(2_500)]
    path.write_bytes(b"\n".join(lines))
    data = path.read_bytes()
    found, number = [], 1
    for stretch in stretches_of(path):
        part = data[stretch.start : stretch.end].splitlines()
        assert stretch.first_line == number
        number += len(part)
        found += part
    assert found == lines
    assert len(data) > 2 * STRETCH_BYTES


def test_synthea_bundles_load_and_count_right(run_import, database_url, shared_data):
    folder = shared_data / "synthea-r4"
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_size)[:2]
    wanted = Counter(
        type_
        for type_, _ in {
            (entry["resource"]["resourceType"], entry["resource"]["id"])
            for file in files
            for entry in json.loads(file.read_text())["entry"]
        }
    )
    code, result = run_import(*files)
    assert code == 0, result
    assert {name: count for name, (count, _) in counts_in(database_url).items()} == wanted
    with psycopg.connect(database_url) as connection:
        assert connection.execute(
            "SELECT count(*) FROM resource WHERE body LIKE '%urn:uuid:%'"
        ).fetchone() == (0,)


def test_a_file_of_another_kind_is_refused(start_import, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("x")
    process = start_import(path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "notes.txt" in errors
