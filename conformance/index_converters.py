"""How one JSON value of one datatype becomes a search value; the tables of search.html.

http://hl7.org/fhir/R4/search.html#token and the sections beside it.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, NamedTuple

from conformance.date_ranges import ALWAYS, NEVER, range_of
from conformance.search_parameters import resource_types
from conformance.text_folding import sounds_of


class Context(NamedTuple):
    """What the converters need beside the value."""

    resource: Mapping[str, Any]
    zone: str
    base_url: str


Convert = Callable[[Any, list[Any], Context], None]


# --- token ---------------------------------------------------------------------------------------


def token_code(system: str, value: Any, into: list[Any], _: Context) -> None:
    """Take a bare code, id, string or the like; its system is implied by the binding."""
    if isinstance(value, str):
        into.append((system, value, "", ()))


def token_boolean(value: Any, into: list[Any], _: Context) -> None:
    """Take a boolean, searched as true or false."""
    if isinstance(value, bool):
        into.append(("", "true" if value else "false", "", ()))


def token_number(value: Any, into: list[Any], _: Context) -> None:
    """Take a number's text."""
    into.append(("", str(value), "", ()))


def token_coding(value: Any, into: list[Any], _: Context) -> None:
    """Take a Coding: system, code and display."""
    if isinstance(value, dict):
        code = value.get("code")
        display = value.get("display", "")
        if code is not None or display:
            into.append((value.get("system", ""), code, display, ()))


def token_concept(value: Any, into: list[Any], context: Context) -> None:
    """Take a CodeableConcept: each coding, and the text on its own."""
    if isinstance(value, dict):
        for coding in value.get("coding", ()):
            token_coding(coding, into, context)
        text = value.get("text")
        if text:
            into.append(("", None, text, ()))


def token_identifier(value: Any, into: list[Any], _: Context) -> None:
    """Take an Identifier: system, value, its type's text, and the type's codes for :of-type."""
    if not isinstance(value, dict):
        return
    type_ = value.get("type")
    types: tuple[tuple[str, str], ...] = ()
    text = ""
    if isinstance(type_, dict):
        text = type_.get("text", "")
        codings = (c for c in type_.get("coding", ()) if isinstance(c, dict) and "code" in c)
        types = tuple((coding.get("system", ""), coding["code"]) for coding in codings)
    into.append((value.get("system", ""), value.get("value"), text, types))


def token_contact(value: Any, into: list[Any], _: Context) -> None:
    """Take a ContactPoint's value."""
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        into.append(("", contact_value(value["value"]), "", ()))


def contact_value(text: str) -> str:
    """Return a telephone number without its punctuation; other addresses unchanged."""
    if "@" in text or "/" in text or not any(c.isdigit() for c in text):
        return text
    return "".join(c for c in text if c not in " -().\u2010\u2011\u2012\u2013\u2014")


def patient_deceased(context: Context, out: dict[str, list[Any]]) -> None:
    """`Patient.deceased.exists() and Patient.deceased != false`: always true or false."""
    resource = context.resource
    dead = "deceasedDateTime" in resource or resource.get("deceasedBoolean") is True
    out["deceased"] = [("", "true" if dead else "false", "", ())]


# Tasks in which something is still to be done, as the expression of `due-team` names them.
_TO_DO = frozenset({"requested", "received", "accepted", "ready", "in-progress", "on-hold"})


def task_due_team(context: Context, out: dict[str, list[Any]]) -> None:
    """`Task:due-team` without the engine, as a contract at effect writes many Tasks at once."""
    resource = context.resource
    if resource.get("status") not in _TO_DO:
        return
    owner = resource.get("owner", {}).get("reference") or ""
    end = resource.get("restriction", {}).get("period", {}).get("end") or ""
    out["due-team"] = [("", f"{owner}/{str(end)[:7]}", "", ())]


# --- string --------------------------------------------------------------------------------------


def string_plain(value: Any, into: list[Any], _: Context) -> None:
    """Take a string as it is."""
    if isinstance(value, str):
        into.append(value)


