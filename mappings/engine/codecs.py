"""Named codecs: one value between an HL7 v2, XML or flat text and FHIR, with what each loses."""

import binascii
import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any

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


# HL7 v2.5.1 2.A.21 DTM: YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]
_DTM = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(\.\d{1,9})?)?)?)?)?)?([+-]\d{4})?\Z"
)
_FHIR_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?\Z"
)


def _parts(text: str) -> tuple[str | None, ...]:
    match = _DTM.match(text)
    if match is None:
        raise UnreadableValue("is not a date and time of the form YYYYMMDDHHMMSS")
    groups = match.groups()
    year, month, day, hour, minute, second = (int(group or 0) for group in groups[:6])
    if not year or not 0 <= (month or 1) <= 12 or (groups[1] and not month):
        raise UnreadableValue("is not a date: the month is not 01 to 12")
    if groups[2] and not 1 <= day <= _days(year, month):
        raise UnreadableValue("is not a date: that month has no such day")
    if hour > 23 or minute > 59 or second > 59:
        raise UnreadableValue("is not a time of day")
    if groups[7] and (int(groups[7][1:3]) > 14 or int(groups[7][3:]) > 59):
        raise UnreadableValue("has a time zone beyond 14 hours")
    return groups


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _to_date(text: str, _context: Context) -> str:
    year, month, day, *_ = _parts(text)
    return f"{year}-{month}-{day}" if day else f"{year}-{month}" if month else f"{year}"


def _from_date(value: Any, _context: Context) -> str:
    return str(value)[:10].replace("-", "")


def _to_date_time(text: str, context: Context) -> str:
    year, month, day, hour, minute, second, fraction, zone = _parts(text)
    if hour is None:
        return f"{year}-{month}-{day}" if day else f"{year}-{month}" if month else f"{year}"
    body = f"{year}-{month}-{day}T{hour}:{minute or '00'}:{second or '00'}"
    offset = f"{zone[:3]}:{zone[3:]}" if zone else _offset(context.sender.zone, body)
    return f"{body}{fraction or ''}{offset}"


def _offset(zone: datetime.tzinfo, local: str) -> str:
    delta = datetime.datetime.fromisoformat(local).replace(tzinfo=zone).utcoffset()
    minutes = int(delta.total_seconds() // 60) if delta else 0
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _from_date_time(value: Any, _context: Context) -> str:
    match = _FHIR_DATE_TIME.match(str(value))
    if match is None:
        raise UnreadableValue("is not a FHIR dateTime")
    *digits, fraction, zone = match.groups()
    text = "".join(digit for digit in digits if digit)
    if digits[3] is None:
        return text
    return f"{text}{fraction or ''}{'+0000' if zone == 'Z' else zone.replace(':', '')}"


def _to_instant(text: str, context: Context) -> str:
    if len(text) < 10:
        raise UnreadableValue("is not an instant: it has no time of day")
    return _to_date_time(text, context)


# HL7 v2.5.1 2.A.75 TM: HH[MM[SS[.S+]]]
_TM = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d)(\.\d+)?)?)?(?:[+-]\d{4})?\Z")


def _to_time(text: str, _context: Context) -> str:
    match = _TM.match(text)
    if match is None:
        raise UnreadableValue("is not a time of the form HHMMSS")
    hour, minute, second, fraction = match.groups()
    return f"{hour}:{minute or '00'}:{second or '00'}{fraction or ''}"


def _from_time(value: Any, _context: Context) -> str:
    return str(value).replace(":", "")


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


# http://hl7.org/fhir/R4/datatypes.html#oid, #uuid
_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_CODE = re.compile(r"[^\s]+(\s[^\s]+)*\Z")


def system_of_authority(namespace: str, universal: str, kind: str, context: Context) -> str | None:
    """Return the identifier system of an assigning authority (HD).

    The channel's table comes first, then a real universal id, then a URI made of the namespace
    under the sender's own namespace, so that two senders' numbers never mix.
    """
    known = context.sender.authorities
    for name in (f"{namespace}@{context.facility}", universal, namespace):
        if name and name in known:
            return known[name]
    if universal:
        if _OID.match(universal) and kind in {"ISO", ""}:
            return f"urn:oid:{universal}"
        if _UUID.match(universal):
            return f"urn:uuid:{universal.lower()}"
        if kind in {"URI", "URL"} and ":" in universal and " " not in universal:
            return universal
    name = namespace or universal
    if not name:
        return None
    return f"{context.sender.namespace}/{_slug(name)}"


def own_system(context: Context) -> str:
    """Return the system of numbers that the sender gives without naming an authority."""
    return f"{context.sender.namespace}/{_slug(context.facility) or 'sender'}"


@lru_cache(maxsize=4096)
def _slug(name: str) -> str:
    if name.isalnum():
        return name
    return "".join(
        letter
        if letter.isalnum() or letter in "-._"
        else "".join(f"%{octet:02X}" for octet in letter.encode())
        for letter in name.strip()
    )


