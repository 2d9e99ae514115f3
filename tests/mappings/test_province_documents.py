"""The province's documents of institutions, doctors, teams and contracts, from rows, both ways."""

import copy
import json
import pathlib
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from conformance import resource_json
from conformance.problem import InvalidContent
from conformance.structure import require_valid
from mappings.cases import Cases, case_folders
from mappings.document_bundles import content_of, document_bundle
from mappings.documents import Documents
from mappings.engine.library import default_folder, load
from mappings.engine.row_checks import BACKWARD
from mappings.engine.rows import FaultyMaps, Row
from mappings.engine.tree import Node, ensure, parse_tree_path, read_xml, select, write_xml

LIBRARY = load()
DOCUMENTS = Documents(LIBRARY)
PROVINCE = pathlib.Path(__file__).resolve().parents[2] / "adapters" / "province"
KINDS = ("resident", "institution", "doctor", "team", "contract")
CASES = list(case_folders(default_folder() / "maps" / "province.cases"))


def sample(kind: str) -> bytes:
    return (PROVINCE / f"{kind}_registration.xml").read_bytes()


def canonical(data: bytes) -> bytes:
    parser = etree.XMLParser(remove_blank_text=True, remove_comments=True)
    return etree.tostring(etree.fromstring(data, parser), method="c14n")


def bundle_of(kind: str) -> dict:
    data = sample(kind)
    name = DOCUMENTS.name_of(data)
    return document_bundle(LIBRARY.maps[name], DOCUMENTS.read(name, data))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_survives_there_and_back_word_for_word(kind: str) -> None:
    data = sample(kind)
    name = DOCUMENTS.name_of(data)
    assert name == f"{kind}-registration"
    content, resources = content_of(LIBRARY.maps[name], bundle_of(kind))
    made = DOCUMENTS.compose(name, content, resources=resources)
    assert canonical(made.payload) == canonical(data)
    assert made.notes == ()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_document_becomes_passes_base_validation(kind: str) -> None:
    keys = set()
    bundle = bundle_of(kind)
    for entry in bundle["entry"]:
        keys.add(entry["fullUrl"])
        require_valid(resource_json.parse(resource_json.dump(entry["resource"])))
    text = resource_json.dump(bundle).decode()
    assert set(re.findall(r'"reference":"([^"]+)"', text)) <= keys


HL7_EXTENSION = "https://fhir.qiao.example/cphc/StructureDefinition/patient-ethnic-group"


@pytest.mark.parametrize(
    ("told", "expected"), [(("hl7",), "15"), (("package",), "01"), (("package", "hl7"), "01")]
)
def test_the_nation_of_a_resident_is_told_whoever_recorded_it(
    told: tuple[str, ...], expected: str
) -> None:
    bundle = bundle_of("resident")
    patient = bundle["entry"][0]["resource"]
    (package,) = patient["extension"]
    coding = {"system": "urn:oid:2.16.156.10011.2.3.3.3", "code": "15"}
    hl7 = {"url": HL7_EXTENSION, "valueCodeableConcept": {"coding": [coding]}}
    known = {"package": package, "hl7": hl7}
    patient["extension"] = [known[one] for one in told]
    name = "resident-registration"
    content, resources = content_of(LIBRARY.maps[name], bundle)
    made = DOCUMENTS.compose(name, content, resources=resources)
    assert f"<EthnicityCode>{expected}</EthnicityCode>".encode() in made.payload


def test_the_contract_refers_to_everybody_it_names() -> None:
    bundle = bundle_of("contract")
    by_key = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}
    contract = bundle["entry"][0]["resource"]

    def named(element: dict) -> dict:
        return by_key[element["reference"]]

    assert named(contract["subject"][0])["name"] == [{"text": "演示甲"}]
    team = named(contract["term"][0]["action"][0]["performer"])
    assert named(team["managingOrganization"][0])["name"] == "演示社区卫生服务中心"
    parties = [named(one["party"])["resourceType"] for one in contract["signer"]]
    assert parties == ["Practitioner", "RelatedPerson"]
    populations = [
        one["valueCodeableConcept"]["coding"][0]["code"]
        for one in named(contract["subject"][0])["extension"]
    ]
    assert populations == ["hypertension", "diabetes"]
    assert by_key[bundle["entry"][-1]["fullUrl"]]["parameter"][0]["valueString"] == "sign"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_golden_case_holds(case: pathlib.Path) -> None:
    assert Cases(LIBRARY).check(case) == []


