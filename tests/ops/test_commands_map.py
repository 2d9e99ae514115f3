"""`qiao map` shows, proves and explains the mappings."""

import csv
import json
import pathlib
import re
import shutil

import pytest
from typer.testing import CliRunner

from mappings.engine.library import default_folder, load
from mappings.explain import explained, reason_zh
from ops.commands.map import app

RUNNER = CliRunner()
CASES = default_folder() / "maps" / "hl7v2.cases"
REGISTRY = default_folder() / "maps" / "registry.cases" / "001-centre-and-station"
ADMISSION = CASES / "001-admission-gb18030" / "in.hl7"


def _run(*arguments: str | pathlib.Path) -> tuple[int, str]:
    result = RUNNER.invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_run_prints_a_bundle_with_the_source_of_each_element() -> None:
    code, out = _run("run", "--trace", ADMISSION)
    bundle = json.loads(out)
    assert code == 0
    assert "Patient" in {entry["resource"]["resourceType"] for entry in bundle["entry"]}
    patient = next(e for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient")
    texts = {extension["valueString"] for extension in patient["extension"]}
    assert "Patient.name[0].family <- PID[1]-5[1].1 (XPN-1)" in texts


def test_the_golden_cases_hold() -> None:
    code, _ = _run("test")
    assert code == 0


def test_a_changed_map_fails_its_case_and_names_the_row(tmp_path: pathlib.Path) -> None:
    case = tmp_path / "a.cases" / "1"
    shutil.copytree(CASES / "003-merge", case)
    out = case / "out.fhir.json"
    text = out.read_text(encoding="utf-8").replace('"male"', '"female"')
    text = text.replace('"gender"', '"maritalStatus": {"text": "M"}, "gender"', 1)
    out.write_text(text, encoding="utf-8")
    code, text = _run("test", tmp_path)
    assert code == 1
    assert "gender: female -> male (row PID-Patient/PID-8)" in text
    assert "M -> None (row PID-Patient/PID-16, which wrote nothing)" in text
    assert _run("accept", case)[0] == 0
    assert _run("test", tmp_path)[0] == 0


def test_back_puts_an_edited_bundle_into_the_original(tmp_path: pathlib.Path) -> None:
    _, out = _run("run", ADMISSION)
    edited = tmp_path / "edited.json"
    edited.write_text(out.replace('"gender":"male"', '"gender":"female"'), encoding="utf-8")
    result = RUNNER.invoke(app, ["back", str(ADMISSION), "--with", str(edited)])
    assert result.exit_code == 0
    assert result.stdout_bytes == ADMISSION.read_bytes().replace(b"|M|", b"|F|")


def test_cover_is_a_gate(tmp_path: pathlib.Path) -> None:
    message = b"MSH|^~\\&|HIS|H1|HUB|Q|1||ADT^A08|1|P|2.5\rPID|1||7^^^H1||Li||19900101|M\r"
    clean, dirty = tmp_path / "clean.hl7", tmp_path / "dirty.hl7"
    clean.write_bytes(message)
    dirty.write_bytes(message + b"ZZZ|1|unread\r")
    assert _run("cover", clean)[0] == 0
    code, out = _run("cover", "--json", dirty)
    assert code == 1
    assert json.loads(out)["unread"] == {"ZZZ-1": 1, "ZZZ-2": 1}


def test_cover_takes_a_case_without_what_it_lists_for_the_way_back() -> None:
    case = CASES / "007-supply-and-diet"
    assert (case / "back.hl7").exists()
    code, out = _run("cover", case)
    assert code == 0
    assert out.startswith("1 messages, ")


def test_lint_and_explain_speak_of_rows() -> None:
    code, out = _run("lint")
    assert code == 0
    assert "exact" in out
    code, out = _run("explain", "PID-Patient/PID-8")
    assert code == 0
    assert "patient.yaml:" in out
    assert "lossy: PID-8 becomes gender, through table AdministrativeSex" in out
    assert "有损：PID-8 写入 gender，经代码表 AdministrativeSex" in out
    assert _run("explain", "PID-999")[0] == 2


def test_every_row_is_explained_in_chinese_with_its_reason() -> None:
    library = load()
    for row_map in library.maps.values():
        for row in row_map.rows:
            for reason in filter(None, (row.ignore, row.loses)):
                assert re.search("[\u4e00-\u9fff]", reason_zh(reason)), reason
            assert explained(library, row_map, row).text_zh
    assert reason_zh("that it came in PID-19") == "原在 PID-19"
    assert reason_zh("nothing: recordedDate carries it back") == "无：由 recordedDate 带回"
    assert reason_zh("by agreement") == "by agreement"  # a sender's own, as it is


def test_a_faulty_folder_is_listed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "maps" / "a.yaml").write_text("map: M\nto: Patient\nrows:\n  - {id: A, v2: B}\n")
    code, out = _run("lint", "--maps", tmp_path)
    assert code == 1
    assert "maps/a.yaml:4: row A:" in out


