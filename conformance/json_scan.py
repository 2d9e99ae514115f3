"""Reading JSON token by token: where each element stands, and what exactly is wrong with a text.

Slow beside a parser in C and exact; used to explain a refusal and to find lines and columns.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

_TOKEN = re.compile(
    rb'[ \t\r\n]*(?:("[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*")'
    rb"|([{}\[\]:,])|([^\s{}\[\]:,\"]+))",
    re.DOTALL,
)
_UNICODE_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERALS = {b"true", b"false", b"null"}
# No clinical number has more digits; arithmetic on longer ones is how servers are stalled.
NUMBER_LENGTH = 256
NUMBER_EXPONENT = 400


class Finding(NamedTuple):
    """What is wrong with a JSON text; `offset` counts bytes, `path` is a FHIRPath."""

    key: str
    offset: int
    path: str


class Token(NamedTuple):
    """One token with its place: kind is string, mark or word."""

    kind: str
    text: bytes
    offset: int


class _Frame:
    """An open object or array, and where we are in it."""

    __slots__ = ("index", "is_array", "keys", "name", "path")

    def __init__(self, *, is_array: bool, path: str) -> None:
        self.is_array = is_array
        self.path = path
        self.index = 0
        self.name: str | None = None
        self.keys: set[str] = set()

    def inner_path(self) -> str:
        """Return the path of the value that comes next."""
        if self.is_array:
            return f"{self.path}[{self.index}]"
        name = (self.name or "").removeprefix("_")
        return f"{self.path}.{name}" if self.path else name


def _tokens(data: bytes) -> Iterator[Token]:
    position = 0
    while match := _TOKEN.match(data, position):
        kind = ("string", "mark", "word")[(match.lastindex or 1) - 1]
        yield Token(kind, match[match.lastindex or 1], match.start(match.lastindex or 1))
        position = match.end()
    if data[position:].strip(b" \t\r\n"):
        rest = position + len(data[position:]) - len(data[position:].lstrip(b" \t\r\n"))
        yield Token("broken", b"", rest)


def line_and_column(data: bytes, offset: int) -> tuple[int, int]:
    """Return the place of a byte, both counted from 1, columns in characters."""
    start = data.rfind(b"\n", 0, offset) + 1
    column = len(data[start:offset].decode("utf-8", "replace")) + 1
    return data.count(b"\n", 0, offset) + 1, column


def positions(data: bytes) -> Mapping[str, tuple[int, int]]:
    """Return path → line and column of every element of a well-formed JSON text.

    Paths are written `name[0].given[1]` without the type in front; `_birthDate` counts as
    `birthDate`. A member stands where its name begins, a list item where it begins.
    """
    found: dict[str, int] = {}
    for path, offset in _places(data):
        found.setdefault(path, offset)
    places: dict[str, tuple[int, int]] = {}
    line, start, position = 1, 0, 0
    for path, offset in sorted(found.items(), key=lambda item: item[1]):
        newlines = data.count(b"\n", position, offset)
        if newlines:
            line += newlines
            start = data.rfind(b"\n", position, offset) + 1
        position = offset
        places[path] = (line, len(data[start:offset].decode("utf-8", "replace")) + 1)
    return places


def _places(data: bytes) -> Iterator[tuple[str, int]]:
    stack: list[_Frame] = []
    key_offset = 0
    for token in _tokens(data):
        frame = stack[-1] if stack else None
        if token.text in {b"}", b"]"} and token.kind == "mark":
            stack.pop()
        elif token.text == b"," and token.kind == "mark" and frame:
            frame.index += 1
            frame.name = None
        elif token.text == b":" and token.kind == "mark":
            continue
        elif frame and not frame.is_array and frame.name is None:
            frame.name = token.text[1:-1].decode("utf-8", "replace")
            key_offset = token.offset
        else:
            path = frame.inner_path() if frame else ""
            yield path, token.offset if frame is None or frame.is_array else key_offset
            if token.kind == "mark":
                stack.append(_Frame(is_array=token.text == b"[", path=path))


def find_fault(data: bytes, max_depth: int) -> Finding | None:
    """Return the first thing that is wrong with a JSON text, or None.

    keys: json-depth, json-duplicate-key, json-surrogate, json-null-character, json-number,
    json-syntax.
    """
    stack: list[_Frame] = []
    expected = "value"
    token = Token("broken", b"", 0)
    for token in _tokens(data):
        frame = stack[-1] if stack else None
        path = frame.inner_path() if frame else ""
        if expected == "end" or token.kind == "broken":
            return Finding("json-syntax", token.offset, path)
        if token.kind == "string" and (key := _fault_in_string(token.text)):
            return Finding(key, token.offset, path)
        if expected in {"name", "name or }"} and frame and token.kind == "string":
            frame.name = _unescaped(token.text)
            if frame.name in frame.keys:
                return Finding("json-duplicate-key", token.offset, frame.inner_path())
            frame.keys.add(frame.name)
            expected = ":"
            continue
        following = _next_state(stack, token, expected, max_depth)
        if following.startswith("json-"):
            return Finding(following, token.offset, path)
        expected = following
    return None if expected == "end" else Finding("json-syntax", token.offset, "")


def _next_state(stack: list[_Frame], token: Token, expected: str, max_depth: int) -> str:
    """Apply a token that is not a member's name; return what may follow, or a fault's key."""
    frame = stack[-1] if stack else None
    mark = token.text if token.kind == "mark" else b""
    if expected.startswith("value") and mark in {b"{", b"["}:
        if len(stack) == max_depth:
            return "json-depth"
        stack.append(_Frame(is_array=mark == b"[", path=frame.inner_path() if frame else ""))
        return "name or }" if mark == b"{" else "value or ]"
    closing = b"]" if frame and frame.is_array else b"}"
    if mark == closing and frame and expected in {"name or }", "value or ]", "more"}:
        stack.pop()
        return "more" if stack else "end"
    if mark == b"," and frame and expected == "more":
        frame.index += 1
        return "value" if frame.is_array else "name"
    if mark == b":" and expected == ":":
        return "value"
    if mark or not expected.startswith("value"):
        return "json-syntax"
    if token.kind == "word" and token.text not in _LITERALS:
        if not _NUMBER.fullmatch(token.text):
            return "json-syntax"
        if not _is_readable_number(token.text):
            return "json-number"
    return "more" if stack else "end"


def _is_readable_number(text: bytes) -> bool:
    if len(text) > NUMBER_LENGTH:
        return False
    return abs(Decimal(text.decode()).adjusted()) <= NUMBER_EXPONENT


def _unescaped(text: bytes) -> str:
    """Return the characters of a string token; names with escapes are rare."""
    if b"\\" not in text:
        return text[1:-1].decode("utf-8", "replace")
    return _UNICODE_ESCAPE.sub(
        lambda m: chr(int(m[1], 16)).encode("utf-8", "surrogatepass") if m[1] else m[0][1:],
        text[1:-1],
    ).decode("utf-8", "replace")


def _fault_in_string(text: bytes) -> str | None:
    if b"\\" not in text:
        return None
    high_ends = -1
    for match in _UNICODE_ESCAPE.finditer(text):
        if match[1] is None:
            if match[0][1:] not in b'"\\/bfnrt':
                return "json-syntax"
            continue
        unit = int(match[1], 16)
        if unit == 0:
            return "json-null-character"
        is_low = 0xDC00 <= unit < 0xE000
        if is_low != (high_ends == match.start()):
            return "json-surrogate"
        high_ends = match.end() if 0xD800 <= unit < 0xDC00 else -1
        if high_ends >= 0 and text[high_ends : high_ends + 2] != b"\\u":
            return "json-surrogate"
    return None
