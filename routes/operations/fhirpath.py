"""`$fhirpath`: evaluate an expression on a resource that is sent along."""

import re
from dataclasses import replace
from typing import Any

from conformance import fhirpath, resource_json
from conformance.fhirpath import Compiled, Node, Ports, Value
from conformance.fhirpath.quantity import ucum_code_of
from conformance.r4.tables import load
from routes.answer import Answer
from routes.hub import Hub
from routes.operations.parameters import (
    Part,
    bad_parameter,
    parameters_answer,
    parameters_in,
    parts_of,
    single,
    text_of,
    value_of,
)
from routes.request import Request

Json = dict[str, Any]

# What cannot be a value[x] (an element without a data type of its own) is given as JSON text.
JSON_VALUE = "https://fhir.qiao.example/cphc/StructureDefinition/json-value"
_SYSTEM = {
    "System.Boolean": "boolean",
    "System.String": "string",
    "System.Integer": "integer",
    "System.Decimal": "decimal",
    "System.Date": "date",
    "System.DateTime": "dateTime",
    "System.Time": "time",
    "System.Quantity": "Quantity",
}
_TYPE_INFO = frozenset({"System.ClassInfo", "System.SimpleTypeInfo"})
# https://hl7.org/fhir/R4/datatypes.html#string
_NOT_IN_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


async def fhirpath_operation(hub: Hub, request: Request) -> Answer:
    """Return the values of an expression, one `result` for each context.

    In: `expression`, `resource`, and optionally `context` (an expression whose values are each
    taken as the input) and `variables` (parts). `memberOf()`, `conformsTo()` and `slice()` are
    answered by the value sets and profiles of the hub. Out: `result` with one part per value,
    named by its type.
    """
    parameters = parameters_in(hub, request)
    expression = text_of(parameters, "expression")
    if expression is None:
        raise bad_parameter(
            "expression", "Send the expression as a string.", "请发送表达式字符串。"
        )
    part = single(parameters, "resource")
    resource = part.get("resource") if part is not None else None
    if part is not None and not isinstance(resource, dict):
        raise bad_parameter("resource", "Send it as part.resource.", "请以 resource 形式发送。")
    context = text_of(parameters, "context")
    variables = _variables_of(single(parameters, "variables"))
    compiled = fhirpath.compile(expression)
    ports = await _ports_for(hub, resource)
    if context is None:
        return parameters_answer(_results(compiled, resource, variables, None, ports))
    found = fhirpath.compile(context).nodes(resource, variables=variables, ports=ports)
    results: list[Json] = []
    for node in found:
        if isinstance(node, Node):
            results += _results(compiled, node, variables, _path_of(node), ports)
    return parameters_answer(results)


async def _ports_for(hub: Hub, resource: Any) -> Ports:
    """Return what the hub's value sets and profiles answer about a resource."""
    type_name = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(type_name, str) or type_name not in load().resource_types:
        return Ports()
    await hub.refresh_definitions()
    return hub.fhirpath_ports(Node(resource, type_name))


def _results(
    compiled: Compiled, item: Any, variables: dict[str, Any], context: str | None, ports: Ports
) -> list[Json]:
    traced: list[Json] = []

    def trace(name: str, values: list[Any]) -> None:
        parts = [_part_of(value) for value in _typed(values)]
        traced.append({"name": "trace", "valueString": name, **({"part": parts} if parts else {})})

    values = compiled.values(item, variables=variables, ports=replace(ports, trace=trace))
    result: Json = {"name": "result"}
    if context is not None:
        result["valueString"] = context
    parts = [_part_of(value) for value in values] + traced
    if parts:
        result["part"] = parts
    return [result]


def _typed(values: list[Any]) -> list[Value]:
    found = []
    for value in values:
        if isinstance(value, Node):
            found.append(Value(value.type, value.value))
        else:
            found += fhirpath.compile("%it").values(None, variables={"it": value})
    return found


def _part_of(value: Value) -> Json:
    if isinstance(value.value, dict) and "resourceType" in value.value:
        return {"name": value.type, "resource": value.value}
    name = _SYSTEM.get(value.type, value.type)
    info = load().types.get(name)
    plain = _plain(value.value)
    if value.type in _TYPE_INFO:
        return {"name": value.type.removeprefix("System."), "valueString": plain}
    if info is None or info.kind == "resource" or not _is_fhir(plain):
        text = resource_json.dump({"value": plain}).decode()
        return {
            "name": name,
            "extension": [{"url": JSON_VALUE, "valueString": text[len('{"value":') : -1]}],
        }
    return {"name": name, f"value{name[0].upper()}{name[1:]}": plain}


def _is_fhir(plain: Any) -> bool:
    """Tell whether a computed value is one that R4 has too: no empty text, integers of 32 bits."""
    if isinstance(plain, str):
        return plain != "" and _NOT_IN_TEXT.search(plain) is None
    if isinstance(plain, int) and not isinstance(plain, bool):
        return -(2**31) <= plain < 2**31
    if isinstance(plain, dict) and isinstance(plain.get("unit"), str):
        return _is_fhir(plain["unit"])
    return plain is not None


def _plain(value: Any) -> Any:
    if isinstance(value, fhirpath.Temporal):
        return str(value).lstrip("@")
    if isinstance(value, fhirpath.Quantity):
        return {
            "value": value.value,
            "unit": value.unit,
            "system": "http://unitsofmeasure.org",
            "code": ucum_code_of(value),
        }
    return value


def _variables_of(part: Part | None) -> dict[str, Any]:
    if part is None:
        return {}
    parts = parts_of(part.get("part"))
    return {inner["name"]: inner.get("resource", value_of(inner)) for inner in parts}


def _path_of(node: Node) -> str:
    """Return the FHIRPath to a node, with its indexes."""
    steps: list[str] = []
    current: Node | None = node
    while current is not None and current.parent is not None:
        index = "" if current.index is None else f"[{current.index}]"
        steps.append(current.key + index)
        current = current.parent
    return ".".join([current.type if current else "", *reversed(steps)])
