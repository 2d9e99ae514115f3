"""What a client prefers and on which condition it asks; http.html#return, #concurrency."""

import email.utils
import functools
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from conformance.problem import InvalidContent, Issue
from fhir_store.operations import ANY_VERSION

Return = Literal["minimal", "representation", "OperationOutcome"]
MINIMAL: Return = "minimal"

_ETAG = re.compile(r'\s*(?:W/)?"([A-Za-z0-9\-.]{1,64})"\s*')


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """The Prefer header: what to return (None: not said), and how to take unknown parameters."""

    return_: Return | None = None
    is_lenient: bool = False
    is_strict: bool = False
    is_async: bool = False


@functools.lru_cache(maxsize=256)
def parse_prefer(header: str) -> Preferences:
    """Read the Prefer header (RFC 7240); what is unknown in it is ignored, as that RFC says."""
    chosen: Return | None = None
    is_lenient = is_strict = is_async = False
    for part in re.split(r"[,;]", header):
        name, _, value = (piece.strip().strip('"') for piece in part.partition("="))
        if name.lower() == "return" and value in {"minimal", "representation", "OperationOutcome"}:
            chosen = value  # type: ignore[assignment]
        elif name.lower() == "handling":
            is_lenient, is_strict = value == "lenient", value == "strict"
        elif name.lower() == "respond-async":
            is_async = True
    return Preferences(
        return_=chosen, is_lenient=is_lenient, is_strict=is_strict, is_async=is_async
    )


def parse_if_match(header: str) -> int:
    """Return the version that If-Match names, ANY_VERSION for `*`; raise InvalidContent."""
    if header.strip() == "*":
        return ANY_VERSION
    match = _ETAG.fullmatch(header)
    if not match or not match[1].isdigit():
        raise InvalidContent(
            Issue(
                code="value",
                key="etag",
                text_en="If-Match does not hold one version.",
                text_zh="If-Match 中没有唯一的版本号。",
                fix_en='Send the ETag of the version you have read, for example If-Match: W/"3".',
                fix_zh='请发送所读版本的 ETag，例如 If-Match: W/"3"。',
                expression="http.If-Match",
            )
        )
    return int(match[1])


def etag_matches(header: str, version: int) -> bool:
    """Tell whether If-None-Match names this version, or any."""
    if header.strip() == "*":
        return True
    tags = (_ETAG.fullmatch(part) for part in header.split(","))
    return any(tag is not None and tag[1] == str(version) for tag in tags)


def is_unmodified_since(header: str, last_updated: datetime) -> bool:
    """Tell whether nothing changed since the date of If-Modified-Since; a bad date says no."""
    try:
        since = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return False
    if since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    return last_updated.replace(microsecond=0) <= since


_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec").split()


def http_date(moment: datetime) -> bytes:
    """Return the moment as the Last-Modified header writes it (IMF-fixdate, RFC 9110 5.6.7)."""
    at = moment.astimezone(UTC)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
        _DAYS[at.weekday()],
        at.day,
        _MONTHS[at.month - 1],
        at.year,
        at.hour,
        at.minute,
        at.second,
    )
