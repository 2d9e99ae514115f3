"""`$export`: what is asked for, as searches of a job that runs in the background.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html
"""

import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from conformance import resource_json
from conformance.index_values import extract
from conformance.problem import InvalidContent, Issue, Problem
from conformance.r4.tables import load
from conformance.search_parameters import parameters_of
from fhir_store.authorization import Authorization
from fhir_store.permits import any_of, within
from fhir_store.search.query import QueryRules, SearchQuery, parse_query
from routes.answer import Answer, nothing
from routes.authorize import not_allowed
from routes.bearer import Caller
from routes.export_jobs import ExportJobs, Order, Search
from routes.hub import Hub
from routes.interactions.read import version_asked_for
from routes.interactions.search import rules_of
from routes.operations.parameters import bad_parameter, parameters_in, value_of
from routes.registry import Handler, Level, Operation
from routes.request import Request
from routes.statuses import MethodNotAllowed, too_long

_DEFINITION = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"
_FORMATS = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
_KNOWN = ("_since", "_type", "_typeFilter", "_outputFormat")
_NEXT_FILTER = re.compile(r",(?=[A-Z][A-Za-z]{1,63}\?)")
_FILTERS = 50
# Members of a group that one search names, and that a group may have.
_MEMBERS_TOGETHER = 100
_MEMBERS = 10_000


def export_operations(jobs: ExportJobs) -> tuple[Operation, ...]:
    """Return the operations as the registry wants them."""
    handler = _handler(jobs)
    rows: tuple[tuple[str, Level, frozenset[str] | None], ...] = (
        ("export", "system", None),
        ("patient-export", "type", frozenset({"Patient"})),
        ("group-export", "instance", frozenset({"Group"})),
    )
    return tuple(
        Operation(
            code="export",
            definition=f"{_DEFINITION}/{name}",
            levels=frozenset({level}),
            types=types,
            handler=handler,
        )
        for name, level, types in rows
    )


def owner_of(caller: Caller) -> str:
    """Return who may see an export: the client that asked, in the name that it used."""
    return f"{caller.client} {caller.subject}"


def _handler(jobs: ExportJobs) -> Handler:
    async def export(hub: Hub, request: Request) -> Answer:
        """Begin an export; answer 202 and where its status is."""
        if request.method == "HEAD":
            raise MethodNotAllowed("GET", "POST")
        if not request.prefer.is_async:
            raise InvalidContent(_NOT_ASYNC)
        asked = _asked(hub, request)
        members = await _members(hub, request) if request.address.type == "Group" else None
        rights = await hub.authorize(request.caller, "s", "")
        # An export shows one moment, with the rights that its caller had when asking for it.
        authorization = replace(rights, hangs_on=None)
        types = _types(request, asked, authorization)
        rules = rules_of(hub, request)
        filters = _filters(asked, types)
        searches = [
            (
                type_,
                [
                    Search(query=query, authorization=narrowed, keeps=_keeps(request, type_))
                    for query in _queries(type_, asked, filters, rules)
                    for narrowed in _narrowed(type_, authorization, members)
                ],
            )
            for type_ in types
        ]
        order = Order(
            owner=owner_of(request.caller),
            request=_url_of(request),
            root=request.base.removesuffix("/fhir"),
            requires_token=not request.caller.is_unrestricted,
            searches=searches,
        )
        job = jobs.start(order)
        location = f"{order.root}/exports/{job.id}"
        return nothing(202, ((b"content-location", location.encode()),))

    return export


def _url_of(request: Request) -> str:
    address = request.address
    path = "/".join(part for part in (address.type, address.id, "$export") if part)
    query = f"?{urllib.parse.urlencode(request.asked)}" if request.asked else ""
    return f"{request.base}/{path}{query}"


def _asked(hub: Hub, request: Request) -> Mapping[str, list[str]]:
    """Return the parameters by name; what is not known is refused, or left out if lenient."""
    found: dict[str, list[str]] = {}
    parts = parameters_in(hub, request)
    if request.shape.is_partial:
        parts = [*parts, {"name": "_elements", "valueString": ""}]
    for part in parts:
        name, value = part["name"], value_of(part)
        if name not in _KNOWN:
            if request.prefer.is_lenient:
                continue
            names = ", ".join(_KNOWN)
            raise bad_parameter(name, f"Use {names}.", f"可用参数：{names}。")
        if not isinstance(value, str) or not value:
            raise bad_parameter(name, "Give it a value.", "请给出取值。")
        found.setdefault(name, []).append(value)
    for name in ("_since", "_outputFormat"):
        if len(found.get(name, ())) > 1:
            raise bad_parameter(name, "Give it once.", "该参数只能给出一次。")
    # A `+` in a URL that nobody escaped arrives as a space.
    if found.get("_outputFormat", ["ndjson"])[0].replace(" ", "+") not in _FORMATS:
        raise bad_parameter("_outputFormat", "Use application/fhir+ndjson.", "仅支持 ndjson。")
    return found


