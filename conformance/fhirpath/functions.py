"""The functions by name, with how many arguments each takes and how it wants them."""

from collections.abc import Callable
from dataclasses import dataclass

from conformance.fhirpath import functions_collections as collections
from conformance.fhirpath import functions_conversion as conversion
from conformance.fhirpath import functions_fhir as fhir
from conformance.fhirpath import functions_numbers as numbers
from conformance.fhirpath import functions_profiles as profiles
from conformance.fhirpath import functions_text as text
from conformance.fhirpath.evaluation import Collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function: `run(frame, input, *arguments)`.

    Arguments come evaluated against the outer `$this`, or, with `is_lazy`, as closures to be
    evaluated for each item.
    """

    run: Callable[..., Collection]
    least: int
    most: int
    is_lazy: bool = False


def _plain(run: Callable[..., Collection], least: int = 0, most: int | None = None) -> Function:
    return Function(run=run, least=least, most=least if most is None else most)


def _lazy(run: Callable[..., Collection], least: int = 0, most: int | None = None) -> Function:
    return Function(run=run, least=least, most=least if most is None else most, is_lazy=True)


FUNCTIONS: dict[str, Function] = {
    # http://hl7.org/fhirpath/N1/#existence
    "empty": _plain(collections.empty),
    "exists": _lazy(collections.exists, 0, 1),
    "all": _lazy(collections.all_, 1),
    "allTrue": _plain(collections.all_true),
    "anyTrue": _plain(collections.any_true),
    "allFalse": _plain(collections.all_false),
    "anyFalse": _plain(collections.any_false),
    "subsetOf": _plain(collections.subset_of, 1),
    "supersetOf": _plain(collections.superset_of, 1),
    "count": _plain(collections.count),
    "distinct": _plain(collections.distinct_),
    "isDistinct": _plain(collections.is_distinct),
    "not": _plain(collections.not_),
    # #filtering-and-projection
    "where": _lazy(collections.where, 1),
    "select": _lazy(collections.select, 1),
    "repeat": _lazy(collections.repeat, 1),
    # #subsetting
    "single": _plain(collections.single_),
    "first": _plain(collections.first),
    "last": _plain(collections.last),
    "tail": _plain(collections.tail),
    "skip": _plain(collections.skip, 1),
    "take": _plain(collections.take, 1),
    "intersect": _plain(collections.intersect, 1),
    "exclude": _plain(collections.exclude, 1),
    # #combining, #aggregates, #tree-navigation, #utility-functions
    "union": _plain(collections.union, 1),
    "combine": _plain(collections.combine, 1),
    "aggregate": _lazy(collections.aggregate, 1, 2),
    "iif": _lazy(collections.iif, 2, 3),
    "children": _plain(collections.children),
    "descendants": _plain(collections.descendants),
    "sort": _lazy(collections.sort, 0, 8),
    "trace": _lazy(collections.trace, 1, 2),
    "now": _plain(fhir.now),
    "today": _plain(fhir.today),
    "timeOfDay": _plain(fhir.time_of_day),
    # #conversion
    "toBoolean": _plain(conversion.to_boolean),
    "convertsToBoolean": _plain(conversion.converts_to_boolean),
    "toInteger": _plain(conversion.to_integer),
    "convertsToInteger": _plain(conversion.converts_to_integer),
    "toDecimal": _plain(conversion.to_decimal),
    "convertsToDecimal": _plain(conversion.converts_to_decimal),
    "toString": _plain(conversion.to_string),
    "convertsToString": _plain(conversion.converts_to_string),
    "toDate": _plain(conversion.to_date),
    "convertsToDate": _plain(conversion.converts_to_date),
    "toDateTime": _plain(conversion.to_date_time),
    "convertsToDateTime": _plain(conversion.converts_to_date_time),
    "toTime": _plain(conversion.to_time),
    "convertsToTime": _plain(conversion.converts_to_time),
    "toQuantity": _plain(conversion.to_quantity, 0, 1),
    "convertsToQuantity": _plain(conversion.converts_to_quantity, 0, 1),
    # #string-manipulation
    "indexOf": _plain(text.index_of, 1),
    "lastIndexOf": _plain(text.last_index_of, 1),
    "substring": _plain(text.substring, 1, 2),
    "startsWith": _plain(text.starts_with, 1),
    "endsWith": _plain(text.ends_with, 1),
    "contains": _plain(text.contains, 1),
    "upper": _plain(text.upper),
    "lower": _plain(text.lower),
    "trim": _plain(text.trim),
    "replace": _plain(text.replace, 2),
    "matches": _plain(text.matches, 1),
    "matchesFull": _plain(text.matches_full, 1),
    "replaceMatches": _plain(text.replace_matches, 2),
    "length": _plain(text.length),
    "toChars": _plain(text.to_chars),
    "split": _plain(text.split, 1),
    "join": _plain(text.join, 0, 1),
    "encode": _plain(text.encode, 1),
    "decode": _plain(text.decode, 1),
    "escape": _plain(text.escape, 1),
    "unescape": _plain(text.unescape, 1),
    # #math
    "abs": _plain(numbers.abs_),
    "ceiling": _plain(numbers.ceiling),
    "exp": _plain(numbers.exp),
    "floor": _plain(numbers.floor),
    "ln": _plain(numbers.ln),
    "log": _plain(numbers.log, 1),
    "power": _plain(numbers.power, 1),
    "round": _plain(numbers.round_, 0, 1),
    "sqrt": _plain(numbers.sqrt),
    "truncate": _plain(numbers.truncate),
    "precision": _plain(numbers.precision),
    "lowBoundary": _plain(numbers.low_boundary, 0, 1),
    "highBoundary": _plain(numbers.high_boundary, 0, 1),
    "comparable": _plain(numbers.comparable, 1),
    # https://hl7.org/fhir/R4/fhirpath.html#functions
    "type": _plain(fhir.type_),
    "extension": _plain(fhir.extension, 1),
    "hasValue": _plain(fhir.has_value),
    "getValue": _plain(fhir.get_value),
    "resolve": _plain(fhir.resolve),
    "memberOf": _plain(fhir.member_of, 1),
    "subsumes": _plain(fhir.subsumes, 1),
    "subsumedBy": _plain(fhir.subsumed_by, 1),
    "conformsTo": _plain(fhir.conforms_to, 1),
    "htmlChecks": _plain(fhir.html_checks),
    "elementDefinition": _plain(profiles.element_definition),
    "slice": _plain(profiles.slice_, 2),
    "checkModifiers": _plain(profiles.check_modifiers, 0, 64),
}
