import json
from decimal import Decimal

import pytest

from conformance import search_parameters, ucum
from conformance.date_ranges import range_of
from conformance.fhirpath import evaluate
from conformance.index_choice import choose
from conformance.index_values import extract, extract_stored
from conformance.search_parameters import UNINDEXED, parameters_of, resource_types
from conformance.search_paths import NotSimple, parse
from conformance.text_folding import fold, sounds_of

# Places whose datatype R4's own parameter type has no reading for (search.html tables).
WITHOUT_READING = {
    ("CarePlan", "activity-date", "string"),
    ("Consent", "source-reference", "Attachment"),
    ("Immunization", "date", "string"),
    ("Procedure", "date", "string"),
    ("Procedure", "date", "Age"),
    ("Procedure", "date", "Range"),
}


def test_every_r4_parameter_of_every_type_is_compiled_without_the_fhirpath_engine():
    interpreted = {
        (type_, code)
        for type_ in resource_types()
        for code, parameter in parameters_of(type_).items()
        if parameter.places is None or not (parameter.places or code in UNINDEXED)
    }
    # The first is written by hand (`exists() and … != false`); the others are ours, not R4's.
    ours = {("Consent", "denies"), ("Consent", "denied-actor"), ("Task", "due-team")}
    assert interpreted == {("Patient", "deceased")} | ours


def test_every_datatype_a_parameter_meets_has_a_reading():
    missing = {
        (type_, code, place.datatype)
        for type_ in resource_types()
        for code, parameter in parameters_of(type_).items()
        for place in parameter.places or ()
        if parameter.type != "composite" and choose(parameter, place) is None
    }
    assert missing == WITHOUT_READING


def test_parameter_numbers_are_unique_and_do_not_move():
    numbers = [p.number for t in resource_types() for p in parameters_of(t).values()]
    assert len(numbers) == len(set(numbers))
    assert parameters_of("Patient")["identifier"].number == 421913
    assert parameters_of("Observation")["code"].number == 393228
    assert search_parameters.type_number("Account") == 1


def test_parameters_that_are_unions_or_limits_of_others_share_their_rows():
    observation = parameters_of("Observation")
    assert observation["combo-code"].stored_as == ("code", "component-code")
    assert observation["patient"].stored_as == ("subject",)
    assert observation["patient"].targets == ("Patient",)
    assert observation["combo-code-value-quantity"].stored_as == (
        "code-value-quantity",
        "component-code-value-quantity",
    )
    assert observation["code"].stored_as == ()


def test_a_patient_gives_the_values_of_its_parameters():
    values = extract(
        {
            "resourceType": "Patient",
            "identifier": [
                {
                    "system": "urn:a",
                    "value": "X1",
                    "type": {"coding": [{"system": "t", "code": "MR"}]},
                }
            ],
            "active": True,
            "name": [{"family": "张", "given": ["伟"]}],
            "telecom": [{"system": "phone", "value": "(010) 555-1234"}],
            "gender": "female",
            "birthDate": "1990-02",
            "managingOrganization": {"reference": "Organization/1/_history/3"},
        }
    )
    assert values["identifier"] == [("urn:a", "X1", "", (("t", "MR"),))]
    assert values["active"] == [("", "true", "", ())]
    assert values["gender"] == [("http://hl7.org/fhir/administrative-gender", "female", "", ())]
    assert values["phone"] == values["telecom"] == [("", "0105551234", "", ())]
    assert values["name"] == ["张", "伟"]
    assert values["name-pinyin"] == ["zhangwei", "zw", "wei", "w"]
    assert values["birthdate"] == [range_of("1990-02")]
    assert values["organization"] == [("literal", "Organization", "1")]
    assert values["deceased"] == [("", "false", "", ())]
    assert "email" not in values


def test_choice_elements_and_composites_follow_the_type_written():
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "l", "code": "c"}], "text": "Heart rate"},
        "subject": {"reference": "Group/g"},
        "valueQuantity": {"value": Decimal("5.40"), "code": "mg", "system": ucum.SYSTEM},
    }
    values = extract(observation)
    quantity = (Decimal("5.40"), Decimal("5.40"), ucum.SYSTEM, "mg", "")
    assert values["value-quantity"] == values["combo-value-quantity"] == [quantity]
    assert values["code"] == [("l", "c", "", ()), ("", None, "Heart rate", ())]
    assert values["code-value-quantity"] == [([("l", "c", "", ())], [quantity])]
    assert values["subject"] == [("literal", "Group", "g")]
    assert "patient" not in values
    assert "value-concept" not in values


