r"""One HL7 v2 message as segments and fields, split lazily and written back byte for byte.

HL7 v2.5.1 chapter 2. Tolerant on purpose: CR, LF and CRLF line ends, any separators MSH declares,
unknown and Z segments in any place, missing optional parts. Components are split on access only;
a field that nobody reads (a 10 MB OBX-5) is never copied beyond the split of its segment.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from conformance.problem import InvalidStructure, Issue
from mappings.hl7.charset import decode
from mappings.hl7.escape import Separators, unescape

_LINE = re.compile(r"(\r\n|\r|\n)")
_HEADERS = frozenset({"MSH", "FHS", "BHS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place in a message, as ERR-2 names it; every number counts from 1, 0 is "not said"."""

    segment: str
    sequence: int = 1
    field: int = 0
    repetition: int = 0
    component: int = 0
    subcomponent: int = 0

    def __str__(self) -> str:
        text = f"{self.segment}[{self.sequence}]"
        if self.field:
            text += f"-{self.field}"
        if self.repetition:
            text += f"[{self.repetition}]"
        if self.component:
            text += f".{self.component}"
        if self.subcomponent:
            text += f".{self.subcomponent}"
        return text


_LOCATION = re.compile(
    r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?(?:-(\d+)(?:\[(\d+)\])?(?:\.(\d+)(?:\.(\d+))?)?)?\Z"
)


def parse_location(text: str) -> Location | None:
    """Return the place that `PID[1]-3[2].4.1` names, None where the text is no such path."""
    match = _LOCATION.match(text)
    if match is None:
        return None
    numbers = [int(group) if group else 0 for group in match.groups()[1:]]
    return Location(
        segment=match.group(1),
        sequence=numbers[0] or 1,
        field=numbers[1],
        repetition=numbers[2],
        component=numbers[3],
        subcomponent=numbers[4],
    )


_MOST_WORDS = 4_000


class Segment:
    """One segment; `fields[n]` is the raw text of field n, escapes and delimiters unread.

    `fields[0]` is the name. In MSH, FHS and BHS field 1 is the separator itself, as the standard
    counts. `sequence` counts the segments of this name from 1; `place` is both, `PID[1]`.
    `words` is its text as it was read, "" where that is long or has been changed.
    """

    __slots__ = ("_fields", "_text", "mark", "name", "place", "sequence", "words")

    def __init__(self, name: str, text: str, mark: str, sequence: int) -> None:
        self.name = name
        self.mark = mark
        self.sequence = sequence
        self.place = f"{name}[{sequence}]"
        self.words = text if len(text) <= _MOST_WORDS else ""
        self._text: str | None = text
        self._fields: list[str] | None = None

    @property
    def fields(self) -> list[str]:
        """The raw fields, split on first use."""
        fields = self._fields
        if fields is None:
            fields = (self._text or "").split(self.mark)
            if self.name in _HEADERS:
                fields.insert(1, self.mark)
            self._fields = fields
            self._text = None  # the fields are the truth now; no second copy is kept
        return fields

    def field(self, number: int) -> str:
        """Return the raw text of a field, "" where the segment ends before it."""
        fields = self._fields or self.fields
        return fields[number] if number < len(fields) else ""

    def set_field(self, number: int, raw: str) -> None:
        """Replace a field by raw text (already escaped and joined)."""
        fields = self.fields
        self.words = ""
        while len(fields) <= number:
            fields.append("")
        fields[number] = raw

    def encode(self) -> str:
        """Return the segment as it stood, or with the fields that were set."""
        if self._fields is None:
            return self._text or ""
        fields = self._fields
        if self.name in _HEADERS and len(fields) > 1:
            return self.mark.join([fields[0], *fields[2:]])
        return self.mark.join(fields)


