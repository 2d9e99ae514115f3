"""The patch interaction, by id and by criteria, in the three formats of R4."""

from collections.abc import Callable, Mapping
from typing import Any

from lxml import etree

from conformance import resource_json
from conformance.patch.fhirpath_patch import apply_fhirpath_patch
from conformance.patch.json_patch import apply_json_patch
from conformance.patch.refusal import unreadable
from conformance.patch.xml_patch import apply_xml_patch
from conformance.problem import BusinessRule, Issue
from conformance.structure import require_valid
from fhir_store.operations import Patch
from routes import xml_bodies
from routes.answer import Answer
from routes.bodies import resource_of
from routes.hub import Hub
from routes.interactions.update import if_match_of
from routes.negotiation import media_type_of, unsupported_media_type
from routes.request import Request
from routes.versions import written_answer
from routes.writing import criteria_of, require_no_parameters, write

Resource = dict[str, Any]
Change = Callable[[Resource], Resource]

JSON_PATCH = "application/json-patch+json"
XML_PATCH = "application/xml-patch+xml"


async def patch(hub: Hub, request: Request) -> Answer:
    """Change part of a resource.

    https://hl7.org/fhir/R4/http.html#patch
    """
    require_no_parameters(request)
    operation = Patch(
        type=request.address.type,
        id=request.address.id,
        change=change_of(request, hub),
        if_match=if_match_of(request),
    )
    return await write(hub, request, operation, written_answer)


async def conditional_patch(hub: Hub, request: Request) -> Answer:
    """Change part of the one resource that matches the criteria.

    https://hl7.org/fhir/R4/http.html#patch
    """
    operation = Patch(
        type=request.address.type,
        criteria=criteria_of(request),
        change=change_of(request, hub),
        if_match=if_match_of(request),
    )
    return await write(hub, request, operation, written_answer)


def change_of(request: Request, hub: Hub) -> Change:
    """Return what the patch in the body makes of a resource; the result is valid."""
    return _checked(_change_of(request, hub))


def _change_of(request: Request, hub: Hub) -> Change:
    media_type = media_type_of(request.header(b"content-type") or "")
    if media_type == JSON_PATCH:
        operations = _json_value(request.body, hub.limits.depth)
        return lambda resource: apply_json_patch(resource, operations)
    if media_type == XML_PATCH:
        document = xml_bodies.parse_element(request.body)
        return lambda resource: _xml_patched(resource, document)
    if media_type in {"application/fhir+json", "application/fhir+xml", "application/json"}:
        parameters = resource_of(request, hub)
        return lambda resource: apply_fhirpath_patch(resource, parameters)
    raise unsupported_media_type(JSON_PATCH, XML_PATCH, "application/fhir+json (Parameters)")


def _json_value(body: bytes, depth: int) -> object:
    """Return any JSON value with the exactness that the reader of resources has."""
    wrapped = resource_json.parse(b'{"patch":' + body + b"}", max_depth=depth + 1)
    if len(wrapped) != 1:
        raise unreadable(None, "there is more than one value in the body", "正文中不止一个值")
    return wrapped["patch"]


def _xml_patched(resource: Mapping[str, Any], document: Any) -> Resource:
    element = xml_bodies.parse_element(xml_bodies.dump(resource))
    return xml_bodies.parse(etree.tostring(apply_xml_patch(element, document)))


def _checked(change: Change) -> Change:
    def checked(resource: Resource) -> Resource:
        changed = change(resource)
        for name in ("resourceType", "id"):
            if changed.get(name) != resource.get(name):
                raise BusinessRule(_fixed(name))
        require_valid(changed)
        return changed

    return checked


def _fixed(name: str) -> Issue:
    return Issue(
        code="business-rule",
        key="patch-identity",
        text_en=f"A patch may not change {name}.",
        text_zh=f"补丁不能修改 {name}。",
        fix_en="Leave it out of the patch; create another resource instead.",
        fix_zh="请从补丁中去掉，需要时另建资源。",
        expression=name,
    )
