"""From an address to the one function that answers it."""

from conformance.problem import Issue, NotFound
from routes.registry import Handler, Level, Operation, Registry
from routes.request import Address
from routes.statuses import MethodNotAllowed

_LEVELS: dict[str, Level] = {
    "$": "system",
    "type/$": "type",
    "type/id/$": "instance",
    "type/id/_history/version/$": "instance",
}
# HTTP asks for it: who may GET may also ask for the headers alone.
_READING = {"HEAD": "GET"}


def handler_of(registry: Registry, method: str, address: Address) -> tuple[str, Handler]:
    """Return (name, handler); raise NotFound or MethodNotAllowed."""
    wanted = _READING.get(method, method)
    if address.operation:
        operation = _operation_of(registry, address)
        allowed = ("POST",) if operation.affects_state else ("GET", "POST")
        if wanted not in allowed:
            raise MethodNotAllowed(*allowed)
        return f"${operation.code}", operation.handler
    interaction = registry.by_address.get((wanted, address.shape))
    if interaction is None:
        methods = registry.methods.get(address.shape)
        if not methods:
            raise NotFound(_no_such("address"))
        raise MethodNotAllowed(*methods, *(("HEAD",) if "GET" in methods else ()))
    return interaction.code, interaction.handler


def _operation_of(registry: Registry, address: Address) -> Operation:
    level = _LEVELS[address.shape]
    for operation in registry.by_code.get(address.operation, ()):
        if address.version and not operation.for_versions:
            continue
        if level in operation.levels and (level == "system" or operation.is_for(address.type)):
            return operation
    raise NotFound(_no_such("operation"))


def _no_such(key: str) -> Issue:
    return Issue(
        code="not-supported",
        key=key,
        text_en="There is no such interaction or operation here.",
        text_zh="此处没有该交互或操作。",
        fix_en="Take one of those that GET /metadata lists for this type.",
        fix_zh="请使用 GET /metadata 为该类型列出的交互或操作。",
        expression="http.path",
    )
