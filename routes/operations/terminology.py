"""The terminology operations over HTTP, from `$expand` to `$translate`."""

import datetime
from collections.abc import Mapping
from typing import Any

from conformance import resource_json
from conformance.terminology.operations import OPERATIONS
from routes.answer import Answer
from routes.definitions import Definitions
from routes.hub import Hub
from routes.operations.parameters import bad_parameter, sound_parameters_in
from routes.registry import Handler, Operation
from routes.request import Request

_DEFINITION = "http://hl7.org/fhir/OperationDefinition"
_BOOLEANS = frozenset(
    {"activeOnly", "excludeNested", "includeDesignations", "includeDefinition", "reverse",
     "abstract", "inferSystem"}
)  # fmt: skip
_INTEGERS = frozenset({"offset", "count"})


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
        if request.address.id:
            parameters.insert(0, await _instance(hub, request, type_, name))
        library = await definitions.library()
        now = datetime.datetime.now(datetime.UTC)
        body = {"resourceType": "Parameters", "parameter": parameters}
        return Answer(status=200, body=resource_json.dump(carry_out(body, library, now)))

    return handle


async def _instance(hub: Hub, request: Request, type_: str, name: str) -> dict[str, Any]:
    """Give the resource of the address as the parameter that means it."""
    version = await hub.store.read(type_, request.address.id)
    resource = resource_json.parse(version.body)
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
