"""Codes that hold messages: which there are, and what happens when a person says what one means."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from conformance.problem import InvalidContent, Issue, Problem
from fhir_store import code_overlays, message_browser, queue_desk
from fhir_store.store import Pool
from mappings.channels.profile import ChannelProfile
from mappings.engine.tables import Table
from mappings.translate import Translator
from mappings.translated import HeldCode, TranslatedMessage

_MOST_READ = 1000


class Resolution(msgspec.Struct, forbid_unknown_fields=True):
    """What one sender's code means."""

    channel: str
    table: str
    code: str
    target: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCodes:
    """The codes that hold messages, by the channels and maps in force.

    `told` lets every process of the hub know of a resolved code.
    """

    pool: Pool
    profiles: Callable[[], Mapping[str, ChannelProfile]]
    translator: Callable[[ChannelProfile], Translator]
    told: Callable[[], Awaitable[None]]

    async def waiting(self) -> list[dict[str, Any]]:
        """Return each code that holds messages, with those messages and what its table knows."""
        async with self.pool.connection() as connection:
            raws = await message_browser.read_held(connection)
        found: dict[tuple[str, str, str], dict[str, Any]] = {}
        for row in raws:
            for one in self._held_of(row) or ():
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
                        "targets": self._targets(row["channel"], one.table),
                        "messages": [],
                    },
                )
                named = {name: row[name] for name in ("id", "control_id", "event", "received_at")}
                if named not in code["messages"]:
                    code["messages"].append(named)
        return list(found.values())

    async def resolve(self, asked: Resolution, actor: str) -> dict[str, Any]:
        """Keep what a sender's code means, and open the messages that wait for nothing else.

        Raises `InvalidContent` for a channel, table or target that is not known.
        """
        profile = self.profiles().get(asked.channel)
        if profile is None:
            raise InvalidContent(_unknown("channel", asked.channel, self.profiles()))
        tables = self.translator(profile).library.tables
        table = tables.get(asked.table)
        if table is None:
            raise InvalidContent(_unknown("table", asked.table, ()))
        targets = {concept.code for concept in table.forward.values()}
        if asked.target not in targets:
            raise InvalidContent(_unknown("target", asked.target, targets))
        async with self.pool.connection() as connection:
            await code_overlays.resolve(
                connection,
                channel=asked.channel,
                table=asked.table,
                code=asked.code,
                target=asked.target,
                actor=actor,
                reason=asked.reason,
            )
        await self.told()
        ids = await self._freed(asked.channel)
        reason = f"{asked.table}: {asked.code} = {asked.target}. {asked.reason}".strip()
        opened = 0
        async with self.pool.connection() as connection:
            for id_ in ids:
                opened += await queue_desk.replay(connection, id_, actor=actor, reason=reason)
        return {"opened": opened, "messages": ids}

    async def _freed(self, channel: str) -> list[int]:
        """Return the held messages of a channel that no code holds any more."""
        async with self.pool.connection() as connection:
            raws = await message_browser.read_held(connection, _MOST_READ)
        return sorted(
            int(row["id"]) for row in raws if row["channel"] == channel and self._held_of(row) == ()
        )

    def _held_of(self, row: Mapping[str, Any]) -> tuple[HeldCode, ...] | None:
        """Return what holds a message; None where it is no code."""
        name = row["channel"]
        profile = self.profiles().get(name) or ChannelProfile(name=name)
        try:
            result = self.translator(profile).translate(bytes(row["raw"]), profile)
        except Problem:
            return None
        return result.held if isinstance(result, TranslatedMessage) else None

    def _targets(self, channel: str, table: str) -> list[dict[str, str]]:
        profile = self.profiles().get(channel) or ChannelProfile(name=channel)
        known: Table | None = self.translator(profile).library.tables.get(table)
        if known is None:
            return []
        concepts = dict.fromkeys(known.forward.values())
        return [{"code": one.code, "display": one.display} for one in concepts]


_MOST_NAMED = 12


def _unknown(name: str, value: str, known: Any) -> Issue:
    names = sorted(known)
    among = ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
    return Issue(
        code="code-invalid",
        key=f"console-{name}",
        text_en=f"There is no {name} {value!r}",
        text_zh=f"没有此 {name}：{value!r}",
        fix_en=f"Choose a {name} that the queue names" + (f": {among}." if among else "."),
        fix_zh=f"请从队列所列的 {name} 中选择" + (f"：{among}。" if among else "。"),
        expression=f"http.body.{name}",
    )
