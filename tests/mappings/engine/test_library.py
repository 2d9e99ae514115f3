"""A library of maps loads whole, with every row classified, or not at all."""

import json
import pathlib
from typing import Any

import pytest

from mappings.engine import library
from mappings.engine.library import load
from mappings.engine.rows import Fault, FaultyMaps

TYPES = """
type: X
rows:
  - {id: X-1, v2: "1", fhir: family}
"""


def _faults(folder: pathlib.Path, text: str) -> list[str]:
    (folder / "maps").mkdir()
    (folder / "tables").mkdir()
    (folder / "maps" / "a.yaml").write_text(text, encoding="utf-8")
    concept_map = {
        "group": [
            {
                "source": "s",
                "target": "t",
                "element": [
                    {"code": "A", "target": [{"code": "x"}]},
                    {"code": "B", "target": [{"code": "x"}]},
                ],
            }
        ]
    }
    (folder / "tables" / "Two.json").write_text(json.dumps(concept_map))
    with pytest.raises(FaultyMaps) as refused:
        load(folder)
    return [str(fault) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{id: A, v2: PID-3}", "has no `fhir:`"),
        ("{id: A, v2: PID3, fhir: gender}", "cannot read the source"),
        ('{id: A, v2: PID-3, fhir: "a b"}', "cannot read the step"),
        ('{id: A, v2: PID-3, fhir: "a[*].b[*]"}', "more than one [*]"),
        ("{id: A, v2: PID-3, fhir: genderr}", "Patient does not have in R4. Write 'gender'."),
        ("{id: A, v2: PID-3, fhir: multipleBirth:string}", "'multipleBirthString', which"),
        ('{id: A, v2: PID-3, fhir: "name[0].nowhere"}', "HumanName does not have in R4"),
        ("{id: A, v2: PID-3, fhir: name.family}", "Write name[0] or name[*]"),
        ('{id: A, v2: PID-3, fhir: "gender[0]"}', "Write gender alone"),
        ("{id: A, v2: PID-3, fhir: extension(x).valueNothing}", "Extension does not have"),
        ("{id: A, v2: PID-3, fhir: a, as: nonsense}", "unknown codec"),
        ("{id: A, v2: PID-3, fhir: a, use: Nobody}", "no file defines"),
        ("{id: A, v2: PID-3, fhir: a, code: Nothing}", "unknown table"),
        ("{id: A, v2: PID-3, fhir: a, code: Two}", "several codes become x"),
        ("{id: A, v2: PID-3, fhir: a, when: PID-3 IS THERE}", "its condition"),
        ("{id: A, v2: PID-3, fhir: a, unknown: maybe}", "policy unknown"),
        ("{id: A, v2: PID-3, fhir: a, only: sometimes}", "has only:"),
        ("{id: A, value: x, fhir: a}", "writes a constant and says no direction"),
        ("{id: A, py: mappings.maps.python.nothing, only: forward}", "which does not exist"),
        ("{id: A, py: mappings.maps.python.place}", "both ways"),
        ("{id: A, v2: PID-3, fihr: a}", "unknown key 'fihr'"),
        ("{v2: PID-3, fhir: a}", "has no id"),
    ],
)
def test_a_faulty_row_is_named_with_file_line_and_fix(
    tmp_path: pathlib.Path, row: str, says: str
) -> None:
    faults = _faults(tmp_path, f"map: M\nto: Patient\nrows:\n  - {row}\n")
    assert any(says in fault for fault in faults), faults
    assert all(fault.startswith("maps/a.yaml:4: row ") for fault in faults), faults


def test_every_fault_is_listed_at_once(tmp_path: pathlib.Path) -> None:
    text = (
        "map: M\nto: Patient\nrows:\n"
        "  - {id: A, v2: PID-3, fhir: gender, as: x}\n"
        "  - {id: A, v2: PID-4, fhir: active, as: y}\n"
        "---\nmessage: Q\nevents: [A^B]\nmakes:\n"
        "  - {id: p, map: Nobody, each: PID, links: {subject: q}}\n"
    )
    faults = _faults(tmp_path, text)
    assert len(faults) == 5
    assert any("id of an earlier row" in fault for fault in faults)
    assert any("the map 'Nobody'" in fault for fault in faults)
    assert any("the resource 'q'" in fault for fault in faults)


