"""The values of search parameters as data, parsed but not yet keys."""

from dataclasses import dataclass
from decimal import Decimal

from conformance.date_ranges import DEFAULT_ZONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is needed to read values: the default zone, our base address, and the moment (µs)."""

    zone: str = DEFAULT_ZONE
    base_url: str = ""
    now: int = 0


@dataclass(frozen=True, slots=True)
class TokenValue:
    """`system|code`; system None is any, "" is none; code None is every code of the system.

    For :of-type `code` is the type's code and `value` the identifier's value.
    """

    system: str | None
    code: str | None
    value: str = ""


@dataclass(frozen=True, slots=True)
class StringValue:
    """A text as given."""

    text: str


@dataclass(frozen=True, slots=True)
class DateValue:
    """A comparison with a span of time, in microseconds UTC, both ends inclusive."""

    prefix: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class NumberValue:
    """A comparison with a number; low (inclusive) to high (exclusive) is its implied precision."""

    prefix: str
    number: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class QuantityValue:
    """A number with a unit: system None is any; code "" is any unit."""

    number: NumberValue
    system: str | None
    code: str


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """One target: kind "literal" (type, id), "id" (type "", id) or "url" (url, type or "")."""

    kind: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class UriValue:
    """A uri as given."""

    uri: str


@dataclass(frozen=True, slots=True)
class CompositeValue:
    """One value for each component, in order."""

    parts: tuple["Value", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearValue:
    """A point in degrees and a distance in kilometres."""

    latitude: float
    longitude: float
    kilometres: float


Value = (
    TokenValue
    | StringValue
    | DateValue
    | NumberValue
    | QuantityValue
    | ReferenceValue
    | UriValue
    | CompositeValue
    | NearValue
)
