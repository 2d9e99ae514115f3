"""ADT messages become resources with identity, order key, merge and trace."""

import pathlib

import pytest

from conformance import resource_json
from conformance.structure import check
from mappings.channels.profile import HEALTH_CARD, NATIONAL_ID, ChannelProfile
from mappings.engine.library import load
from mappings.hl7.message import parse, parse_location
from mappings.put_back import PutBack
from mappings.translate import Translator
from mappings.translated import Match, TranslatedMessage, Unmapped

CHANNEL = ChannelProfile()
ADMISSION = (
    "MSH|^~\\&|HIS|H1|HUB|Q|20260501083000||ADT^A01^ADT_A01|M1|P|2.5.1||||||GB18030\r"
    "EVN|A01|20260501083000\r"
    "PID|1||7001^^^H1^MR~999001199001011239^^^^NNCHN~H5501^^^^HC||李^雷||19900101|M|||"
    "幸福路1号^^苏州市^江苏省^215000^CHN||13800000000^PRN^CP\r"
    "NK1|1|韩^梅梅|SPO^Spouse^HL70063||13900000000\r"
    "PV1|1|I|W3^301^02^H1||||D01^张^伟||||||||||||V9001" + "|" * 25 + "20260501080000\r"
    "AL1|1|DA|PEN^青霉素^L|SV|皮疹|20200101\r"
    "IN1|1|P1^城乡居民医保|C1|医保局||||||||20260101|20261231\r"
).encode("gb18030")


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator(load())


def _of(result: TranslatedMessage | Unmapped, type_: str) -> list[dict]:
    assert isinstance(result, TranslatedMessage)
    return [dict(made.resource) for made in result.resources if made.type == type_]


