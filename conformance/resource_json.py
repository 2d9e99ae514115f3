"""Resources from and to JSON bytes, exactly: numbers keep their text, nothing is lost in silence.

https://hl7.org/fhir/R4/json.html, RFC 8259. A UTF-8 byte-order mark is dropped, as RFC 8259
section 8.1 allows.
"""

import codecs
import functools
import re
import threading
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Self

import msgspec
import orjson

from conformance import json_scan
from conformance.problem import InvalidStructure, Issue

_BYTE_POSITION = re.compile(r"\(byte (\d+)\)")
# A string; the group is the colon behind it if it is a name. The text is known to be JSON.
_NAME_OR_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"[ \t\r\n]*(:?)', re.DOTALL)
# Colons, and what tells whether \\u0000 or \\u003a may be there.
_NO_MARKS = bytes(set(range(256)) - set(b":\\u0"))


class JsonDecimal(Decimal):
    """A decimal whose text Decimal would write in another way, such as 1E3 or 0.00000001."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """Keep the text beside the number."""
        self = super().__new__(cls, text)
        self.text = text
        return self

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.text,)


class NumberTooLong(ValueError):
    """A number is longer than any we take."""


def decimal_of(text: str) -> Decimal:
    """Return the number; `text_of` gives the same text back."""
    if len(text) > json_scan.NUMBER_LENGTH:
        raise NumberTooLong
    number = Decimal(text)
    if str(number) == text and "E" not in text:
        return number
    if abs(number.adjusted()) > json_scan.NUMBER_EXPONENT:
        raise NumberTooLong
    return JsonDecimal(text)


def text_of(number: Decimal | int) -> str:
    """Return a number as it stood in the input."""
    return number.text if isinstance(number, JsonDecimal) else str(number)


def _encode_rest(value: Any) -> Any:
    if isinstance(value, JsonDecimal):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} is not a FHIR value")


_INDENTED_LINE = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
_decode = msgspec.json.Decoder(float_hook=decimal_of).decode
_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=_encode_rest).encode


def parse(data: bytes, *, max_depth: int = 64) -> dict[str, Any]:
    """Return the object that JSON bytes hold; decimals are `Decimal`, integers `int`.

    Raises InvalidStructure with line, column and expression on anything that RFC 8259 leaves
    open or FHIR forbids: duplicate names, NaN, lone surrogates, U+0000, deep nesting.
    """
    if data.startswith(codecs.BOM_UTF8):
        data = data[3:]
    try:
        value = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, NumberTooLong) as error:
        raise _refusal(data, max_depth, error) from None
    if not isinstance(value, dict):
        raise InvalidStructure(_issue("json-not-object", data, 0, ""))
    if data.startswith(b'{\n  "') and _comes_back(data, value, max_depth):
        return value
    written = _NESTS.of_depth(max_depth).written(value)
    if written is None and not _is_shallow(value, max_depth):
        raise _refusal(data, max_depth)
    if not _is_plainly_unique(data, written):
        is_suspect = b"\\u0000" in data or _names_of_text(data) != _names_in(value)
        fault = json_scan.find_fault(data, max_depth) if is_suspect else None
        if fault is not None:
            raise InvalidStructure(_issue(fault.key, data, fault.offset, fault.path))
    return value


def _comes_back(data: bytes, value: dict[str, Any], max_depth: int) -> bool:
    """Say whether a value, written with two blanks a level, is the text it was read from.

    Then no member was overwritten, for its name would be missing, and depth shows in the margin.
    U+0000 and what is at the limit of depth are left to the longer way, and so are other styles.
    """
    style = _INDENTED_LINE if data.endswith(b"\n") else orjson.OPT_INDENT_2
    try:
        if orjson.dumps(value, default=_fragment, option=style) != data:
            return False
    except TypeError:  # deeper, or larger numbers, than orjson writes
        return False
    # From behind, CPython leaps over what is no blank by the length of the margin.
    return data.rfind(b"\n" + b"  " * max_depth) < 0 and not _has_null_character(data)


def _has_null_character(data: bytes) -> bool:
    """Say whether U+0000 may be there; CPython searches from behind in half the time."""
    return b"\\" in data and data.rfind(b"\\u0000") >= 0


def _fragment(number: Any) -> orjson.Fragment:
    return orjson.Fragment(text_of(number))


def dump(resource: Mapping[str, Any]) -> bytes:
    """Return a resource as compact JSON bytes, members in the order they have."""
    return _encode(resource)


class _Nest:
    """Lists inside lists, so deep that orjson writes a value inside only if that is shallow.

    A walk over the value in Python takes longer than all the reading.
    """

    def __init__(self, depth: int) -> None:
        self._innermost: list[Any] = [None]
        self._outermost = self._innermost
        for _ in range(depth - 1):
            self._outermost = [self._outermost]

    def written(self, value: dict[str, Any]) -> bytes | None:
        """Return the value as compact JSON inside lists, or None where it is too deep or large."""
        self._innermost[0] = value
        try:
            return orjson.dumps(self._outermost, default=_fragment)
        except TypeError:
            return None
        finally:
            self._innermost[0] = None


class _Nests(threading.local):
    """A nest for each limit of depth, of this thread."""

    def __init__(self) -> None:
        self._made: dict[int, _Nest] = {}

    def of_depth(self, max_depth: int) -> _Nest:
        """Return the nest in which a value of this depth is written, and no deeper one."""
        if max_depth not in self._made:
            self._made[max_depth] = _Nest(_written_depth() - max_depth)
        return self._made[max_depth]


_NESTS = _Nests()


@functools.cache
def _written_depth() -> int:
    """Return how many lists inside lists orjson writes."""
    lists: list[Any] = []
    for depth in range(1, 1000):
        try:
            orjson.dumps(lists)
        except TypeError:
            return depth - 1
        lists = [lists]
    raise RuntimeError("orjson has no limit of depth")


def _is_shallow(value: dict[str, Any], max_depth: int) -> bool:
    """Say whether the nesting of objects and arrays is within the limit."""
    level: list[Any] = [value]
    for _ in range(max_depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return True
    return False


def _is_plainly_unique(data: bytes, written: bytes | None) -> bool:
    """Say whether certainly no member has been overwritten by another of the same name.

    A text that comes back as it was has lost nothing. In others a colon stands behind a name or in
    a string, and none is written in another way, so a member that was overwritten took at least
    one away. Text with escapes of colons or of U+0000 is left to the exact count.
    """
    if written is not None and written.strip(b"[]") == data:
        return not _has_null_character(data)
    marks = data.translate(None, _NO_MARKS)
    if written is None or (b"\\u0" in marks and b"\\u00" in data):
        return False
    return marks.count(b":") == written.count(b":")


def _names_of_text(data: bytes) -> int:
    return _NAME_OR_TEXT.findall(data).count(b":")


def _names_in(value: dict[str, Any]) -> int:
    count = 0
    open_ones: list[Any] = [value]
    while open_ones:
        outer = open_ones.pop()
        if type(outer) is dict:
            count += len(outer)
            outer = outer.values()
        open_ones.extend(inner for inner in outer if type(inner) is dict or type(inner) is list)
    return count


def _refusal(data: bytes, max_depth: int, error: Exception | None = None) -> InvalidStructure:
    """Return what to raise for bytes the parser refused, with the place of the fault."""
    if isinstance(error, UnicodeDecodeError) or _not_utf8(data) is not None:
        return InvalidStructure(_issue("json-encoding", data, _not_utf8(data) or 0, ""))
    fault = json_scan.find_fault(data, max_depth)
    if fault is not None:
        return InvalidStructure(_issue(fault.key, data, fault.offset, fault.path))
    key = "json-syntax"
    if isinstance(error, NumberTooLong | msgspec.ValidationError):
        key = "json-number"
    place = _BYTE_POSITION.search(str(error))
    return InvalidStructure(_issue(key, data, int(place[1]) if place else 0, ""))


def _not_utf8(data: bytes) -> int | None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


_TEXTS: dict[str, tuple[str, str, str, str]] = {
    "json-syntax": (
        "This is not JSON: something else was expected here.",
        "不是合法的 JSON：此处应为其他内容。",
        "Check brackets, commas and quotes just before this place, and that nothing follows the end"
        " of the resource; NaN and Infinity are not JSON.",
        "请检查此处之前的括号、逗号和引号，资源结束后不得再有内容；NaN 与 Infinity 不是 JSON。",
    ),
    "json-encoding": (
        "The bytes are not UTF-8.",
        "字节不是 UTF-8 编码。",
        "Send the resource in UTF-8 (not GBK, UTF-16 or Latin-1).",
        "请以 UTF-8 编码发送（不要用 GBK、UTF-16 或 Latin-1）。",
    ),
    "json-depth": (
        "The nesting is deeper than we read.",
        "嵌套层数超过上限。",
        "Send flatter data: no resource of the standard needs so many levels.",
        "请减少嵌套层数：标准资源不需要这么多层。",
    ),
    "json-duplicate-key": (
        "The same name stands twice in one object.",
        "同一对象中出现重复的名称。",
        "Keep one of them; several values belong into one array.",
        "请只保留一个；多个值应放入同一数组。",
    ),
    "json-surrogate": (
        "Half of a surrogate pair stands alone.",
        "出现不成对的代理项字符。",
        "Write the character itself in UTF-8, or both halves of the pair.",
        "请直接以 UTF-8 写出该字符，或写出完整的代理对。",
    ),
    "json-null-character": (
        "The character U+0000 is not allowed in FHIR strings.",
        "FHIR 字符串不允许包含 U+0000 字符。",
        "Remove the character; it is often the padding of a fixed-width field.",
        "请删除该字符；它通常是定长字段的填充。",
    ),
    "json-number": (
        "The number is longer or larger than we read.",
        "数字的位数或大小超过上限。",
        "Send at most 256 characters and an exponent between -400 and 400.",
        "数字最多 256 个字符，指数须在 -400 与 400 之间。",
    ),
    "json-not-object": (
        "The JSON is not an object.",
        "JSON 的最外层不是对象。",
        'Send one resource: {"resourceType": "Patient", ...}.',
        '请发送一个资源：{"resourceType": "Patient", ...}。',
    ),
}


def _issue(key: str, data: bytes, offset: int, path: str) -> Issue:
    text_en, text_zh, fix_en, fix_zh = _TEXTS[key]
    line, column = json_scan.line_and_column(data, offset)
    return Issue(
        severity="fatal",
        code="structure",
        key=key,
        text_en=text_en,
        text_zh=text_zh,
        fix_en=fix_en,
        fix_zh=fix_zh,
        expression=path or None,
        line=line,
        column=column,
    )
