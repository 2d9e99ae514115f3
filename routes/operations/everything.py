"""`$everything` of a patient, of an encounter, and of all patients that the caller may see."""

from collections.abc import Mapping
from dataclasses import replace

from conformance.date_ranges import range_of
from conformance.search_parameters import parameters_of
from fhir_store.authorization import MORE_MEMBERS, Authorization
from fhir_store.permits import any_of, conditions_of, only, refers_to_any, within
from fhir_store.search.query import AllOf, Condition, Include, SearchQuery, parse_query
from routes.answer import Answer
from routes.hub import Hub
from routes.interactions.read import version_asked_for
from routes.interactions.search import in_compartment, members_of, page_answer, rules_of
from routes.operations.parameters import bad_parameter, parameters_in, value_of
from routes.request import Request

_OTHERS: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {
    "Patient": {
        "Device": (("patient", "Patient/{id}"), ("patient:missing", "true")),
        "GuidanceResponse": (("patient", "Patient/{id}"),),
    }
}
"""Types outside the compartment that can be another person's: what shows that they are not."""

_KNOWN = frozenset({"start", "end", "_since", "_type", "_count", "_cursor"})
_DATES = frozenset({"start", "end", "_since"})
Asked = Mapping[str, str]
Members = Mapping[str, tuple[str, ...]]


async def everything(hub: Hub, request: Request) -> Answer:
    """Return the resource, its compartment, and what these refer to, page by page.

    What belongs to another resource of the kind is left out, also where a Provenance or a Group of
    many refers to it.

    https://hl7.org/fhir/R4/operation-patient-everything.html
    """
    await version_asked_for(hub, request)
    kind, id_ = request.address.type, request.address.id
    asked = _asked(hub, request)
    rights = await hub.authorize(request.caller, "s", "")
    members = _members(kind)
    narrowed = in_compartment(rights, kind, id_, members)
    narrowed = within(narrowed, _nobody_elses(kind, id_))
    return await _page(hub, request, asked, members, narrowed)


async def everything_of_all(hub: Hub, request: Request) -> Answer:
    """Return the records of all patients that the caller may see, newest first, page by page.

    https://hl7.org/fhir/R4/operation-patient-everything.html
    """
    kind = request.address.type
    asked = _asked(hub, request)
    rights = await hub.authorize(request.caller, "s", kind)
    members = _members(kind)
    also: dict[str, Condition] = {}
    if rights.criteria_of(kind) is not None:
        # What is nobody's or open to all tells nothing of the patients of this caller.
        members = {one: codes for one, codes in members.items() if rights.criteria_of(one)}
    for type_, codes in members.items():
        if type_ != kind and not _is_within(rights, type_, kind):
            also[type_] = refers_to_any(type_, codes, kind)
    return await _page(hub, request, asked, members, within(rights, also))


def _is_within(rights: Authorization, type_: str, kind: str) -> bool:
    """Say whether the rights to a type are to compartments of the kind alone."""
    criteria = rights.criteria_of(type_)
    return criteria is not None and all(
        one.compartment is not None and one.compartment.kind == kind for one in criteria
    )


async def _page(
    hub: Hub, request: Request, asked: Asked, members: Members, rights: Authorization
) -> Answer:
    query = _query(hub, request, asked, members)
    if "_type" in asked:
        rights = only(rights, asked["_type"].split(","))
    rights = _in_period(rights, asked, tuple(members))
    page = await hub.store.search(query, authorization=rights)
    kept = tuple((name, value) for name, value in asked.items() if name != "_cursor")
    address = request.address
    place = "/".join(part for part in (request.base, address.type, address.id) if part)
    return page_answer(request, replace(query, pairs=kept), page, f"{place}/$everything")


def _query(hub: Hub, request: Request, asked: Asked, members: Members) -> SearchQuery:
    pairs = [(name, asked[name]) for name in ("_type", "_count", "_cursor") if name in asked]
    if "_since" in asked:
        pairs.append(("_lastUpdated", f"ge{asked['_since']}"))
    query = parse_query(None, pairs, rules_of(hub, request))
    types = tuple(one for one in query.types if one in members)
    if not types:
        raise bad_parameter(
            "_type",
            f"Name at least one type of the compartment, such as {request.address.type}; others"
            " come as far as these refer to them.",
            f"请至少给出一个 compartment 中的类型，例如 {request.address.type}；"
            "其他类型仅随被引用返回。",
        )
    return replace(query, types=types, includes=(Include(source="*", code="*"),))


def _members(kind: str) -> Members:
    """Return type → parameters of the compartment, the kind itself among them."""
    return {kind: (), **members_of(kind), **MORE_MEMBERS.get(kind, {})}


def _nobody_elses(kind: str, id_: str) -> dict[str, Condition]:
    return {
        type_: any_of(type_, [(name, value.format(id=id_)) for name, value in ways])
        for type_, ways in _OTHERS.get(kind, {}).items()
    }


def _asked(hub: Hub, request: Request) -> Asked:
    """Return the parameters by name; the types of several `_type` are joined."""
    found: dict[str, str] = {}
    for part in parameters_in(hub, request):
        name, value = part["name"], value_of(part)
        if name not in _KNOWN:
            if request.prefer.is_lenient:
                continue
            names = ", ".join(sorted(_KNOWN - {"_cursor"}))
            raise bad_parameter(name, f"Use {names}.", f"可用参数：{names}。")
        if name == "_count" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value:
            raise bad_parameter(name, "Give it a value.", "请给出取值。")
        if name == "_type" and name in found:
            value = f"{found[name]},{value}"
        elif name in found:
            raise bad_parameter(name, "Give it once.", "该参数只能给出一次。")
        if name in _DATES:
            _require_date(name, value)
        found[name] = value
    return found


def _require_date(name: str, value: str) -> None:
    try:
        range_of(value)
    except (ValueError, OverflowError) as error:
        raise bad_parameter(
            name,
            "Give a date or a moment, such as 2026-01-31 or 2026-01-31T08:00:00Z.",
            "请给出日期或时刻，例如 2026-01-31 或 2026-01-31T08:00:00Z。",
        ) from error


def _in_period(authorization: Authorization, asked: Asked, types: tuple[str, ...]) -> Authorization:
    """Return the rights narrowed to resources whose clinical date lies between start and end."""
    marks = {"start": "ge", "end": "le"}
    pairs = [("date", mark + asked[name]) for name, mark in marks.items() if name in asked]
    if not pairs:
        return authorization
    also: dict[str, Condition] = {}
    for type_ in types:
        if "date" in parameters_of(type_):
            also[type_] = AllOf(conditions_of(type_, pairs))
    return within(authorization, also)
