"""The read and vread interactions."""

from fhir_store.authorization import Authorization
from fhir_store.failures import not_found
from fhir_store.operations import Version
from fhir_store.search.query import IdTest, SearchQuery
from routes.answer import Answer
from routes.hub import Hub
from routes.interactions.audit_events import AUDIT_EVENT, own_event
from routes.native_binary import as_asked_for
from routes.request import Request
from routes.versions import answer_of
from routes.writing import require_no_parameters


async def read(hub: Hub, request: Request) -> Answer:
    """Return the current version of a resource.

    https://hl7.org/fhir/R4/http.html#read
    """
    require_no_parameters(request)
    if request.address.type == AUDIT_EVENT:
        event = await own_event(hub, request)
        if event is not None:
            return Answer(status=200, body=event, kind="resource")
    return as_asked_for(answer_of(await version_asked_for(hub, request), request), request)


async def vread(hub: Hub, request: Request) -> Answer:
    """Return one version of a resource.

    https://hl7.org/fhir/R4/http.html#vread
    """
    require_no_parameters(request)
    return as_asked_for(answer_of(await version_asked_for(hub, request), request), request)


async def version_asked_for(hub: Hub, request: Request) -> Version:
    """Return the version that the address names, the current one if it names none.

    What the caller may not see is not there: the answer is that of an id nobody ever used.
    """
    address = request.address
    if not address.version:
        return await visible_version(hub, request, address.type, address.id)
    await require_visible(hub, request)
    text = address.version
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return await hub.store.vread(address.type, address.id, number)


async def visible_version(hub: Hub, request: Request, type_: str, id_: str) -> Version:
    """Return the current version of a resource that a request names; as `version_asked_for`."""
    authorization = await hub.authorize(request.caller, "r", type_)
    if authorization.criteria_of(type_) is not None:
        return await _permitted(hub, type_, id_, authorization)
    return await hub.store.read(type_, id_)


async def require_visible(hub: Hub, request: Request) -> None:
    """Raise NotFound where the caller's rights are narrowed and leave the resource out."""
    type_ = request.address.type
    authorization = await hub.authorize(request.caller, "r", type_)
    if authorization.criteria_of(type_) is not None:
        await _permitted(hub, type_, request.address.id, authorization)


async def _permitted(hub: Hub, type_: str, id_: str, authorization: Authorization) -> Version:
    query = SearchQuery(types=(type_,), conditions=(IdTest((id_,)),), count=1)
    page = await hub.store.search(query, authorization=authorization)
    if not page.matches:
        raise not_found(type_, id_)
    return page.matches[0]
