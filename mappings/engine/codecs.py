"""Named codecs: one value between an HL7 v2, XML or flat text and FHIR, with what each loses."""

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from mappings.engine import naming, times
from mappings.engine.context import Context, UnreadableValue

Forward = Callable[[str, Context], Any]
Backward = Callable[[Any, Context], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """A pair of functions; `loses` says in words what the way there and back does not restore.

    A composite codec reads all parts of its component, joined by U+001F.
    `forward` raises `UnreadableValue` with what the text should be; None means "no value".
    """

    name: str
    forward: Forward
    backward: Backward
    loses: str = ""
    is_composite: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether back(forward(x)) restores every readable x."""
        return not self.loses


def _to_boolean(text: str, _context: Context) -> bool:
    if text in {"Y", "N"}:
        return text == "Y"
    raise UnreadableValue("is neither Y nor N")


def _from_boolean(value: Any, _context: Context) -> str:
    return "Y" if value else "N"


# HL7 v2.5.1 2.A.46 NM: an optional sign, digits, optionally a decimal point.
_NM = re.compile(r"([+-]?)0*(\d+)(?:\.(\d*))?\Z|([+-]?)(\.\d+)\Z")


def _to_decimal(text: str, _context: Context) -> Decimal:
    match = _NM.match(text)
    if match is None or len(text) > 40:
        raise UnreadableValue("is not a number")
    sign, whole, part, point_sign, point = match.groups()
    if point:
        return Decimal(f"{'-' if point_sign == '-' else ''}0{point}")
    return Decimal(f"{'-' if sign == '-' else ''}{whole}{'.' + part if part else ''}")


def _from_decimal(value: Any, _context: Context) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _to_integer(text: str, context: Context) -> int:
    value = _to_decimal(text, context)
    if value != value.to_integral_value() or abs(value) > 2147483647:
        raise UnreadableValue("is not a whole number of 32 bits")
    return int(value)


def _to_positive(text: str, context: Context) -> int:
    value = _to_integer(text, context)
    if value < 1:
        raise UnreadableValue("is not a whole number above 0")
    return value


def _to_unsigned(text: str, context: Context) -> int:
    value = _to_integer(text, context)
    if value < 0:
        raise UnreadableValue("is not a whole number of 0 or more")
    return value


def _text(value: Any, _context: Context) -> str:
    return str(value)


def _to_text(text: str, _context: Context) -> str | None:
    """FHIR strings have neither blanks around them nor are they empty."""
    return text.strip() or None


_CODE = re.compile(r"[^\s]+(\s[^\s]+)*\Z")


def _to_code(text: str, _context: Context) -> str:
    if text.isalnum():
        return text
    squeezed = " ".join(text.split())
    if not _CODE.match(squeezed):
        raise UnreadableValue("is not a code")
    return squeezed


def _to_base64(text: str, _context: Context) -> str:
    compact = "".join(text.split())
    try:
        binascii.a2b_base64(compact, strict_mode=True)
    except binascii.Error:
        raise UnreadableValue("is not base64") from None
    return compact


def _text_to_base64(text: str, _context: Context) -> str:
    return binascii.b2a_base64(text.encode(), newline=False).decode()


def _base64_to_text(value: Any, _context: Context) -> str:
    return binascii.a2b_base64(str(value)).decode()


def _to_hex_base64(text: str, _context: Context) -> str:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise UnreadableValue("is not hexadecimal") from None
    return binascii.b2a_base64(raw, newline=False).decode()


def _base64_to_hex(value: Any, _context: Context) -> str:
    return binascii.a2b_base64(str(value)).hex().upper()


_FULL_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")


def _full_date(text: Any, _context: Context) -> str:
    if not _FULL_DATE.match(str(text)):
        raise UnreadableValue("is not a full date of the form YYYY-MM-DD")
    return str(text)


def _day(value: Any, _context: Context) -> str:
    """Return the day of a date or dateTime as it is written, whatever its time."""
    return _full_date(str(value)[:10], _context)


def _to_xs_boolean(text: str, _context: Context) -> bool:
    if text in {"true", "false", "1", "0"}:
        return text in {"true", "1"}
    raise UnreadableValue("is neither true nor false")


def _from_xs_boolean(value: Any, _context: Context) -> str:
    return "true" if value else "false"


def _to_name(text: str, _context: Context) -> dict[str, str] | None:
    return {"text": text.strip()} if text.strip() else None


def _from_name(value: Any, _context: Context) -> str:
    """Chinese names have the family name first and no blank between."""
    if value.get("text"):
        return str(value["text"])
    family, given = value.get("family", ""), value.get("given") or []
    if family.isascii() and all(part.isascii() for part in given):
        return " ".join([*given, family]).strip()
    return "".join([str(family), *given])


def _to_address(text: str, _context: Context) -> dict[str, str] | None:
    return {"text": text.strip()} if text.strip() else None


def _from_address(value: Any, _context: Context) -> str:
    """Widest part first, as Chinese addresses are written."""
    if value.get("text"):
        return str(value["text"])
    wide = (value.get(name) for name in ("state", "city", "district"))
    lines = [line for line in value.get("line") or [] if line]
    return "".join(part for part in (*wide, *lines) if part)


def _to_url(text: str, context: Context) -> str:
    """Return an address whole: senders leave its ampersands unescaped."""
    return naming.to_uri_of_oid(text.replace("\x1f", context.separators.subcomponent), context)


def _nothing(_value: Any, _context: Context) -> str:
    return ""


_ALL = (
    Codec(
        name="text",
        forward=_to_text,
        backward=_text,
        loses="blanks around the text, control characters",
    ),
    Codec(name="code", forward=_to_code, backward=_text, loses="repeated blanks"),
    Codec(
        name="dtm.date", forward=times.to_date, backward=times.from_date, loses="the time of day"
    ),
    Codec(
        name="dtm.dateTime",
        forward=times.to_date_time,
        backward=times.from_date_time,
        loses="that seconds or the zone were not sent",
    ),
    Codec(
        name="dtm.instant",
        forward=times.to_instant,
        backward=times.from_date_time,
        loses="that seconds or the zone were not sent",
    ),
    Codec(
        name="tm.time",
        forward=times.to_time,
        backward=times.from_time,
        loses="that seconds were not sent; the zone",
    ),
    Codec(name="yn", forward=_to_boolean, backward=_from_boolean),
    Codec(
        name="nm.decimal", forward=_to_decimal, backward=_from_decimal, loses="leading zeros, plus"
    ),
    Codec(name="nm.integer", forward=_to_integer, backward=_text, loses="leading zeros, plus"),
    Codec(name="nm.positiveInt", forward=_to_positive, backward=_text, loses="leading zeros, plus"),
    Codec(name="nm.unsignedInt", forward=_to_unsigned, backward=_text, loses="leading zeros, plus"),
    Codec(
        name="code-system",
        forward=naming.to_code_system,
        backward=naming.from_code_system,
        loses="which of several names of a code system was sent",
    ),
    Codec(
        name="authority",
        forward=naming.to_authority,
        backward=naming.from_authority,
        loses="the namespace beside a universal id",
        is_composite=True,
    ),
    Codec(
        name="uri",
        forward=naming.to_uri_of_oid,
        backward=naming.from_uri_of_oid,
        loses="the letter case of a UUID",
    ),
    Codec(
        name="url",
        forward=_to_url,
        backward=naming.from_uri_of_oid,
        loses="whether an ampersand was escaped",
        is_composite=True,
    ),
    Codec(name="base64", forward=_to_base64, backward=_text, loses="line breaks in the base64"),
    Codec(name="text.base64", forward=_text_to_base64, backward=_base64_to_text),
    Codec(name="hex.base64", forward=_to_hex_base64, backward=_base64_to_hex, loses="letter case"),
    Codec(
        name="identifier-type",
        forward=naming.to_system_of_type,
        backward=_nothing,
        loses="the type where it only names the system",
    ),
    Codec(
        name="xs.boolean",
        forward=_to_xs_boolean,
        backward=_from_xs_boolean,
        loses="whether true was written 1",
    ),
    Codec(name="iso.date", forward=_full_date, backward=_full_date),
    Codec(name="iso.day", forward=_full_date, backward=_day, loses="the time of day"),
    Codec(
        name="name.text",
        forward=_to_name,
        backward=_from_name,
        loses="which part of the name is the family name",
    ),
    Codec(
        name="address.text",
        forward=_to_address,
        backward=_from_address,
        loses="which part of the address is city, district or line",
    ),
)
CODECS: Mapping[str, Codec] = MappingProxyType({codec.name: codec for codec in _ALL})
