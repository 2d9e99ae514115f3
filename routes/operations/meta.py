"""`$meta`, `$meta-add`, `$meta-delete`: the labels of a resource."""

from collections.abc import Callable, Mapping
from typing import Any

from conformance import resource_json
from conformance.structure import require_valid
from fhir_store.operations import Patch, Version, Written
from routes.answer import Answer
from routes.hub import Hub
from routes.interactions.read import version_asked_for
from routes.operations.parameters import bad_parameter, parameters_answer, parameters_in, single
from routes.request import Request
from routes.writing import require_no_parameters, write

Json = dict[str, Any]
Merge = Callable[[list[Any], list[Any]], list[Any]]
_LABELS = ("profile", "security", "tag")


async def meta(hub: Hub, request: Request) -> Answer:
    """Return the meta of a resource or of one version.

    https://hl7.org/fhir/R4/resource-operation-meta.html
    """
    require_no_parameters(request)
    return _meta_answer(await version_asked_for(hub, request))


async def meta_add(hub: Hub, request: Request) -> Answer:
    """Add profiles, tags and security labels; makes a new version where something is new.

    https://hl7.org/fhir/R4/resource-operation-meta-add.html
    """
    return await _change(hub, request, _added)


async def meta_delete(hub: Hub, request: Request) -> Answer:
    """Remove profiles, tags and security labels; makes a new version where something went.

    https://hl7.org/fhir/R4/resource-operation-meta-delete.html
    """
    return await _change(hub, request, _removed)


async def _change(hub: Hub, request: Request, merge: Merge) -> Answer:
    part = single(parameters_in(hub, request), "meta")
    given = part.get("valueMeta") if part is not None else None
    if not isinstance(given, dict):
        raise bad_parameter("meta", "Send it as valueMeta.", "请以 valueMeta 形式发送。")
    require_valid({"resourceType": "Basic", "meta": given, "code": {"text": "meta"}})

    def change(resource: Json) -> Json:
        own = dict(resource.get("meta", {}))
        for name in _LABELS:
            merged = merge(own.get(name, []), given.get(name, []))
            own.pop(name, None)
            if merged:
                own[name] = merged
        changed = {key: value for key, value in resource.items() if key != "meta"}
        return {**changed, "meta": own} if own else changed

    operation = Patch(type=request.address.type, id=request.address.id, change=change)
    return await write(hub, request, operation, _written_answer)


def _added(own: list[Any], given: list[Any]) -> list[Any]:
    known = {_key(label) for label in own}
    return own + [label for label in given if _key(label) not in known]


def _removed(own: list[Any], given: list[Any]) -> list[Any]:
    gone = {_key(label) for label in given}
    return [label for label in own if _key(label) not in gone]


def _key(label: Any) -> tuple[Any, ...]:
    """Return what makes two labels the same: a canonical, or system and code of a Coding."""
    if isinstance(label, Mapping):
        return (label.get("system"), label.get("code"))
    return (label,)


def _written_answer(written: Written, _request: Request) -> Answer:
    return _meta_answer(written.version)


def _meta_answer(version: Version) -> Answer:
    found = resource_json.parse(version.body).get("meta", {})
    return parameters_answer([{"name": "return", "valueMeta": found}])