def test_a_folder_without_maps_is_a_fault_and_not_an_empty_library(tmp_path: pathlib.Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        code, out = _run("lint", "--maps", str(folder))
        assert code == 1
        assert "holds no maps. Name a folder with maps/*.yaml" in out


def test_shadow_groups_differences_by_row(tmp_path: pathlib.Path) -> None:
    old = tmp_path / "old"
    for name in ("maps", "tables"):
        shutil.copytree(default_folder() / name, old / name)
    file = old / "maps" / "hl7v2" / "patient.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("fhir: birthDate, as: dtm.date", "fhir: birthDate, as: code"))
    code, out = _run("shadow", old, ADMISSION)
    assert code == 1
    assert "PID-Patient/PID-7: 1 differences" in out
    assert _run("shadow", default_folder(), ADMISSION)[0] == 0


@pytest.mark.parametrize("name", ["rows.csv", "rows.xlsx"])
def test_rows_are_exported_for_people(tmp_path: pathlib.Path, name: str) -> None:
    assert _run("export", tmp_path / name)[0] == 0
    assert (tmp_path / name).stat().st_size > 5000


def test_the_guides_sheets_are_imported_with_a_lint_report(
    tmp_path: pathlib.Path, shared_data: pathlib.Path
) -> None:
    code, out = _run("import", shared_data / "hl7-v2-to-fhir" / "mappings", "--out", tmp_path)
    assert code == 0
    assert len(list((tmp_path / "tables").glob("*.json"))) == 99
    assert len(list((tmp_path / "drafts").glob("*.yaml"))) > 100
    assert "the header is not the guide's" in out
    assert '"U", X")' in out
    assert "Write a row with the FHIR path" in out  # the fix


LIST = "机构代码,机构名称,机构类别\nA1,演示中心,1\n"
STAFF = "机构代码,医务人员编号,姓名,岗位\nA1,D1,演示丙,09\n"


@pytest.mark.parametrize("name", ["out.xlsx", "out.csv"])
def test_a_table_with_its_child_table_is_run_and_written_back(
    tmp_path: pathlib.Path, name: str
) -> None:
    (tmp_path / "list.csv").write_text(LIST, encoding="utf-8")
    (tmp_path / "list.医生.csv").write_text(STAFF, encoding="gb18030")
    code, out = _run("run", tmp_path / "list.csv")
    assert code == 0
    types = [entry["resource"]["resourceType"] for entry in json.loads(out)["entry"]]
    assert types == ["Organization", "PractitionerRole", "Practitioner"]
    edited = tmp_path / "edited.ndjson"
    edited.write_text(out.replace("演示中心", "演示卫生服务中心"), encoding="utf-8")
    written = tmp_path / name
    code, said = _run("back", tmp_path / "list.csv", "--with", edited, "--out", written)
    assert (code, said.strip()) == (0, "wrote 1 rows 机构, 1 rows 医生")
    code, again = _run("run", written)
    assert code == 0
    resources = [entry["resource"] for entry in json.loads(again)["entry"]]
    assert resources[0]["name"] == "演示卫生服务中心"
    assert resources[2]["name"] == [{"text": "演示丙"}]
    assert resources[1]["practitioner"]["reference"] == json.loads(again)["entry"][2]["fullUrl"]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_case_of_tables_is_accepted_and_names_the_row_that_differs(
    tmp_path: pathlib.Path, kind: str
) -> None:
    case = tmp_path / "a.cases" / "1"
    shutil.copytree(REGISTRY, case)
    if kind == "xlsx":
        assert _run("back", case / "in.csv", "--out", case / "in.xlsx")[0] == 0
        (case / "in.csv").unlink()
        (case / "in.医生.csv").unlink()
    assert _run("test", tmp_path) == (0, "")
    out = case / "out.fhir.json"
    out.write_text(out.read_text("utf-8").replace("演示卫生服务站", "别的站"), encoding="utf-8")
    back = case / "back.医生.csv"
    back.write_text(back.read_text("utf-8").replace("D999001000001", ""), encoding="utf-8")
    code, text = _run("test", tmp_path)
    assert code == 1
    wanted = "1: [1].entry[0].resource.name: 别的站 -> 演示卫生服务站 (row institution-list/name)"
    was = "A1,D1,演示丙,2,全科医师,,09 -> A1,D1,演示丙,2,全科医师,D999001000001,09"
    assert text.splitlines() == [wanted, f"1: back.医生.csv:2: {was} (row -)"]
    assert _run("accept", case)[0] == 0
    assert _run("test", tmp_path)[0] == 0
    assert back.read_text("utf-8") == (REGISTRY / "back.医生.csv").read_text("utf-8")


def test_a_table_nobody_knows_is_refused_with_the_columns_to_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    result = RUNNER.invoke(app, ["run", str(tmp_path / "x.csv")])
    assert result.exit_code == 1
    assert "institution-list: 机构代码, 机构名称, 机构类别" in result.stderr


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.csv"])
def test_an_exported_sheet_is_imported_with_what_was_changed_in_it(
    tmp_path: pathlib.Path, name: str
) -> None:
    maps = tmp_path / "maps"
    (maps / "maps").mkdir(parents=True)
    (maps / "tables").mkdir()
    (maps / "maps" / "a.yaml").write_text(
        "map: PID-Patient\nto: Patient\nrows:\n"
        '  - {id: PID-7, v2: "PID-7", fhir: birthDate, as: dtm.date}\n'
        '  - {id: PID-11, v2: "PID-11.9", fhir: "address[0].district", when: "PID-11 VALUED"}\n',
        encoding="utf-8",
    )
    sheet = tmp_path / name
    assert _run("export", sheet, "--maps", maps)[0] == 0
    assert _run("import", sheet, "--maps", maps) == (0, "")
    # The sender and we agree in the sheet: another element; the row that has to follow is named.
    file = maps / "maps" / "a.yaml"
    file.write_text(file.read_text("utf-8").replace("district", "city"), encoding="utf-8")
    code, out = _run("import", sheet, "--maps", maps)
    assert code == 1
    wanted = "maps/a.yaml:5: PID-Patient/PID-11: FHIR Attribute: address[0].city -> "
    assert out.strip() == f"{wanted}address[0].district"


def test_a_sheet_that_is_none_is_refused_with_advice(tmp_path: pathlib.Path) -> None:
    sheet = tmp_path / "x.xlsx"
    sheet.write_bytes(b"PK no sheet")
    result = RUNNER.invoke(app, ["import", str(sheet)])
    assert result.exit_code == 1
    assert "x.xlsx: " in result.stderr


MAP_TEXT = """# Agreed with the sender.
map: PID-Patient
to: Patient
rows:
  # The day of birth.
  - {id: PID-7, v2: "PID-7", fhir: birthDate, as: dtm.date}  # a day
  - {id: PID-11, v2: "PID-11.9", fhir: "address[0].district", when: "PID-11 VALUED"}
"""


@pytest.fixture
def sheet(tmp_path: pathlib.Path) -> pathlib.Path:
    """An exported sheet, beside its maps in `maps`."""
    (tmp_path / "maps" / "maps").mkdir(parents=True)
    (tmp_path / "maps" / "tables").mkdir()
    (tmp_path / "maps" / "maps" / "a.yaml").write_text(MAP_TEXT, encoding="utf-8")
    assert _run("export", tmp_path / "rows.csv", "--maps", tmp_path / "maps")[0] == 0
    return tmp_path / "rows.csv"


def _edit(sheet: pathlib.Path, *more: dict[str, str], **changed: str) -> None:
    """Change PID-11 in a sheet, and add rows behind PID-7."""
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        first, last = csv.DictReader(stream)
    rows = [first, *more, {**last, **{name.replace("_", " "): v for name, v in changed.items()}}]
    with sheet.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(first), restval="")
        writer.writeheader()
        writer.writerows(rows)