def _strings_in(keys: tuple[str, ...], value: Any, into: list[Any], _: Context) -> None:
    if not isinstance(value, dict):
        return
    for key in keys:
        part = value.get(key)
        if isinstance(part, str):
            into.append(part)
        elif isinstance(part, list):
            into.extend(item for item in part if isinstance(item, str))


string_name = partial(_strings_in, ("family", "given", "prefix", "suffix", "text"))
string_address = partial(
    _strings_in, ("line", "city", "district", "state", "country", "postalCode", "text")
)
string_annotation = partial(_strings_in, ("text",))


_MOST_SOUNDS = 200  # of one resource: a body of nothing but names would keep a process busy


def string_sounds(value: Any, into: list[Any], _: Context) -> None:
    """Take the pinyin and the initials of a Chinese name, whole and by family name."""
    if len(into) > _MOST_SOUNDS:
        return
    names: list[str] = []
    if isinstance(value, str):
        names.append(value)
    elif isinstance(value, dict):
        family = value.get("family", "")
        given = "".join(part for part in value.get("given", ()) if isinstance(part, str))
        names += [family + given, value.get("text", ""), given]
    found = dict.fromkeys(sound for name in names if name for sound in sounds_of(name))
    into.extend(sound for sound in found if sound not in into)


# --- date ----------------------------------------------------------------------------------------


def date_text(value: Any, into: list[Any], context: Context) -> None:
    """Take a date, dateTime or instant; what is not one has been refused before and is skipped."""
    if isinstance(value, str):
        try:
            into.append(range_of(value, context.zone))
        except ValueError:
            return


def date_period(value: Any, into: list[Any], context: Context) -> None:
    """Take a Period; a missing end is open."""
    if not isinstance(value, dict):
        return
    try:
        start = range_of(value["start"], context.zone)[0] if "start" in value else ALWAYS
        end = range_of(value["end"], context.zone)[1] if "end" in value else NEVER
    except (ValueError, TypeError):
        return
    if start != ALWAYS or end != NEVER:
        into.append((start, end))


def date_timing(value: Any, into: list[Any], context: Context) -> None:
    """Take a Timing: from its first to its last moment; the schedule inside is ignored."""
    if not isinstance(value, dict):
        return
    ranges: list[Any] = []
    for event in value.get("event", ()):
        date_text(event, ranges, context)
    repeat = value.get("repeat")
    if isinstance(repeat, dict):
        date_period(repeat.get("boundsPeriod"), ranges, context)
    if ranges:
        into.append((min(lo for lo, _ in ranges), max(hi for _, hi in ranges)))


# --- number and quantity -------------------------------------------------------------------------


