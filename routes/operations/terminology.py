"""The terminology operations over HTTP, from `$expand` to `$translate`."""

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conformance import resource_json
from conformance.problem import Issue, NotFound, UnknownParameter, to_operation_outcome
from conformance.terminology.languages import ranked
from conformance.terminology.operations import OPERATIONS, PARAMETERS
from routes.answer import Answer
from routes.definitions import Definitions
from routes.hub import Hub
from routes.interactions.read import version_asked_for
from routes.operations.parameters import bad_parameter, sound_parameters_in
from routes.registry import Handler, Operation
from routes.request import Request, preferences_of

_DEFINITION = "http://hl7.org/fhir/OperationDefinition"
_BOOLEANS = frozenset(
    {"activeOnly", "excludeNested", "includeDesignations", "includeDefinition", "reverse",
     "abstract", "inferSystem"}
)  # fmt: skip
_INTEGERS = frozenset({"offset", "count"})
_REPEATING = frozenset(
    {"designation", "exclude-system", "property", "useSupplement", "tx-resource", "dependency",
     "system-version", "check-system-version", "force-system-version", "default-valueset-version"}
)  # fmt: skip
_LONGEST = 64  # characters of a parameter's name that a message shows
_LONGEST_WISH = 1_000  # characters of Accept-Language that are read


def terminology_operations(definitions: Definitions) -> tuple[Operation, ...]:
    """Return the operations as the registry wants them."""
    return tuple(
        Operation(
            code=name,
            definition=f"{_DEFINITION}/{type_}-{name}",
            levels=frozenset({"type", "instance"}),
            types=frozenset({type_}),
            handler=_handler(type_, name, definitions),
        )
        for type_, name in OPERATIONS
    )


def _handler(type_: str, name: str, definitions: Definitions) -> Handler:
    carry_out = OPERATIONS[(type_, name)]

    async def handle(hub: Hub, request: Request) -> Answer:
        parameters = [_typed(part) for part in sound_parameters_in(hub, request)]
        _require_single(parameters)
        unread = _unread(parameters, type_, name, request)
        if not any(part["name"] == "displayLanguage" for part in parameters):
            parameters += _language_of(request)
        if request.address.id:
            parameters.insert(0, await _instance(hub, request, type_, name))
        library = await definitions.library()
        now = datetime.datetime.now(datetime.UTC)
        body = {"resourceType": "Parameters", "parameter": parameters}
        try:
            answer = carry_out(body, library, now)
        except NotFound:
            # What was stored within the last moment counts, too, where something is missed.
            fresh = await definitions.library(is_fresh=True)
            if fresh is library:
                raise
            answer = carry_out(body, fresh, now)
        answer = _with_notices(answer, unread)
        return Answer(status=200, body=resource_json.dump(answer))

    return handle


def _require_single(parameters: list[Mapping[str, Any]]) -> None:
    """Refuse a parameter that comes twice and of which R4 takes one."""
    counts = Counter(part["name"] for part in parameters)
    for name, times in counts.items():
        if times > 1 and name not in _REPEATING:
            raise bad_parameter(name, "Give it once.", "该参数只能给出一次。")


def _unread(
    parameters: list[Mapping[str, Any]], type_: str, name: str, request: Request
) -> list[Issue]:
    """Return what is said of parameters that the operation does not read.

    Raises UnknownParameter under `Prefer: handling=strict`; R4 leaves it to the server otherwise.
    """
    known = PARAMETERS[(type_, name)]
    names = dict.fromkeys(part["name"] for part in parameters if part["name"] not in known)
    found = [_not_read(one, f"{type_}/${name}") for one in names]
    if found and preferences_of(request.headers).is_strict:
        raise UnknownParameter(*found)
    return [replace(issue, severity="warning") for issue in found]


def _not_read(name: str, operation: str) -> Issue:
    shown = name if len(name) <= _LONGEST and name.isprintable() else "..."
    return Issue(
        code="not-supported",
        key="operation-unread-parameter",
        text_en=f"{operation} does not read the parameter {shown}",
        text_zh=f"{operation} 不使用参数 {shown}",
        fix_en="Check its name, or leave it out; the answer is as if it had not been sent.",
        fix_zh="请核对参数名或去掉该参数；结果与未发送该参数时相同。",
    )


def _with_notices(answer: dict[str, Any], issues: list[Issue]) -> dict[str, Any]:
    """Return the answer with the notices in the place that its kind has for them."""
    if not issues:
        return answer
    if answer["resourceType"] == "ValueSet":
        expansion = answer["expansion"]
        said = [{"name": f"warning-{i.key}", "valueString": i.text_en} for i in issues]
        expansion["parameter"] = [*expansion.get("parameter", ()), *said]
        return answer
    parts = answer["parameter"]
    own = next((part for part in parts if part["name"] == "issues"), None)
    if own is None:
        own = {"name": "issues", "resource": to_operation_outcome([])}
        parts.append(own)
    own["resource"]["issue"] += [issue.to_fhir() for issue in issues]
    return answer


def _language_of(request: Request) -> list[Mapping[str, Any]]:
    """Return Accept-Language as the parameter that it stands in for."""
    wish = (request.header(b"accept-language") or "")[:_LONGEST_WISH]
    tags = ",".join(ranked(wish))
    return [{"name": "displayLanguage", "valueCode": tags}] if tags else []


async def _instance(hub: Hub, request: Request, type_: str, name: str) -> dict[str, Any]:
    """Give the resource of the address as the parameter that means it."""
    resource = resource_json.parse((await version_asked_for(hub, request)).body)
    if type_ == "CodeSystem" and name in ("lookup", "subsumes"):
        if "url" not in resource:
            raise bad_parameter(
                "system",
                "Give the CodeSystem of the address a url first.",
                "请先为该地址的 CodeSystem 设置 url。",
            )
        return {"name": "system", "valueUri": resource["url"]}
    own = {"ValueSet": "valueSet", "CodeSystem": "codeSystem", "ConceptMap": "conceptMap"}[type_]
    return {"name": own, "resource": resource}


def _typed(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read a parameter of the URL, which is text, as what the operation wants."""
    name, text = part["name"], part.get("valueString")
    if not isinstance(text, str):
        return part
    if name in _BOOLEANS:
        if text not in ("true", "false"):
            raise bad_parameter(name, "Give true or false.", "应为 true 或 false。")
        return {"name": name, "valueBoolean": text == "true"}
    if name in _INTEGERS:
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise bad_parameter(name, "Give a whole number from 0.", "应为从 0 开始的整数。")
        return {"name": name, "valueInteger": int(text)}
    return part
