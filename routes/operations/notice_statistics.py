"""`Communication/$notice-statistics`: how many attempts reached people, by channel."""

import datetime
from typing import Any

from care.reminder import CHANNEL
from conformance.cphc.operations import definition_of
from fhir_store.permits import conditions_of
from fhir_store.search.query import SearchQuery
from routes.answer import Answer
from routes.hub import Hub
from routes.operations.contract_parameters import given_in
from routes.operations.parameters import bad_parameter, parameters_answer
from routes.registry import Operation as Promise
from routes.request import Request

_CHANNELS = ("app", "wechat", "sms", "rcs", "voice", "paper")
_STATES = {
    "delivered": "completed",
    "failed": "not-done",
    "unknown": "unknown",
    "open": "in-progress",
}


def notice_statistics_operation() -> Promise:
    """Return the operation as the registry wants it."""
    return Promise(
        code="notice-statistics",
        definition=definition_of("Communication", "notice-statistics"),
        levels=frozenset({"type"}),
        types=frozenset({"Communication"}),
        handler=notice_statistics,
    )


async def notice_statistics(hub: Hub, request: Request) -> Answer:
    """Count attempts by channel and outcome; parameters `start`, `end` (days, both included)."""
    given = given_in(hub, request)
    first, last = given.day("start"), given.day("end")
    if last < first:
        raise bad_parameter("end", "Let it be start or later.", "不得早于 start。")
    rights = await hub.authorize(request.caller, "s", "Communication")
    parts: list[dict[str, Any]] = []
    for channel in _CHANNELS:
        counts = {}
        for name, status in _STATES.items():
            pairs = [
                ("medium", f"{CHANNEL}|{channel}"),
                ("status", status),
                ("sent", f"ge{first}"),
                ("sent", f"lt{last + datetime.timedelta(days=1)}"),
            ]
            conditions = conditions_of("Communication", pairs)
            query = SearchQuery(
                types=("Communication",), conditions=conditions, count=0, total="accurate"
            )
            page = await hub.store.search(query, authorization=rights)
            counts[name] = page.total or 0
        if any(counts.values()):
            numbers = [{"name": name, "valueInteger": count} for name, count in counts.items()]
            coding = {"system": CHANNEL, "code": channel}
            own = [{"name": "channel", "valueCoding": coding}, *numbers]
            parts.append({"name": "count", "part": own})
    return parameters_answer(parts)
