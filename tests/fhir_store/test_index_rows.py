from decimal import Decimal

from conformance.resource_json import dump
from conformance.search_parameters import parameters_of
from fhir_store import index_rows
from fhir_store.index_parts import place_of
from fhir_store.index_rows import rows_of
from fhir_store.keys import TEXT_SID, key_of, resource_key, system_number

PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [
        {"system": "urn:a", "value": "aB1", "type": {"coding": [{"system": "t", "code": "MR"}]}}
    ],
    "gender": "female",
    "name": [{"family": "Müller", "given": ["Ann", "Ann"]}],
    "managingOrganization": {"reference": "Organization/1"},
}


def test_rows_are_hashed_as_a_search_seeks_them():
    rows = rows_of(PATIENT)
    number = {code: parameter.number for code, parameter in parameters_of("Patient").items()}
    sid = system_number("urn:a")
    assert (key_of(number["identifier"], "c", "aB1"), sid) in rows.tokens
    assert (key_of(number["identifier"], "s", "urn:a"), sid) in rows.tokens
    assert (key_of(number["identifier"], "o", "MR", "aB1"), system_number("t")) in rows.tokens
    assert (resource_key("Organization", "1"), number["organization"]) in rows.references
    assert "muller" in {v for h, v, _ in rows.strings if h == key_of(number["family"], "v")}
    assert parameters_of("Patient")["gender"].ordinal in rows.present
    assert parameters_of("Patient")["birthdate"].ordinal not in rows.present


def test_identifiers_keep_their_case_and_are_not_listed_in_the_dictionary():
    rows = rows_of(PATIENT)
    identifier = parameters_of("Patient")["identifier"].number
    assert (key_of(identifier, "c", "ab1"), system_number("urn:a")) not in rows.tokens
    assert not [code for code in rows.codes if code[0] == identifier]


def test_codes_in_use_and_their_texts_are_told_to_the_dictionary():
    observation = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "urn:l", "code": "C-1", "display": "Heart Rate"}]},
    }
    rows = rows_of(observation)
    code = parameters_of("Observation")["code"].number
    assert (code, system_number("urn:l"), "c-1", "Heart Rate") in rows.codes
    assert (code, TEXT_SID, "heart rate", "") in rows.codes
    assert (system_number("urn:l"), "urn:l") in rows.systems


def test_a_quantity_is_found_without_unit_by_unit_and_in_another_unit_of_its_dimension():
    def rows(value, unit):
        quantity = {"value": Decimal(value), "code": unit, "system": "http://unitsofmeasure.org"}
        return set(rows_of({"resourceType": "Observation", "valueQuantity": quantity}).numbers)

    shared = rows("5400", "mg") & rows("5.4", "g")
    assert len(shared) == 1
    assert len(rows("5400", "mg")) == 3


def test_parameters_stored_as_others_add_no_rows_but_are_present():
    plain = {"resourceType": "Observation", "subject": {"reference": "Patient/1"}}
    rows = rows_of(plain)
    parameters = parameters_of("Observation")
    assert [pid for _, pid in rows.references] == [parameters["subject"].number]
    assert {parameters["patient"].ordinal, parameters["subject"].ordinal} <= set(rows.present)


def test_a_reference_below_our_own_base_is_a_local_one():
    reference = {"reference": "https://hub.example/fhir/Patient/1"}
    resource = {"resourceType": "Observation", "subject": reference}
    [(own, _)] = rows_of(resource, base_url="https://hub.example/fhir").references
    assert own == resource_key("Patient", "1")
    [(other, _)] = rows_of(resource).references
    assert other != resource_key("Patient", "1")


def test_a_type_unknown_to_r4_has_no_rows():
    rows = rows_of({"resourceType": "Nonsense", "id": "1"})
    assert rows.tokens == rows.strings == rows.present == set()


def observation(contained):
    return {
        "resourceType": "Observation",
        "contained": [{"resourceType": contained, "id": "a"}],
        "subject": {"reference": "#a"},
    }


def is_of_a_patient(resource):
    return parameters_of("Observation")["patient"].ordinal in rows_of(resource).present


def test_what_a_contained_resource_decides_is_not_remembered():
    assert is_of_a_patient(observation("Patient"))
    assert not is_of_a_patient(observation("Group"))


def test_remembered_rows_of_such_a_reference_would_be_those_of_another(monkeypatch):
    """The twin of the test above."""
    monkeypatch.setattr(
        index_rows, "place_of", lambda type_, name, value: (type_, name, dump(value))
    )
    assert is_of_a_patient(observation("Patient"))
    assert is_of_a_patient(observation("Group"))


def test_remembered_rows_are_those_of_the_first_time_and_nobody_changes_them():
    names = [{"family": "Qiao", "given": ["Bridge"]}]
    first = rows_of({"resourceType": "Patient", "name": names})
    rows_of({"resourceType": "Patient", "name": names, "address": [{"city": "X"}]})
    assert rows_of({"resourceType": "Patient", "name": names}) == first
    assert rows_of({"resourceType": "Practitioner", "name": names}) != first


def test_long_members_and_those_of_one_resource_alone_are_not_remembered():
    assert place_of("Patient", "gender", "male")
    assert not place_of("Patient", "identifier", [{"value": "1"}])
    assert not place_of("Encounter", "subject", {"reference": "Patient/1"})
    assert not place_of("Patient", "name", [{"text": "x" * 300}])
