"""Work queues: parked keys and held codes; rehearse first, then fix and replay in order."""

from typing import Any

import msgspec

from conformance.problem import InvalidContent, Issue
from fhir_store import code_overlays, message_browser, queue_desk
from routes.console.desk import Desk
from routes.console.held_codes import HeldCodes, Resolution

_MOST_MOVED = 1000


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    """Why somebody moves an entry."""

    reason: str = ""


class Replays(msgspec.Struct, forbid_unknown_fields=True):
    """Entries to work on again, in the order of their numbers."""

    ids: list[int]
    reason: str = ""


class Rehearsal(msgspec.Struct, forbid_unknown_fields=True):
    """Codes to try out: table -> the sender's code -> ours."""

    codes: dict[str, dict[str, str]] = {}


async def queues(desk: Desk) -> dict[str, Any]:
    """Return parked and held entries with how many wait behind each, and the codes behind those."""
    async with desk.hub.store.pool.connection() as connection:
        parked = await message_browser.read_stuck(connection, "parked")
        held = await message_browser.read_stuck(connection, "held")
        unmapped = await message_browser.read_stuck(connection, "unmapped", limit=50)
        resolved = await code_overlays.list_resolved(connection)
    names = ("channel", "table", "code", "target", "actor", "reason", "at")
    return {
        "parked": parked,
        "held": held,
        "unmapped": unmapped,
        "codes": await _held_codes(desk).waiting(),
        "resolved": [dict(zip(names, row, strict=True)) for row in resolved],
    }


def _held_codes(desk: Desk) -> HeldCodes:
    return HeldCodes(
        pool=desk.hub.store.pool,
        profiles=desk.profiles,
        translator=desk.translator,
        told=desk.resolved,
    )


async def rehearse(desk: Desk, id_: int, asked: Rehearsal) -> dict[str, Any]:
    """Return what a replay would do now, or would do if these codes were resolved."""
    return await desk.rehearse(id_, asked.codes)


async def replay(desk: Desk, asked: Replays, actor: str) -> dict[str, Any]:
    """Open entries again; each runs with those behind it in their original order."""
    if not 0 < len(asked.ids) <= _MOST_MOVED:
        raise InvalidContent(_too_many())
    count = 0
    async with desk.hub.store.pool.connection() as connection:
        for id_ in sorted(set(asked.ids)):
            count += await queue_desk.replay(connection, id_, actor=actor, reason=asked.reason)
    desk.opened()
    return {"opened": count}


async def skip(desk: Desk, id_: int, asked: Reason, actor: str) -> dict[str, Any]:
    """Give an entry up; those behind it go on."""
    async with desk.hub.store.pool.connection() as connection:
        count = await queue_desk.skip(connection, id_, actor=actor, reason=asked.reason)
    desk.opened()
    return {"opened": count}


async def resolve(desk: Desk, asked: Resolution, actor: str) -> dict[str, Any]:
    """Keep what a sender's code means, and work on the messages that wait for nothing else."""
    done = await _held_codes(desk).resolve(asked, actor)
    desk.opened()
    return done


def _too_many() -> Issue:
    return Issue(
        code="value",
        key="console-ids",
        text_en=f"Between 1 and {_MOST_MOVED} entries can be replayed at a time",
        text_zh=f"一次可重放 1 至 {_MOST_MOVED} 个条目",
        fix_en="Name fewer entries.",
        fix_zh="请减少条目。",
        expression="http.body.ids",
    )
