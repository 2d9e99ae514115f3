"""Unmodified clients of npm work with the hub: fhir-kit-client and fhirclient."""

import json
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "E403")
FOLDER = pathlib.Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the script and the clients that its lock file names, hashes checked."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node.js is not installed; its clients cannot run")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", ".npmrc", "walk.mjs"):
        shutil.copy(FOLDER / name, folder)
    try:
        done = subprocess.run([npm, "ci"], cwd=folder, capture_output=True, text=True, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("npm ci does not reach a registry in time")
    if any(code in done.stderr for code in UNREACHABLE):
        pytest.skip("npm ci cannot reach a registry")
    assert done.returncode == 0, done.stderr
    return folder


def walked(node: pathlib.Path, client: str, base: str) -> dict[str, Any]:
    """What the script saw through one client."""
    command = ["node", "walk.mjs", client, base]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_fhir_kit_client_goes_through_the_interactions(node: pathlib.Path, hub_url: str) -> None:
    assert walked(node, "fhir-kit-client", hub_url) == {
        "fhirVersion": "4.0.1",
        "patched": "female",
        "firstVersion": None,
        "versions": 2,
        "transaction": ["201 Created"] * 3,
        "pages": [2, 1],
        "posted": [True],
        "compartment": 3,
        "everything": 4,
        "missing": [404, "OperationOutcome"],
    }


def test_fhirclient_goes_through_the_interactions(node: pathlib.Path, hub_url: str) -> None:
    assert walked(node, "fhirclient", hub_url) == {
        "release": 4,
        "version": "2",
        "patched": "female",
        "pages": [2, 1],
        "resolved": ["韩"],
        "gone": 410,
    }
