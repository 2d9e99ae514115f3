"""Work queues: parked keys and held codes; rehearse first, then fix and replay in order."""

from typing import Any

import msgspec

from conformance.problem import InvalidContent, Issue, Problem
from fhir_store import code_overlays, message_browser, queue_desk
from mappings.engine.tables import Table
from mappings.translate import Translator
from mappings.translated import TranslatedMessage
from routes.console.browsing import profile_of
from routes.console.desk import Desk

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


class Resolution(msgspec.Struct, forbid_unknown_fields=True):
    """What one sender's code means."""

    channel: str
    table: str
    code: str
    target: str
    reason: str = ""


async def queues(desk: Desk) -> dict[str, Any]:
    """Return parked and held entries with how many wait behind each, and the codes behind those."""
    async with desk.hub.store.pool.connection() as connection:
        parked = await message_browser.read_stuck(connection, "parked")
        held = await message_browser.read_stuck(connection, "held")
        unmapped = await message_browser.read_stuck(connection, "unmapped", limit=50)
        raws = await message_browser.read_held(connection)
        resolved = await code_overlays.list_resolved(connection)
    names = ("channel", "table", "code", "target", "actor", "reason", "at")
    return {
        "parked": parked,
        "held": held,
        "unmapped": unmapped,
        "codes": _codes(desk, raws),
        "resolved": [dict(zip(names, row, strict=True)) for row in resolved],
    }


def _codes(desk: Desk, raws: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each code that holds messages, with those messages and what its table knows."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in raws:
        profile = profile_of(desk, row["channel"])
        translator = desk.translator(profile)
        try:
            result = translator.translate(bytes(row["raw"]), profile)
        except Problem:
            continue
        if not isinstance(result, TranslatedMessage):
            continue
        for one in result.held:
            key = (row["channel"], one.table, one.code)
            code = found.setdefault(
                key,
                {
                    "channel": row["channel"],
                    "table": one.table,
                    "code": one.code,
                    "system": one.system,
                    "row": one.row,
                    "source": one.source,
                    "targets": _targets(translator, one.table),
                    "messages": [],
                },
            )
            named = {name: row[name] for name in ("id", "control_id", "event", "received_at")}
            if named not in code["messages"]:
                code["messages"].append(named)
    return list(found.values())


def _targets(translator: Translator, table: str) -> list[dict[str, str]]:
    known: Table | None = translator.library.tables.get(table)
    if known is None:
        return []
    concepts = dict.fromkeys(known.forward.values())
    return [{"code": one.code, "display": one.display} for one in concepts]


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
    profile = desk.profiles().get(asked.channel)
    if profile is None:
        raise InvalidContent(_unknown("channel", asked.channel))
    table = desk.translator(profile).library.tables.get(asked.table)
    if table is None:
        raise InvalidContent(_unknown("table", asked.table))
    if asked.target not in {concept.code for concept in table.forward.values()}:
        raise InvalidContent(_unknown("target", asked.target))
    async with desk.hub.store.pool.connection() as connection:
        await code_overlays.resolve(
            connection,
            channel=asked.channel,
            table=asked.table,
            code=asked.code,
            target=asked.target,
            actor=actor,
            reason=asked.reason,
        )
    await desk.resolved()
    ids = await _freed(desk, asked.channel)
    if not ids:
        return {"opened": 0, "messages": []}
    reason = f"{asked.table}: {asked.code} = {asked.target}. {asked.reason}".strip()
    opened = await replay(desk, Replays(ids=ids, reason=reason), actor)
    return {**opened, "messages": ids}


async def _freed(desk: Desk, channel: str) -> list[int]:
    """Return the held messages of a channel that no code holds any more."""
    async with desk.hub.store.pool.connection() as connection:
        raws = await message_browser.read_held(connection, _MOST_MOVED)
    freed = []
    for row in raws:
        if row["channel"] != channel:
            continue
        profile = profile_of(desk, channel)
        try:
            result = desk.translator(profile).translate(bytes(row["raw"]), profile)
        except Problem:
            continue
        if isinstance(result, TranslatedMessage) and not result.held:
            freed.append(int(row["id"]))
    return freed


def _unknown(name: str, value: str) -> Issue:
    return Issue(
        code="code-invalid",
        key=f"console-{name}",
        text_en=f"There is no {name} {value!r}",
        text_zh=f"没有此 {name}：{value!r}",
        fix_en=f"Choose a {name} that the queue names.",
        fix_zh=f"请从队列所列的 {name} 中选择。",
        expression=f"http.body.{name}",
    )


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
