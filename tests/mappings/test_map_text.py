"""Rows as cells of a sheet and as text of a file: nothing is lost, and nothing else changes."""

import pathlib
from dataclasses import replace

import pytest
import yaml

from mappings.engine.library import default_folder, load
from mappings.engine.row_files import read_documents, read_row_map
from mappings.engine.rows import Fault, Row, RowMap
from mappings.map_text import Changes, changed_text, new_text
from mappings.sheet_rows import HEAD, cells_of, given_of

LIBRARY = load()
TEXT = """# Where it comes from.
map: A-Patient
to: Patient
rows:
  # The first.
  - {id: A-1, v2: "A-1", fhir: birthDate, as: dtm.date}  # a day
  # The second, over two lines.
  - {id: A-2, v2: "A-2[*]", fhir: "identifier[*]", use: CX-Identifier,
     with: {system: "urn:x", "type.coding[0].code": MR}, loses: "which, if several"}
---
# Another map.
map: B-Patient
to: Patient
rows:
  - id: B-1
    v2: "B-1"
    fhir: gender
"""


def _rows(row_map: RowMap) -> list[Row]:
    return [replace(row, line=0) for row in row_map.rows]


def _read(file: pathlib.Path, text: str) -> dict[str, list[Row]]:
    file.write_text(text, encoding="utf-8")
    faults: list[Fault] = []
    maps = [read_row_map(one, file.name, faults) for one in read_documents(file, faults)]
    assert faults == []
    return {one.name: _rows(one) for one in maps}


@pytest.mark.parametrize("name", sorted(LIBRARY.maps))
def test_every_map_comes_back_from_its_sheet_row_by_row(name: str, tmp_path: pathlib.Path) -> None:
    row_map = LIBRARY.maps[name]
    given = [
        given_of(cells_of(LIBRARY, row_map, row), LIBRARY, row_map.source_kind)
        for row in row_map.rows
    ]
    written = new_text(name, row_map.to if row_map.kind == "map" else "", given)
    assert _read(tmp_path / "a.yaml", written)[name] == _rows(row_map)


def test_every_row_rewritten_as_it_is_leaves_its_file_as_it_is() -> None:
    for file in {row_map.file for row_map in LIBRARY.maps.values()}:
        text = (default_folder() / file).read_text(encoding="utf-8")
        changes = {
            one.name: Changes(
                changed={
                    row.id: given_of(cells_of(LIBRARY, one, row), LIBRARY, one.source_kind)
                    for row in one.rows
                }
            )
            for one in LIBRARY.maps.values()
            if one.file == file
        }
        assert changed_text(text, changes) == text


def test_only_the_value_that_changes_is_written() -> None:
    second = {
        "id": "A-2", "v2": "A-2[*]", "fhir": "identifier[*]", "use": "CX-OwnIdentifier",
        "with": {"system": "urn:x", "type.coding[0].code": "MR"}, "loses": "which, if several",
    }  # fmt: skip
    first = {"id": "A-1", "v2": "A-1", "fhir": "birthDate", "when": "A-1 VALUED"}
    block = {"id": "B-1", "v2": "B-1", "fhir": "gender", "code": "AdministrativeSex"}
    changes = {
        "A-Patient": Changes(changed={"A-1": first, "A-2": second}),
        "B-Patient": Changes(changed={"B-1": block}),
    }
    wanted = (
        TEXT.replace("birthDate, as: dtm.date}", 'birthDate, when: "A-1 VALUED"}')
        .replace("use: CX-Identifier,", "use: CX-OwnIdentifier,")
        .replace("    fhir: gender\n", "    fhir: gender\n    code: AdministrativeSex\n")
    )
    assert changed_text(TEXT, changes) == wanted


def test_a_new_row_stands_behind_the_one_before_it_and_comments_stay() -> None:
    one = {"id": "A-1b", "v2": "A-1", "fhir": "deceased:boolean", "as": "yn"}
    two = {"id": "A-1c", "v2": "A-3", "ignore": "no R4 element, said twice"}
    first = {"id": "A-0", "value": "no", "fhir": "language"}
    changes = {"A-Patient": Changes(added=[("A-1", one), ("A-1b", two), ("", first)])}
    behind = (
        '  - {id: A-1b, v2: "A-1", fhir: "deceased:boolean", as: yn}\n'
        '  - {id: A-1c, v2: "A-3", ignore: "no R4 element, said twice"}\n'
        '  - {id: A-0, value: "no", fhir: language}\n'
    )
    at = TEXT.index("  # The second")
    assert changed_text(TEXT, changes) == TEXT[:at] + behind + TEXT[at:]
    front = changed_text(TEXT, {"A-Patient": Changes(added=[("", first)])})
    assert front.index("A-0") < front.index("A-1")
    assert next(yaml.safe_load_all(front))["rows"][0] == first


def test_a_cell_that_is_no_json_is_named() -> None:
    cells = {**dict.fromkeys(HEAD, ""), "Constants beside": "{system"}
    with pytest.raises(ValueError, match="Constants beside"):
        given_of(cells, LIBRARY, "v2")
