"""Request bodies as resources: read in the representation they are in, and checked."""

from collections.abc import Mapping
from typing import Any

from conformance import resource_json, resource_xml
from conformance.problem import InvalidContent, Issue
from conformance.structure import require_valid
from fhir_store.references import PLACEHOLDER, open_references
from routes.hub import Hub
from routes.native_binary import binary_of, is_native
from routes.negotiation import Format, format_of_body
from routes.request import Request


def resource_of(request: Request, hub: Hub) -> dict[str, Any]:
    """Return the resource in the body; raise InvalidStructure or UnsupportedMediaType."""
    if request.resource is not None:
        return request.resource
    if not request.body:
        raise InvalidContent(
            Issue(
                code="required",
                key="body-missing",
                text_en="The request has no body.",
                text_zh="请求没有正文。",
                fix_en="Send the resource as the body, as application/fhir+json.",
                fix_zh="请以 application/fhir+json 发送资源作为正文。",
                expression="http.body",
            )
        )
    if is_native(request):
        return binary_of(request)
    if format_of_body(request.header(b"content-type") or "") is Format.XML:
        return resource_xml.parse(request.body, max_depth=hub.limits.depth)
    return resource_json.parse(request.body, max_depth=hub.limits.depth)


async def resource_to_write(request: Request, hub: Hub) -> dict[str, Any]:
    """Return the valid resource in the body, which is of the type the address names."""
    resource = resource_of(request, hub)
    require_same_type(resource, request.address.type)
    require_valid(resource)
    if request.resource is not None or b"?" in request.body:
        require_no_search(resource)
    if claims_profiles(resource):
        await hub.refresh_definitions()
        require_claimed_profiles(resource, hub)
    return resource


def require_no_search(resource: Mapping[str, Any]) -> None:
    """Raise InvalidContent for a reference that is a search: it means something in a transaction.

    https://hl7.org/fhir/R4/http.html#trules
    """
    if any(not one.startswith(PLACEHOLDER) for one in open_references(resource)):
        raise InvalidContent(
            Issue(
                code="business-rule",
                key="reference-conditional",
                text_en="A reference is a search (Type?criteria), and this is no transaction.",
                text_zh="引用写成了检索（类型?条件），而此处不是事务。",
                fix_en="Send the resource in a Bundle of type transaction, or refer to Type/id.",
                fix_zh="请放入 type 为 transaction 的 Bundle 提交，或使用 类型/id 引用。",
                expression=str(resource["resourceType"]),
            )
        )


def claims_profiles(resource: Mapping[str, Any]) -> bool:
    """Say whether a resource, or one in a Bundle, names profiles in `meta.profile`."""
    if "profile" in (resource.get("meta") or {}):
        return True
    entries = resource.get("entry", ()) if resource.get("resourceType") == "Bundle" else ()
    return any(claims_profiles(entry["resource"]) for entry in entries if "resource" in entry)


def require_claimed_profiles(resource: Mapping[str, Any], hub: Hub) -> None:
    """Raise InvalidContent with the errors against claimed profiles, if they are enforced."""
    if claims_profiles(resource):
        found = hub.check_profiles(resource, ())
        broken = [issue for issue in found if issue.severity in ("error", "fatal")]
        if broken:
            raise InvalidContent(*broken)


def require_same_type(resource: Mapping[str, Any], type_: str) -> None:
    """Raise InvalidContent unless the resource is of the type."""
    if resource.get("resourceType") != type_:
        raise InvalidContent(
            Issue(
                code="invalid",
                key="type-differs",
                text_en=f"The body is not a {type_}, which the address names.",
                text_zh=f"正文不是地址所指的 {type_}。",
                fix_en="Send the resource to the address of its own type.",
                fix_zh="请将资源发送到其自身类型的地址。",
                expression="resourceType",
            )
        )


def require_same_id(resource: Mapping[str, Any], id_: str) -> None:
    """Raise InvalidContent unless the resource carries the id of the address; http.html#update."""
    if resource.get("id") != id_:
        raise InvalidContent(
            Issue(
                code="invalid",
                key="id-differs",
                text_en="The id in the body is not the id in the address.",
                text_zh="正文中的 id 与地址中的 id 不同。",
                fix_en="Write the id of the address into the resource.",
                fix_zh="请在资源中写入与地址相同的 id。",
                expression=f"{resource.get('resourceType')}.id",
            )
        )