def test_a_case_that_says_otherwise_is_told_with_path_and_row(tmp_path: pathlib.Path) -> None:
    """The twin: a changed expectation is a difference."""
    case = tmp_path / "x"
    case.mkdir()
    (case / "in.xml").write_bytes(sample("institution"))
    Cases(LIBRARY).accept(case)
    text = (case / "out.fhir.json").read_text("utf-8")
    (case / "out.fhir.json").write_text(text.replace("演示社区卫生服务中心", "别的中心"), "utf-8")
    (one,) = Cases(LIBRARY).check(case)
    assert (one.path, one.row) == ("entry[0].resource.name", "institution-registration/name")


@pytest.mark.parametrize(
    ("kind", "leave_out", "told"),
    [
        ("institution", "Institution/TypeCode", "organization.type[*].coding[0].code"),
        ("doctor", "Doctor/Number", "practitioner.identifier[*].value"),
        ("doctor", "Institution", "role.organization (Code)"),
        ("team", "Team/Member[*]", "team.participant[*]"),
        ("contract", "Resident/IdCard Resident/HealthCard", "contract.subject[0] (IdCard)"),
        ("contract", "Team/Code", "performer (Code)"),
        ("contract", "Doctor", "contract.signer[*] (SignedAt)"),
        ("contract", "BeginOn", "contract.applies.start"),
    ],
)
def test_what_the_province_requires_is_named_with_the_path_to_fill(
    kind: str, leave_out: str, told: str
) -> None:
    name = f"{kind}-registration"
    root = read_xml(sample(kind))
    for path in leave_out.split():
        _leave_out(root, path)
    read = DOCUMENTS.read(name, write_xml(root, str(LIBRARY.maps[name].document["namespace"])))
    content, resources = content_of(LIBRARY.maps[name], document_bundle(LIBRARY.maps[name], read))
    with pytest.raises(InvalidContent) as refused:
        DOCUMENTS.compose(name, content, resources=resources)
    assert any(told in str(issue.expression) for issue in refused.value.issues), (
        refused.value.issues
    )


def test_the_first_steps_need_no_doctor() -> None:
    """The twin of the row above: what is required is required of those steps alone."""
    root = read_xml(sample("contract").replace(b"<Step>03", b"<Step>01"))
    _leave_out(root, "Doctor")
    row_map = LIBRARY.maps["contract-registration"]
    read = DOCUMENTS.read(row_map.name, write_xml(root, str(row_map.document["namespace"])))
    content, resources = content_of(row_map, document_bundle(row_map, read))
    assert b"<Doctor>" not in DOCUMENTS.compose(row_map.name, content, resources=resources).payload


def test_a_renewal_needs_a_doctor_unless_the_resident_consented_to_it() -> None:
    row_map = LIBRARY.maps["contract-registration"]
    renewal = sample("contract").replace(
        b"<Step>03", b"<PreviousNumber>FD-0</PreviousNumber><Step>07"
    )
    root = read_xml(renewal)
    _leave_out(root, "Doctor")

    def composed(data: bytes) -> bytes:
        content, resources = content_of(
            row_map, document_bundle(row_map, DOCUMENTS.read(row_map.name, data))
        )
        return DOCUMENTS.compose(row_map.name, content, resources=resources).payload

    with pytest.raises(InvalidContent, match="Doctor"):
        composed(write_xml(root, str(row_map.document["namespace"])))
    ensure(root, parse_tree_path("ByConsent")).text = "true"
    assert b"<ByConsent>true" in composed(write_xml(root, str(row_map.document["namespace"])))


def test_a_condition_of_required_fields_that_cannot_be_read_is_a_fault(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "maps" / "a.yaml").write_text(
        'map: a\ndocument: {kind: xml, root: A}\nrequire_when: {"Step ISH 1": [B]}\n'
        "rows:\n  - {id: b, xml: B, fhir: c.d}\n"
    )
    with pytest.raises(FaultyMaps, match=r"a\.yaml:1: row a: its condition"):
        load(tmp_path)


def _leave_out(root: Node, path: str) -> None:
    *outer, last = parse_tree_path(path)
    holder = ensure(root, tuple(outer))
    holder.children = [one for one in holder.children if one.name != last.name]


# -- Laws: each row alone, with values drawn for it -----------------------------------------------

