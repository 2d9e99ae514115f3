"""The MSH of any bytes, however broken: what is needed to answer and to file a message."""

import codecs
import re
from dataclasses import dataclass

from mappings.hl7.charset import codec_of, declared_charset
from mappings.hl7.escape import STANDARD, Separators

_LINE_END = re.compile(r"[\r\n]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
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
    codec = codec_of(declared_charset(data)) or default_charset
    body = data[3:] if data.startswith(codecs.BOM_UTF8) else data
    start = body[:65536].decode(codec, errors="replace")
    line = _LINE_END.split(start, 1)[0]
    if line[:3] != "MSH" or len(line) < 5 or line[3].isalnum():
        return Header(codec=codec)
    mark = line[3]
    fields = line.split(mark)
    fields.insert(1, mark)
    declared = fields[2]
    usable = len(declared) >= 1 and len({*declared, mark}) == len(declared) + 1
    separators = STANDARD
    if usable and not any(letter.isalnum() for letter in declared):
        given = [*declared[:5], *[""] * (5 - len(declared))]
        separators = Separators(
            field=mark,
            component=given[0],
            repetition=given[1],
            escape=given[2],
            subcomponent=given[3],
            truncation=given[4],
        )
    return Header(separators=separators, codec=codec, is_readable=True, fields=tuple(fields))
