"""Residents from a sheet: rows, refusals in red, duplicates, races, and files that mean harm."""

import asyncio
import base64
import csv
import datetime
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import psycopg
import pytest

from care.identity import residents, sheets
from care.identity.residents import COLUMNS, answer_sheet, read_rows, template
from care.identity.sheets import CSV, XLSX, read_sheet, write_sheet
from conformance.identity_numbers import ID_CARD_SYSTEM, check_character_of_id_card
from conformance.problem import InvalidContent
from ops.demo.synthetic_district import people
from ops.settings import Settings
from ops.wiring import running_hub

QIAO = Path(sys.executable).with_name("qiao")
HEADINGS = [name for name, _, _ in COLUMNS]


def card(serial: int, born: str = "19600501") -> str:
    first = f"999001{born}{serial:03d}"
    return first + check_character_of_id_card(first)


def sheet_of(*rows: dict[str, Any]) -> bytes:
    cells = [([str(row.get(name, "")) for name in HEADINGS], False) for row in rows]
    return write_sheet(HEADINGS, cells)


def resident(serial: int, name: str = "王秀英", **more: Any) -> dict[str, Any]:
    return {"姓名": name, "证件号码": card(serial), **more}


def marked(book: bytes) -> dict[int, tuple[str, str]]:
    """Return result and reasons of the red rows."""
    sheet = openpyxl.load_workbook(io.BytesIO(book)).active
    assert sheet is not None
    found = {}
    for cells in sheet.iter_rows(min_row=2):
        if cells[0].fill.fgColor.rgb == "FFFFC7CE":
            found[cells[0].row] = (str(cells[-2].value), str(cells[-1].value))
    return found


