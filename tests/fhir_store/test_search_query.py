"""What a search says about parameters it cannot take."""

import pytest

from conformance.problem import InvalidContent, UnknownParameter
from fhir_store.search.query import (
    MAX_DEPTH,
    ChainTest,
    HasTest,
    NotOf,
    QueryRules,
    ValueTest,
    conditions_in,
    parse_query,
)
from fhir_store.search.value_parser import split_escaped, unescape
from fhir_store.search.values import QuantityValue, TokenValue

WRONG = {
    "nonsense=1": (UnknownParameter, "search-unknown-parameter"),
    "gender:exact=male": (UnknownParameter, "search-unknown-modifier"),
    "name:not=x": (UnknownParameter, "search-unknown-modifier"),
    "birthdate:contains=1": (UnknownParameter, "search-unknown-modifier"),
    "birthdate=13-01-2020": (InvalidContent, "search-date-form"),
    "birthdate=2020-02-30": (InvalidContent, "search-date-form"),
    "_lastUpdated=xx2020": (InvalidContent, "search-date-form"),
    "name=": (InvalidContent, "search-empty-value"),
    "name=a,,b": (InvalidContent, "search-empty-value"),
    "identifier=a|b|c": (InvalidContent, "search-token-form"),
    "identifier=|": (InvalidContent, "search-token-form"),
    "identifier:of-type=a|b": (InvalidContent, "search-of-type-form"),
    "active:missing=maybe": (InvalidContent, "search-missing-form"),
    "name.family=x": (UnknownParameter, "search-chain-no-reference"),
    "organization.nonsense=x": (UnknownParameter, "search-unknown-parameter"),
    "organization:Patient.name=x": (UnknownParameter, "search-unknown-modifier"),
    "_has:Observation:patient=x": (InvalidContent, "search-has-form"),
    "_has:Nonsense:patient:code=x": (UnknownParameter, "search-unknown-type"),
    "_has:Observation:code:code=x": (UnknownParameter, "search-chain-no-reference"),
    "_count=-1": (InvalidContent, "search-count-form"),
    "_count=x": (InvalidContent, "search-count-form"),
    "_total=some": (InvalidContent, "search-choice"),
    "_summary=all": (InvalidContent, "search-choice"),
    "_sort=nonsense": (UnknownParameter, "search-unknown-parameter"),
    "_sort=name,gender,birthdate,active": (InvalidContent, "search-sort-keys"),
    "_include=Patient": (InvalidContent, "search-include-form"),
    "_include=Patient:nonsense": (UnknownParameter, "search-unknown-parameter"),
    "_include=Nonsense:name": (UnknownParameter, "search-unknown-type"),
    "_include:forever=Patient:organization": (UnknownParameter, "search-unknown-modifier"),
    "_contained=true": (UnknownParameter, "search-contained"),
    "_contained=both": (UnknownParameter, "search-contained"),
    "_containedType=contained": (UnknownParameter, "search-contained"),
    "_contained=maybe": (InvalidContent, "search-choice"),
    "_containedType=true": (InvalidContent, "search-choice"),
    "_filter:not=name eq x": (UnknownParameter, "search-unknown-modifier"),
    "_sort:desc=name": (UnknownParameter, "search-unknown-modifier"),
    "_count:exact=1": (UnknownParameter, "search-unknown-modifier"),
    "_sort=": (InvalidContent, "search-empty-value"),
    "_query=x": (UnknownParameter, "search-unknown-parameter"),
    "_filter=name xx y": (UnknownParameter, "search-filter-operator"),
    '_filter=name co "x': (InvalidContent, "search-filter-form"),
    "_filter=(name co x": (InvalidContent, "search-filter-form"),
}


def parse(text, type_="Patient", **rules):
    name, _, value = text.partition("=")
    return parse_query(type_, [(name, value)], QueryRules(**rules))


