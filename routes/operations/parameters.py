"""Parameters resources: what an operation is given and gives back; parameters.html."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from conformance import resource_json, structure
from conformance.cphc.operations import Given as Declared
from conformance.cphc.operations import operation_row
from conformance.near_names import nearest, printable
from conformance.problem import InvalidContent, Issue, UnknownParameter
from routes.answer import Answer
from routes.bodies import require_same_type, resource_of
from routes.hub import Hub
from routes.request import Request

Part = Mapping[str, Any]


def parameters_in(hub: Hub, request: Request) -> list[Part]:
    """Return the parameters of a POST, those in the URL included as strings.

    Those that the operation is not given are refused, or left out under `handling=lenient`.
    """
    named = parameters_of_url(request)
    if request.method != "POST" or not request.body:
        return named
    resource = resource_of(request, hub)
    require_same_type(resource, "Parameters")
    return _declared_of(request, named + parts_of(resource.get("parameter")))


def parameters_of_url(request: Request) -> list[Part]:
    """Return the parameters in the URL as strings; unknown ones are refused all the same."""
    named: list[Part] = [{"name": name, "valueString": value} for name, value in request.query]
    return _declared_of(request, named)


def _declared_of(request: Request, parts: list[Part]) -> list[Part]:
    """Return the parts that the operation of the address is given; all where nothing is listed."""
    address = request.address
    row = operation_row(address.type, address.operation)
    level = "instance" if address.id else "type" if address.type else "system"
    known = row.given_at(level) if row else None
    if known is None:
        return parts
    shown = f"{address.type}/${address.operation}"
    return _declared(parts, known, shown, is_lenient=request.prefer.is_lenient)


def _declared(
    parts: Sequence[Part], known: Declared, shown: str, *, is_lenient: bool
) -> list[Part]:
    """Return the parts that are listed, theirs included; a single one that comes twice is refused.

    Raises UnknownParameter for one that is not listed, unless asked to be lenient.
    """
    counted = Counter(str(part["name"]) for part in parts)
    for name, times in counted.items():
        if name not in known and not is_lenient:
            raise UnknownParameter(_unknown(name, tuple(known), shown))
        if times > 1 and name in known and known[name].is_single:
            raise bad_parameter(name, "Give it once.", "该参数只能给出一次。")
    found: list[Part] = []
    for part in parts:
        if part["name"] not in known:
            continue
        inner = known[part["name"]].parts
        if inner is None:
            found.append(part)
        else:
            own = _declared(
                parts_of(part.get("part")), inner, f"{shown} {part['name']}", is_lenient=is_lenient
            )
            found.append({**part, "part": own})
    return found


def require_known(request: Request, parts: Sequence[Part], known: Sequence[str]) -> None:
    """Raise UnknownParameter for a part of another name, unless the request asks to be lenient."""
    if request.prefer.is_lenient:
        return
    for part in parts:
        if part["name"] not in known:
            shown = f"{request.address.type}/${request.address.operation}"
            raise UnknownParameter(_unknown(str(part["name"]), known, shown))


def _unknown(name: str, known: Sequence[str], shown: str) -> Issue:
    near = nearest(name, known)
    all_en = f"It is given {', '.join(known)}." if known else "It is given none."
    all_zh = f"可用参数：{'、'.join(known)}。" if known else "该操作没有参数。"
    return Issue(
        code="not-supported",
        key="operation-unknown-parameter",
        text_en=f"{shown} has no parameter {printable(name)}.",
        text_zh=f"{shown} 没有参数 {printable(name)}。",
        fix_en=(f"Write {near}. " if near else "")
        + f"{all_en} `Prefer: handling=lenient` leaves unknown ones out.",
        fix_zh=(f"应为 {near}。" if near else "")
        + f"{all_zh}如需忽略未知参数，请使用 Prefer: handling=lenient。",
        expression=f"Parameters.parameter.where(name = '{name}')" if name.isidentifier() else None,
    )


def sound_parameters_in(hub: Hub, request: Request) -> list[Part]:
    """Return the same, where the Parameters and what stands in them have the form of R4."""
    parameters = parameters_in(hub, request)
    if request.method == "POST" and request.body:
        require_form(resource_of(request, hub))
    return parameters


def sent_with_parameters(
    hub: Hub, request: Request, type_: str
) -> tuple[dict[str, Any] | None, list[Part]]:
    """Return the resource that the body is, if it is no Parameters, and the parameters.

    At a resource's address the body can only be Parameters: the resource is the one there.
    """
    if request.method != "POST" or not request.body:
        return None, parameters_of_url(request)
    sent: dict[str, Any] = resource_of(request, hub)
    if sent.get("resourceType") == "Parameters" or request.address.id:
        return None, sound_parameters_in(hub, request)
    require_form(sent)
    require_same_type(sent, type_)
    return sent, parameters_of_url(request)


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
