"""The patch interaction, by id and by criteria, in the three formats of R4."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from lxml import etree

from conformance import resource_json, resource_xml
from conformance.patch.fhirpath_patch import apply_fhirpath_patch
from conformance.patch.json_patch import apply_json_patch
from conformance.patch.refusal import unreadable
from conformance.patch.xml_patch import apply_xml_patch, parse_xml
from conformance.problem import BusinessRule, Issue
from conformance.structure import require_valid
from fhir_store.operations import Patch
from routes.answer import Answer
from routes.bodies import require_claimed_profiles, resource_of
from routes.hub import Hub
from routes.interactions.update import if_match_of
from routes.limits import Limits
from routes.negotiation import media_type_of, unsupported_media_type
from routes.request import Request
from routes.versions import written_answer
from routes.writing import criteria_of, require_no_parameters, write

Resource = dict[str, Any]
Change = Callable[[Resource], Mapping[str, Any]]

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
    change = checked(_change_of(request, hub))

    def judged(resource: Resource) -> Mapping[str, Any]:
        changed = change(resource)
        require_claimed_profiles(changed, hub)
        return changed

    return judged


def _change_of(request: Request, hub: Hub) -> Change:
    if request.patch is not None:
        return request.patch
    media_type = media_type_of(request.header(b"content-type") or "")
    if media_type == JSON_PATCH:
        operations = _json_value(request.body, hub.limits.depth)
        return lambda resource: apply_json_patch(resource, operations)
    if media_type == XML_PATCH:
        document = parse_xml(request.body)
        return lambda resource: _xml_patched(resource, document)
    if media_type in {"application/fhir+json", "application/fhir+xml", "application/json"}:
        parameters = resource_of(request, hub)
        return lambda resource: apply_fhirpath_patch(resource, parameters)
    raise unsupported_media_type(JSON_PATCH, XML_PATCH, "application/fhir+json (Parameters)")


def change_in_entry(resource: Mapping[str, Any] | None) -> Change:
    """Return the patch in an entry of a Bundle: Parameters, or a Binary of JSON Patch.

    https://hl7.org/fhir/R4/http.html#patch
    """
    if resource is not None and resource.get("resourceType") == "Parameters":
        return checked(lambda current: apply_fhirpath_patch(current, resource))
    if resource is None or resource.get("contentType") != JSON_PATCH:
        raise unsupported_media_type(f"Binary of {JSON_PATCH}", "Parameters")
    try:
        data = base64.b64decode(resource.get("data", ""), validate=True)
    except ValueError as error:
        raise unreadable(None, "Binary.data is not base64", "Binary.data 不是 base64") from error
    operations = _json_value(data, Limits().depth)
    return checked(lambda current: apply_json_patch(current, operations))


def _json_value(body: bytes, depth: int) -> object:
    """Return any JSON value with the exactness that the reader of resources has."""
    wrapped = resource_json.parse(b'{"patch":' + body + b"}", max_depth=depth + 1)
    if len(wrapped) != 1:
        raise unreadable(None, "there is more than one value in the body", "正文中不止一个值")
    return wrapped["patch"]


def _xml_patched(resource: Mapping[str, Any], document: Any) -> Resource:
    element = parse_xml(resource_xml.dump(resource))
    return resource_xml.parse(etree.tostring(apply_xml_patch(element, document)))


def checked(change: Change) -> Change:
    """Return the change with its result judged: a valid resource of the same type and id."""

    def judged(resource: Resource) -> Mapping[str, Any]:
        changed = change(resource)
        for name in ("resourceType", "id"):
            if changed.get(name) != resource.get(name):
                raise BusinessRule(_fixed(name))
        require_valid(changed)
        return changed

    return judged


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
