"""The tree keeps its own rules."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "manager", "service", "impl", "misc"}


def tracked_files() -> list[pathlib.Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [f for f in tracked_files() if f.suffix == ".py" and f.stem in FORBIDDEN_NAMES] == []


def test_lock_files_carry_hashes_and_no_addresses() -> None:
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "--index-url" not in text
        assert "--find-links" not in text
