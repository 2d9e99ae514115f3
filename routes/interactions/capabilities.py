"""The capabilities interaction."""

from collections.abc import Callable

from conformance import resource_json
from conformance.problem import Issue, UnknownParameter
from fhir_store.custom_parameters import State
from routes.answer import Answer
from routes.capability_statement import capability_statement
from routes.hub import Hub
from routes.registry import Handler, Registry
from routes.request import Request
from routes.writing import require_no_parameters

_MODES = frozenset({"full", "normative"})


def capabilities_of(registry: Callable[[], Registry]) -> Handler:
    """Return the interaction, which tells of the registry it stands in."""
    made: dict[str, tuple[tuple[State, ...], bytes]] = {}

    async def capabilities(hub: Hub, request: Request) -> Answer:
        """Return the CapabilityStatement.

        https://hl7.org/fhir/R4/http.html#capabilities
        """
        modes = [value for name, value in request.query if name == "mode"]
        if len(modes) != len(request.query):
            require_no_parameters(request)
        if not _MODES.issuperset(modes):
            raise UnknownParameter(_bad_mode())
        custom = hub.store.parameters.states()
        known = made.get(request.base)
        if known is None or known[0] != custom:
            statement = capability_statement(
                registry(),
                base=request.base,
                version=hub.version,
                at=hub.started_at,
                oauth=hub.oauth,
                custom=custom,
            )
            if len(made) > 16:
                made.clear()
            known = made[request.base] = (custom, resource_json.dump(statement))
        return Answer(status=200, body=known[1], kind="resource")

    return capabilities


def _bad_mode() -> Issue:
    return Issue(
        code="not-supported",
        key="parameter-unknown",
        text_en="The capabilities interaction takes mode=full or mode=normative only.",
        text_zh="capabilities 交互仅接受 mode=full 或 mode=normative。",
        fix_en="Ask for /metadata without parameters.",
        fix_zh="请不带参数地请求 /metadata。",
        expression="http.mode",
    )
