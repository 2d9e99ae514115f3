"""Every value of a translation knows its source: the row that read it or says it as a constant."""

import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from mappings.cases import case_folders
from mappings.channels.profile import ChannelProfile
from mappings.documents import Documents
from mappings.engine import value_code
from mappings.engine.library import Library, load
from mappings.engine.place_code import PlaceCode
from mappings.translate import Translator
from mappings.translated import TraceEntry, TranslatedMessage

CHANNEL = ChannelProfile()
LIBRARY = load()
_CORE = "http://hl7.org/fhir/StructureDefinition/"


def _leaves(value: Any, names: list[str]) -> Iterator[tuple[list[str], str]]:
    """Yield each leaf as the names that a trace may give it, and the element around it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, Mapping):
                yield from _leaves(item, [f"{name}.{key}" for name in names])
            elif isinstance(item, list):
                yield from _items(item, [f"{name}.{key}" for name in names], key)
            elif key != "resourceType" and not (key == "url" and _is_extension(names[0])):
                yield [f"{name}.{key}" for name in names], names[0]


def _is_extension(path: str) -> bool:
    """Whether the step of a path says an extension's url."""
    return "xtension[" in path.rpartition(".")[2]


def _items(items: list[Any], names: list[str], key: str) -> Iterator[tuple[list[str], str]]:
    for number, item in enumerate(items):
        here = [f"{name}[{number}]" for name in names]
        if isinstance(item, Mapping):
            if key in {"extension", "modifierExtension"}:
                here += [f"{name}({item['url'].removeprefix(_CORE)})" for name in names]
            yield from _leaves(item, here)
        elif item is not None:
            yield here, names[0]


def _around(name: str) -> Iterator[str]:
    """Yield a path and those around it, but for the resource itself."""
    while "." in name:
        yield name
        name = name[: max(name.rfind("."), name.rfind("[") if name.endswith("]") else -1)]


def _without_source(
    resource: Mapping[str, Any], trace: Iterable[TraceEntry], root: str
) -> list[str]:
    targets = {target for target, _, _ in trace}
    return [
        names[0]
        for names, _ in _leaves(resource, [root])
        if not any(one in targets for name in names for one in _around(name))
    ]


def _of_message(data: bytes, library: Library = LIBRARY) -> list[str]:
    result = Translator(library).translate(data, CHANNEL)
    if not isinstance(result, TranslatedMessage):
        return []
    return [
        path
        for one in result.resources
        for path in _without_source(one.resource, one.trace, one.type)
    ]


HL7_CASES = [folder for folder in case_folders() if (folder / "in.hl7").exists()]
XML_CASES = [folder for folder in case_folders() if (folder / "in.xml").exists()]


@pytest.mark.parametrize("folder", HL7_CASES, ids=lambda folder: folder.name)
def test_every_value_of_a_golden_case_has_a_source(folder: pathlib.Path) -> None:
    assert _of_message((folder / "in.hl7").read_bytes()) == []


def test_every_value_of_the_shared_messages_has_a_source(shared_data: pathlib.Path) -> None:
    translator = Translator(LIBRARY)
    seen = 0
    for file in sorted((shared_data / "hl7v2-messages" / "messages").glob("*.hl7")):
        result = translator.translate(file.read_bytes(), CHANNEL)
        for one in result.resources if isinstance(result, TranslatedMessage) else ():
            seen += sum(1 for _ in _leaves(one.resource, [one.type]))
            assert _without_source(one.resource, one.trace, one.type) == [], file.name
    assert seen > 80_000


ADMISSION = (
    b"MSH|^~\\&|HIS|H1|HUB|Q|20260501083000||ADT^A01^ADT_A01|M1|P|2.5.1\r"
    b"PID|1||7001^^^H1^MR||Li^^Mei||19900101|F|||1 Road^^Suzhou||13800000000\r"
    b"NK1|1|Han^Wei|SPO^Spouse^HL70063^W^Wife^L^^^my wife\r"
    b"PV1|1|I|W3^301^02^H1||||D01^Zhang^Wei||||||||||||V9001\r"
    b"DG1|1||^^^K02^Caries^L|||A\r"
)


def _trace(data: bytes, type_: str) -> dict[str, tuple[str, str]]:
    result = Translator(LIBRARY).translate(data, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    return {
        target: (source, row)
        for one in result.resources
        if one.type == type_
        for target, source, row in one.trace
    }


def test_a_constant_beside_a_value_is_traced_to_its_row_and_segment() -> None:
    patient, encounter = _trace(ADMISSION, "Patient"), _trace(ADMISSION, "Encounter")
    assert patient["Patient.telecom[0].use"] == ("PID[1]", "PID-13")
    assert encounter["Encounter.subject.reference"] == ("PV1[1]", "encounter")
    assert encounter["Encounter.diagnosis[0].condition.reference"] == ("DG1[1]", "condition")


def test_the_trace_follows_what_moves_up_in_a_list() -> None:
    """A second given name without a first, an alternate code without a first one."""
    assert _trace(ADMISSION, "Patient")["Patient.name[0].given[0]"] == ("PID[1]-5[1].3", "XPN-3")
    condition = _trace(ADMISSION, "Condition")
    assert condition["Condition.code.coding[0].code"] == ("DG1[1]-3[1].4", "CWE-4")
    assert "Condition.code.coding[1].code" not in condition


@pytest.mark.parametrize(
    "is_noted",
    [True, False],
)
def test_without_a_note_of_constants_they_have_no_source(
    is_noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_noted:  # the twin
        monkeypatch.setattr(PlaceCode, "_constant", lambda _self, _rest: None)
    assert (_of_message(ADMISSION) == []) is is_noted


def test_twin_a_trace_that_stays_where_it_was_leaves_values_without_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(value_code._NAMES, "close_up", _closed_up_silently)
    assert "Condition.code.coding[0].code" in _of_message(ADMISSION)


def _closed_up_silently(out: dict[str, Any], name: str, _trace: Any, _target: str) -> None:
    out[name] = [item for item in out[name] if item]


@pytest.mark.parametrize("folder", XML_CASES, ids=lambda folder: folder.name)
def test_every_value_of_a_partners_document_has_a_source(folder: pathlib.Path) -> None:
    documents, data = Documents(LIBRARY), (folder / "in.xml").read_bytes()
    name = documents.name_of(data)
    assert name is not None
    read = documents.read(name, data)
    trace = [(f"X.{target}", source, row) for target, source, row in read.trace]
    assert _without_source(read.content, trace, "X") == []
    for one in read.made:
        own = [(f"X{target}", source, row) for target, source, row in one.trace]
        assert _without_source(one.resource, own, "X") == []