def test_a_file_that_is_no_yaml_is_refused(tmp_path: pathlib.Path) -> None:
    (fault,) = _faults(tmp_path, "map: M\nrows: [\n")
    assert "is not YAML" in fault


def test_the_rows_that_come_with_the_hub_are_classified() -> None:
    shipped = load()
    assert shipped.classes["PID-Patient/PID-24"] == "exact"
    assert shipped.classes["PID-Patient/PID-7"] == "lossy"
    assert shipped.classes["PID-Patient/PID-19"] == "forward"
    assert shipped.classes["PID-Patient/PID-1"] == "ignored"
    assert len(shipped.tables) >= 76


def test_what_a_message_map_says_of_records_is_checked(tmp_path: pathlib.Path) -> None:
    text = (
        "map: M\nto: Patient\nrows:\n  - {id: A, v2: PID-3, fhir: gender, as: code}\n"
        "---\nmessage: Q\nevents: [A^B]\ngroups:\n  - {group: g, starts: PID}\nmakes:\n"
        "  - {id: p, map: M, in: g, each: PID}\n"
        "merges:\n  - {in: g, surviving: p, prior: nobody}\n"
        "relations:\n  - {in: nowhere, each: p, are: together}\n"
        "undone:\n  - {en: left}\n"
    )
    faults = " ".join(_faults(tmp_path, text))
    for said in ("names 'nobody'", "names 'nowhere'", "says 'together'", "no `zh`"):
        assert said in faults


def _folder_of_one_map(folder: pathlib.Path, code: str) -> pathlib.Path:
    (folder / "maps").mkdir(parents=True, exist_ok=True)
    row = f"{{id: A, fhir: gender, value: {code}, only: forward}}"
    text = f"map: M\nto: Patient\nrows:\n  - {row}\n"
    (folder / "maps" / "a.yaml").write_text(text, encoding="utf-8")
    return folder


def test_files_as_they_were_are_the_same_library(tmp_path: pathlib.Path) -> None:
    one = load(_folder_of_one_map(tmp_path / "one", "male"))
    assert load(_folder_of_one_map(tmp_path / "one", "male")) is one
    other = load(_folder_of_one_map(tmp_path / "other", "male"))
    assert other is not one
    assert (other.hash, other.maps) == (one.hash, one.maps)
    for number in range(8):
        load(_folder_of_one_map(tmp_path / str(number), "male"))
    assert load(tmp_path / "one") is not one  # only the latest are kept


def test_a_changed_a_renamed_and_a_faulty_file_are_seen(tmp_path: pathlib.Path) -> None:
    folder = _folder_of_one_map(tmp_path, "male")
    assert load(folder).maps["M"].rows[0].value == "male"
    _folder_of_one_map(tmp_path, "female")
    assert load(folder).maps["M"].rows[0].value == "female"
    (folder / "maps" / "a.yaml").rename(folder / "maps" / "b.yaml")
    assert load(folder).maps["M"].file == "maps/b.yaml"
    (folder / "maps" / "b.yaml").write_text("map: M\nrows: [\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(FaultyMaps):
            load(folder)


def test_twin_that_knows_files_by_their_names_a_change_is_not_seen(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "content_hash", lambda _: "")
    folder = _folder_of_one_map(tmp_path, "male")
    load(folder)
    _folder_of_one_map(tmp_path, "female")
    assert load(folder).maps["M"].rows[0].value == "male"


def test_files_that_change_while_they_are_read_are_read_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _folder_of_one_map(tmp_path, "male")
    read = library.read_documents

    def overtaken(path: pathlib.Path, faults: list[Fault]) -> list[dict[str, Any]]:
        _folder_of_one_map(tmp_path, "female")
        return read(path, faults)

    monkeypatch.setattr(library, "read_documents", overtaken)
    assert load(folder).maps["M"].rows[0].value == "female"
    _folder_of_one_map(tmp_path, "male")
    monkeypatch.undo()
    assert load(folder).maps["M"].rows[0].value == "male"
