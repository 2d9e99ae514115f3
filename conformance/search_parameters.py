"""The search parameters of each resource type, ready to be compiled and extracted.

R4's own (http://hl7.org/fhir/R4/searchparameter-registry.html), a few of ours, and custom
SearchParameter resources on request. Numbers of types and parameters are stable: R4's list is
frozen, ours are appended, custom ones bring their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

from conformance.r4 import tables
from conformance.search_paths import NotSimple, Place, places_below, places_of

FIRST_CUSTOM = 1024  # ordinals below are R4's and ours, from here on custom parameters
_ROOM = 4096  # parameters a type can have


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part of a composite: the parameter that rules its syntax, and where it stands."""

    code: str
    type: str
    expression: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameter:
    """One search parameter of one resource type.

    `type` is number, date, string, token, reference, composite, quantity, uri or special.
    `number` is unique over all types; `ordinal` (its low 12 bits) unique within the type.
    `stored_as`: this parameter's index rows are those of other parameters of the type (combo-code
    is code and component-code; patient is subject, limited to `targets`).
    `systems`: systems implied by the binding of elements that hold a bare code.
    `fault`: the element of a custom SearchParameter for which it cannot be searched, "" if it can.
    """

    code: str
    url: str
    type: str
    base: str
    number: int
    expression: str | None = None
    targets: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    places: tuple[Place, ...] | None = None  # None: the FHIRPath engine has to evaluate it
    stored_as: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    fault: str = ""

    @property
    def ordinal(self) -> int:
        """Return the number within the type, as kept in `resource.pset`."""
        return self.number % _ROOM

    @property
    def holds_identifiers(self) -> bool:
        """Say whether all values are Identifiers, which keep their case and are not listed."""
        places = self.places or ()
        return bool(places) and all(place.datatype == "Identifier" for place in places)


# Rules of a Consent at both levels; a refusal that names purposes counts where treatment is one.
_RULES = "(Consent.provision | Consent.provision.provision)"
_DENIALS = (
    f"{_RULES}.where(type = 'deny')"
    ".where(purpose.empty() or purpose.where(code = 'TREAT').exists())"
)
_PERMITS = f"{_RULES}.where(type = 'permit')"
# A team's worklist is read by month, so its key holds only services that are still to be done.
_TO_DO = " or ".join(
    f"status = '{status}'"
    for status in ("requested", "received", "accepted", "ready", "in-progress", "on-hold")
)
_DUE_TEAM = (
    f"Task.where({_TO_DO})"
    ".select(owner.reference & '/' & restriction.period.end.toString().substring(0, 7))"
)
# Ours: (code, type, base, expression). Append only; the order gives the numbers.
_OWN = (
    ("name-pinyin", "string", "Patient", "Patient.name"),
    ("name-pinyin", "string", "Practitioner", "Practitioner.name"),
    ("name-pinyin", "string", "RelatedPerson", "RelatedPerson.name"),
    ("name-pinyin", "string", "Person", "Person.name"),
    ("name-pinyin", "string", "Organization", "Organization.name"),
    ("name-pinyin", "string", "Location", "Location.name"),
    ("denied-actor", "reference", "Consent", f"{_DENIALS}.actor.reference"),
    ("denies", "token", "Consent", f"{_DENIALS}.where(actor.empty()).type"),
    ("permitted-actor", "reference", "Consent", f"{_PERMITS}.actor.reference"),
    ("due", "date", "Task", "Task.restriction.period"),
    ("due-team", "token", "Task", _DUE_TEAM),
)
_OWN_URL = "https://fhir.qiao.example/cphc/SearchParameter/"
# Answered by the store itself or by the query parser, never by index rows.
UNINDEXED = frozenset({"_id", "_lastUpdated", "_text", "_content", "_query"})


@cache
def resource_types() -> tuple[str, ...]:
    """Return R4's resource types in the order of their numbers."""
    return tuple(sorted(tables.load().resource_types))


@cache
def type_number(type_: str) -> int:
    """Return the stable number of a resource type, from 1; raise KeyError if R4 has none such."""
    return _type_numbers()[type_]


@cache
def _type_numbers() -> Mapping[str, int]:
    return {type_: number for number, type_ in enumerate(resource_types(), start=1)}


@cache
def parameters_of(type_: str) -> Mapping[str, SearchParameter]:
    """Return code → parameter of a resource type, those of all resources included."""
    found = dict(_published(type_))
    for code, kind, base, expression in _OWN:
        if base == type_:
            found[code] = _parameter(type_, code, kind, _OWN_URL + code, expression, len(found) + 1)
    _mark_stored_as(found)
    _mark_composites(found)
    return MappingProxyType(found)


def custom_parameter(type_: str, resource: Mapping[str, object], ordinal: int) -> SearchParameter:
    """Return a custom SearchParameter resource as a parameter of `type_`.

    The caller gives the ordinal (from `FIRST_CUSTOM`). Composites are not taken from resources.
    """
    found = _parameter(
        type_,
        str(resource["code"]),
        str(resource["type"]),
        str(resource["url"]),
        str(resource["expression"]) if "expression" in resource else None,
        ordinal,
    )
    targets = resource.get("target")
    return replace(found, targets=tuple(targets)) if isinstance(targets, list) else found