def test_a_sheet_is_written_into_the_maps_and_comments_stay(sheet: pathlib.Path) -> None:
    maps = sheet.parent / "maps"
    new = {"Map": "PID-Patient", "Identifier": "PID-24", "Source": "PID-24", "Type": "yn",
           "FHIR Attribute": "multipleBirth:boolean"}  # fmt: skip
    other = {"Map": "ZZP-Basic", "Identifier": "ZZP-1", "Source": "ZZP-1",
             "FHIR Attribute": "code.text"}  # fmt: skip
    _edit(sheet, new, other, FHIR_Attribute="address[0].city", Condition="")
    result = RUNNER.invoke(app, ["import", str(sheet), "--maps", str(maps), "--write"])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["wrote", "maps/ZZP-Basic.yaml", "wrote", "maps/a.yaml"]
    assert "1 rows changed, 2 added" in result.stderr
    assert (maps / "maps" / "a.yaml").read_text("utf-8") == MAP_TEXT.replace(
        "  # a day\n",
        '  # a day\n  - {id: PID-24, v2: "PID-24", fhir: "multipleBirth:boolean", as: yn}\n',
    ).replace('"address[0].district", when: "PID-11 VALUED"', '"address[0].city"')
    assert load(maps).maps["ZZP-Basic"].to == "Basic"
    # The sheet and the maps say the same now.
    assert _run("import", sheet, "--maps", maps) == (0, "")


