"""`$everything` of a patient and of an encounter."""

from collections.abc import Mapping
from dataclasses import replace

from conformance.search_parameters import parameters_of
from fhir_store.authorization import MORE_MEMBERS, Authorization
from fhir_store.permits import any_of, conditions_of, within
from fhir_store.search.query import AllOf, Condition, Include, parse_query
from routes.answer import Answer
from routes.hub import Hub
from routes.interactions.read import version_asked_for
from routes.interactions.search import in_compartment, members_of, page_answer, rules_of
from routes.operations.parameters import bad_parameter, parameters_in, text_of, value_of
from routes.request import Request

_OTHERS: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {
    "Patient": {
        "Device": (("patient", "Patient/{id}"), ("patient:missing", "true")),
        "GuidanceResponse": (("patient", "Patient/{id}"),),
    }
}
"""Types outside the compartment that can be another person's: what shows that they are not."""

_KNOWN = frozenset({"start", "end", "_since", "_type", "_count", "_cursor"})


async def everything(hub: Hub, request: Request) -> Answer:
    """Return the resource, its compartment, and what these refer to, page by page.

    What belongs to another resource of the kind is left out, also where a Provenance or a Group of
    many refers to it.

    https://hl7.org/fhir/R4/patient-operation-everything.html
    """
    await version_asked_for(hub, request)
    address = request.address
    asked = _asked(hub, request)
    pairs = [(name, asked[name]) for name in ("_type", "_count", "_cursor") if name in asked]
    if "_since" in asked:
        pairs.append(("_lastUpdated", f"ge{asked['_since']}"))
    query = parse_query(None, pairs, rules_of(hub, request))
    members = {**members_of(address.type), **MORE_MEMBERS.get(address.type, {})}
    types = tuple(one for one in query.types if one in members or one == address.type)
    query = replace(query, types=types, includes=(Include(source="*", code="*"),))
    authorization = await hub.authorize(request.caller, "s", "")
    narrowed = in_compartment(authorization, address.type, address.id, members)
    narrowed = within(narrowed, _nobody_elses(address.type, address.id))
    narrowed = _in_period(narrowed, asked, tuple(members))
    page = await hub.store.search(query, authorization=narrowed)
    kept = tuple((name, value) for name, value in asked.items() if name != "_cursor")
    shown = replace(query, pairs=kept)
    url = f"{request.base}/{address.type}/{address.id}/$everything"
    return page_answer(request, shown, page, url)


def _nobody_elses(kind: str, id_: str) -> dict[str, Condition]:
    return {
        type_: any_of(type_, [(name, value.format(id=id_)) for name, value in ways])
        for type_, ways in _OTHERS.get(kind, {}).items()
    }


def _asked(hub: Hub, request: Request) -> Mapping[str, str]:
    found: dict[str, str] = {}
    parameters = parameters_in(hub, request)
    for part in parameters:
        name = part["name"]
        if name not in _KNOWN:
            if request.prefer.is_lenient:
                continue
            names = ", ".join(sorted(_KNOWN - {"_cursor"}))
            raise bad_parameter(name, f"Use {names}.", f"可用参数：{names}。")
        value = value_of(part)
        if name == "_count" and isinstance(value, int):
            found[name] = str(value)
        elif name == "_type" and name in found:
            found[name] += f",{value}"
        else:
            found[name] = text_of(parameters, name) or ""
    return found


def _in_period(
    authorization: Authorization, asked: Mapping[str, str], types: tuple[str, ...]
) -> Authorization:
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
