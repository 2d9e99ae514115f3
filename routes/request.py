"""A FHIR request as the interactions see it: address, parameters, wishes and caller."""

import functools
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from conformance.problem import InvalidStructure, Issue, UnknownParameter
from conformance.summary import is_element_of
from routes.bearer import ANYBODY, Caller
from routes.limits import Limits
from routes.negotiation import Format, format_of_answer
from routes.preferences import Preferences, parse_prefer
from routes.statuses import AddressTooLong, too_long

SummaryMode = Literal["true", "text", "data", "count"]
Pairs = tuple[tuple[str, str], ...]

_REQUEST_ID = re.compile(r"[A-Za-z0-9\-._]{1,64}")
_SUMMARY_MODES = frozenset({"true", "text", "data", "count", "false"})


class Address(Struct, frozen=True, kw_only=True):
    """What a path below the base names; `shape` is the pattern, such as `type/id/_history`."""

    shape: str
    type: str = ""
    id: str = ""
    version: str = ""
    operation: str = ""
    member: str = ""  # the type searched in a compartment, or `*`


class Shape(Struct, frozen=True, kw_only=True):
    """How the client wants the resource written: representation, spaces, and which part of it."""

    format: Format = Format.JSON
    is_pretty: bool = False
    summary: SummaryMode | None = None
    elements: frozenset[str] = frozenset()

    @property
    def is_partial(self) -> bool:
        """Say whether elements are left out."""
        return self.summary in {"true", "text", "data"} or bool(self.elements)


_NO_PREFERENCES = Preferences()


class Request(Struct, frozen=True, kw_only=True):
    """One request below the FHIR base; a Struct, because every request makes one.

    `asked` holds the pairs of the URL, `query` those that `shape` has not taken; `headers` are in
    lower case; `base` is the address of the FHIR base without a slash at the end. An entry of a
    Bundle brings its `resource` or `patch` read already.
    """

    method: str
    address: Address
    query: Pairs = ()
    asked: Pairs = ()
    headers: Mapping[bytes, bytes] = {}
    body: bytes = b""
    resource: dict[str, Any] | None = None
    patch: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None
    shape: Shape = Shape()
    prefer: Preferences = _NO_PREFERENCES
    caller: Caller = ANYBODY
    base: str = ""
    request_id: str = ""

    def header(self, name: bytes) -> str | None:
        """Return a header as text, if it was sent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def parse_query(query: bytes, limits: Limits) -> Pairs:
    """Return the pairs of a query or form; raise AddressTooLong (414) or InvalidStructure."""
    if not query:
        return ()
    if len(query) > limits.query_bytes:
        raise AddressTooLong(
            *too_long("The query", "查询串", f"{limits.query_bytes} bytes", "http.query").issues
        )
    return _parse_pairs(query, limits.query_parameters)


def parse_form(body: bytes, limits: Limits) -> Pairs:
    """Return the pairs of an `application/x-www-form-urlencoded` body."""
    return _parse_pairs(body, limits.query_parameters) if body else ()


@functools.lru_cache(maxsize=2048)
def _parse_pairs(query: bytes, most: int) -> Pairs:
    try:
        pairs = urllib.parse.parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=most
        )
    except ValueError as error:
        raise _unreadable_query() from error
    if any("\x00" in name or "\x00" in value for name, value in pairs):
        raise _unreadable_query()
    return tuple(pairs)


@functools.lru_cache(maxsize=512)  # links and audit write the same query
def written_query(pairs: Pairs) -> str:
    """Return the pairs as the query of a URL."""
    return urllib.parse.urlencode(pairs)


def _unreadable_query() -> InvalidStructure:
    return InvalidStructure(
        Issue(
            code="structure",
            key="query",
            text_en="The query cannot be read: too many parameters, or not UTF-8.",
            text_zh="查询串无法读取：参数过多，或不是 UTF-8 编码。",
            fix_en="Percent-encode every name and value as UTF-8, without NUL, 200 pairs at most.",
            fix_zh="请将每个名称和值按 UTF-8 进行百分号编码，不含 NUL，最多 200 对。",
            expression="http.query",
        )
    )


def take_shape(query: Pairs, accept: str, type_: str, *, is_lenient: bool) -> tuple[Shape, Pairs]:
    """Split what concerns the answer's shape from the rest of the query."""
    if not any(name[:1] == "_" for name, _ in query):
        return _plain_shape(accept), query
    values: dict[str, str] = {}
    rest: list[tuple[str, str]] = []
    for name, value in query:
        if name in {"_format", "_pretty", "_summary", "_elements"}:
            values[name] = f"{values[name]},{value}" if name in values else value
        else:
            rest.append((name, value))
    if not values:
        return _plain_shape(accept), query
    summary = _summary_mode(values.get("_summary"), is_lenient=is_lenient)
    shape = Shape(
        format=format_of_answer(values.get("_format"), accept),
        is_pretty=values.get("_pretty") == "true",
        summary=summary,
        elements=_elements(values.get("_elements"), type_, is_lenient=is_lenient),
    )
    if shape.summary is not None and shape.elements and not is_lenient:
        raise _bad_value("_elements", "Send either _summary or _elements.", "请只用其中之一。")
    return shape, tuple(rest)


@functools.lru_cache(maxsize=1024)
def _plain_shape(accept: str) -> Shape:
    return Shape(format=format_of_answer(None, accept))


def _summary_mode(value: str | None, *, is_lenient: bool) -> SummaryMode | None:
    if value is None or value == "false":
        return None
    if value not in _SUMMARY_MODES:
        if is_lenient:
            return None
        raise _bad_value(
            "_summary",
            "Use true, text, data, count or false.",
            "可用 true、text、data、count、false。",
        )
    return value  # type: ignore[return-value]


def _elements(value: str | None, type_: str, *, is_lenient: bool) -> frozenset[str]:
    names = frozenset(name.strip() for name in (value or "").split(",") if name.strip())
    if not names or not type_:
        return names
    bare = frozenset(name.removeprefix(f"{type_}.") for name in names)
    if not is_lenient and not all(is_element_of(type_, name) for name in bare):
        raise _bad_value(
            "_elements", "Name elements at the root of the type.", "请使用该类型根一级的元素名。"
        )
    return bare


def _bad_value(parameter: str, fix_en: str, fix_zh: str) -> UnknownParameter:
    return UnknownParameter(
        Issue(
            code="value",
            key="parameter-value",
            text_en=f"The value of {parameter} is not allowed.",
            text_zh=f"{parameter} 的取值不允许。",
            fix_en=fix_en,
            fix_zh=fix_zh,
            expression=f"http.{parameter}",
        )
    )


def preferences_of(headers: Mapping[bytes, bytes]) -> Preferences:
    """Return what the Prefer header says."""
    header = headers.get(b"prefer")
    return _NO_PREFERENCES if header is None else parse_prefer(header.decode("latin-1"))


def request_id_of(headers: Mapping[bytes, bytes], made: str) -> str:
    """Return the caller's X-Request-Id if it is harmless, else the one made here."""
    sent = headers.get(b"x-request-id", b"").decode("latin-1")
    return sent if _REQUEST_ID.fullmatch(sent) else made