def test_rows_that_would_not_load_are_not_written(sheet: pathlib.Path) -> None:
    maps = sheet.parent / "maps"
    _edit(sheet, Type="no-such-type")
    code, out = _run("import", sheet, "--maps", maps, "--write")
    assert code == 1
    assert "maps/a.yaml:7: row PID-11:" in out
    assert (maps / "maps" / "a.yaml").read_text("utf-8") == MAP_TEXT


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"Map": "../../etc/x"}, "Row 3 names no map (letters, digits, - _ .)"),
        ({"Identifier": ""}, "or has no identifier"),
        ({"Constants_beside": "{"}, "Row 3: Constants beside is no JSON object"),
    ],
)
def test_a_sheet_that_cannot_be_written_is_refused_with_its_row(
    sheet: pathlib.Path, changed: dict[str, str], words: str
) -> None:
    _edit(sheet, **changed)
    maps = sheet.parent / "maps"
    result = RUNNER.invoke(app, ["import", str(sheet), "--maps", str(maps), "--write"])
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Begin with a sheet that `qiao map export` wrote" in result.stderr
    assert [one.name for one in (maps / "maps").iterdir()] == ["a.yaml"]


def test_a_row_that_the_sheet_leaves_out_stays(sheet: pathlib.Path) -> None:
    maps = sheet.parent / "maps"
    lines = sheet.read_text("utf-8-sig").splitlines(keepends=True)
    sheet.write_text("".join(lines[:-1]), encoding="utf-8-sig")
    code, out = _run("import", sheet, "--maps", maps, "--write")
    assert code == 1
    assert out == "maps/a.yaml:7: PID-Patient/PID-11 is not in the sheet\n"
    assert (maps / "maps" / "a.yaml").read_text("utf-8") == MAP_TEXT
