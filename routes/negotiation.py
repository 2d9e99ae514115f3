"""Which representation a request is written in and asks for; http.html#mime-type."""

import functools
from collections.abc import Sequence
from enum import StrEnum

from conformance.problem import Issue, NotSupported


class Format(StrEnum):
    """The two representations of a resource."""

    JSON = "json"
    XML = "xml"


class NotAcceptable(NotSupported):
    """None of the representations asked for exists here; answer 406."""


class UnsupportedMediaType(NotSupported):
    """The body is in a representation that is not read here; answer 415."""


_FORMATS = {
    "json": Format.JSON,
    "application/json": Format.JSON,
    "application/fhir+json": Format.JSON,
    "application/json+fhir": Format.JSON,
    "text/json": Format.JSON,
    "xml": Format.XML,
    "application/xml": Format.XML,
    "application/fhir+xml": Format.XML,
    "application/xml+fhir": Format.XML,
    "text/xml": Format.XML,
    # A person with a browser; the answer is JSON.
    "text/html": Format.JSON,
    "html": Format.JSON,
    "*/*": Format.JSON,
    "application/*": Format.JSON,
    "text/*": Format.JSON,
}
_VERSIONS = frozenset({"4.0", "4.0.1"})
CONTENT_TYPE = {
    Format.JSON: b"application/fhir+json; charset=utf-8",
    Format.XML: b"application/fhir+xml; charset=utf-8",
}


@functools.lru_cache(maxsize=1024)
def format_of_answer(format_parameter: str | None, accept: str) -> Format:
    """Return the representation to answer in: `_format` rules over Accept."""
    if format_parameter is not None:
        # A `+` in a URL that nobody escaped arrives as a space.
        found = _format_of(format_parameter.strip().replace(" ", "+"))
        if found is None:
            raise NotAcceptable(_not_acceptable("_format"))
        return found
    wanted = [_weighted(item) for item in accept.split(",") if item.strip()]
    if not wanted:
        return Format.JSON
    for _, media_type in sorted(wanted, key=lambda part: -part[0]):
        found = _format_of(media_type)
        if found is not None:
            return found
    raise NotAcceptable(_not_acceptable("Accept"))


def media_types_in(accept: str) -> list[str]:
    """Return the media types of an Accept header, bare, the most wanted first."""
    weighted = [_weighted(item) for item in accept.split(",") if item.strip()]
    ordered = sorted(weighted, key=lambda part: -part[0])
    return [_split(item)[0] for weight, item in ordered if weight > 0]


def is_of_fhir(media_type: str, *, as_answer: bool = False) -> bool:
    """Say whether a body of the type is a resource, or `as_answer` one fits who accepts it."""
    name = media_type_of(media_type)
    return name in _FORMATS and (as_answer or ("html" not in name and "*" not in name))


def not_acceptable() -> NotAcceptable:
    """Return the refusal of an Accept header that nothing here fits."""
    return NotAcceptable(_not_acceptable("Accept"))


@functools.lru_cache(maxsize=256)
def format_of_body(content_type: str) -> Format:
    """Return the representation of a resource body; raise UnsupportedMediaType (415)."""
    name, parameters = _split(content_type)
    found = Format.JSON if not name else _FORMATS.get(name)
    charset = parameters.get("charset", "utf-8").lower()
    readable = name not in {"text/html", "html"} and "*" not in name
    version = parameters.get("fhirversion", "4.0")
    if (
        found is None
        or not readable
        or charset not in {"utf-8", "utf8"}
        or version not in _VERSIONS
    ):
        raise unsupported_media_type("application/fhir+json", "application/fhir+xml")
    return found


def media_type_of(content_type: str) -> str:
    """Return the bare media type in lower case."""
    return _split(content_type)[0]


def unsupported_media_type(*readable: str) -> UnsupportedMediaType:
    """Return the refusal of a body whose Content-Type is not among `readable`."""
    names = ", ".join(readable)
    return UnsupportedMediaType(
        Issue(
            code="not-supported",
            key="media-type",
            text_en="The Content-Type of the body is not read here.",
            text_zh="不支持该请求体的 Content-Type。",
            fix_en=f"Send one of {names}, in UTF-8, FHIR version 4.0.",
            fix_zh=f"请使用 {names} 之一，UTF-8 编码，FHIR 4.0 版。",
            expression="http.Content-Type",
        )
    )


def _not_acceptable(where: str) -> Issue:
    return Issue(
        code="not-supported",
        key="not-acceptable",
        text_en=f"{where} asks for a representation that does not exist here.",
        text_zh=f"{where} 要求的表示格式不存在。",
        fix_en="Ask for application/fhir+json or application/fhir+xml.",
        fix_zh="请使用 application/fhir+json 或 application/fhir+xml。",
        expression=f"http.{where}",
    )


@functools.lru_cache(maxsize=256)
def takes_gzip(accept_encoding: bytes) -> bool:
    """Say whether an Accept-Encoding admits gzip; `gzip;q=0` does not (RFC 9110, 12.5.3)."""
    weights = {
        name: parameters.get("q", "1")
        for name, parameters in map(_split, accept_encoding.decode("latin-1").split(","))
    }
    asked = weights.get("gzip", weights.get("x-gzip", weights.get("*", "0")))
    return _weighted(f"gzip;q={asked}")[0] > 0


def _format_of(media_type: str) -> Format | None:
    name, parameters = _split(media_type)
    if parameters.get("fhirversion", "4.0") not in _VERSIONS:
        return None
    return _FORMATS.get(name)


def _weighted(item: str) -> tuple[float, str]:
    _, parameters = _split(item)
    try:
        weight = float(parameters.get("q", "1"))
    except ValueError:
        weight = 0.0
    return (weight, item) if weight > 0 else (0.0, "nothing")


def _split(value: str) -> tuple[str, dict[str, str]]:
    name, *rest = value.split(";")
    return name.strip().lower(), dict(_parameters(rest))


def _parameters(parts: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for part in parts:
        key, _, text = part.partition("=")
        found.append((key.strip().lower(), text.strip().strip('"')))
    return found
