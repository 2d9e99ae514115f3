"""Which converter reads the values at a place for a search parameter, by its type and datatype.

http://hl7.org/fhir/R4/search.html#table
"""

from functools import partial
from typing import Any

from conformance.index_converters import (
    Convert,
    date_period,
    date_text,
    date_timing,
    number_plain,
    number_range,
    quantity_money,
    quantity_plain,
    quantity_range,
    quantity_sampled,
    reference_canonical,
    reference_inline,
    reference_plain,
    special_position,
    string_address,
    string_annotation,
    string_name,
    string_plain,
    string_sounds,
    token_boolean,
    token_code,
    token_coding,
    token_concept,
    token_contact,
    token_identifier,
    token_number,
    uri_plain,
)
from conformance.search_parameters import SearchParameter, implied_system
from conformance.search_paths import Place

_QUANTITIES = (
    "Quantity",
    "Age",
    "Duration",
    "Count",
    "Distance",
    "SimpleQuantity",
    "MoneyQuantity",
)
_URIS = ("uri", "url", "oid", "uuid", "canonical")
_CONVERTERS: dict[str, dict[str, Convert]] = {
    "token": {
        "boolean": token_boolean, "Coding": token_coding, "CodeableConcept": token_concept,
        "Identifier": token_identifier, "ContactPoint": token_contact,
        "integer": token_number, "positiveInt": token_number, "unsignedInt": token_number,
        **{name: partial(token_code, "") for name in ("string", "id", "markdown", *_URIS)},
    },
    "string": {
        "string": string_plain, "markdown": string_plain, "code": string_plain,
        "HumanName": string_name, "Address": string_address, "Annotation": string_annotation,
        **dict.fromkeys(_URIS, string_plain),
    },
    "date": {
        "date": date_text, "dateTime": date_text, "instant": date_text,
        "Period": date_period, "Timing": date_timing,
    },
    "number": {
        "decimal": number_plain, "integer": number_plain, "positiveInt": number_plain,
        "unsignedInt": number_plain, "Range": number_range,
    },
    "quantity": {
        **dict.fromkeys(_QUANTITIES, quantity_plain),
        "Money": quantity_money, "Range": quantity_range, "SampledData": quantity_sampled,
        "decimal": lambda value, into, context: quantity_plain({"value": value}, into, context),
    },
    "reference": {
        "Reference": reference_plain, "canonical": reference_canonical,
        "uri": reference_canonical, "url": reference_canonical, "Resource": reference_inline,
    },
    "uri": dict.fromkeys(_URIS, uri_plain),
    "special": {"BackboneElement": special_position},
}  # fmt: skip


def choose(parameter: SearchParameter, place: Place) -> Convert | None:
    """Return the converter of a place's datatype for a parameter, None if it has no value there."""
    return choose_for(parameter.type, parameter.code, place)


def choose_for(kind: str, code: str, place: Place) -> Convert | None:
    """Return the converter for a parameter type and code at a place."""
    if code == "name-pinyin":
        return string_sounds
    if kind == "token" and place.datatype == "code":
        return partial(token_code, implied_system(place))
    return _CONVERTERS.get(kind, {}).get(place.datatype)


def by_shape(kind: str, value: Any) -> Convert | None:
    """Return a converter by the look of a value, for expressions only the engine understands."""
    if isinstance(value, dict):
        for datatype, signs in _SHAPES:
            if datatype in _CONVERTERS.get(kind, {}) and any(sign in value for sign in signs):
                return _CONVERTERS[kind][datatype]
        return None
    datatypes = {"token": "boolean" if isinstance(value, bool) else "string", "number": "decimal"}
    datatypes |= {"string": "string", "date": "dateTime", "reference": "canonical", "uri": "uri"}
    return _CONVERTERS.get(kind, {}).get(datatypes.get(kind, ""))


_SHAPES = (
    ("CodeableConcept", ("coding",)),
    ("Identifier", ("type", "assigner", "value")),
    ("Coding", ("code", "display")),
    ("CodeableConcept", ("text",)),
    ("HumanName", ("family", "given")),
    ("Address", ("line", "city", "postalCode")),
    ("Period", ("start", "end")),
    ("Timing", ("event", "repeat")),
    ("Range", ("low", "high")),
    ("Money", ("currency",)),
    ("Quantity", ("value",)),
    ("Reference", ("reference", "identifier")),
)