# HL7 table 0396 and the names senders use -> FHIR's own URIs,
# http://hl7.org/fhir/R4/terminologies-systems.html
_CODE_SYSTEMS = {
    "LN": "http://loinc.org",
    "LOINC": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "SNM": "http://snomed.info/sct",
    "SNOMED": "http://snomed.info/sct",
    "SNOMED-CT": "http://snomed.info/sct",
    "UCUM": "http://unitsofmeasure.org",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "ICD-10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9": "http://hl7.org/fhir/sid/icd-9-cm",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
    "CVX": "http://hl7.org/fhir/sid/cvx",
    "MVX": "http://hl7.org/fhir/sid/mvx",
    "NDC": "http://hl7.org/fhir/sid/ndc",
    "C4": "http://www.ama-assn.org/go/cpt",
    "CPT": "http://www.ama-assn.org/go/cpt",
    "CPTM": "http://www.ama-assn.org/go/cpt",
    "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ISO3166_1": "urn:iso:std:iso:3166",
    "ISO639": "urn:ietf:bcp:47",
    "CDCREC": "urn:oid:2.16.840.1.113883.6.238",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
}
_V2_TABLE = re.compile(r"(?:HL7)?-?(?:HL7|v2-)?(\d{4})\Z")


def _to_code_system(text: str, context: Context) -> str | None:
    name = text.strip()
    known = context.sender.code_systems.get(name) or _CODE_SYSTEMS.get(name.upper())
    if known:
        return known
    table = _V2_TABLE.match(name)
    if table:
        return f"http://terminology.hl7.org/CodeSystem/v2-{table.group(1)}"
    if _OID.match(name):
        return f"urn:oid:{name}"
    if "://" in name or name.startswith("urn:"):
        return name
    return f"{context.sender.namespace}/code-system/{_slug(name)}" if name else None


def _from_code_system(value: Any, context: Context) -> str:
    text = str(value)
    for names in (context.sender.code_systems, _CODE_SYSTEMS):
        for name, uri in names.items():
            if uri == text:
                return name
    prefix = f"{context.sender.namespace}/code-system/"
    if text.startswith(prefix):
        return _unslug(text.removeprefix(prefix))
    table = text.removeprefix("http://terminology.hl7.org/CodeSystem/v2-")
    if table != text and table.isdigit():
        return f"HL7{table}"
    return text.removeprefix("urn:oid:")


def _unslug(text: str) -> str:
    return re.sub(
        r"(?:%[0-9A-F]{2})+",
        lambda match: bytes.fromhex(match.group().replace("%", "")).decode(errors="replace"),
        text,
    )


def _to_authority(text: str, context: Context) -> str | None:
    parts = text.split("\x1f")
    namespace, universal, kind = (*parts, "", "", "")[:3]
    return system_of_authority(namespace, universal, kind, context)


def _from_authority(value: Any, context: Context) -> str:
    system = str(value)
    for name, uri in context.sender.authorities.items():
        if uri == system:
            if _OID.match(name):
                return f"\x1f{name}\x1fISO"
            return name.split("@", 1)[0]
    if system.startswith("urn:oid:"):
        return f"\x1f{system[8:]}\x1fISO"
    if system.startswith("urn:uuid:"):
        return f"\x1f{system[9:]}\x1fUUID"
    prefix = f"{context.sender.namespace}/"
    if system.startswith(prefix):
        return _unslug(system.removeprefix(prefix))
    return f"\x1f{system}\x1fURI"


def _to_uri_of_oid(text: str, _context: Context) -> str:
    if _OID.match(text):
        return f"urn:oid:{text}"
    if _UUID.match(text):
        return f"urn:uuid:{text.lower()}"
    return text.replace(" ", "%20")


def _from_uri_of_oid(value: Any, _context: Context) -> str:
    return str(value).removeprefix("urn:oid:").removeprefix("urn:uuid:")


def _to_code(text: str, _context: Context) -> str:
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


def _to_system_of_type(text: str, context: Context) -> str | None:
    return context.sender.identifier_types.get(text)


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
    Codec(name="dtm.date", forward=_to_date, backward=_from_date, loses="the time of day"),
    Codec(
        name="dtm.dateTime",
        forward=_to_date_time,
        backward=_from_date_time,
        loses="that seconds or the zone were not sent",
    ),
    Codec(
        name="dtm.instant",
        forward=_to_instant,
        backward=_from_date_time,
        loses="that seconds or the zone were not sent",
    ),
    Codec(
        name="tm.time",
        forward=_to_time,
        backward=_from_time,
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
        forward=_to_code_system,
        backward=_from_code_system,
        loses="which of several names of a code system was sent",
    ),
    Codec(
        name="authority",
        forward=_to_authority,
        backward=_from_authority,
        loses="the namespace beside a universal id",
        is_composite=True,
    ),
    Codec(
        name="uri",
        forward=_to_uri_of_oid,
        backward=_from_uri_of_oid,
        loses="the letter case of a UUID",
    ),
    Codec(name="base64", forward=_to_base64, backward=_text, loses="line breaks in the base64"),
    Codec(name="text.base64", forward=_text_to_base64, backward=_base64_to_text),
    Codec(name="hex.base64", forward=_to_hex_base64, backward=_base64_to_hex, loses="letter case"),
    Codec(
        name="identifier-type",
        forward=_to_system_of_type,
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
