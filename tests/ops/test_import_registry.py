"""`qiao import registry`: a list goes in whole, again changes nothing, or does not go in."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from mappings.engine.library import default_folder
from ops.settings import Settings
from ops.wiring import running_hub

QIAO = pathlib.Path(sys.executable).with_name("qiao")
CASE = default_folder() / "maps" / "registry.cases" / "001-centre-and-station"
CODES = "urn:oid:2.16.156.10011.1.5"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(database_url: str) -> Any:
    chosen = Settings(auth="off", http_port=0, mllp_port=0)
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=60) as one,
    ):
        yield one


@pytest.fixture
def run(database_url: str) -> Run:
    def started(*arguments: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [QIAO, "import", "registry", *map(str, arguments)],
            env={**os.environ, "QIAO_DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return started


@pytest.fixture
def listed(tmp_path: pathlib.Path) -> pathlib.Path:
    """A list of a centre with two people and the station under it."""
    for name in ("in.csv", "in.医生.csv"):
        text = (CASE / name).read_text(encoding="utf-8")
        (tmp_path / name.replace("in", "list", 1)).write_text(text, encoding="utf-8")
    return tmp_path / "list.csv"


def _edit(file: pathlib.Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


async def _found(client: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    answer = (await client.get(f"/{query}")).json()
    return [entry["resource"] for entry in answer.get("entry", ())]


@pytest.mark.anyio
async def test_a_list_becomes_a_tree_of_institutions_and_again_changes_nothing(
    client: httpx.AsyncClient, run: Run, listed: pathlib.Path
) -> None:
    made = {"Organization": 2, "Practitioner": 2, "PractitionerRole": 2}
    dry = run(listed, "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"records": 2, "made": made, "changed": {}, "dry_run": True}
    assert await _found(client, "Organization") == []
    done = run(listed, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["made"] == made
    (centre,) = await _found(client, f"Organization?identifier={CODES}|A1")
    (station,) = await _found(client, f"Organization?partof=Organization/{centre['id']}")
    assert (centre["name"], station["name"]) == ("演示社区卫生服务中心", "演示卫生服务站")
    roles = await _found(client, f"PractitionerRole?organization=Organization/{centre['id']}")
    assert len({role["practitioner"]["reference"] for role in roles}) == 2
    again = json.loads(run(listed, "--json").stdout)
    assert (again["made"], again["changed"]) == ({}, {})


@pytest.mark.anyio
async def test_a_newer_list_brings_up_to_date_what_it_names_and_leaves_the_rest(
    client: httpx.AsyncClient, run: Run, listed: pathlib.Path
) -> None:
    known = {
        "resourceType": "Organization",
        "id": "station",
        "identifier": [{"system": CODES, "value": "A2"}, {"system": "urn:own", "value": "7"}],
        "name": "旧名",
        "alias": ["站"],
    }
    assert (await client.put("/Organization/station", json=known)).status_code == 201
    assert json.loads(run(listed, "--json").stdout)["changed"] == {"Organization": 1}
    station = (await client.get("/Organization/station")).json()
    assert (station["name"], station["alias"]) == ("演示卫生服务站", ["站"])
    assert [one["value"] for one in station["identifier"]] == ["A2", "7"]
    _edit(listed.with_name("list.医生.csv"), "护士,,04", "护士,,09")
    assert json.loads(run(listed, "--json").stdout)["changed"] == {"PractitionerRole": 1}


@pytest.mark.anyio
async def test_a_list_with_faults_is_named_row_by_row_and_writes_nothing(
    client: httpx.AsyncClient, run: Run, listed: pathlib.Path
) -> None:
    _edit(listed, "A2,,演示卫生服务站,1", "A1,,,1")
    refused = run(listed)
    assert refused.returncode == 1
    assert "list.csv row 3: 机构名称 is empty / “机构名称”为空" in refused.stderr
    assert "list.csv row 3: 机构代码 stands in an earlier row" in refused.stderr
    assert "2 faults; nothing is written" in refused.stderr
    assert await _found(client, "Organization") == []
    # The advice applied: filled in, and one of the rows kept.
    _edit(listed, "A1,,,1", "A2,,站,1")
    assert run(listed).returncode == 0


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.txt", "机构代码", "is no .xlsx or .csv file"),
        ("x.csv", "a,b\n1,2\n", "No map knows a table with these columns"),
        ("x.xlsx", "PK no sheet", "x.xlsx: "),
    ],
)
def test_a_file_that_is_no_list_is_refused(
    run: Run, tmp_path: pathlib.Path, name: str, text: str, words: str
) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    refused = run(file)
    assert refused.returncode in (1, 2)
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_doctor_of_an_unknown_institution_is_refused_by_row_and_column(
    run: Run, listed: pathlib.Path
) -> None:
    _edit(listed.with_name("list.医生.csv"), "A1,D2", "A9,D2")
    refused = run(listed)
    assert refused.returncode == 1
    assert "Row 3 of 医生 names in 机构代码 no row of the main table" in refused.stderr