@pytest.mark.parametrize("text", sorted(WRONG))
def test_a_wrong_parameter_is_named_with_reason_and_fix(text):
    kind, key = WRONG[text]
    with pytest.raises(kind) as refusal:
        parse(text)
    (issue,) = refusal.value.issues
    assert issue.key == key
    assert issue.expression.startswith("http.")
    assert issue.fix_en
    assert issue.fix_zh


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("value-quantity=5.4|mg", "search-quantity-form"),
        ("value-quantity=abc", "search-number-form"),
        ("value-quantity=1e999999", "search-number-form"),
        ("value-quantity=NaN", "search-number-form"),
        ("code-value-quantity=a", "search-composite-form"),
        ("code-value-quantity=$5", "search-empty-value"),
        ("code-value-quantity=a$", "search-empty-value"),
        ("_list=$current-problems", "search-functional-list"),
    ],
)
def test_a_wrong_observation_value_is_refused(text, key):
    with pytest.raises(InvalidContent) as refusal:
        parse(text, "Observation")
    assert refusal.value.issues[0].key == key


@pytest.mark.parametrize(
    "text",
    ["", "x", "|", "39.9", "39.9|", "91|0", "0|181|1", "0|0|-1", "0|0|1|parsec", "0|0|1|km|"],
)
def test_a_place_that_is_none_is_refused(text):
    with pytest.raises(InvalidContent) as refusal:
        parse(f"near={text}", "Location")
    assert refusal.value.issues[0].key in {"search-near-form", "search-empty-value"}


def test_a_refusal_never_repeats_the_value():
    with pytest.raises(InvalidContent) as refusal:
        parse("birthdate=SECRET")
    assert "SECRET" not in str(refusal.value)


def test_lenient_handling_leaves_unknown_parameters_out_and_says_so():
    pairs = [("nonsense", "1"), ("gender", "male")]
    query = parse_query("Patient", pairs, QueryRules(is_lenient=True))
    assert query.pairs == (("gender", "male"),)
    assert [issue.severity for issue in query.warnings] == ["warning"]
    with pytest.raises(UnknownParameter):
        parse_query("Patient", pairs, QueryRules())


def test_a_wrong_value_is_refused_even_leniently():
    with pytest.raises(InvalidContent):
        parse("birthdate=x", is_lenient=True)


def test_escapes_keep_separators_in_values():
    assert [unescape(part) for part in split_escaped(r"a\,b,c\|d,e\\", ",")] == [
        "a,b",
        "c|d",
        "e\\",
    ]
    query = parse(r"identifier=urn:a|x\|y\,z")
    assert query.conditions[0].values == (TokenValue("urn:a", "x|y,z"),)


def test_negations_chains_and_reverse_chains_are_read_at_any_depth():
    assert isinstance(parse("gender:not=male").conditions[0], NotOf)
    name = "_has:Observation:patient:_has:Provenance:target:agent:Practitioner.name"
    condition = parse(f"{name}=x").conditions[0]
    kinds = [type(inner) for inner in conditions_in(condition)]
    assert kinds == [HasTest, HasTest, ChainTest, ValueTest]


def test_a_chain_deeper_than_the_limit_is_refused():
    chain = "partof." * (MAX_DEPTH + 1) + "name"
    with pytest.raises(InvalidContent) as refusal:
        parse(f"{chain}=x", "Organization")
    assert refusal.value.issues[0].key == "search-too-deep"


def test_a_chain_without_type_goes_to_every_type_that_has_the_parameter():
    chain = parse("subject.name=x", "Observation").conditions[0]
    assert [type_ for type_, _ in chain.targets] == ["Device", "Patient", "Location"] or {
        type_ for type_, _ in chain.targets
    } == {"Patient", "Location"}


def test_a_number_carries_its_precision():
    value = parse("value-quantity=5.40", "Observation").conditions[0].values[0]
    assert isinstance(value, QuantityValue)
    assert str(value.number.low) == "5.395"
    assert str(value.number.high) == "5.405"


def test_count_is_cut_to_the_limit_and_summary_count_asks_for_the_total_only():
    assert parse("_count=5000", max_count=100).count == 100
    query = parse("_summary=count")
    assert (query.count, query.total) == (0, "accurate")


def test_a_system_search_takes_what_all_its_types_have():
    query = parse_query(None, [("_type", "Patient,Observation"), ("identifier", "x")])
    assert query.types == ("Patient", "Observation")
    with pytest.raises(UnknownParameter):
        parse_query(None, [("_type", "Patient,Observation"), ("birthdate", "2020")])
