"""What callers of the FHIRPath engine rely on: plain values, types, places, ports and limits."""

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import pytest

from conformance import fhirpath
from conformance.fhirpath.patterns import compiled, finder
from conformance.problem import InvalidContent, NotSupported, TooCostly

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "active": True,
    "name": [
        {"use": "official", "family": "测试", "given": ["一", None], "_given": [None, {"id": "x"}]},
        {"use": "nickname", "given": ["小一"]},
    ],
    "_birthDate": {"extension": [{"url": "http://example.com/x", "valueCode": "unknown"}]},
    "managingOrganization": {"reference": "Organization/o1"},
    "contained": [{"resourceType": "Organization", "id": "c", "name": "卫生院"}],
    "generalPractitioner": [{"reference": "#c"}, {"reference": "Practitioner/d"}],
}


def test_values_are_plain_json_and_elements_without_value_are_left_out() -> None:
    assert fhirpath.evaluate("Patient.name.given", PATIENT) == ["一", "小一"]
    assert fhirpath.evaluate("Patient.name.given.count()", PATIENT) == [3]
    assert fhirpath.evaluate("birthDate", PATIENT) == []
    assert fhirpath.evaluate("birthDate.extension.value", PATIENT) == ["unknown"]


def test_values_know_their_types() -> None:
    found = fhirpath.compile("Patient.name.use | Patient.active | 1.5").values(PATIENT)
    assert [value.type for value in found] == ["code", "code", "boolean", "System.Decimal"]


def test_nodes_know_where_they_stand() -> None:
    nodes = fhirpath.compile("Patient.name[1].given").nodes(PATIENT)
    assert nodes[0].place == ("name", 1, "given", 0)


def test_a_decimal_keeps_its_digits() -> None:
    observation = {"resourceType": "Observation", "valueQuantity": {"value": Decimal("1.10")}}
    found = fhirpath.evaluate("Observation.value.value.toString()", observation)
    assert found == ["1.10"]


def test_contained_and_given_resources_are_resolved() -> None:
    known = {"Organization/o1": {"resourceType": "Organization", "id": "o1", "name": "县医院"}}
    expression = "(generalPractitioner | managingOrganization).resolve().name"
    assert fhirpath.evaluate(expression, PATIENT, resolver=known.get) == ["卫生院", "县医院"]
    assert fhirpath.evaluate(expression, PATIENT) == ["卫生院"]


def test_a_date_in_an_inner_union_is_met_once() -> None:
    patient = {"resourceType": "Patient", "birthDate": "1980-02", "name": [{"text": "张"}]}
    found = fhirpath.evaluate("birthDate | (name | birthDate)", patient)
    assert found == ["1980-02", {"text": "张"}]


def test_a_reference_nobody_resolves_is_judged_by_its_text() -> None:
    expression = "generalPractitioner.where(resolve() is Practitioner).reference"
    assert fhirpath.evaluate(expression, PATIENT) == ["Practitioner/d"]


def test_a_bundle_resolves_its_own_entries() -> None:
    bundle = {
        "resourceType": "Bundle",
        "entry": [
            {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "id": "a"}},
            {"resource": {"resourceType": "Observation", "subject": {"reference": "urn:uuid:1"}}},
        ],
    }
    expression = "Bundle.entry.resource.ofType(Observation).subject.resolve().id"
    assert fhirpath.evaluate(expression, bundle) == ["a"]


def test_terminology_is_asked_through_its_port() -> None:
    asked = []

    def member_of(coded: Any, value_set: str) -> bool:
        asked.append((coded, value_set))
        return True

    port = fhirpath.Terminology(member_of=member_of, subsumes=lambda one, other: one == other)
    expression = "Patient.name.use.first().memberOf('http://example.com/vs')"
    assert fhirpath.evaluate(expression, PATIENT, terminology=port) == [True]
    assert asked == [("official", "http://example.com/vs")]
    with pytest.raises(NotSupported):
        fhirpath.evaluate(expression, PATIENT)


def test_variables_are_given_by_name() -> None:
    found = fhirpath.evaluate("%wanted.name & %`a b`", PATIENT, variables={
        "wanted": {"resourceType": "Organization", "name": "甲"}, "a b": "乙",
    })  # fmt: skip
    assert found == ["甲乙"]
    with pytest.raises(InvalidContent, match="variable `%nobody`"):
        fhirpath.evaluate("%nobody", PATIENT)


