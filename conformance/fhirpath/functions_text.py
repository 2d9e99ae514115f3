"""String functions (http://hl7.org/fhirpath/N1/#string-manipulation)."""

import base64
import binascii
import html
import json
from collections.abc import Callable

from conformance.fhirpath import patterns
from conformance.fhirpath.evaluation import (
    Collection,
    Frame,
    single_integer,
    single_text,
)
from conformance.fhirpath.faults import invalid_use, too_costly


def _texts(name: str, focus: Collection, *arguments: Collection) -> list[str] | None:
    """Return the input and the arguments as strings; None if any of them is empty."""
    texts = [single_text(side, f"{name}()") for side in (focus, *arguments)]
    found = [text for text in texts if text is not None]
    return found if len(found) == len(texts) else None


def _test(name: str, verdict: Callable[[str, str], bool]) -> Callable[..., Collection]:
    def function(frame: Frame, focus: Collection, argument: Collection) -> Collection:
        texts = _texts(name, focus, argument)
        if texts is None:
            return []
        frame.run.charge(1 + len(texts[0]) // 64)
        return [verdict(texts[0], texts[1])]

    return function


starts_with = _test("startsWith", str.startswith)
ends_with = _test("endsWith", str.endswith)
contains = _test("contains", lambda text, part: part in text)
matches = _test("matches", lambda text, pattern: patterns.is_found(pattern, text))
matches_full = _test("matchesFull", lambda text, pattern: patterns.is_whole(pattern, text))


def _change(name: str, change: Callable[[str], str]) -> Callable[..., Collection]:
    def function(frame: Frame, focus: Collection) -> Collection:
        text = single_text(focus, f"{name}()")
        return [] if text is None else [frame.run.check_text(change(text))]

    return function


upper = _change("upper", str.upper)
lower = _change("lower", str.lower)
trim = _change("trim", str.strip)


def index_of(_frame: Frame, focus: Collection, part: Collection) -> Collection:
    """`indexOf(substring)`."""
    texts = _texts("indexOf", focus, part)
    return [] if texts is None else [texts[0].find(texts[1])]


def last_index_of(_frame: Frame, focus: Collection, part: Collection) -> Collection:
    """`lastIndexOf(substring)`."""
    texts = _texts("lastIndexOf", focus, part)
    return [] if texts is None else [texts[0].rfind(texts[1])]


def substring(
    _frame: Frame, focus: Collection, start: Collection, length: Collection | None = None
) -> Collection:
    """`substring(start [, length])`; empty when start lies outside the string."""
    text = single_text(focus, "substring()")
    at = single_integer(start, "substring()")
    if text is None or at is None or not 0 <= at < len(text):
        return []
    amount = None if length is None else single_integer(length, "substring()")
    return [text[at:] if amount is None else text[at : at + max(0, amount)]]


def length(_frame: Frame, focus: Collection) -> Collection:
    """`length()`."""
    text = single_text(focus, "length()")
    return [] if text is None else [len(text)]


def to_chars(frame: Frame, focus: Collection) -> Collection:
    """`toChars()`."""
    text = single_text(focus, "toChars()")
    return [] if text is None else frame.run.check_size(list(text))


def replace(frame: Frame, focus: Collection, part: Collection, new: Collection) -> Collection:
    """`replace(pattern, substitution)`; an empty pattern surrounds every character."""
    texts = _texts("replace", focus, part, new)
    if texts is None:
        return []
    text, old, substitution = texts
    count = text.count(old)
    if len(text) + count * len(substitution) > frame.run.limits.text:
        raise too_costly("characters in one string", frame.run.limits.text)
    return [frame.run.check_text(text.replace(old, substitution))]


def replace_matches(
    frame: Frame, focus: Collection, pattern: Collection, new: Collection
) -> Collection:
    """`replaceMatches(pattern, substitution)`; an empty pattern changes nothing."""
    texts = _texts("replaceMatches", focus, pattern, new)
    if texts is None:
        return []
    text, expression, substitution = texts
    if not expression:
        return [text]
    frame.run.charge(1 + len(text) // 8)
    limit = frame.run.limits.text
    result = patterns.replaced(expression, text, substitution, limit)
    if result is None:
        raise too_costly("characters in one string", limit)
    return [result]


def split(frame: Frame, focus: Collection, separator: Collection) -> Collection:
    """`split(separator)`."""
    texts = _texts("split", focus, separator)
    if texts is None:
        return []
    if not texts[1]:
        return frame.run.check_size(list(texts[0]))
    return frame.run.check_size(list(texts[0].split(texts[1])))


def join(frame: Frame, focus: Collection, separator: Collection | None = None) -> Collection:
    """`join([separator])`: items without a value are left out."""
    between = "" if separator is None else single_text(separator, "join()") or ""
    texts = [single_text([item], "join()") for item in focus]
    found = [text for text in texts if text is not None]
    if not focus:
        return []
    if sum(map(len, found)) + len(between) * len(found) > frame.run.limits.text:
        raise too_costly("characters in one string", frame.run.limits.text)
    return [frame.run.check_text(between.join(found))]


def encode(frame: Frame, focus: Collection, target: Collection) -> Collection:
    """`encode(format)`: hex, base64 or urlbase64."""
    texts = _texts("encode", focus, target)
    if texts is None:
        return []
    data = texts[0].encode()
    match texts[1]:
        case "hex":
            result = data.hex()
        case "base64":
            result = base64.b64encode(data).decode()
        case "urlbase64":
            result = base64.urlsafe_b64encode(data).decode()
        case _:
            raise _unknown_format("encode", "hex, base64, urlbase64")
    return [frame.run.check_text(result)]


def decode(frame: Frame, focus: Collection, source: Collection) -> Collection:
    """`decode(format)`: hex, base64 or urlbase64; empty when the text is not of that format."""
    texts = _texts("decode", focus, source)
    if texts is None:
        return []
    try:
        match texts[1]:
            case "hex":
                data = bytes.fromhex(texts[0])
            case "base64":
                data = base64.b64decode(texts[0], validate=True)
            case "urlbase64":
                data = base64.urlsafe_b64decode(texts[0])
            case _:
                raise _unknown_format("decode", "hex, base64, urlbase64")
        return [frame.run.check_text(data.decode())]
    except (ValueError, binascii.Error):
        return []


def escape(frame: Frame, focus: Collection, target: Collection) -> Collection:
    """`escape(target)`: html or json."""
    texts = _texts("escape", focus, target)
    if texts is None:
        return []
    match texts[1]:
        case "html":
            return [frame.run.check_text(html.escape(texts[0]))]
        case "json":
            return [frame.run.check_text(json.dumps(texts[0], ensure_ascii=False)[1:-1])]
    raise _unknown_format("escape", "html, json")


def unescape(frame: Frame, focus: Collection, source: Collection) -> Collection:
    """`unescape(source)`: html or json; empty when the text is not of that format."""
    texts = _texts("unescape", focus, source)
    if texts is None:
        return []
    match texts[1]:
        case "html":
            return [frame.run.check_text(html.unescape(texts[0]))]
        case "json":
            return _from_json(texts[0])
    raise _unknown_format("unescape", "html, json")


def _from_json(text: str) -> Collection:
    try:
        return [str(json.loads(f'"{text}"', strict=False))]
    except ValueError:
        return [text] if '"' in text else []


def _unknown_format(name: str, known: str) -> Exception:
    return invalid_use(
        f"{name}() does not know this format",
        f"{name}() 不支持该格式",
        fix_en=f"Use one of: {known}.",
        fix_zh=f"可用：{known}。",
    )
