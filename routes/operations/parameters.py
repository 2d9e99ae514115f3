"""Parameters resources: what an operation is given and gives back; parameters.html."""

from collections.abc import Mapping
from typing import Any

from conformance import resource_json, structure
from conformance.problem import InvalidContent, Issue
from routes.answer import Answer
from routes.bodies import require_same_type, resource_of
from routes.hub import Hub
from routes.request import Request

Part = Mapping[str, Any]


def parameters_in(hub: Hub, request: Request) -> list[Part]:
    """Return the parameters of a POST, those in the URL included as strings."""
    named: list[Part] = [{"name": name, "valueString": value} for name, value in request.query]
    if request.method != "POST" or not request.body:
        return named
    resource = resource_of(request, hub)
    require_same_type(resource, "Parameters")
    return named + parts_of(resource.get("parameter"))


def sound_parameters_in(hub: Hub, request: Request) -> list[Part]:
    """Return the same, where the Parameters and what stands in them have the form of R4."""
    parameters = parameters_in(hub, request)
    if request.method == "POST" and request.body:
        require_form(resource_of(request, hub))
    return parameters


def require_form(resource: Mapping[str, Any]) -> None:
    """Raise InvalidContent with what breaks the form of R4; constraints are not asked."""
    if found := structure.check(resource, constraints=False, narratives=False):
        raise InvalidContent(*found)


def parts_of(parts: Any) -> list[Part]:
    """Return parts that have the form of parts; raise InvalidContent otherwise."""
    if parts is None:
        return []
    if not isinstance(parts, list) or not all(
        isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts
    ):
        raise bad_parameter("parameter", "Give each parameter a name.", "请为每个参数命名。")
    return parts


def value_of(part: Part) -> Any:
    """Return the value of a part, whatever its type; None if it has none."""
    for name, value in part.items():
        if name.startswith("value"):
            return value
    return None


def single(parameters: list[Part], name: str) -> Part | None:
    """Return the only parameter of a name, None if there is none."""
    found = [part for part in parameters if part["name"] == name]
    if len(found) > 1:
        raise bad_parameter(name, "Give it once.", "该参数只能给出一次。")
    return found[0] if found else None


def text_of(parameters: list[Part], name: str) -> str | None:
    """Return a text parameter; raise InvalidContent if it is no text."""
    part = single(parameters, name)
    if part is None:
        return None
    value = value_of(part)
    if not isinstance(value, str):
        raise bad_parameter(name, "Send it as a string.", "请以字符串形式发送。")
    return value


def bad_parameter(name: str, fix_en: str, fix_zh: str) -> InvalidContent:
    """Return the refusal of an operation's parameter."""
    return InvalidContent(
        Issue(
            code="value",
            key="operation-parameter",
            text_en=f"The parameter {name} of the operation is missing or wrong.",
            text_zh=f"操作的参数 {name} 缺失或有误。",
            fix_en=fix_en,
            fix_zh=fix_zh,
            expression=f"Parameters.parameter.where(name = '{name}')"
            if name.isidentifier()
            else None,
        )
    )


def parameters_answer(parameters: list[dict[str, Any]]) -> Answer:
    """Answer with a Parameters resource."""
    resource: dict[str, Any] = {"resourceType": "Parameters"}
    if parameters:
        resource["parameter"] = parameters
    return Answer(status=200, body=resource_json.dump(resource))