class Message:
    """One message: its segments in order, its separators and the codec it was read with."""

    __slots__ = ("_ends", "_mark", "codec", "segments", "separators")

    def __init__(
        self,
        segments: list[Segment],
        ends: list[str] | str,
        *,
        separators: Separators,
        codec: str,
        mark: bytes = b"",
    ) -> None:
        self.segments = segments
        self.separators = separators
        self.codec = codec
        self._ends = ends
        self._mark = mark

    def first(self, name: str) -> Segment | None:
        """Return the first segment of this name."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        return None

    def all(self, name: str) -> Iterator[Segment]:
        """Yield every segment of this name, in order."""
        return (segment for segment in self.segments if segment.name == name)

    def value(
        self,
        name: str,
        field: int,
        component: int = 1,
        *,
        repetition: int = 1,
        subcomponent: int = 1,
    ) -> str:
        """Return one unescaped value of the first segment of this name, "" where there is none."""
        segment = self.first(name)
        if segment is None:
            return ""
        raw = segment.field(field)
        separators = self.separators
        for mark, number in (
            (separators.repetition, repetition),
            (separators.component, component),
            (separators.subcomponent, subcomponent),
        ):
            parts = raw.split(mark) if mark else [raw]
            raw = parts[number - 1] if number <= len(parts) else ""
        return unescape(raw, separators, self.codec)

    def add_after(self, place: str, segment: Segment) -> None:
        """Insert a segment behind the one at `PID[1]`, at the end where there is none."""
        at = len(self.segments)
        for number, known in enumerate(self.segments):
            if known.place == place:
                at = number + 1
        self.segments.insert(at, segment)
        if not isinstance(self._ends, str):
            self._ends.insert(at, self._ends[at - 1] or "\r")

    def encode(self) -> bytes:
        """Return the message as bytes; unchanged, they are those it was read from."""
        ends = self._ends
        texts = [segment.encode() for segment in self.segments]
        if isinstance(ends, str):
            body = ends.join(texts)
        else:
            body = "".join(text + end for text, end in zip(texts, ends, strict=True))
        return self._mark + body.encode(self.codec)


def parse(data: bytes, default_charset: str = "utf-8") -> Message:
    """Read one message.

    Raises `InvalidStructure` (with the place in `expression`) where there is no MSH, no usable
    separators, or the bytes are not of the declared charset.
    """
    text, codec = decode(data, default_charset)
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    separators = separators_of(text)
    lines, ends = _lines(text, separators.field)
    counts: dict[str, int] = {}
    segments: list[Segment] = []
    for line in lines:
        name = line[:3]
        sequence = counts[name] = counts.get(name, 0) + 1
        segments.append(Segment(name, line, separators.field, sequence))
    return Message(segments, ends, separators=separators, codec=codec, mark=mark)


def separators_of(text: str) -> Separators:
    """Return the delimiters that the text's MSH (or FHS, BHS) declares."""
    if text.startswith("MSH|^~\\&|"):
        return _USUAL
    if text[:3] not in _HEADERS:
        raise InvalidStructure(_no_header())
    field = text[3:4]
    if not field or field.isalnum() or field in "\r\n":
        raise InvalidStructure(_no_separators("MSH-1"))
    end = _LINE.search(text)
    declared = text[4 : end.start() if end else len(text)].split(field, 1)[0]
    distinct = set(declared) | {field}
    if not declared or len(declared) > 5 or len(distinct) != len(declared) + 1:
        raise InvalidStructure(_no_separators("MSH-2"))
    if any(letter.isalnum() for letter in declared):
        raise InvalidStructure(_no_separators("MSH-2"))
    given = declared.ljust(5, "\0")
    component, repetition, escape, subcomponent, truncation = (
        "" if letter == "\0" else letter for letter in given
    )
    if (field, declared) == ("|", "^~\\&"):
        return _USUAL
    return Separators(
        field=field,
        component=component,
        repetition=repetition,
        escape=escape,
        subcomponent=subcomponent,
        truncation=truncation,
    )


_USUAL = Separators()


def _lines(text: str, field: str) -> tuple[list[str], list[str] | str]:
    """Split into segments; the ends are one string joining all, or one for each segment."""
    if "\n" not in text:
        return _trimmed(text.split("\r"), "\r")
    if "\r" not in text and _all_named(lines := text.split("\n"), field):
        return _trimmed(lines, "\n")
    pieces = _LINE.split(text)
    lines, ends = [pieces[0]], [""]
    for end, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        # A line feed inside a field is not a segment's end unless a segment's name follows.
        if not piece or end == "\r" or _is_named(piece, field):
            ends[-1] += end
            if piece:
                lines.append(piece)
                ends.append("")
        elif ends[-1]:
            lines.append(piece)
            ends.append("")
        else:
            lines[-1] += end + piece
    return lines, ends


# Segments whose name in small letters begins a line of its own, too, where text of a field may
# hold line feeds: nobody's text is likely to have one of these words in front of a separator.
_COMMON = "evn|pid|pd1|nk1|pv1|pv2|mrg|obr|obx|orc|nte|dg1|al1|pr1|gt1|in1|in2|spm|txa|ft1|rxe|rxa"


@lru_cache(maxsize=64)
def _name_before(field: str) -> re.Pattern[str]:
    mark = re.escape(field)
    return re.compile(rf"[A-Z][A-Za-z0-9]{{2}}(?:{mark}|\Z)|(?i:{_COMMON}){mark}")


def _is_named(line: str, field: str) -> bool:
    return _name_before(field).match(line) is not None


def _all_named(lines: list[str], field: str) -> bool:
    return all(map(_name_before(field).match, filter(None, lines)))


def _trimmed(lines: list[str], end: str) -> tuple[list[str], list[str] | str]:
    """Drop empty lines, keeping their ends with the segment before."""
    if all(lines):
        return lines, end
    kept: list[str] = []
    ends: list[str] = []
    last = len(lines) - 1
    for position, line in enumerate(lines):
        tail = end if position < last else ""
        if line or not kept:
            kept.append(line)
            ends.append(tail)
        else:
            ends[-1] += tail
    return kept, ends


def _no_header() -> Issue:
    return Issue(
        code="structure",
        key="hl7-no-header",
        text_en="The message does not begin with an MSH segment",
        text_zh="报文没有以 MSH 段开头",
        fix_en="Send one HL7 v2 message per frame, its first three bytes being MSH.",
        fix_zh="每帧发送一条 HL7 v2 报文，且前三个字节为 MSH。",
        expression="MSH[1]",
    )


def _no_separators(place: str) -> Issue:
    number = place.removeprefix("MSH-")
    return Issue(
        code="structure",
        key="hl7-separators",
        text_en=f"{place} does not declare usable separators",
        text_zh=f"{place} 未声明可用的分隔符",
        fix_en="Begin the message with MSH|^~\\& or with four other distinct punctuation marks.",
        fix_zh="请以 MSH|^~\\& 开头，或使用另外四个互不相同的标点符号。",
        expression=f"MSH[1]-{number}",
    )
