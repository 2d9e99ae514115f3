"""Regular expressions in time linear in the text: RE2, whose syntax has no back-references."""

import functools
import re
from collections.abc import Callable

import re2

from conformance.fhirpath.faults import invalid_use

_MAX_PATTERN = 4096
_MAX_MEMORY = 8 << 20


@functools.lru_cache(maxsize=512)
def compiled(pattern: str) -> "re2.Pattern[str]":
    """Compile a pattern where `.` also matches a line's end, as `matches()` asks.

    Raises InvalidContent on what RE2 cannot promise to run in linear time: look-around,
    back-references, very large repetitions.
    """
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    if len(pattern) <= _MAX_PATTERN:
        try:
            return re2.compile(pattern, options)
        except re2.error:
            pass
    raise invalid_use(
        "The regular expression cannot be used: it is malformed, too large, or uses look-around "
        "or back-references",
        "正则表达式不可用：格式错误、过大，或使用了环视或反向引用",
        fix_en="Use the syntax of https://github.com/google/re2/wiki/Syntax.",
        fix_zh="请使用 https://github.com/google/re2/wiki/Syntax 所列语法。",
    )


# Classes of characters of which only the last may be repeated, at most 999 times: so much work is
# there at each place and no more, also for Python's own engine, whose calls cost a tenth.
_PLAIN = re.compile(r"(?:\[[A-Za-z0-9_-]+\])+(?:\{\d{1,3},\d{1,3}\})?")
# From the beginning of the text to its end, classes so many times each: one place, one way.
_EXACT = re.compile(r"\^((?:\[[A-Za-z0-9_-]+\](?:\{\d{1,3}\})?)+)\$")

# A group that holds one class only says nothing more, and Python's engine is slow to repeat it.
_IDLE_GROUP = re.compile(r"\((\[[A-Za-z0-9_-]+\])\)")


@functools.lru_cache(maxsize=512)
def finder(pattern: str) -> Callable[[str], object]:
    """Return a function that gives None where the pattern matches nowhere in a text."""
    if (exact := _EXACT.fullmatch(pattern)) is not None:
        try:
            return re.compile(exact[1]).fullmatch
        except re.error:
            pass
    bare = _IDLE_GROUP.sub(r"\1", pattern)
    if _PLAIN.fullmatch(bare):
        try:
            return re.compile(bare).search
        except re.error:
            pass
    search: Callable[[str], object] = compiled(pattern).search
    return search


def is_found(pattern: str, text: str) -> bool:
    """Say whether the pattern matches anywhere in the text."""
    return finder(pattern)(text) is not None


def is_whole(pattern: str, text: str) -> bool:
    """Say whether the pattern matches the whole text."""
    return compiled(pattern).fullmatch(text) is not None


def replaced(pattern: str, text: str, substitution: str, limit: int) -> str | None:
    """Replace every match; `$1` and `${name}` in the substitution name groups.

    None when the result would be longer than `limit`.
    """
    expression = compiled(pattern)
    size = len(text)
    parts = _substitution_parts(substitution)
    known = {str(number) for number in range(expression.groups + 1)} | set(expression.groupindex)

    def substitute(match: "re2.Match[str]") -> str:
        nonlocal size
        if size > limit:
            return ""
        new = "".join(
            (_group(match, part) if part in known else "") if is_group else part
            for is_group, part in parts
        )
        size += len(new)
        return new

    result = str(expression.sub(substitute, text))
    return result if size <= limit else None


def _group(match: "re2.Match[str]", name: str) -> str:
    return match.group(int(name) if name.isdigit() else name) or ""


@functools.lru_cache(maxsize=512)
def _substitution_parts(substitution: str) -> tuple[tuple[bool, str], ...]:
    parts: list[tuple[bool, str]] = []
    at = 0
    for match in re2.finditer(r"\\(.)|\$(\d)|\$\{(\w+)\}", substitution):
        parts.append((False, substitution[at : match.start()]))
        escaped, number, name = match.groups()
        parts.append((False, escaped) if escaped is not None else (True, number or name))
        at = match.end()
    parts.append((False, substitution[at:]))
    return tuple(parts)
