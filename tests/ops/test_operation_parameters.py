"""One list says what operations are given: definitions show it, and the rest is refused."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from contracting import asked, world

import routes.operations.parameters
from conformance.cphc import BASE
from conformance.cphc.operations import Given, OperationRow, operation_rows
from conformance.near_names import nearest

ROUTES = Path(routes.operations.parameters.__file__).parent
READERS = frozenset(
    ["text", "maybe", "texts", "flag", "number", "day", "instant", "named", "single", "text_of"]
)
LISTED = [row for row in operation_rows() if row.given is not None]
LEVELS = [(row, level) for row in LISTED for level in row.levels]
NAMES = [f"{'/'.join(row.types)} ${row.code} at the {level}" for row, level in LEVELS]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def path_of(row: OperationRow, level: str) -> str:
    return f"/{row.types[0]}{'/none' if level == 'instance' else ''}/${row.code}"


async def ask(
    client: httpx.AsyncClient,
    row: OperationRow,
    level: str,
    *parts: dict[str, Any],
    prefer: str = "",
) -> tuple[int, dict[str, Any]]:
    """Ask by the method and the way in which the operation takes its parameters."""
    path, headers = path_of(row, level), {"prefer": prefer} if prefer else {}
    if row.code == "import-residents":  # the body is the sheet
        names = [(one["name"], str(one["valueString"])) for one in parts]
        answer = await client.post(path, params=names, headers=headers)
    else:
        answer = await client.post(path, json=asked(*parts), headers=headers)
    issue = answer.json().get("issue", [{}])[0]
    return answer.status_code, issue


def text(name: str) -> dict[str, Any]:
    return {"name": name, "valueString": "x"}


def key_of(issue: Mapping[str, Any]) -> str:
    return str(issue.get("details", {}).get("coding", [{}])[0].get("code", ""))


@pytest.mark.anyio
async def test_what_is_not_on_the_list_is_refused_with_the_nearest_name(database_url: str) -> None:
    async with world(database_url) as client:
        for (row, level), name in zip(LEVELS, NAMES, strict=True):
            known = row.given_at(level)
            assert known is not None
            status, issue = await ask(client, row, level, text("nobodyReadsThis"))
            assert (status, key_of(issue)) == (400, "operation-unknown-parameter"), name
            for one in known.values():
                misspelt = one.name + "s"
                if misspelt in known:
                    continue
                status, issue = await ask(client, row, level, text(misspelt))
                told = issue["diagnostics"]
                assert status == 400, name
                assert f"Write {nearest(misspelt, known)}." in told, (name, told)
                lenient = await ask(client, row, level, text(misspelt), prefer="handling=lenient")
                assert key_of(lenient[1]) != "operation-unknown-parameter", name
                if one.is_single:
                    status, issue = await ask(client, row, level, text(one.name), text(one.name))
                    assert (status, key_of(issue)) == (400, "operation-parameter"), name
                    assert one.name in issue["details"]["text"]


@pytest.mark.anyio
async def test_without_the_list_nothing_would_be_refused(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes.operations.parameters, "operation_row", lambda *_: None)
    async with world(database_url) as client:
        for row, level in LEVELS:
            _, issue = await ask(client, row, level, text("nobodyReadsThis"))
            assert key_of(issue) != "operation-unknown-parameter"


@pytest.mark.anyio
async def test_parts_are_on_the_list_too(database_url: str) -> None:
    async with world(database_url) as client:
        team = {"name": "package", "part": [text("prise")]}
        answer = await client.post("/Contract/$agreement", json=asked(team))
        issue = answer.json()["issue"][0]
        assert (answer.status_code, key_of(issue)) == (400, "operation-unknown-parameter")
        assert "Write price." in issue["diagnostics"]


@pytest.mark.anyio
async def test_what_counts_at_the_type_alone_is_refused_at_the_instance(database_url: str) -> None:
    """A team beside a signing would be the one that the guards look at."""
    async with world(database_url) as client:
        team = {"name": "team", "valueReference": {"reference": "CareTeam/t1"}}
        answer = await client.post("/Contract/c1/$sign", json=asked(team))
        assert key_of(answer.json()["issue"][0]) == "operation-unknown-parameter"


@pytest.mark.anyio
async def test_each_definition_that_is_promised_is_there_and_fits(database_url: str) -> None:
    rows = {row.definition: row for row in operation_rows()}
    async with world(database_url) as client:
        rest = (await client.get("/metadata")).json()["rest"][0]
        promised = [("", one) for one in rest.get("operation", ())]
        promised += [(r["type"], one) for r in rest["resource"] for one in r.get("operation", ())]
        own = [(type_, one) for type_, one in promised if one["definition"].startswith(BASE)]
        assert {one["definition"] for _, one in own} == {
            row.definition for row in operation_rows() if row.is_ours
        }
        for type_, one in own:
            found = (await client.get(f"/OperationDefinition?url={one['definition']}")).json()
            definition = found["entry"][0]["resource"]
            assert definition["code"] == one["name"]
            assert not type_ or type_ in definition["resource"]
            given = rows[one["definition"]].given or {}
            assert [p["name"] for p in definition.get("parameter", ())] == list(given)


def names_of(given: Given) -> Iterator[str]:
    for one in given.values():
        yield one.name
        if one.parts:
            yield from names_of(one.parts)


def test_the_list_holds_every_name_that_is_read_and_no_other() -> None:
    declared = {name for row in LISTED for name in names_of(row.given or {})}
    read: set[str] = set()
    words: set[str] = set()
    for file in sorted(ROUTES.glob("*.py")):
        if file.stem in ("everything", "export", "meta", "terminology", "validate"):
            continue  # defined by others, with parameters of their own
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                texts = [
                    one.value
                    for one in node.args
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)
                ]
                if name in READERS and texts:
                    read.add(texts[0])
    fhirpath = {"expression", "resource", "context", "variables"}
    assert read - declared - fhirpath == set()
    built = {f"{side}{what}" for side in ("resident", "doctor") for what in ("Party", "Signature")}
    built |= {f"{side}Code" for side in ("resident", "relative")}
    pairs = {f"{side}-patient-identifier" for side in ("source", "target")}
    assert declared - words - built - pairs == set()