def test_an_admission_becomes_a_patient_known_by_its_three_numbers(translator: Translator) -> None:
    result = translator.translate(ADMISSION, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    patient = next(made for made in result.resources if made.type == "Patient")
    assert patient.match is Match.MERGE
    assert patient.identity == (
        ("https://fhir.qiao.example/cphc/sid/H1", "7001"),
        (NATIONAL_ID, "999001199001011239"),
        (HEALTH_CARD, "H5501"),
    )
    resource = patient.resource
    assert resource["name"] == [{"family": "李", "given": ["雷"]}]
    assert resource["gender"] == "male"
    assert resource["birthDate"] == "1990-01-01"
    assert resource["address"][0]["city"] == "苏州市"
    assert resource["telecom"] == [{"system": "phone", "use": "home", "value": "13800000000"}]


def test_an_admission_becomes_encounter_relative_allergy_and_coverage(
    translator: Translator,
) -> None:
    result = translator.translate(ADMISSION, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    patient = next(made for made in result.resources if made.type == "Patient")
    about = {"reference": f"urn:uuid:{patient.key}"}
    (encounter,) = _of(result, "Encounter")
    assert encounter["status"] == "in-progress"
    assert encounter["class"]["code"] == "IMP"
    assert encounter["subject"] == about
    assert encounter["period"] == {"start": "2026-05-01T08:00:00+08:00"}
    assert encounter["identifier"][0]["value"] == "V9001"
    (relative,) = _of(result, "RelatedPerson")
    assert relative["patient"] == about
    assert relative["relationship"][0]["coding"][0]["code"] == "SPS"
    (allergy,) = _of(result, "AllergyIntolerance")
    assert allergy["code"]["coding"][0]["code"] == "PEN"
    assert allergy["criticality"] == "high"
    assert allergy["patient"] == about
    (coverage,) = _of(result, "Coverage")
    assert coverage["beneficiary"] == about
    names = {place["name"] for place in _of(result, "Location")}
    assert names == {"W3", "301", "02", "H1"}
    (doctor,) = _of(result, "Practitioner")
    assert doctor["name"] == [{"family": "张", "given": ["伟"]}]


def test_every_reference_points_into_the_message(translator: Translator) -> None:
    result = translator.translate(ADMISSION, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    keys = {f"urn:uuid:{made.key}" for made in result.resources}

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["reference"]] if isinstance(value.get("reference"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        if isinstance(value, list):
            return [found for item in value for found in references(item)]
        return []

    found = [ref for made in result.resources for ref in references(made.resource)]
    assert found
    assert set(found) <= keys


def test_the_same_message_makes_the_same_keys(translator: Translator) -> None:
    first = translator.translate(ADMISSION, CHANNEL)
    second = translator.translate(ADMISSION.replace(b"|M1|", b"|M2|"), CHANNEL)
    assert isinstance(first, TranslatedMessage)
    assert isinstance(second, TranslatedMessage)
    known = [made.key for made in first.resources if made.identity]
    assert len(known) >= 10
    assert known == [made.key for made in second.resources if made.identity]
    # What has no identity of its own (the header) is new with each message.
    keys = {made.key for made in second.resources}
    assert not any(made.key in keys for made in first.resources if not made.identity)


def test_every_traced_source_exists_in_the_message(translator: Translator) -> None:
    result = translator.translate(ADMISSION, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    message = parse(ADMISSION)
    entries = [entry for made in result.resources for entry in made.trace]
    assert len(entries) > 50
    for target, source, row in entries:
        place = parse_location(source)
        assert place is not None, source
        assert any(
            segment.name == place.segment and segment.sequence == place.sequence
            for segment in message.segments
        )
        assert target[0].isupper()
        assert row
    assert ("Patient.name[0].family", "PID[1]-5[1].1", "XPN-1") in entries


def test_the_order_key_is_the_first_identifier_with_its_authority(translator: Translator) -> None:
    result = translator.translate(ADMISSION, CHANNEL)
    assert result.order_keys == ("7001^H1",)


def test_a_merge_names_the_surviving_and_the_prior_record(translator: Translator) -> None:
    message = (
        b"MSH|^~\\&|HIS|H1|HUB|Q|20260501083000||ADT^A40^ADT_A39|M3|P|2.5.1\r"
        b"EVN|A40|20260501083000\rPID|1||7001^^^H1^MR||Li^Lei\rMRG|6999^^^H1^MR\r"
    )
    result = translator.translate(message, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    (merge,) = result.merges
    assert merge.surviving == (("https://fhir.qiao.example/cphc/sid/H1", "7001"),)
    assert merge.prior == (("https://fhir.qiao.example/cphc/sid/H1", "6999"),)
    assert result.order_keys == ("7001^H1", "6999^H1")


def test_an_event_without_a_map_is_unmapped(translator: Translator) -> None:
    message = b"MSH|^~\\&|HIS|H1|HUB|Q|1||ZZZ^Z99|M4|P|2.5.1\rPID|1||7^^^H1\r"
    result = translator.translate(message, ChannelProfile(order=("PID-3",)))
    assert result == Unmapped(event="ZZZ^Z99", control_id="M4", order_keys=("7^H1",))


def test_a_code_that_must_be_known_is_held(translator: Translator) -> None:
    message = ADMISSION.replace(b"19900101|M|", b"19900101|Q|")
    result = translator.translate(message, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    (held,) = result.held
    assert (held.table, held.code, held.row) == ("AdministrativeSex", "Q", "PID-8")
    assert held.source == "PID[1]-8[1]"


def test_an_unreadable_value_is_noted_and_the_rest_goes_on(translator: Translator) -> None:
    message = ADMISSION.replace(b"19900101|M|", b"19901301|M|")
    result = translator.translate(message, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    (note,) = result.notes
    assert note.expression == "PID[1]-7[1]"
    assert "month" in note.text_en
    assert "19901301" not in note.text_en
    (patient,) = _of(result, "Patient")
    assert "birthDate" not in patient


# The sender gives two OBX the same observation instance id (OBX-21): one Observation with a value
# and components of the same code, which R4 refuses.
ONE_ID_FOR_TWO_RESULTS = {
    (f"{name}.hl7", "obs-7") for name in ("OUL-R22-02", "OUL-R23-01", "OUL-R23-02", "OUL-R24-01")
}


def test_every_resource_of_the_shared_messages_passes_base_validation(
    translator: Translator, shared_data: pathlib.Path
) -> None:
    unmapped, made = [], 0
    for file in sorted((shared_data / "hl7v2-messages" / "messages").glob("*.hl7")):
        result = translator.translate(file.read_bytes(), CHANNEL)
        if isinstance(result, Unmapped):
            unmapped.append(result.event)
            continue
        assert result.held == (), file.name
        for one in result.resources:
            made += 1
            assert resource_json.dump(one.resource)
            wrong = [
                issue
                for issue in check(one.resource)
                if issue.severity in {"error", "fatal"}
                and (file.name, issue.key) not in ONE_ID_FOR_TWO_RESULTS
            ]
            assert wrong == [], (file.name, one.type)
    assert unmapped == ["PPR^PC1", "PPR^PC3", "PPR^PC2"]
    assert made > 5000


def test_results_hang_together(translator: Translator) -> None:
    message = (
        b"MSH|^~\\&|LIS|H1|HUB|Q|20260501083000||ORU^R01|M5|P|2.5.1\rPID|1||7001^^^H1^MR||Li^Lei\r"
        b"ORC|RE|P1|F1\rOBR|1|P1|F1|24323-8^Panel^LN|||20260501080000||||||||||||||||||F\r"
        b"OBX|1|NM|2345-7^Glucose^LN||5.60|mmol/L^mmol/L^UCUM|3.9-6.1|N|||F\rNTE|1||fasting\r"
        b"OBX|2|CWE|883-9^ABO^LN||A^Type A^L||||||F\r"
        b"OBX|3|SN|x^y^L||>^100|g|||||P\r"
        b"OBX|4|NM|z^z^L||1~2||||||F\r"
        b"OBX|5|FT|n^note^L||one~two||||||F\r"
        b"OBR|2|P1|F2|58410-2^CBC^LN" + b"|" * 21 + b"C\r"
        b"OBX|1|ST|6690-2^WBC^LN||many||||||F\r"
    )
    result = translator.translate(message, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    reports = _of(result, "DiagnosticReport")
    assert [report["status"] for report in reports] == ["final", "corrected"]
    assert [len(report["result"]) for report in reports] == [5, 1]
    values = {one["code"]["coding"][0]["code"]: one for one in _of(result, "Observation")}
    assert str(values["2345-7"]["valueQuantity"]["value"]) == "5.60"
    assert values["2345-7"]["valueQuantity"]["system"] == "http://unitsofmeasure.org"
    assert values["2345-7"]["note"] == [{"text": "fasting"}]
    assert values["2345-7"]["interpretation"][0]["coding"][0]["code"] == "N"
    assert values["883-9"]["valueCodeableConcept"]["coding"][0]["code"] == "A"
    assert values["x"]["valueQuantity"]["comparator"] == ">"
    assert values["x"]["status"] == "preliminary"
    assert len(values["z"]["component"]) == 2
    assert values["n"]["valueString"] == "one\ntwo"
    assert values["6690-2"]["valueString"] == "many"
    assert len(_of(result, "ServiceRequest")) == 2


def test_an_embedded_document_becomes_a_document_reference(translator: Translator) -> None:
    message = (
        b"MSH|^~\\&|EMR|H1|HUB|Q|20260501083000||MDM^T02|M6|P|2.5.1\rPID|1||7001^^^H1^MR||Li^Lei\r"
        b"TXA|1|DS^Summary^L|TX|20260501|||||D1^Zhang^Wei|||DOC9^H1|||||LA\r"
        b"OBX|1|ED|x^Summary^L||^application^pdf^Base64^JVBERi0=||||||F\r"
    )
    result = translator.translate(message, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    first, second = _of(result, "DocumentReference")
    assert first["masterIdentifier"]["value"] == "DOC9"
    assert first["docStatus"] == "final"
    attachment = second["content"][0]["attachment"]
    assert attachment == {"contentType": "application/pdf", "data": "JVBERi0="}


TWICE = (
    "MSH|^~\\&|LIS|H1|HUB|Q|20260501083000||ORU^R01|M1|P|2.5.1\r"
    "PID|1||7^^^H1^MR||Li^Lei||19900101|M\rOBR|1|O1|F1|a^A^L\r"
    "PID|2||8^^^H2^MR~7^^^H1^MR||Li^Lei|||||||||139\rOBR|1|O2|F2|a^A^L\r"
    "PID|3||9^^^H3^MR~8^^^H2^MR||Li^Lei\rOBR|1|O3|F3|a^A^L\r"
)


def test_a_patient_named_again_keeps_the_numbers_of_each_time(translator: Translator) -> None:
    result = translator.translate(TWICE.encode(), CHANNEL)
    assert isinstance(result, TranslatedMessage)
    (patient,) = (made for made in result.resources if made.type == "Patient")
    systems = [f"https://fhir.qiao.example/cphc/sid/H{number}" for number in (1, 2, 3)]
    numbers = list(zip(systems, "789", strict=True))
    assert list(patient.identity) == numbers
    identifiers = patient.resource["identifier"]
    assert [(one["system"], one["value"]) for one in identifiers] == numbers
    # The trace names each number where it stands now.
    sources = {source: target for target, source, _ in patient.trace if ".value" in target}
    assert sources["PID[1]-3[1].1"] == sources["PID[2]-3[2].1"] == "Patient.identifier[0].value"
    assert sources["PID[2]-3[1].1"] == sources["PID[3]-3[2].1"] == "Patient.identifier[1].value"
    assert sources["PID[3]-3[1].1"] == "Patient.identifier[2].value"


def test_patients_without_a_common_number_stay_two(translator: Translator) -> None:
    apart = TWICE.replace("~7^^^H1^MR", "").replace("~8^^^H2^MR", "")
    patients = _of(translator.translate(apart.encode(), CHANNEL), "Patient")
    assert [one["identifier"][0]["value"] for one in patients] == ["7", "8", "9"]


@pytest.mark.parametrize(
    ("field", "codings", "text"),
    [
        ("M^Married^HL70002^1^Wed^L^^^newly married", ["M", "1"], "newly married"),
        ("M^Married^HL70002", ["M"], None),
    ],
)
def test_alternate_codes_stand_behind_the_tables_own_and_return(
    field: str, codings: list[str], text: str | None
) -> None:
    data = (
        "MSH|^~\\&|HIS|H1|HUB|Q|20260501||ADT^A01|M1|P|2.5.1\r"
        f"PID|1||7^^^H1||Li^Lei|||||||||||{field}\r"
    ).encode()
    library = load()
    result = Translator(library).translate(data, ChannelProfile())
    assert isinstance(result, TranslatedMessage)
    (patient,) = (one for one in result.resources if one.type == "Patient")
    said = patient.resource["maritalStatus"]
    assert [one["code"] for one in said["coding"]] == codings
    assert said.get("text") == text
    made = dict(PutBack(library).rebuild(result.resources))
    again, wanted = made["PID[1]"]["PID", 16].split("^"), field.split("^")
    assert [again[0], *again[3:]] == [wanted[0], *wanted[3:]]