def test_periods_timings_and_comparators_are_open_where_they_say_nothing():
    period = extract({"resourceType": "Encounter", "period": {"start": "2020-01-01"}})["date"]
    assert period[0][0] == range_of("2020-01-01")[0]
    assert period[0][1] > range_of("9999")[1]
    below = extract(
        {"resourceType": "Observation", "valueQuantity": {"value": 3, "comparator": "<"}}
    )
    assert below["value-quantity"] == [(None, Decimal(3), "", "", "")]


def test_every_official_example_is_extracted(shared_data):
    count = 0
    for path in sorted((shared_data / "r4-examples").rglob("*.json")):
        extract(json.loads(path.read_bytes()))
        count += 1
    assert count > 700


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2020", "2020-01-01T00:00:00+08:00", "2020-12-31T23:59:59.999999+08:00"),
        ("2020-02", "2020-02-01T00:00:00+08:00", "2020-02-29T23:59:59.999999+08:00"),
        ("2020-02-03", "2020-02-03T00:00:00+08:00", "2020-02-03T23:59:59.999999+08:00"),
        ("2020-02-03T10:00Z", "2020-02-03T10:00:00Z", "2020-02-03T10:00:59.999999Z"),
        ("2020-02-03T10:00:00.5Z", "2020-02-03T10:00:00.500000Z", "2020-02-03T10:00:00.599999Z"),
    ],
)
def test_a_partial_date_covers_all_its_moments(text, first, last):
    assert range_of(text) == (range_of(first)[0], range_of(last)[0])


def test_a_date_without_zone_is_read_in_the_zone_given():
    assert (
        range_of("2020-01-01", "UTC")[0] - range_of("2020-01-01", "Asia/Shanghai")[0] == 8 * 3600e6
    )


@pytest.mark.parametrize(
    "text", ["2020-13", "2020-02-30", "20-01-01", "2020-01-01T25:00Z", "", "x"]
)
def test_what_is_no_date_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        range_of(text)


def test_text_is_folded_over_case_accents_and_full_width_forms():
    assert fold("Ünïcödé  ＡＢＣ　１２３\n") == "unicode abc 123"
    assert fold("Straße") == fold("STRASSE")


def test_chinese_names_sound_as_typed_with_the_surname_read_as_a_surname():
    assert sounds_of("张伟") == ("zhangwei", "zw")
    assert sounds_of("单雄信") == ("shanxiongxin", "sxx")
    assert sounds_of("尉迟恭") == ("yuchigong", "ycg")
    assert sounds_of("John") == ()


def test_units_of_one_dimension_become_comparable():
    milligram, gram = ucum.canonical("mg"), ucum.canonical("g")
    assert milligram is not None
    assert gram is not None
    assert milligram[0] == gram[0]
    assert milligram[1] * 1000 == gram[1]
    assert ucum.canonical("10*9/L") == ucum.canonical("10*3/uL")
    assert ucum.canonical("Cel") is None
    assert ucum.canonical("nonsense") is None


@pytest.mark.parametrize("expression", ["a.b(", "a.descendants()", "a = b", "", "a.where(b > 1)"])
def test_an_expression_beyond_the_subset_says_so(expression):
    with pytest.raises(NotSimple):
        parse(expression)


@pytest.mark.parametrize("status", ["requested", "on-hold", "completed", "draft"])
@pytest.mark.parametrize("owner", [{}, {"owner": {"reference": "CareTeam/t1"}}])
@pytest.mark.parametrize(
    "restriction",
    [{}, {"restriction": {"period": {"end": "2026-05-31"}}},
     {"restriction": {"period": {"end": "2026-05-31T10:00:00+08:00"}}},
     {"restriction": {"period": {"start": "2026-05-31"}}}],
)  # fmt: skip
def test_due_team_is_what_its_expression_says(status, owner, restriction):
    task = {"resourceType": "Task", "status": status, "intent": "order", **owner, **restriction}
    expression = parameters_of("Task")["due-team"].expression
    by_engine = [("", value, "", ()) for value in evaluate(expression, task)]
    assert extract_stored(task).get("due-team", []) == by_engine