class World:
    """A hub that is served, and its client."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def send(self, data: bytes, query: str = "", kind: str = XLSX) -> dict[str, Any]:
        answer = await self.client.post(
            f"/Patient/$import-residents{query}", content=data, headers={"content-type": kind}
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = {}
        for part in answer.json()["parameter"]:
            if part["name"] == "sheet":
                found["sheet"] = base64.b64decode(part["resource"]["data"])
            else:
                found[part["name"]] = next(v for k, v in part.items() if k.startswith("value"))
        return found

    async def patients(self) -> list[dict[str, Any]]:
        page = (await self.client.get("/Patient?_count=1000")).json()
        return [entry["resource"] for entry in page.get("entry", ())]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(database_url: str) -> Any:
    chosen = Settings(auth="off", http_port=0, mllp_port=0, test_regions="999001")
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir", timeout=60) as client,
    ):
        yield World(client)


@pytest.mark.anyio
async def test_rows_become_residents_and_again_nothing_new(world: World) -> None:
    await world.client.put(
        "/Organization/station",
        json={"resourceType": "Organization", "id": "station", "name": "站"},
    )
    row = resident(
        2, 联系电话="10000000001", 民族="回", 重点人群="老年人、高血压", 现住址="和平路1号",
        健康档案号="99900100100100001", 管理机构="station", 监护人姓名="王建国", 与监护人关系="子",
    )  # fmt: skip
    before = await world.send(sheet_of(row, resident(4)), "?dryRun=true")
    assert (before["created"], before["dryRun"], await world.patients()) == (2, True, [])
    done = await world.send(sheet_of(row, resident(4)))
    assert [done[name] for name in ("rows", "created", "refused")] == [2, 2, 0]
    found = {one["identifier"][0]["value"]: one for one in await world.patients()}
    one = found[card(2)]
    assert (one["gender"], one["birthDate"]) == ("female", "1960-05-01")
    codes = {
        extension["valueCodeableConcept"]["coding"][0]["code"]
        for extension in one["extension"]
        if "valueCodeableConcept" in extension
    }
    assert codes == {"03", "elderly", "hypertension"}
    guardians = (await world.client.get(f"/RelatedPerson?patient={one['id']}")).json()
    assert guardians["entry"][0]["resource"]["relationship"][0]["coding"][0]["code"] == "2"
    again = await world.send(sheet_of(row, resident(4)))
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 0, 2)
    moved = await world.send(sheet_of({**row, "现住址": "解放街2号"}))
    assert (moved["updated"], len(await world.patients())) == (1, 2)
    history = (await world.client.get(f"/Patient/{one['id']}/_history")).json()
    assert len(history["entry"]) == 2, "what did not change left no version"


@pytest.mark.anyio
async def test_each_wrong_row_comes_back_red_with_its_reasons(world: World) -> None:
    await world.send(sheet_of(resident(2)))
    wrong = [
        resident(2, name="李强"),  # known under another name
        resident(4, 性别="男"),
        resident(6, 出生日期="1961-05-01"),
        {"姓名": "无号"},
        {"姓名": "错号", "证件号码": card(8)[:-1] + "?"},
        resident(10, 民族="火星"),
        resident(12, 联系电话="call me"),
        resident(14),
        resident(14),  # the same card twice
        resident(16, 管理机构="nowhere"),
        resident(18, name=""),
        resident(20, 监护人姓名="某"),
        resident(22, 健康档案号="12"),
        resident(24, 重点人群="熬夜者"),
    ]
    done = await world.send(sheet_of(*wrong, resident(26)))
    assert (done["created"], done["refused"]) == (2, 13)
    red = marked(done["sheet"])
    assert sorted(red) == [2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15]
    for row, word in ((2, "另一姓名"), (3, "性别"), (4, "出生日期"), (10, "第 9 行"), (11, "机构")):
        assert word in red[row][1]
    # The advice applied: the red rows mended go in, and nothing else changes.
    mended = await world.send(sheet_of(resident(4), resident(6), resident(10), resident(26)))
    assert (mended["created"], mended["unchanged"], mended["refused"]) == (3, 1, 0)


@pytest.mark.anyio
async def test_two_imports_at_once_make_nobody_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [resident(2 * n) for n in range(1, 120)]
    both = await asyncio.gather(*(world.send(sheet_of(*rows)) for _ in range(3)))
    assert sum(one["created"] for one in both) == len(rows)
    assert len(await world.patients()) == len(rows)


@pytest.mark.anyio
async def test_csv_of_both_charsets_and_progress_in_a_task(world: World) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["姓名*", "证件号码 (ID card)"])
    writer.writerow(["龘靐", card(2)])
    text = out.getvalue()
    first = await world.send(text.encode("gb18030"), "?task=import-1", CSV)
    second = await world.send(b"\xef\xbb\xbf" + text.encode(), kind=CSV)
    assert (first["created"], second["unchanged"]) == (1, 1)
    task = (await world.client.get("/Task/import-1")).json()
    assert (task["status"], task["output"][0]["valueInteger"]) == ("completed", 1)
    empty = (await world.client.get("/Patient/$resident-template")).json()
    assert read_sheet(base64.b64decode(empty["data"]), XLSX).headings[:2] == ("姓名", "证件号码")


@pytest.mark.anyio
async def test_a_hub_without_test_regions_takes_no_synthetic_person(database_url: str) -> None:
    chosen = Settings(auth="off", http_port=0, mllp_port=0)
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir") as client,
    ):
        done = await World(client).send(sheet_of(resident(2)))
    assert (done["created"], done["refused"]) == (0, 1)


def test_formulas_are_neither_calculated_nor_taken_nor_given_back() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(HEADINGS[:2])
    sheet.append(['=HYPERLINK("http://evil","x")', card(2)])
    out = io.BytesIO()
    book.save(out)
    read = read_sheet(out.getvalue(), XLSX)
    (row,) = read_rows(read, today=datetime.date(2026, 11, 21), test_regions=["999001"])
    assert any("公式" in reason for reason in row.reasons)
    back = answer_sheet(read, {2: ("未导入", row.reasons)})
    cells = openpyxl.load_workbook(io.BytesIO(back)).active
    assert cells is not None
    assert cells["A2"].data_type == "s", "as text, or a clerk's click would run it"
    dangerous = write_sheet(["a"], [(["=1+1"], False), (["@SUM(1)"], False), (["+1"], False)])
    written = openpyxl.load_workbook(io.BytesIO(dangerous)).active
    assert written is not None
    assert [written.cell(n, 1).data_type for n in (2, 3, 4)] == ["s"] * 3
    unguarded = openpyxl.Workbook()
    assert unguarded.active is not None
    unguarded.active["A1"] = "=1+1"
    assert unguarded.active["A1"].data_type == "f", "what the library does by itself"
    (formula,) = read_sheet(b"a\n=1+1\n", CSV).rows
    assert isinstance(formula.cells["a"], sheets.Formula)


def packed(entries: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


def altered(name: str, change: Any) -> bytes:
    """Return the template with one entry of its archive changed."""
    with zipfile.ZipFile(io.BytesIO(template())) as archive:
        entries = {one: archive.read(one) for one in archive.namelist()}
    entries[name] = change(entries[name])
    return packed(entries)


SHEET = "xl/worksheets/sheet1.xml"
ENTITY = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
HARMFUL = {
    "bomb": (altered(SHEET, lambda _: b"0" * 3_000_000), "sheet-too-large"),
    "endless text": (
        altered(SHEET, lambda _: os.urandom(1_000_000).replace(b"<", b"").replace(b"\x00", b"")),
        "sheet-too-large",
    ),
    "many entries": (packed({f"f{n}": b"" for n in range(600)}), "sheet-too-large"),
    "entities": (altered(SHEET, lambda xml: ENTITY + xml), "sheet-unreadable"),
    "utf-16": (altered(SHEET, lambda xml: xml.decode().encode("utf-16")), "sheet-unreadable"),
    "no zip": (b"PK\x03\x04nonsense", "sheet-unreadable"),
    "no workbook": (packed({"a.txt": b"hello"}), "sheet-unreadable"),
    "cut": (template()[:-40], "sheet-unreadable"),
    "empty": (b"", "sheet-unreadable"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_files_that_mean_harm_are_refused_before_they_are_unpacked(name: str) -> None:
    data, key = HARMFUL[name]
    with pytest.raises(InvalidContent) as refused:
        read_sheet(data, XLSX)
    assert refused.value.issues[0].key == key


def test_the_bomb_would_go_off_without_the_look_at_the_archive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unpacked: list[int] = []
    read = zipfile.ZipFile.read

    def watched(self: zipfile.ZipFile, name: Any, pwd: bytes | None = None) -> bytes:
        data = read(self, name, pwd)
        unpacked.append(len(data))
        return data

    monkeypatch.setattr(zipfile.ZipFile, "read", watched)
    bomb = HARMFUL["bomb"][0]
    with pytest.raises(InvalidContent):
        read_sheet(bomb, XLSX)
    assert max(unpacked, default=0) < 1_000_000
    monkeypatch.setattr(sheets, "_RATIO", 10**9)
    with pytest.raises(InvalidContent):
        read_sheet(bomb, XLSX)
    assert max(unpacked) == 3_000_000


def test_wide_and_long_sheets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    far = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        b'<dimension ref="A1:XFD1048576"/><sheetData><row r="1"><c r="A1" t="inlineStr"><is>'
        b'<t>a</t></is></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
        b"</sheetData></worksheet>"
    )
    assert read_sheet(altered(SHEET, lambda _: far), XLSX).rows == ()
    monkeypatch.setattr(sheets, "ROWS", 3)
    with pytest.raises(InvalidContent) as refused:
        read_sheet(b"a\n" + b"1\n" * 4, CSV)
    assert refused.value.issues[0].key == "sheet-too-large"
    with pytest.raises(InvalidContent):
        read_sheet(b"a\n" + b"x" * 200_000 + b"\n", CSV)
    for headings in (b"", b"\n1\n", b"a,a\n1,2\n"):
        with pytest.raises(InvalidContent) as refused:
            read_sheet(headings, CSV)
        assert refused.value.issues[0].key == "sheet-headings"


def run(database_url: str, *arguments: Any) -> tuple[int, str, str]:
    done = subprocess.run(
        [QIAO, "import", "residents", *arguments],
        env={**os.environ, "QIAO_DATABASE_URL": database_url, "QIAO_TEST_REGIONS": "999001"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


ODD_NAMES = (
    "王\n秀英",
    "王\u202e秀英",
    "王\u200b秀英",
    "<script>1</script>",
    "@SUM(1)",
    "+cmd",
    "1.5",
)
NAMES = ("王秀英", "阿依古丽·买买提", "欧阳 娜娜", "O'Brien Jr.", "张三之子2", "𬱟", "Müller")


def rows_of(*rows: dict[str, Any]) -> list[Any]:
    today = datetime.date(2026, 11, 21)
    return read_rows(read_sheet(sheet_of(*rows), XLSX), today=today, test_regions=["999001"])


def test_names_that_are_none_are_refused_and_those_that_are_go_in() -> None:
    for read in rows_of(*(resident(n, name) for n, name in enumerate(ODD_NAMES, 100))):
        assert "type it anew" in read.reasons[0]
    for read in rows_of(*(resident(n, name) for n, name in enumerate(NAMES, 200))):
        assert read.reasons == ()


def test_without_the_look_at_its_letters_anything_is_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(residents, "_NO_NAME", re.compile("(?!)"))
    reads = rows_of(*(resident(n, name) for n, name in enumerate(ODD_NAMES[:-1], 100)))
    assert [read.reasons for read in reads] == [()] * (len(ODD_NAMES) - 1)


def test_digits_of_full_width_and_spaces_are_the_same_number() -> None:
    plain = card(7)
    wide = "".join(chr(ord(one) + 0xFEE0) for one in plain)
    ways = (wide, f" {plain[:6]} {plain[6:14]} {plain[14:]} ", plain.lower())
    for way in ways:
        (read,) = rows_of({"姓名": "王秀英", "证件号码": way, "出生日期": "1960年5月1日"})
        assert (read.number, read.reasons) == (plain, ())


def test_a_row_replaces_the_mobile_and_the_home_address_and_nothing_beside_them() -> None:
    email = {"system": "email", "value": "a@b.example"}
    landline = {"system": "phone", "value": "0755-1234567", "use": "home"}
    mobile = {"system": "phone", "value": "13900000001", "use": "mobile"}
    work = {"use": "work", "text": "桥北路 1 号"}
    stored = {
        "identifier": [{"system": ID_CARD_SYSTEM, "value": "1"}],
        "name": [{"text": "王秀英"}],
        "telecom": [{"system": "phone", "value": "13900000000"}, email, landline],
        "address": [work, {"use": "home", "text": "旧址"}],
    }
    row = {
        "identifier": stored["identifier"],
        "name": [{"text": "王秀英"}],
        "gender": "female",
        "birthDate": "1960-05-01",
        "telecom": [mobile],
        "address": [{"use": "home", "text": "新址"}],
    }
    result, reasons = residents.united(stored, row)
    assert reasons == ()
    assert result["telecom"] == [mobile, email, landline]
    assert result["address"] == [{"use": "home", "text": "新址"}, work]
    assert residents.united(result, row) == (result, ()), "once more changes nothing"


def test_a_sheet_that_begins_with_a_person_is_not_a_sheet_without_persons() -> None:
    """Without the row of headings the first resident would be taken for it, and never told."""
    row = "王五,999001196001011234\n".encode()
    with pytest.raises(InvalidContent) as refused:
        read_rows(read_sheet(row, CSV), today=datetime.date(2026, 1, 1))
    assert refused.value.issues[0].key == "sheet-headings"
    named = read_sheet("姓名,证件号码\n".encode() + row, CSV)
    assert len(read_rows(named, today=datetime.date(2026, 1, 1))) == 1


def test_the_command_line_does_the_same(fresh_database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "r.xlsx"
    assert run(fresh_database_url, "--template", path)[0] == 0
    assert read_sheet(path.read_bytes(), XLSX).rows == ()
    path.write_bytes(sheet_of(resident(2), {"姓名": "无号"}))
    code, output, _ = run(fresh_database_url, "--dry-run", "--json", path)
    assert (code, json.loads(output)["created"]) == (5, 1)
    code, output, errors = run(fresh_database_url, "--json", path)
    assert (code, json.loads(output)["refused"]) == (5, 1)
    assert "r-checked.xlsx" in errors
    assert list(marked((tmp_path / "r-checked.xlsx").read_bytes())) == [3]
    code, _, errors = run(fresh_database_url, tmp_path / "none.xlsx")
    assert code == 2
    assert "--template" in errors
    with psycopg.connect(fresh_database_url) as connection:
        rows = connection.execute("SELECT count(*) FROM resource WHERE fid IS NOT NULL").fetchone()
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    assert rows == (1,)


def people_sheet(count: int) -> bytes:
    rows: Sequence[dict[str, Any]] = [
        {"姓名": one.name, "证件号码": one.id_card, "联系电话": one.phone, "现住址": one.address}
        for one in people(3, count)
    ]
    return sheet_of(*rows)


@pytest.mark.anyio
async def test_many_rows_keep_their_order_and_number(world: World) -> None:
    done = await world.send(people_sheet(1200))
    assert done["created"] == 1200
    found = await world.client.get(f"/Patient?identifier={ID_CARD_SYSTEM}|&_summary=count")
    assert found.json()["total"] == 1200