TEXT = st.text("ab1^|~\\&é你<> .-", min_size=1, max_size=8).map(str.strip).filter(bool)
BY_CODEC = {
    "": TEXT,
    "text": TEXT,
    "iso.date": st.dates().map(str),
    "iso.day": st.dates().map(str),
    "xs.boolean": st.sampled_from(["true", "false"]),
    "nm.decimal": st.integers(0, 10**6).map(lambda n: f"{n // 100}.{n % 100:02}"),
    "code": st.from_regex(r"[A-Za-z0-9.:\-]{1,12}", fullmatch=True),
    "name.text": TEXT,
    "address.text": TEXT,
    "authority": st.sampled_from(["HOSP-A", "H1"]),
}


def lawful_rows() -> Iterator[tuple[str, str, Row]]:
    """Yield (map, path, row) for each two-way leaf row that a document reaches, `use` included."""

    def below(name: str, prefix: str, top: str) -> Iterator[tuple[str, str, Row]]:
        for row in LIBRARY.maps[name].rows:
            if row.ignore or row.only or not row.source:
                continue
            path = "/".join(part for part in (prefix, row.source) if part and part != ".") or "."
            if row.use or row.refer:
                yield from below(row.use or row.refer, path, top)
            else:
                yield top, path, row

    for name, row_map in LIBRARY.maps.items():
        if row_map.document.get("kind") == "xml":
            yield from below(name, "", name)


ROWS = list(lawful_rows())


@pytest.mark.parametrize(("name", "path", "row"), ROWS, ids=[f"{n}/{p}" for n, p, _ in ROWS])
def test_a_row_is_stable_and_restores_what_it_calls_exact(name: str, path: str, row: Row) -> None:
    row_map = LIBRARY.maps[name]
    namespace = str(row_map.document["namespace"])
    kind = name.removesuffix("-registration")
    start = read_xml(sample(kind))
    values = (
        st.sampled_from(sorted(LIBRARY.tables[row.table].forward))
        if row.table
        else BY_CODEC[row.codec]
    )
    owner = next(m for m in LIBRARY.maps.values() if any(one is row for one in m.rows))
    is_exact = LIBRARY.classes[f"{owner.name}/{row.id}"] == "exact"

    def there_and_back(document: bytes) -> tuple[dict, bytes]:
        bundle = document_bundle(row_map, DOCUMENTS.read(name, document))
        content, resources = content_of(row_map, bundle)
        # The step decides what else is required; the law is about the row alone.
        made = LAX.compose(name, content, resources=resources)
        return json.loads(resource_json.dump(bundle)), made.payload

    @settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values)
    def law(text: str) -> None:
        root = copy.deepcopy(start)
        _put(root, path, text)
        first, back = there_and_back(write_xml(root, namespace))
        if is_exact and not (row.table and row.back):
            assert _texts(read_xml(back), path)[0] == text
        second, again = there_and_back(back)
        assert second == first
        assert again == back

    law()


def _put(root: Node, path: str, text: str) -> None:
    *outer, last = parse_tree_path(path)
    if "MedicalRecordNumber" in path:  # neither stands without the other
        node = ensure(root, parse_tree_path("Resident/MedicalRecordNumber"))
        node.text, node.attributes["assigner"] = node.text or "M1", "H1"
    if last.name == "TeamCode":  # instead of the doctor
        _leave_out(root, "Team/Member/Doctor")
    if last.name.startswith("@"):
        ensure(root, tuple(outer)).attributes[last.name[1:]] = text
    else:
        ensure(root, (*outer, last)).text = text


def _texts(root: Node, path: str) -> list[str]:
    return [
        one if isinstance(one, str) else one.text for one, _ in select(root, parse_tree_path(path))
    ]


def _lax() -> Documents:
    maps = {
        name: replace(one, require=(), require_any=(), require_when={}) if one.document else one
        for name, one in LIBRARY.maps.items()
    }
    return Documents(replace(LIBRARY, maps=maps))


LAX = _lax()


def test_there_are_many_such_rows_and_few_that_work_one_way() -> None:
    assert len(ROWS) > 90
    one_way = [key for key, kind in LIBRARY.classes.items() if kind == BACKWARD]
    names = {name for name, _, _ in ROWS}
    backward = [key for key in one_way if key.partition("/")[0] in names]
    assert backward == ["resident-registration/ethnicity-of-hl7"]
