"""Whatever is written as an expression ends in a value or a refusal we can name."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance import fhirpath
from conformance.problem import Issue, Problem

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "active": True,
    "birthDate": "1980-02",
    "name": [{"family": "甲", "given": ["乙", "丙"]}],
    "multipleBirthInteger": 2,
    "extension": [{"url": "u", "valueQuantity": {"value": 1.5, "unit": "kg"}}],
}
LIMITS = fhirpath.Limits(steps=20_000, items=2_000, text=10_000)
WORDS = (
    "name given family birthDate active multipleBirth extension value Patient $this $index $total "
    "%context %resource %ucum %x true false {} 1 0 -1 2.50 'a' '' '甲' 'u' @2020 @2020-02-30 "
    "@2020-02-03T10:00 @T10:00 1 'kg' 3 days 1 year . ( ) [ ] , + - * / div mod & | = != ~ !~ < "
    "> <= >= in contains and or xor implies is as ofType(Quantity) where select repeat all "
    "exists() empty() count() first() last() tail() skip(1) take(1) distinct() children() "
    "descendants() toString() toInteger() toDecimal() toQuantity() matches('a+') replace('a','b') "
    "substring(1) iif( aggregate( sort( lowBoundary() highBoundary() type() resolve() not() "
    "extension('u') union( combine( intersect( exclude( subsetOf( power(2) sqrt() round(1)"
)
TOKENS = st.sampled_from(WORDS.split(" "))
EXPRESSIONS = st.lists(TOKENS, max_size=14).map(" ".join)
PATHS = st.lists(TOKENS, min_size=1, max_size=6).map(".".join)
LEAVES = st.sampled_from(["name", "1", "'a'", "active", "birthDate", "2.5", "{}", "3 days"])
OPERATORS = st.sampled_from(
    ["+", "-", "*", "/", "&", "|", "=", "~", "<", ">=", "in", "and", "or", "xor", "implies", "mod"]
)


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, OPERATORS, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, st.sampled_from(["count()", "first()", "toString()", "not()"])).map(
            lambda t: f"{t[0]}.{t[1]}"
        ),
        st.tuples(inner, inner).map(lambda t: f"{t[0]}.where({t[1]})"),
        st.tuples(inner, inner).map(lambda t: f"{t[0]}.select({t[1]})"),
        st.tuples(inner, inner, inner).map(lambda t: f"iif({t[0]}, {t[1]}, {t[2]})"),
    )


TREES = st.recursive(LEAVES, nested, max_leaves=12)


def judge(expression: str) -> None:
    found, issues = outcome_of(expression)
    assert (found is None) is bool(issues)
    assert all(issue.text_en and issue.text_zh for issue in issues)


def outcome_of(expression: str) -> tuple[list[Any] | None, tuple[Issue, ...]]:
    try:
        return fhirpath.evaluate(expression, PATIENT, limits=LIMITS), ()
    except Problem as problem:
        return None, problem.issues


QUICK = settings(max_examples=150, deadline=None)
LONG = settings(max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(st.one_of(EXPRESSIONS, PATHS, TREES, st.text(max_size=40)))
def test_any_text_ends_in_a_value_or_a_named_refusal(expression: str) -> None:
    judge(expression)


@pytest.mark.slow
@LONG
@given(st.one_of(EXPRESSIONS, PATHS, TREES, st.text(max_size=200)))
def test_many_texts_end_in_a_value_or_a_named_refusal(expression: str) -> None:
    judge(expression)


@QUICK
@given(TREES)
def test_the_short_way_and_the_engine_agree(expression: str) -> None:
    compare(expression)


@pytest.mark.slow
@LONG
@given(TREES)
def test_the_short_way_and_the_engine_agree_for_long(expression: str) -> None:
    compare(expression)


def compare(expression: str) -> None:
    compiled = fhirpath.compile(expression, limits=LIMITS)
    try:
        nodes = compiled.nodes(PATIENT)
    except Problem:
        return
    plain = [one.value if isinstance(one, fhirpath.Node) else one for one in nodes]
    assert compiled.evaluate(PATIENT) == [value for value in plain if value is not None]
