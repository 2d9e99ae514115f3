"""Fixtures of the mapping tests."""

import os
import pathlib

import pytest


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Return the folder of test inputs that others wrote; skips where it is absent."""
    given = os.environ.get("QIAO_SHARED")
    root = pathlib.Path(__file__).resolve().parents[2]
    candidates = [pathlib.Path(given)] if given else [parent / "shared" for parent in root.parents]
    for folder in candidates:
        if (folder / "data").is_dir():
            return folder / "data"
    pytest.skip("the shared test inputs are not on this machine")