def test_now_is_one_moment_for_a_whole_evaluation() -> None:
    moment = dt.datetime(2026, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    assert [str(value) for value in fhirpath.evaluate("today()", None, now=moment)] == [
        "2026-02-03"
    ]
    assert fhirpath.evaluate("now() = now()", None) == [True]


@pytest.mark.parametrize(
    ("expression", "place", "expected"),
    [
        ("Patient.name.", "column 14", "expected a value, a name or a function, found the end"),
        ("name.where(use = 'x'", "column 21", "expected `,` or `)`, found the end"),
        ("1 +\n  * 2", "line 2, column 3", "found a symbol `*`"),
        ("'open", "column 1", "expected a closing '"),
        ("a b", "column 3", "expected an operator or the end, found a name `b`"),
        ("@2026-13-01", "column 1", "a date or time that exists"),
        ("a ; b", "column 3", "found `;`"),
    ],
)
def test_a_wrong_expression_is_told_with_its_place(
    expression: str, place: str, expected: str
) -> None:
    with pytest.raises(InvalidContent) as caught:
        fhirpath.compile(expression)
    issue = caught.value.issues[0]
    assert place in issue.text_en
    assert expected in issue.text_en
    assert issue.fix_en
    assert issue.text_zh
    assert issue.line is not None


@pytest.mark.parametrize(
    ("expression", "place", "found"),
    [
        ("name.given.foo()", (1, 12), "no function `foo`"),
        ("name.\n  wher(true)", (2, 3), "no function `wher`"),
        ("name.substring()", (1, 6), "substring() takes 1 to 2 arguments, and 0 are given"),
        ("name.given.single()", (1, 12), "the collection has 3"),
        ("1 + 'a'", (1, 3), "`+` needs operands that fit each other, and found String"),
        ("name.where(use = 'nickname').select(given + 1)", (1, 43), "`+` needs operands"),
        ("name.exists(%nobody)", (1, 13), "no variable `%nobody`"),
        ("'ab'.matches('(?=a)')", (1, 6), "The regular expression cannot be used"),
        ("name is Nothing", (1, 6), "no type `Nothing`"),
    ],
)
def test_what_cannot_be_evaluated_is_told_with_its_place(
    expression: str, place: tuple[int, int], found: str
) -> None:
    with pytest.raises(InvalidContent) as caught:
        fhirpath.evaluate(expression, PATIENT)
    (issue,) = caught.value.issues
    assert found in issue.text_en
    assert issue.text_en.startswith(f"line {place[0]}, column {place[1]}: ")
    assert issue.text_zh.startswith(f"第 {place[0]} 行第 {place[1]} 列：")
    assert (issue.line, issue.column) == place


def test_a_misspelt_function_or_element_is_told_with_the_one_that_is_meant() -> None:
    with pytest.raises(InvalidContent) as caught:
        fhirpath.evaluate("name.wher(true)", PATIENT)
    assert caught.value.issues[0].fix_en == "Did you mean where?"
    with pytest.raises(InvalidContent) as caught:
        fhirpath.evaluate("Patient.nam", PATIENT, strict=True)
    assert caught.value.issues[0].fix_zh == "是否应为 name？"
    assert caught.value.issues[0].column == 9


@pytest.mark.parametrize("expression", ["name.", "a ; b", "1.foo()", "'a' + 1", "name.single()"])
def test_the_chinese_of_a_refusal_has_no_english_words_of_ours(expression: str) -> None:
    with pytest.raises(InvalidContent) as caught:
        fhirpath.evaluate(expression, {**PATIENT, "name": [{}, {}]})
    said = re.sub(
        "`[^`]*`|[a-z]+\\(\\)|FHIRPath|String|Integer", "", caught.value.issues[0].text_zh
    )
    assert re.search("[A-Za-z]{2}", said) is None, said


LONG = {
    "indexes": "name" + "[0]" * 3000,
    "steps": "name" + ".first()" * 2000,
    "filters": "name" + ".where(true)" * 2000,
    "comparisons": "1" + " = 1" * 200,
    "tests of type": "name" + " is HumanName" * 200,
    "negations": "active" + ".not()" * 2000,
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_chain_is_refused_before_it_ends_the_stack(name: str) -> None:
    with pytest.raises(TooCostly, match="nesting"):
        fhirpath.evaluate(LONG[name], PATIENT)


def test_without_its_limit_a_long_chain_ends_the_stack_and_is_still_named() -> None:
    limits = fhirpath.Limits(depth=100_000)
    with pytest.raises(TooCostly, match="nesting") as caught:
        fhirpath.evaluate("1" + " = 1" * 3000, PATIENT, limits=limits)
    assert isinstance(caught.value.__context__, RecursionError)


@pytest.mark.parametrize("escape", ["\\ud83d", "\\ude00", "\\u0000", "\\u001f"])
def test_a_character_no_string_of_r4_has_is_refused(escape: str) -> None:
    with pytest.raises(InvalidContent, match="a character that a string may have"):
        fhirpath.evaluate(f"'{escape}'", None)
    assert fhirpath.evaluate("'\\ud83d\\ude00\\u000a'", None) == ["😀\n"]


def test_a_type_is_told_as_what_it_is() -> None:
    (value,) = fhirpath.compile("Patient.active.type()").values(PATIENT)
    assert (value.type, value.value) == ("System.ClassInfo", "FHIR.boolean")
    (value,) = fhirpath.compile("1.type()").values(PATIENT)
    assert (value.type, value.value) == ("System.SimpleTypeInfo", "System.Integer")


def test_strict_refuses_names_the_type_does_not_have() -> None:
    assert fhirpath.evaluate("Patient.nam", PATIENT) == []
    with pytest.raises(InvalidContent, match="nam"):
        fhirpath.evaluate("Patient.nam", PATIENT, strict=True)


DEEP = "(" * 5000 + "1" + ")" * 5000
HOSTILE = {
    "deep parentheses": DEEP,
    "deep signs": "-" * 5000 + "1",
    "long chain of operators": "+".join(["1"] * 20_000),
    "too many characters": "a" * 100_000,
    "doubling strings": "(1|2|3|4|5|6|7|8|9).select(1|2|3|4|5|6|7|8|9).aggregate($total & $total, "
    "'xxxxxxxxxxxxxxxxxxxx')" + ".select($this & $this)" * 40,
    "growing lists": "(1|2|3|4|5|6|7|8|9)" + ".select($this | $this + 1000 | $this + 2000 |"
    " $this.combine($this).combine($this))" * 80,
    "endless repeat": "1.repeat($this + 1)",
    "many descendants": "Patient.descendants().select(%context.descendants())"
    ".select(%context.descendants()).select(%context.descendants()).count()",
    "long replace": "'aaaaaaaaaa'" + ".replace('a', 'aaaaaaaaaa')" * 10,
    "long encode": "'aaaaaaaaaa'" + ".encode('hex')" * 40,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_expression_is_refused_within_its_limits(name: str) -> None:
    with pytest.raises(TooCostly):
        fhirpath.evaluate(HOSTILE[name], PATIENT)


def test_without_its_limit_the_endless_repeat_goes_on() -> None:
    limits = fhirpath.Limits(items=5_000_000, steps=200_000)
    with pytest.raises(TooCostly, match="steps"):
        fhirpath.evaluate("1.repeat($this + 1)", None, limits=limits)


def test_the_deepest_lawful_expression_fits_into_a_deep_stack() -> None:
    expression = "iif(true, " * 60 + "1" + ")" * 60

    def deeper(levels: int) -> list[Any]:
        return deeper(levels - 1) if levels else fhirpath.evaluate(expression, None)

    assert deeper(300) == [1]
    assert fhirpath.evaluate(" + ".join(["1"] * 200), None) == [200]


def test_a_long_list_of_alternatives_is_no_deep_tree() -> None:
    expression = " | ".join(str(number) for number in range(2000))
    assert len(fhirpath.evaluate(expression, None)) == 2000
    assert fhirpath.evaluate(" and ".join(["true"] * 2000), None) == [True]


def test_a_catastrophic_pattern_runs_in_linear_time() -> None:
    text = "a" * 50_000 + "b"
    assert fhirpath.evaluate("%text.matches('^(a+)+$')", None, variables={"text": text}) == [False]


@pytest.mark.parametrize("pattern", ["(?=a)b", "(a)\\\\1", "(", "a{100000}"])
def test_a_pattern_without_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidContent, match="regular expression"):
        fhirpath.evaluate(f"'ab'.matches('{pattern}')", None)


def test_huge_numbers_overflow_to_empty() -> None:
    assert fhirpath.evaluate("10.power(1000000)", None) == []
    assert fhirpath.evaluate("9000000000000000000 * 9000000000000000000", None) == []
    assert fhirpath.evaluate("1000000.exp()", None) == []
    assert fhirpath.evaluate("'1' .toInteger()", None) == [1]


def test_messages_carry_no_patient_values() -> None:
    with pytest.raises(InvalidContent) as caught:
        fhirpath.evaluate("Patient.name + 1", {**PATIENT, "name": [{"family": "秘密"}]})
    assert "秘密" not in str(caught.value)


def test_an_element_knows_what_r4_says_of_it() -> None:
    patient = {"resourceType": "Patient", "gender": "male", "deceasedBoolean": False}

    def found(expression: str) -> list[Any]:
        return fhirpath.evaluate(expression, patient)

    assert found("gender.elementDefinition().path") == ["Patient.gender"]
    assert found("gender.elementDefinition().binding.strength") == ["required"]
    assert found("deceased.elementDefinition().type.code") == ["boolean", "dateTime"]
    assert found("Patient.elementDefinition().id") == ["Patient"]
    assert found("Patient.elementDefinition().constraint.key contains 'dom-2'") == [True]
    assert found("('x').elementDefinition()") == []


def test_a_modifier_extension_that_is_not_named_stops_the_evaluation() -> None:
    known = {"url": "http://example.org/known", "valueBoolean": True}
    patient = {"resourceType": "Patient", "modifierExtension": [known], "active": True}
    expression = "Patient.checkModifiers('http://example.org/known').active"
    assert fhirpath.evaluate(expression, patient) == [True]
    both = "Patient.checkModifiers('http://example.org/a, http://example.org/known').active"
    assert fhirpath.evaluate(both, patient) == [True]
    with pytest.raises(InvalidContent):
        fhirpath.evaluate("Patient.checkModifiers('http://example.org/a').active", patient)
    with pytest.raises(InvalidContent):
        fhirpath.evaluate("Patient.checkModifiers().active", patient)


def test_a_slice_needs_the_profile_that_defines_it() -> None:
    with pytest.raises(NotSupported):
        fhirpath.evaluate("name.slice('http://example.org/p', 's')", PATIENT)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("9223372036854775807 + 1", []),
        ("9223372036854775806 + 1", [2**63 - 1]),
        ("-9223372036854775807 - 2", []),
        ("4611686018427387904 * 2", []),
        ("2 * 3 - 7", [-1]),
        ("1 + 1.5", [Decimal("2.5")]),
        ("{} + 1", []),
        ("'999999999999999999'.toInteger()", [10**18 - 1]),
        ("'9223372036854775808'.toInteger()", []),
        ("'٣'.toInteger()", []),
        ("'+007'.toInteger()", [7]),
        ("''.toInteger()", []),
    ],
)
def test_integers_are_calculated_within_their_bounds(expression: str, result: list[Any]) -> None:
    assert fhirpath.evaluate(expression, {}) == result


def test_a_boolean_is_no_integer_to_calculate_with() -> None:
    with pytest.raises(InvalidContent):
        fhirpath.evaluate("true + 1", {})


EXACT = ("^[0-9]{3}$", "^[0-9]{17}[0-9Xx]$", "^[A-Z][a-z_-]{0}[0-9]$", "^[9-0]$", "^[a]{999}$")
TEXTS = ("", "123", "123\n", "\n123", "1234", "12٣", "A1", "a1", "11010519491231002X", "a" * 999)


@pytest.mark.parametrize("pattern", EXACT)
def test_an_exact_pattern_means_what_re2_takes_it_for(pattern: str) -> None:
    try:
        slow = compiled(pattern)
    except InvalidContent:
        with pytest.raises(InvalidContent):
            finder(pattern)
        return
    for text in TEXTS:
        assert (finder(pattern)(text) is None) == (slow.search(text) is None), text
