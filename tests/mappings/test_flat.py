"""Flat rows: a main table with a child table, into FHIR and back."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance import resource_json
from conformance.problem import InvalidContent, InvalidStructure
from conformance.structure import require_valid
from mappings.document_bundles import content_of, document_bundle
from mappings.engine.library import load
from mappings.flat import FlatDocuments, headings_of, read_csv, write_csv

LIBRARY = load()
FLAT = FlatDocuments(LIBRARY)
NAME = "institution-list"
MAP = LIBRARY.maps[NAME]
INSTITUTIONS = """机构代码,统一社会信用代码,机构名称,机构类别,上级机构代码,电话,地址,服务区域
A1,91350100M000100Y43,演示社区卫生服务中心,1,,10000000000,演示区演示路1号,999001
A2,,演示卫生服务站,1,A1,,,
"""
DOCTORS = """机构代码,医务人员编号,姓名,性别,资格,医保医师代码,岗位
A1,D1,演示丙,2,全科医师,D999001000001,09
A1,D2,演示丁,1,护士,,04
"""


def tables(main: str = INSTITUTIONS, doctors: str = DOCTORS) -> dict:
    return {"机构": read_csv(main), "医生": read_csv(doctors)}


def bundles(**given: str) -> list[dict]:
    return [document_bundle(MAP, read) for read in FLAT.read(NAME, tables(**given))]


def test_each_main_row_with_its_children_becomes_resources_that_refer_to_each_other() -> None:
    first, second = bundles()
    by_type = {}
    for entry in first["entry"]:
        by_type.setdefault(entry["resource"]["resourceType"], []).append(entry)
        require_valid(resource_json.parse(resource_json.dump(entry["resource"])))
    (centre,) = by_type["Organization"]
    assert centre["resource"]["name"] == "演示社区卫生服务中心"
    roles = [entry["resource"] for entry in by_type["PractitionerRole"]]
    assert {role["organization"]["reference"] for role in roles} == {centre["fullUrl"]}
    assert [e["resource"]["name"][0]["text"] for e in by_type["Practitioner"]] == [
        "演示丙",
        "演示丁",
    ]
    assert [e["resource"]["resourceType"] for e in second["entry"]] == ["Organization"] * 2


def test_tables_survive_there_and_back_word_for_word() -> None:
    made = FLAT.compose(NAME, [content_of(MAP, one) for one in bundles()])
    headings = headings_of(LIBRARY, MAP)
    assert write_csv(made["机构"], headings["机构"]).replace("\r\n", "\n") == INSTITUTIONS
    assert sorted(headings["医生"]) == sorted(DOCTORS.split("\n")[0].split(","))
    again = [{name: text for name, text in row.items() if text} for row in made["医生"]]
    assert again == read_csv(DOCTORS)


def test_a_child_without_its_parent_is_refused_by_row_and_column() -> None:
    with pytest.raises(InvalidStructure) as refused:
        bundles(doctors=DOCTORS.replace("A1,D2", "A9,D2"))
    assert refused.value.issues[0].expression == "医生[3]/机构代码"


def test_a_required_column_that_is_empty_is_named_with_the_path_to_fill() -> None:
    ((content, resources), _) = [content_of(MAP, one) for one in bundles()]
    lacking = {**content, "organization": {**content["organization"], "type": []}}
    with pytest.raises(InvalidContent) as refused:
        FLAT.compose(NAME, [(lacking, resources)])
    assert refused.value.issues[0].expression == "organization.type[*].coding[0].code"


def test_the_map_is_found_by_its_columns_and_another_table_is_refused_with_advice() -> None:
    assert FLAT.name_of(INSTITUTIONS.split("\n")[0].split(",")) == NAME
    with pytest.raises(InvalidContent) as refused:
        FLAT.name_of(["姓名"])
    assert "机构代码" in refused.value.issues[0].fix_en


@settings(max_examples=100, deadline=None)
@given(st.text("ab=+-@'\"，,\n 1中", min_size=1, max_size=8).map(str.strip).filter(bool))
def test_no_cell_is_a_formula_and_every_text_comes_back(text: str) -> None:
    written = write_csv([{"a": text, "b": "x"}], ["a", "b"])
    assert read_csv(written) == [{"a": text, "b": "x"}]
    _, (cell, _) = csv.reader(io.StringIO(written, newline=""))
    assert cell[0] not in "=@", "a spreadsheet would calculate this"


def test_without_the_guard_a_formula_would_stand_in_the_file() -> None:
    """The twin: what the guard keeps out is kept out by it alone."""
    out = io.StringIO()
    csv.writer(out).writerow(["=1+1"])
    assert out.getvalue().startswith("=")
    assert write_csv([{"a": "=1+1"}], ["a"]).splitlines()[1] == "'=1+1"
    assert json.dumps(read_csv("a\n'=1+1\n")) == json.dumps([{"a": "=1+1"}])
