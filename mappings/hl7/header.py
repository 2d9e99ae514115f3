"""The MSH of any bytes, however broken: what is needed to answer and to file a message."""

import codecs
import functools
import re

from msgspec import Struct

from mappings.hl7.charset import OVER_ASCII, codec_of, declared_charset, first_line
from mappings.hl7.escape import STANDARD, Separators

_LINE_END = re.compile(r"[\r\n]")
_READ_BYTES = 65536
_USUAL_MARKS = 5
_ESCAPE = b"\x1b"  # begins a change of the character set


class Header(Struct, frozen=True, kw_only=True):
    """The fields of MSH as raw text; all of them "" where the bytes have no readable MSH."""

    separators: Separators = STANDARD
    codec: str = "utf-8"
    is_readable: bool = False
    fields: tuple[str, ...] = ()

    def field(self, number: int) -> str:
        """Return the raw text of MSH-`number`, "" where absent."""
        return self.fields[number] if number < len(self.fields) else ""

    def component(self, number: int, component: int = 1) -> str:
        """Return one component of MSH-`number`, first repetition."""
        value = self.field(number).split(self.separators.repetition or "\0", 1)[0]
        parts = value.split(self.separators.component)
        return parts[component - 1] if component <= len(parts) else ""

    @property
    def sending_application(self) -> str:
        """MSH-3."""
        return self.field(3)

    @property
    def sending_facility(self) -> str:
        """MSH-4."""
        return self.field(4)

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.field(10)

    @property
    def event(self) -> str:
        """Message type and trigger as `ADT^A01`, whatever the declared separators."""
        code, trigger = self.component(9, 1), self.component(9, 2)
        return f"{code}^{trigger}" if trigger else code

    @property
    def is_enhanced(self) -> bool:
        """Whether MSH-15 or MSH-16 asks for the enhanced acknowledgement mode."""
        return bool(self.field(15) or self.field(16))


def read_header(data: bytes, default_charset: str = "utf-8") -> Header:
    """Return the MSH of the bytes; never raises, whatever they are."""
    line = first_line(data)
    if line.isascii() and len(line) < _READ_BYTES and _ESCAPE not in line:
        header = _of_ascii(line.decode("ascii"), default_charset)
        if header is not None:
            return header
    return _of_any(data, default_charset)


def _of_ascii(line: str, default_charset: str) -> Header | None:
    """Return what `_of_any` would of most messages, with one look; None where it has to look."""
    if line[:3] != "MSH" or len(line) < 5 or line[3].isalnum():
        return None
    mark = line[3]
    fields = line.split(mark)
    declared = fields[1]
    charset = fields[17] if len(fields) > 17 else ""
    if len(declared) > 1:
        charset = charset.split(declared[1], 1)[0]
    codec = codec_of(charset) or default_charset
    if codec not in OVER_ASCII or len(declared) > _USUAL_MARKS:
        return None
    fields.insert(1, mark)
    separators = _usual_separators(mark, declared)
    return Header(separators=separators, codec=codec, is_readable=True, fields=tuple(fields))


def _of_any(data: bytes, default_charset: str) -> Header:
    codec = codec_of(declared_charset(data)) or default_charset
    body = data[3:] if data.startswith(codecs.BOM_UTF8) else data
    start = body[:_READ_BYTES].decode(codec, errors="replace")
    line = _LINE_END.split(start, 1)[0]
    if line[:3] != "MSH" or len(line) < 5 or line[3].isalnum():
        return Header(codec=codec)
    mark = line[3]
    fields = line.split(mark)
    fields.insert(1, mark)
    declared = fields[2]
    separators = _separators(mark, declared)
    return Header(separators=separators, codec=codec, is_readable=True, fields=tuple(fields))


def _separators(mark: str, declared: str) -> Separators:
    usable = len(declared) >= 1 and len({*declared, mark}) == len(declared) + 1
    if not usable or any(letter.isalnum() for letter in declared):
        return STANDARD
    given = [*declared[:5], *[""] * (5 - len(declared))]
    return Separators(
        field=mark,
        component=given[0],
        repetition=given[1],
        escape=given[2],
        subcomponent=given[3],
        truncation=given[4],
    )


_usual_separators = functools.lru_cache(maxsize=64)(_separators)