def _types(
    request: Request, asked: Mapping[str, list[str]], authorization: Authorization
) -> list[str]:
    """Return the types to export; one that is named and not allowed is refused."""
    known = load().resource_types
    if request.address.type:
        known = frozenset({*load().compartments["Patient"], "Patient"})
    named = [one for text in asked.get("_type", ()) for one in text.split(",") if one]
    for type_ in named:
        if type_ not in known:
            raise bad_parameter(
                "_type", "Name types of R4 that this export has.", "请使用本导出包含的 R4 类型。"
            )
        if authorization.criteria_of(type_) == ():
            raise not_allowed()
    return sorted(type_ for type_ in set(named or known) if authorization.criteria_of(type_) != ())


def _filters(asked: Mapping[str, list[str]], types: Iterable[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    pieces = [one for text in asked.get("_typeFilter", ()) for one in _NEXT_FILTER.split(text)]
    if len(pieces) > _FILTERS:
        raise bad_parameter("_typeFilter", f"Give {_FILTERS} at most.", f"最多 {_FILTERS} 个。")
    for piece in pieces:
        type_, mark, query = piece.partition("?")
        if type_ not in types or not mark or not query:
            raise bad_parameter(
                "_typeFilter",
                "Write Type?search for a type that is exported.",
                "请写成 类型?检索条件，且该类型在导出范围内。",
            )
        found.setdefault(type_, []).append(query)
    return found


def _queries(
    type_: str,
    asked: Mapping[str, list[str]],
    filters: Mapping[str, list[str]],
    rules: QueryRules,
) -> list[SearchQuery]:
    """Return the searches of one type: one for each filter, whose matches are joined."""
    # `ge`, not `gt`: what was written in the very instant comes twice rather than never.
    since = [("_lastUpdated", f"ge{value}") for value in asked.get("_since", ())]
    try:
        parse_query(type_, since, rules)
    except Problem:
        raise bad_parameter("_since", "Give an instant.", "请给出 instant。") from None
    found = []
    for text in filters.get(type_, [""]):
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
        query = parse_query(type_, pairs, rules)
        plain = SearchQuery(types=query.types, conditions=query.conditions, count=query.count)
        has_pages = any(name in ("_count", "_cursor") for name, _ in pairs)
        if has_pages or replace(query, pairs=(), warnings=()) != plain:
            raise bad_parameter(
                "_typeFilter", "Use search criteria only, no _include, _sort or _count.",
                "只能使用检索条件，不能使用 _include、_sort、_count 等。",
            )  # fmt: skip
        found.append(parse_query(type_, [*pairs, *since], rules))
    return found


def _narrowed(
    type_: str, authorization: Authorization, members: list[str] | None
) -> list[Authorization]:
    """Return the rights, within the compartments of some patients at a time if any are named."""
    if members is None:
        return [authorization]
    found = []
    for start in range(0, len(members), _MEMBERS_TOGETHER):
        part = members[start : start + _MEMBERS_TOGETHER]
        patients = ",".join(f"Patient/{one}" for one in part)
        pairs = [(code, patients) for code in _codes(type_)]
        if type_ == "Patient":
            pairs.append(("_id", ",".join(part)))
        found.append(within(authorization, {type_: any_of(type_, pairs)}))
    return found


def _codes(type_: str) -> list[str]:
    """Return the parameters by which resources of a type are in a patient's compartment."""
    named = load().compartments["Patient"].get(type_, ())
    return [code for code in named if code in parameters_of(type_)]


def _keeps(request: Request, type_: str) -> Callable[[bytes], bool] | None:
    """Return the test that a resource is in some patient's compartment, where that is asked.

    A search for all patients' resources would gather them anew for each page; here each is
    looked at once.
    """
    if request.address.type != "Patient" or type_ == "Patient":
        return None
    codes = _codes(type_)

    def keeps(body: bytes) -> bool:
        if b"Patient/" not in body:
            return False
        values = extract(resource_json.parse(body))
        return any(
            isinstance(value, tuple) and value[:2] == ("literal", "Patient")
            for code in codes
            for value in values.get(code, ())
        )

    return keeps


async def _members(hub: Hub, request: Request) -> list[str]:
    """Return the ids of the patients who are in the group now; groups within it are left out."""
    version = await version_asked_for(hub, request)
    group = resource_json.parse(version.body)
    found: dict[str, None] = {}
    for member in group.get("member", ()):
        kind, _, id_ = member.get("entity", {}).get("reference", "").partition("/")
        if kind == "Patient" and id_ and member.get("inactive") is not True:
            found[id_.partition("/")[0]] = None
    if len(found) > _MEMBERS:
        raise too_long("The group", "该组", f"{_MEMBERS}", "Group.member")
    return list(found)


_NOT_ASYNC = Issue(
    code="required",
    key="export-prefer",
    text_en="An export is answered in the background only.",
    text_zh="导出只能以异步方式进行。",
    fix_en="Send the header 'Prefer: respond-async'.",
    fix_zh="请发送请求头 'Prefer: respond-async'。",
    expression="http.Prefer",
)
