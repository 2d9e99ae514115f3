"""Every limit of the HTTP side: its value, its reason and its answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may cost; docs/reference/rest.md lists the answers."""

    # A scanned report as base64 fits; more belongs in Binary or an import. Answer: 413.
    body_bytes: int = 10 * 1024 * 1024
    # Deeper documents exist only to exhaust a recursive reader. Answer: 400.
    depth: int = 64
    # One transaction is one commit and holds its locks until the end. Answer: 413.
    bundle_entries: int = 1_000
    # A URL is kept in logs and links; a longer search is sent by POST. Answer: 414.
    query_bytes: int = 8_192
    # Request line and headers together; uvicorn has no bound of its own. Answer: 431.
    head_bytes: int = 64 * 1024
    # After a refusal the rest of the body is read and thrown away up to here, then cut off.
    discarded_bytes: int = 32 * 1024 * 1024
    # More parameters than this are a mistake or an attack. Answer: 400.
    query_parameters: int = 200
    # Head of a request, from its first byte; a body gets one second more per 64 KiB. Answer: 408.
    receive_seconds: float = 15.0
    body_bytes_per_second: int = 64 * 1024
    # A connection between two requests. Clients and proxies keep theirs for about a minute; if ours
    # went first, a request sent at that moment would be lost (RFC 9112 section 9.5).
    idle_seconds: int = 75
    # Entries of a page when nobody asks, and at most.
    page_default: int = 50
    page_maximum: int = 1_000
    # Below this, gzip costs more than it saves.
    gzip_from_bytes: int = 1_024