def decimal_of(value: Any) -> Decimal | None:
    """Return a JSON number as a Decimal, or None."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None


def number_plain(value: Any, into: list[Any], _: Context) -> None:
    """Take a number as a point."""
    number = decimal_of(value)
    if number is not None:
        into.append((number, number))


def number_range(value: Any, into: list[Any], _: Context) -> None:
    """Take a Range of numbers, its units ignored."""
    if isinstance(value, dict):
        low, high = (decimal_of(value.get(side, {}).get("value")) for side in ("low", "high"))
        if low is not None or high is not None:
            into.append((low, high))


def quantity_plain(value: Any, into: list[Any], _: Context) -> None:
    """Take a Quantity; a comparator opens the range on its side."""
    if not isinstance(value, dict):
        return
    number = decimal_of(value.get("value"))
    if number is None:
        return
    comparator = value.get("comparator", "")
    low = None if comparator in ("<", "<=") else number
    high = None if comparator in (">", ">=") else number
    into.append((low, high, *_units(value)))


def _units(value: Mapping[str, Any]) -> tuple[str, str, str]:
    return value.get("system", ""), value.get("code", ""), value.get("unit", "")


def quantity_money(value: Any, into: list[Any], _: Context) -> None:
    """Take Money: the currency is the code of ISO 4217."""
    if isinstance(value, dict):
        number = decimal_of(value.get("value"))
        if number is not None:
            currency = value.get("currency", "")
            into.append((number, number, "urn:iso:std:iso:4217", currency, ""))


def quantity_range(value: Any, into: list[Any], _: Context) -> None:
    """Take a Range; its units are those of the end that has them."""
    if not isinstance(value, dict):
        return
    low, high = value.get("low", {}), value.get("high", {})
    bottom, top = decimal_of(low.get("value")), decimal_of(high.get("value"))
    if bottom is not None or top is not None:
        into.append((bottom, top, *_units(low if bottom is not None else high)))


def quantity_sampled(value: Any, into: list[Any], _: Context) -> None:
    """Take SampledData: it counts from its lower to its upper limit, in the unit of its origin."""
    if isinstance(value, dict):
        low, high = decimal_of(value.get("lowerLimit")), decimal_of(value.get("upperLimit"))
        if low is not None and high is not None:
            into.append((low, high, *_units(value.get("origin", {}))))


# --- reference and uri ---------------------------------------------------------------------------


def reference_plain(value: Any, into: list[Any], context: Context) -> None:
    """Take a Reference: literal, absolute or logical; contained ones are not searched by id."""
    if not isinstance(value, dict):
        return
    text = value.get("reference")
    if isinstance(text, str) and not text.startswith("#"):
        into.append(literal_of(text, context.base_url))
    identifier = value.get("identifier")
    if isinstance(identifier, dict) and isinstance(identifier.get("value"), str):
        into.append(("identifier", identifier.get("system", ""), identifier["value"]))


def literal_of(text: str, base_url: str) -> tuple[str, str, str]:
    """Return a reference's text as ("literal", type, id) or ("url", url, type)."""
    local = text
    if base_url and text.startswith(base_url + "/"):
        local = text[len(base_url) + 1 :]
    if "://" not in local and not local.startswith("urn:"):
        parts = local.split("/")
        if len(parts) in (2, 4) and (len(parts) == 2 or parts[2] == "_history"):
            return ("literal", parts[0], parts[1])
    bare = text.partition("/_history/")[0]
    parts = bare.rsplit("/", 2)
    known = len(parts) == 3 and parts[1] in resource_types()
    return ("url", bare, parts[1] if known else "")


def reference_canonical(value: Any, into: list[Any], context: Context) -> None:
    """Take a canonical, without its version and fragment; `Type/id` is a literal reference."""
    if isinstance(value, str):
        kind, first, second = literal_of(canonical_url(value), context.base_url)
        is_local = kind == "literal" and first in resource_types()
        into.append((kind, first, second) if is_local else ("url", canonical_url(value), ""))


def canonical_url(text: str) -> str:
    """Return a canonical address without version and fragment."""
    return text.partition("|")[0].partition("#")[0]


def reference_inline(value: Any, into: list[Any], _: Context) -> None:
    """Take a resource that stands inside (the first entry of a Bundle) as a reference to it."""
    if isinstance(value, dict) and isinstance(value.get("id"), str):
        into.append(("literal", str(value.get("resourceType", "")), value["id"]))


def may_be(value: Any, type_: str, context: Context) -> bool:
    """Say whether a Reference is to a resource of the type, or cannot be told to be to another."""
    if not isinstance(value, dict):
        return False
    text = value.get("reference")
    if isinstance(text, str):
        if text.startswith("#"):
            contained = context.resource.get("contained", ())
            return any(
                isinstance(inner, dict)
                and inner.get("id") == text[1:]
                and inner.get("resourceType") == type_
                for inner in contained
            )
        kind, first, second = literal_of(text, context.base_url)
        found = first if kind == "literal" else second
        if found:
            return found == type_
    return bool(value.get("type", type_) == type_)


def uri_plain(value: Any, into: list[Any], _: Context) -> None:
    """Take a uri, url, oid, uuid or canonical as it is."""
    if isinstance(value, str):
        into.append(value)


def special_position(value: Any, into: list[Any], _: Context) -> None:
    """Take a Location's position in degrees."""
    if isinstance(value, dict):
        latitude, longitude = decimal_of(value.get("latitude")), decimal_of(value.get("longitude"))
        if latitude is not None and longitude is not None:
            into.append((float(latitude), float(longitude)))
