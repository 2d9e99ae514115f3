"""Formats, preferences and conditions of a request."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from conformance.problem import InvalidContent
from fhir_store.operations import ANY_VERSION
from routes.negotiation import (
    Format,
    NotAcceptable,
    UnsupportedMediaType,
    format_of_answer,
    format_of_body,
)
from routes.preferences import (
    etag_matches,
    http_date,
    is_unmodified_since,
    parse_if_match,
    parse_prefer,
)


@pytest.mark.parametrize(
    ("parameter", "accept", "expected"),
    [
        (None, "", Format.JSON),
        (None, "*/*", Format.JSON),
        (None, "application/fhir+xml", Format.XML),
        (None, "application/fhir+xml;q=0.1, application/fhir+json", Format.JSON),
        (None, "application/pdf, text/xml", Format.XML),
        (None, "application/fhir+json; fhirVersion=4.0", Format.JSON),
        ("xml", "application/fhir+json", Format.XML),
        ("application/fhir xml", "", Format.XML),
        ("text/xml", "", Format.XML),
    ],
)
def test_the_answer_is_in_the_format_asked_for(
    parameter: str | None, accept: str, expected: Format
) -> None:
    assert format_of_answer(parameter, accept) is expected


@pytest.mark.parametrize(
    ("parameter", "accept"),
    [
        ("turtle", ""),
        (None, "application/pdf"),
        (None, "application/fhir+json; fhirVersion=3.0"),
        (None, "application/fhir+json;q=0"),
    ],
)
def test_a_format_that_does_not_exist_is_said(parameter: str | None, accept: str) -> None:
    with pytest.raises(NotAcceptable):
        format_of_answer(parameter, accept)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/pdf",
        "application/fhir+json; charset=gb18030",
        "text/html",
        "*/*",
        "json; a=b, c",
        "application/fhir+json; fhirVersion=5.0",
    ],
)
def test_a_body_in_another_format_is_refused(content_type: str) -> None:
    if content_type.startswith("json"):
        assert format_of_body(content_type) is Format.JSON
        return
    with pytest.raises(UnsupportedMediaType):
        format_of_body(content_type)


def test_preferences_are_read_and_unknown_ones_ignored() -> None:
    read = parse_prefer('respond-async, return=minimal; handling="lenient", wait=3')
    assert (read.return_, read.is_lenient, read.is_async) == ("minimal", True, True)
    assert parse_prefer("return=everything").return_ is None


@pytest.mark.parametrize(
    ("header", "version"), [('W/"3"', 3), ('"12"', 12), (' W/"3" ', 3), ("*", ANY_VERSION)]
)
def test_if_match_names_a_version(header: str, version: int) -> None:
    assert parse_if_match(header) == version


@pytest.mark.parametrize("header", ["3", 'W/"a"', 'W/"1", W/"2"', ""])
def test_if_match_that_names_no_version_is_refused(header: str) -> None:
    with pytest.raises(InvalidContent):
        parse_if_match(header)


def test_dates_are_those_of_http_in_every_month_and_zone() -> None:
    shanghai = timezone(timedelta(hours=8))
    for days in range(0, 800, 13):
        moment = datetime(2026, 1, 1, 3, 4, 5, 999_999, tzinfo=shanghai) + timedelta(days=days)
        expected = format_datetime(moment.astimezone(UTC), usegmt=True)
        assert http_date(moment).decode() == expected


def test_conditions_of_a_read() -> None:
    moment = datetime(2026, 3, 1, 8, 0, 0, 900_000, tzinfo=UTC)
    assert etag_matches('W/"2", W/"3"', 3)
    assert not etag_matches('W/"33"', 3)
    assert is_unmodified_since(http_date(moment).decode(), moment)
    assert not is_unmodified_since("Sun, 01 Mar 2026 07:59:59 GMT", moment)
    assert not is_unmodified_since("yesterday", moment)
