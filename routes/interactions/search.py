"""The search interaction: in a type, in everything, in a compartment; by GET and by POST."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from conformance import resource_json
from conformance.problem import Issue, NotFound, to_operation_outcome
from conformance.r4.tables import load
from fhir_store.authorization import Authorization
from fhir_store.permits import membership, within
from fhir_store.search.query import QueryRules, SearchQuery, parse_query
from fhir_store.search.searcher import Page
from routes.answer import Answer
from routes.bundle_bytes import Link, bundle, outcome_entry, search_entries
from routes.hub import Hub
from routes.interactions.audit_events import AUDIT_EVENT, audit_page
from routes.negotiation import media_type_of, unsupported_media_type
from routes.request import Pairs, Request, parse_form, take_shape, written_query

FORM = "application/x-www-form-urlencoded"


async def search_type(hub: Hub, request: Request) -> Answer:
    """Return the resources of a type that match.

    https://hl7.org/fhir/R4/http.html#search
    """
    request = with_form(hub, request)
    type_ = request.address.type
    query = parse_query(type_, request.asked, rules_of(hub, request))
    authorization = await hub.authorize(request.caller, "s", type_)
    if type_ == AUDIT_EVENT:
        page = await audit_page(hub, request, query, authorization)
    else:
        page = await hub.store.search(query, authorization=authorization)
    return page_answer(request, query, page, f"{request.base}/{type_}")


async def search_system(hub: Hub, request: Request) -> Answer:
    """Return the resources of any type, or of those in `_type`, that match.

    https://hl7.org/fhir/R4/http.html#search
    """
    request = with_form(hub, request)
    query = parse_query(None, request.asked, rules_of(hub, request))
    authorization = await hub.authorize(request.caller, "s", "")
    page = await hub.store.search(query, authorization=authorization)
    return page_answer(request, query, page, request.base)


async def search_compartment(hub: Hub, request: Request) -> Answer:
    """Return the resources of a type (or of all, `*`) in a compartment that match.

    https://hl7.org/fhir/R4/http.html#vsearch
    """
    request = with_form(hub, request)
    address = request.address
    members = members_of(address.type)
    if address.member != "*" and address.member not in members:
        raise NotFound(_no_compartment(address.type, address.member))
    type_ = None if address.member == "*" else address.member
    query = parse_query(type_, request.asked, rules_of(hub, request))
    query = replace(query, types=tuple(one for one in query.types if one in members))
    authorization = await hub.authorize(request.caller, "s", type_ or "")
    asked = {one: members[one] for one in query.types}
    narrowed = in_compartment(authorization, address.type, address.id, asked)
    page = await hub.store.search(query, authorization=narrowed)
    url = f"{request.base}/{address.type}/{address.id}/{address.member}"
    return page_answer(request, query, page, url)


def members_of(kind: str) -> Mapping[str, tuple[str, ...]]:
    """Return type → reference parameters of a compartment; raise NotFound where there is none."""
    compartments = load().compartments
    if kind not in compartments:
        raise NotFound(_no_compartment(kind, "*"))
    return compartments[kind]


def in_compartment(
    authorization: Authorization, kind: str, id_: str, members: Mapping[str, tuple[str, ...]]
) -> Authorization:
    """Return the rights narrowed to one resource's compartment, for the types of `members`.

    `members` are type → reference parameters; other types stay as they were.
    """
    also = {type_: membership(kind, id_, type_, codes) for type_, codes in members.items()}
    return within(authorization, also)


def rules_of(hub: Hub, request: Request) -> QueryRules:
    """Return how the parameters of this request are read."""
    return QueryRules(
        default_count=hub.limits.page_default,
        max_count=hub.limits.page_maximum,
        lookup=hub.store.parameters.lookup,
        is_lenient=request.prefer.is_lenient,
    )


def with_form(hub: Hub, request: Request) -> Request:
    """Return the request with the parameters of a POST body among its own."""
    if request.method != "POST" or not request.body:
        return _with_usual_total(request)
    if media_type_of(request.header(b"content-type") or "") != FORM:
        raise unsupported_media_type(FORM)
    asked: Pairs = (*request.asked, *parse_form(request.body, hub.limits))
    shape, query = take_shape(
        asked,
        request.header(b"accept") or "",
        request.address.type,
        is_lenient=request.prefer.is_lenient,
    )
    return _with_usual_total(
        msgspec.structs.replace(request, asked=asked, query=query, shape=shape)
    )


def _with_usual_total(request: Request) -> Request:
    """Read `_totalMethod`, which fhirpy sends to every server when it counts, as `_total`."""
    if not any(name == "_totalMethod" for name, _ in request.asked):
        return request
    asked = tuple(
        ("_total", "accurate") if name == "_totalMethod" else (name, value)
        for name, value in request.asked
    )
    return msgspec.structs.replace(request, asked=asked)


def page_answer(request: Request, query: SearchQuery, page: Page, url: str) -> Answer:
    """Return a searchset with its links; https://hl7.org/fhir/R4/search.html#conformance."""
    shape, base = request.shape, request.base
    entries = search_entries(page.matches, "match", base, shape)
    entries += search_entries(page.included, "include", base, shape)
    issues = list(page.warnings)
    if page.explanation is not None:
        issues.append(_explained(page.explanation))
    if issues:
        entries.append(outcome_entry(resource_json.dump(to_operation_outcome(issues))))
    links = [Link(relation="self", url=_with(url, query.pairs))]
    if page.next is not None:
        kept = tuple([pair for pair in query.pairs if pair[0] != "_cursor"])
        cursor = written_query((("_cursor", page.next),))
        sign = "&" if kept else "?"
        links.append(Link(relation="next", url=f"{_with(url, kept)}{sign}{cursor}"))
    body = bundle("searchset", entries, links=links, total=page.total)
    return Answer(status=200, body=body)


def _with(url: str, pairs: Pairs) -> str:
    return f"{url}?{written_query(pairs)}" if pairs else url


def _explained(explanation: Mapping[str, object]) -> Issue:
    lines = explanation.get("plan")
    plan = "\n".join(str(line) for line in lines) if isinstance(lines, list) else ""
    return Issue(
        severity="information",
        code="informational",
        key="explain",
        text_en="The statement of this search and its plan.",
        text_zh="该检索的语句及其执行计划。",
        fix_en=f"{explanation.get('statement', '')}\n\n{plan}".strip(),
    )


def _no_compartment(kind: str, member: str) -> Issue:
    return Issue(
        code="not-supported",
        key="compartment",
        text_en=f"{member} is not in a compartment of {kind}.",
        text_zh=f"{member} 不属于 {kind} 的 compartment。",
        fix_en="Use a type that the CompartmentDefinition names, or search the type itself.",
        fix_zh="请使用 CompartmentDefinition 列出的类型，或直接检索该类型。",
        expression="http.path",
    )