def _published(type_: str) -> Mapping[str, SearchParameter]:
    found: dict[str, SearchParameter] = {}
    by_url = _by_url()
    rows = [info for info in by_url.values() if _applies(info, type_)]
    for ordinal, info in enumerate(sorted(rows, key=lambda info: info.code), start=1):
        parameter = _parameter(type_, info.code, info.type, info.url, info.expression, ordinal)
        components = tuple(
            Component(
                code=by_url[url].code,
                type=_component_type(by_url[url].type, expression, parameter.places or ()),
                expression=expression,
            )
            for url, expression in info.components
        )
        found[info.code] = replace(parameter, targets=info.targets, components=components)
    return found


def _component_type(published: str, expression: str, bases: tuple[Place, ...]) -> str:
    """Return a component's type; R4 has DocumentReference's `relationship` the wrong way round."""
    try:
        datatypes = {place.datatype for base in bases for place in places_below(expression, base)}
    except NotSimple:
        return published
    if published == "reference" and datatypes == {"code"}:
        return "token"
    if published == "token" and datatypes == {"Reference"}:
        return "reference"
    return published


@cache
def _by_url() -> Mapping[str, tables.SearchParameterInfo]:
    return {info.url: info for info in tables.load().search_parameters}


def _applies(info: tables.SearchParameterInfo, type_: str) -> bool:
    known = tables.load()
    return any(base == type_ or known.is_kind_of(type_, base) for base in info.bases)


def _parameter(
    type_: str, code: str, kind: str, url: str, expression: str | None, ordinal: int
) -> SearchParameter:
    places = _places(expression, type_, code)
    return SearchParameter(
        code=code,
        url=url,
        type=kind,
        base=type_,
        number=type_number(type_) * _ROOM + ordinal,
        expression=expression,
        places=places,
        systems=_implied_systems(places or ()) if kind == "token" else (),
    )


def _places(expression: str | None, type_: str, code: str) -> tuple[Place, ...] | None:
    if expression is None or code in UNINDEXED:
        return ()
    try:
        return places_of(expression, type_)
    except NotSimple:
        return None


def _implied_systems(places: tuple[Place, ...]) -> tuple[str, ...]:
    found = (implied_system(place) for place in places if place.datatype == "code")
    return tuple(dict.fromkeys(system for system in found if system))


@cache
def implied_system(place: Place) -> str:
    """Return the one code system a bare code's value set draws from, or an empty string."""
    known = tables.load()
    type_, _, inner = place.element.partition(".")
    element = known.types[type_].elements.get(inner)
    if element is None or element.binding is None:
        return ""
    value_set = known.value_sets.get(element.binding.value_set, {})
    compose = value_set.get("compose", {})
    includes = compose.get("include", ())
    if len(includes) != 1 or "valueSet" in includes[0]:
        return ""
    return str(includes[0].get("system", ""))


def _mark_stored_as(found: dict[str, SearchParameter]) -> None:
    """Let parameters whose places are those of others use the others' index rows."""
    for code in sorted(found, key=lambda code: (-len(code), code)):
        parameter = found[code]
        places = parameter.places
        if not places or not _can_share(parameter):
            continue
        plain, type_filter = _without_type_filter(places)
        others = [
            other
            for name, other in found.items()
            if name != code
            and other.type == parameter.type
            and other.places
            and not other.stored_as
            and set(other.places) <= set(plain)
            and _can_share(other)
        ]
        covered = {place for other in others for place in other.places or ()}
        if others and covered == set(plain):
            chosen = tuple(sorted(other.code for other in others))
            targets = (type_filter,) if type_filter else parameter.targets
            found[code] = replace(parameter, stored_as=chosen, targets=targets)


def _mark_composites(found: dict[str, SearchParameter]) -> None:
    """Let composites whose bases are those of others use the others' index rows."""
    for code in sorted(found, key=lambda code: (-len(code), code)):
        parameter = found[code]
        if parameter.type != "composite" or not parameter.places:
            continue
        others = [
            other
            for name, other in found.items()
            if name != code
            and other.type == "composite"
            and not other.stored_as
            and _parts(other) == _parts(parameter)
            and set(other.places or ()) < set(parameter.places)
        ]
        covered = {place for other in others for place in other.places or ()}
        if others and covered == set(parameter.places):
            chosen = tuple(sorted(other.code for other in others))
            found[code] = replace(parameter, stored_as=chosen)


def _parts(parameter: SearchParameter) -> tuple[tuple[str, str], ...]:
    return tuple((part.type, part.expression) for part in parameter.components)


def _can_share(parameter: SearchParameter) -> bool:
    if parameter.type in ("composite", "special") or parameter.code == "name-pinyin":
        return False
    return all(place.datatype != "Resource" for place in parameter.places or ())


def _without_type_filter(places: tuple[Place, ...]) -> tuple[tuple[Place, ...], str]:
    """Return the places without a closing `where(resolve() is T)`, and the one T."""
    last = {place.steps[-1].name if _is_filtered(place) else "" for place in places}
    if len(last) != 1 or last == {""}:
        return places, ""
    return tuple(replace(place, steps=place.steps[:-1]) for place in places), last.pop()


def _is_filtered(place: Place) -> bool:
    return bool(place.steps) and place.steps[-1].kind == "resolves"
