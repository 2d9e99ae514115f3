"""`$validate`: say what is wrong with a resource without writing it."""

from collections.abc import Mapping
from typing import Any

from conformance import resource_json
from conformance.documents import read, with_places
from conformance.problem import Issue
from conformance.structure import check
from routes.answer import Answer, outcome
from routes.bodies import resource_of
from routes.hub import Hub
from routes.interactions.read import version_asked_for
from routes.operations.parameters import (
    Part,
    bad_parameter,
    parts_of,
    require_known,
    single,
    text_of,
)
from routes.request import Request

_PARAMETERS = ("resource", "mode", "profile")
_MODES = frozenset({"create", "update", "delete", "profile"})
_AT_A_RESOURCE = frozenset({"update", "delete"})
_UNKNOWN = frozenset({"profile-missing", "profile-unchecked"})


async def validate(hub: Hub, request: Request) -> Answer:
    """Return an OperationOutcome about the resource sent, or about the one at the address.

    The status is 200 whatever is found; another says that nothing could be judged.
    https://hl7.org/fhir/R4/resource-operation-validate.html
    """
    resource, parameters, inside = _read(hub, request)
    require_known(request, parameters, _PARAMETERS)
    mode = text_of(parameters, "mode")
    profile = text_of(parameters, "profile")
    if mode is not None and mode not in _MODES:
        raise bad_parameter("mode", "Use create, update, delete or profile.", "请使用规定的 mode。")
    if profile == "" or (mode == "profile" and profile is None):
        raise bad_parameter(
            "profile",
            "Name the profile to judge by, as its canonical address.",
            "请以规范地址指明校验所依据的 profile。",
        )
    if mode in _AT_A_RESOURCE and not request.address.id:
        raise bad_parameter(
            "mode",
            f"Ask for {mode} at the address of the resource, as in Patient/123/$validate.",
            f"mode={mode} 须在资源地址上调用，如 Patient/123/$validate。",
        )
    if mode == "delete":
        await version_asked_for(hub, request)
        return outcome(200, [_ALL_WELL])
    if resource is None:
        if not request.address.id:
            raise bad_parameter("resource", "Send the resource to judge.", "请发送待校验的资源。")
        resource = resource_json.parse((await version_asked_for(hub, request)).body)
    issues = [*check(resource), *_address_issues(resource, request, mode)]
    if not any(issue.severity in {"error", "fatal"} for issue in issues):
        issues += await _profile_issues(hub, resource, (profile,) if profile else ())
        if resource.get("resourceType") == "QuestionnaireResponse":
            issues += await hub.check_answers(resource)
    if inside is not None and issues:
        issues = with_places(read(request.body), issues, inside)
    return outcome(200, issues or [_ALL_WELL])


async def _profile_issues(
    hub: Hub, resource: Mapping[str, Any], profiles: tuple[str, ...]
) -> list[Issue]:
    await hub.refresh_definitions()
    found = hub.check_profiles(resource, profiles)
    if any(issue.key in _UNKNOWN for issue in found):
        # What was stored within the last moment counts, too, where something is missed.
        await hub.reread_definitions()
        found = hub.check_profiles(resource, profiles)
    return found


def _read(hub: Hub, request: Request) -> tuple[Mapping[str, Any] | None, list[Part], str | None]:
    """Return the resource to judge, the other parameters, and where in the body it stands.

    Empty: it is the body itself; None: it has no bytes of its own, as in a batch.
    """
    named: list[Part] = [{"name": name, "valueString": value} for name, value in request.query]
    if request.method != "POST" or not request.body:
        return None, named, None
    resource: dict[str, Any] = resource_of(request, hub)
    is_bare = resource.get("resourceType") != "Parameters" or request.address.type == "Parameters"
    if is_bare:
        return resource, named, "" if request.resource is None else None
    parts = parts_of(resource.get("parameter"))
    part = single(parts, "resource")
    if part is not None and not isinstance(part.get("resource"), dict):
        raise bad_parameter(
            "resource", "Send the resource as resource.", "请以 resource 发送该资源。"
        )
    if part is None or request.resource is not None:
        return part and part["resource"], [*named, *parts], None
    return part["resource"], [*named, *parts], f"parameter[{parts.index(part)}].resource"


def _address_issues(resource: Mapping[str, Any], request: Request, mode: str | None) -> list[Issue]:
    type_, id_ = request.address.type, request.address.id
    if type_ and resource.get("resourceType") != type_:
        return [
            _differs(
                "type-differs", f"The resource is not of type {type_}.", f"该资源不是 {type_}。"
            )
        ]
    if mode == "update" and id_ and resource.get("id") != id_:
        return [_differs("id-differs", "The id is not that of the address.", "id 与地址中的不同。")]
    return []


def _differs(key: str, text_en: str, text_zh: str) -> Issue:
    return Issue(
        code="invalid",
        key=key,
        text_en=text_en,
        text_zh=text_zh,
        fix_en="Send what the address names.",
        fix_zh="请发送与地址一致的内容。",
    )


_ALL_WELL = Issue(
    severity="information",
    code="informational",
    key="all-well",
    text_en="Nothing is wrong with it.",
    text_zh="未发现问题。",
)
