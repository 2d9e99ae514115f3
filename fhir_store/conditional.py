"""Conditional interactions: criteria as text, the key that makes two writers wait, the matches.

Two requests with the same criteria take the same advisory lock in the transaction that searches
and writes, so the second one searches after the first has committed and finds its resource.
http://hl7.org/fhir/R4/http.html#ccreate
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote

from psycopg import AsyncConnection

from conformance.problem import DuplicateFound, InvalidContent, Issue
from fhir_store.digests import lock_number

Match = Callable[[AsyncConnection[Any], str, str, int], Awaitable[Sequence[str]]]
"""(connection, type, criteria, limit) -> ids that match, at most `limit`; given by the search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """A search that must name one resource; `text` is normalised, so equal wishes are equal."""

    type: str
    text: str
    identifier: tuple[str, str] | None = None  # (system, value) where that is all it asks

    @property
    def lock_key(self) -> int:
        """Return the advisory lock that everybody with these criteria takes."""
        return lock_number("criteria", self.type, self.text)


def identifier_criteria(type_: str, system: str, value: str) -> Criteria:
    """Return the criteria that name a resource by one identifier."""
    text = f"identifier={_quoted_system(system)}%7C{_quoted(value)}"
    return Criteria(type=type_, text=text, identifier=(system, value))


def parse_criteria(type_: str, query: str) -> Criteria:
    """Read `identifier=…&…`, with or without `Type?`; order and percent-coding do not matter."""
    own, mark, rest = query.partition("?")
    if mark and own not in ("", type_):
        raise InvalidContent(_wrong_type(own, type_))
    parameters = parse_qsl(rest if mark else query, keep_blank_values=True)
    wanted = sorted((name, value) for name, value in parameters if not name.startswith("_format"))
    if any(not value for _, value in wanted):
        raise InvalidContent(_EMPTY_VALUE)
    if not wanted:
        raise InvalidContent(NO_CRITERIA)
    if len(wanted) == 1 and wanted[0][0] == "identifier" and (one := _identifier(wanted[0][1])):
        return identifier_criteria(type_, *one)
    text = "&".join(f"{quote(name, safe=':')}={quote(value, safe='')}" for name, value in wanted)
    return Criteria(type=type_, text=text)


def require_one(criteria: Criteria, found: Sequence[str]) -> str | None:
    """Return the only match or None; more than one is refused with 412."""
    if len(found) > 1:
        raise DuplicateFound(
            Issue(
                code="multiple-matches",
                key="multiple-matches",
                text_en=f"More than one {criteria.type} matches the condition",
                text_zh=f"有多个 {criteria.type} 符合条件",
                fix_en="Add parameters until one resource matches, or merge the duplicates first.",
                fix_zh="请补充条件使其只匹配一个资源，或先合并重复资源。",
            )
        )
    return found[0] if found else None


def _identifier(value: str) -> tuple[str, str] | None:
    """Return (system, value) of a token `system|value` or `|value`, None for any other form."""
    if "," in value or "\\" in value or value.count("|") != 1:
        return None
    system, _, code = value.partition("|")
    return (system, code) if code else None


def _quoted(text: str) -> str:
    # Most numbers need neither a backslash nor a percent sign.
    return text if text.isascii() and text.isalnum() else quote(_escape(text), safe="")


@lru_cache(maxsize=4096)
def _quoted_system(system: str) -> str:
    return _quoted(system)


def _escape(text: str) -> str:
    for special in "\\,|$":
        text = text.replace(special, "\\" + special)
    return text


def _wrong_type(own: str, type_: str) -> Issue:
    return Issue(
        key="criteria-type",
        text_en=f"The condition asks for {own}, the request is about {type_}",
        text_zh=f"条件针对 {own}，而请求针对 {type_}",
        fix_en=f"Write the condition as a search of {type_}.",
        fix_zh=f"请将条件写成对 {type_} 的检索。",
    )


_EMPTY_VALUE = Issue(
    key="criteria-value-empty",
    text_en="A parameter of the condition has no value",
    text_zh="条件中有参数没有取值",
    fix_en="Give each parameter a value, or leave it out where the rest is meant without it.",
    fix_zh="请为每个参数给出取值；若确实不需要该参数，请去掉。",
)
NO_CRITERIA = Issue(
    key="criteria-empty",
    text_en="The condition names no search parameter",
    text_zh="条件中没有检索参数",
    fix_en="Give at least one parameter, for example identifier=system|value.",
    fix_zh="请至少给出一个参数，例如 identifier=system|value。",
)
