"""`$meta`, `$meta-add`, `$meta-delete`: the labels of a resource."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from conformance import resource_json
from conformance.problem import Issue, TooCostly
from conformance.search_parameters import resource_types
from conformance.structure import require_valid
from fhir_store.authorization import Authorization
from fhir_store.labels import PARAMETERS, Label, labels_in_use
from fhir_store.operations import Patch, Version, Written
from fhir_store.search.query import parse_query
from routes.answer import Answer
from routes.hub import Hub
from routes.interactions.read import version_asked_for
from routes.operations.parameters import bad_parameter, parameters_answer, parameters_in, single
from routes.request import Request
from routes.versions import written_answer
from routes.writing import require_no_parameters, write

Json = dict[str, Any]
Merge = Callable[[list[Any], list[Any]], list[Any]]
_LABELS = ("profile", "security", "tag")
_SPECIAL = re.compile(r"[\\|,$]")
_MOST_LABELS = 500
"""How many labels of a type, or of all types, are looked at in one request."""


async def meta(hub: Hub, request: Request) -> Answer:
    """Return the meta of a resource or version; of a type, or of all, the labels in use there.

    https://hl7.org/fhir/R4/resource-operation-meta.html
    """
    require_no_parameters(request)
    if not request.address.id:
        return await _labels(hub, request)
    return _meta_answer(await version_asked_for(hub, request))


async def _labels(hub: Hub, request: Request) -> Answer:
    """Return the profiles, tags and security labels of what the caller may see."""
    type_ = request.address.type
    types = (type_,) if type_ else resource_types()
    authorization = await hub.authorize(request.caller, "s", type_ or "")
    async with hub.store.pool.connection() as connection:
        written = await labels_in_use(connection, types, limit=_MOST_LABELS + 1)
    if len(written) > _MOST_LABELS:
        raise TooCostly(_too_many_labels())
    found: Json = {}
    for same in _by_word(written).values():
        label = await _seen(hub, same, authorization)
        if label is not None:
            found.setdefault(same[0].element, []).append(label)
    return parameters_answer([{"name": "return", "valueMeta": found}])


def _by_word(written: Iterable[Label]) -> dict[tuple[str, str, str], list[Label]]:
    found: dict[tuple[str, str, str], list[Label]] = {}
    for one in written:
        found.setdefault((one.element, one.system, one.code), []).append(one)
    return found


async def _seen(hub: Hub, same: Sequence[Label], authorization: Authorization) -> Any:
    """Return the label as a resource that the caller may see bears it; None where none is left."""
    label = same[0]
    system, code = (_SPECIAL.sub(r"\\\g<0>", text) for text in (label.system, label.code))
    value = code if label.element == "profile" else f"{system}|{code}"
    types = ",".join(one.type for one in same)
    pairs = [("_type", types), (PARAMETERS[label.element], value), ("_count", "1")]
    page = await hub.store.search(parse_query(None, pairs), authorization=authorization)
    borne = (resource_json.parse(one.body)["meta"][label.element] for one in page.matches)
    return next((one for own in borne for one in own if label.is_written_as(one)), None)


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


def _written_answer(written: Written, request: Request) -> Answer:
    if request.prefer.return_ is not None and request.prefer.return_ != "representation":
        return written_answer(written, request)  # who may not read is not told the other labels
    return _meta_answer(written.version)


def _too_many_labels() -> Issue:
    return Issue(
        code="too-costly",
        key="meta-too-many-labels",
        text_en=f"More than {_MOST_LABELS} labels are in use",
        text_zh=f"使用中的标签超过 {_MOST_LABELS} 个",
        fix_en="Ask for the labels of one type, or of one resource.",
        fix_zh="请按资源类型或单个资源查询。",
    )


def _meta_answer(version: Version) -> Answer:
    found = resource_json.parse(version.body).get("meta", {})
    return parameters_answer([{"name": "return", "valueMeta": found}])
