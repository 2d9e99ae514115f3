"""The primitive types: is this JSON value one? Every check runs in time linear to its input.

https://hl7.org/fhir/R4/datatypes.html. The published patterns are not used: one of them takes
exponential time. A check returns None or the key of what is wrong.
"""

import calendar
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

Check = Callable[[Any], str | None]

STRING_LIMIT = 1024 * 1024
SHORT = 200
"""Characters up to which isprintable() is the quickest look at a string."""
# Each of these reads its input once: no two parts of a pattern can match the same text.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
# Everything but control characters; what is left without it is short, and so quickly written.
_CLEAN_BYTES = b"\t\n\r" + bytes(range(32, 256))
_BLANK = re.compile(r"\s")
_CODE = re.compile(r"\S+(?:\s\S+)*")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_OID = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+")
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_TIME = re.compile(_CLOCK)
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_YEAR = r"(?!0000)[0-9]{4}"
# Every day of the calendar; the one that is in leap years only is the only group.
_DAY = (
    r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    r"|(?:0[13578]|1[02])-31|(02-29))"
)
_MONTH = r"(?:0[1-9]|1[0-2])"
_INSTANT = re.compile(f"{_YEAR}-{_DAY}T{_CLOCK}{_ZONE}")
_DATE = re.compile(f"{_YEAR}(?:-(?:{_DAY}|{_MONTH}))?")
_DATE_TIME = re.compile(f"{_YEAR}(?:-(?:{_DAY}(?:T{_CLOCK}{_ZONE})?|{_MONTH}))?")
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PADDING = (b"", b"=", b"==")
_WHITE = b" \t\r\n\f\v"


is_id = _ID.fullmatch
"""Say of a string whether it is an id: 1 to 64 of A-Z a-z 0-9 - and full stop."""


def check_string(value: Any) -> str | None:
    """Check a string or markdown: not empty, not blank only, no control characters, up to 1 MiB."""
    if type(value) is not str:
        return "not-a-string"
    # Printable and begun with more than a blank: not empty, not blank, no control characters.
    if value >= "!" and len(value) < SHORT and value.isprintable():
        return None
    return _check_unusual_string(value)


def _check_unusual_string(value: str) -> str | None:
    if not value:
        return "empty-string"
    if value.isspace():
        return "blank-string"
    if len(value) > STRING_LIMIT:
        return "string-too-long"
    control = value.encode("utf-8", "surrogatepass").translate(None, _CLEAN_BYTES)
    return "control-character" if control else None


def check_code(value: Any) -> str | None:
    """Check a code: no blanks around it, single blanks inside."""
    if type(value) is not str:
        return "not-a-string"
    if value and " " not in value and value.isprintable():
        return None
    if not value:
        return "empty-string"
    return check_string(value) if _CODE.fullmatch(value) else "bad-code"


def check_uri(value: Any) -> str | None:
    """Check a uri, url or canonical: not empty, no white space."""
    if type(value) is not str:
        return "not-a-string"
    if value and " " not in value and value.isprintable():
        return None
    if not value:
        return "empty-string"
    return "bad-uri" if _BLANK.search(value) or _CONTROL.search(value) else None


def check_id(value: Any) -> str | None:
    """Check an id: 1 to 64 of A-Z a-z 0-9 - and full stop."""
    if type(value) is not str:
        return "not-a-string"
    return None if _ID.fullmatch(value) else "bad-id"


def check_oid(value: Any) -> str | None:
    """Check a `urn:oid:`."""
    if type(value) is not str:
        return "not-a-string"
    return None if _OID.fullmatch(value) else "bad-oid"


def check_uuid(value: Any) -> str | None:
    """Check a `urn:uuid:` in lower case."""
    if type(value) is not str:
        return "not-a-string"
    return None if _UUID.fullmatch(value) else "bad-uuid"


def check_boolean(value: Any) -> str | None:
    """Check a JSON true or false."""
    return None if value is True or value is False else "not-a-boolean"


def check_integer(value: Any) -> str | None:
    """Check a signed 32-bit number without a fraction."""
    if type(value) is not int:
        return "not-an-integer"
    return None if -2147483648 <= value <= 2147483647 else "integer-range"


def check_unsigned_integer(value: Any) -> str | None:
    """Check a 31-bit number from 0."""
    if type(value) is not int:
        return "not-an-integer"
    return None if 0 <= value <= 2147483647 else "unsigned-range"


def check_positive_integer(value: Any) -> str | None:
    """Check a 31-bit number from 1."""
    if type(value) is not int:
        return "not-an-integer"
    return None if 1 <= value <= 2147483647 else "positive-range"


def check_decimal(value: Any) -> str | None:
    """Check a number; a Python float passes if it is finite, though its text may be another."""
    if type(value) is int:
        return None
    if isinstance(value, Decimal):
        return None if value.is_finite() else "not-a-decimal"
    return None if type(value) is float and math.isfinite(value) else "not-a-decimal"


def _day_check(pattern: re.Pattern[str], key: str) -> Check:
    """Return the check of a type whose pattern begins with a day, which the calendar must have."""
    fullmatch = pattern.fullmatch

    def check(value: Any) -> str | None:
        if type(value) is not str:
            return "not-a-string"
        match = fullmatch(value)
        if match is None or (match.lastindex and not calendar.isleap(int(value[:4]))):
            return key
        return None

    return check


check_date = _day_check(_DATE, "bad-date")
"""Check a date of year, year and month, or a day of the calendar."""
check_date_time = _day_check(_DATE_TIME, "bad-date-time")
"""Check a date, or a day with time to the second and a zone."""
check_instant = _day_check(_INSTANT, "bad-instant")
"""Check a day with time to the second at least and a zone."""


def check_time(value: Any) -> str | None:
    """Check a time of day to the second, without a zone."""
    if type(value) is not str:
        return "not-a-string"
    return None if _TIME.fullmatch(value) else "bad-time"


def check_base64(value: Any) -> str | None:
    """Check base64 content; white space is allowed."""
    if type(value) is not str:
        return "not-a-string"
    if not value.isascii():
        return "bad-base64"
    data = value.encode()
    rest = data.translate(None, _BASE64)
    padding = rest.translate(None, _WHITE)
    length = len(data) - len(rest) + len(padding)
    if not length:
        return "empty-string"
    if length % 4 or padding not in _PADDING:
        return "bad-base64"
    tail = data[data.find(b"=") :].translate(None, _WHITE) if padding else b""
    return None if tail == padding else "bad-base64"


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "base64Binary": check_base64,
        "boolean": check_boolean,
        "canonical": check_uri,
        "code": check_code,
        "date": check_date,
        "dateTime": check_date_time,
        "decimal": check_decimal,
        "id": check_id,
        "instant": check_instant,
        "integer": check_integer,
        "markdown": check_string,
        "oid": check_oid,
        "positiveInt": check_positive_integer,
        "string": check_string,
        "time": check_time,
        "unsignedInt": check_unsigned_integer,
        "uri": check_uri,
        "url": check_uri,
        "uuid": check_uuid,
    }
)
