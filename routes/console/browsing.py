"""The message browser: filters, and one message with its tree, its FHIR, its trace and its way."""

import datetime
from collections.abc import Mapping
from typing import Any

import orjson

from conformance import resource_json
from conformance.problem import InvalidContent, Issue, Problem
from fhir_store import message_browser, queue_desk
from fhir_store.inbox import STATES
from fhir_store.message_browser import MessageFilter
from mappings.channels.profile import ChannelProfile
from mappings.explain import Explained, explained
from mappings.hl7.charset import decode
from mappings.hl7.message import parse
from mappings.translate import Translator
from routes.console.desk import Desk
from routes.console.message_tree import tree_of

MOST_ROWS = 200
_LONGEST_RAW = 200_000
_MOST_PATIENTS = 20


async def find(desk: Desk, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of messages, newest first; `next` is the `before` of the page after it."""
    store = desk.hub.store
    async with store.pool.connection() as connection:
        wanted = _filter_of(query)
        if query.get("patient"):
            numbers = await _numbers_of(desk, connection, query["patient"].strip())
            wanted = _with_numbers(wanted, numbers)
        rows = await message_browser.find_messages(connection, wanted)
    page, more = rows[: wanted.limit], rows[wanted.limit :]
    return {"messages": page, "next": page[-1]["id"] if more else None}


async def kinds(desk: Desk) -> dict[str, Any]:
    """Return what filters may choose from."""
    async with desk.hub.store.pool.connection() as connection:
        found = await message_browser.read_kinds(connection)
    channels = {kind["channel"] for kind in found} | set(desk.profiles())
    return {
        "channels": sorted(channels),
        "events": sorted({kind["event"] for kind in found}),
        "states": list(STATES),
    }


async def show(desk: Desk, id_: int) -> dict[str, Any]:
    """Return one message whole."""
    async with desk.hub.store.pool.connection() as connection:
        row = await message_browser.read_message(connection, id_)
        sent = await message_browser.read_sent(connection, row["trace_id"])
        behind = await message_browser.read_behind(connection, id_)
        whole = await queue_desk.show_inbox(connection, id_)
    raw, ack = bytes(row.pop("raw")), bytes(row.pop("ack"))
    trace, written = row.pop("trace"), row.pop("written")
    profile = profile_of(desk, row["channel"])
    return {
        **row,
        "raw": _text(raw, profile.charset),
        "ack": _text(ack, profile.charset),
        "tree": _tree(raw, profile.charset),
        "sent": [_sent(one) for one in sent],
        "behind": behind,
        "moves": whole["moves"],
        **await _effect(desk, profile, trace, written or []),
    }


async def _effect(
    desk: Desk, profile: ChannelProfile, trace: bytes | None, written: list[str]
) -> dict[str, Any]:
    """Return the versions a message wrote, with their traces and the rows in words."""
    found = orjson.loads(trace) if trace else {"resources": {}}
    bodies = {}
    for reference in written:
        type_, id_, _, version = reference.split("/")
        try:
            stored = await desk.hub.store.vread(type_, id_, int(version))
        except Problem:  # deleted or pruned since
            continue
        bodies[f"{type_}/{id_}"] = resource_json.parse(stored.body)
    traced = found["resources"]
    resources = [
        {"reference": name, "resource": bodies.get(name), "trace": traced.get(name, [])}
        for name in dict.fromkeys([*bodies, *traced])
    ]
    rows = {entry[2] for one in resources for entry in one["trace"]}
    return {
        "map": found.get("map", ""),
        "map_hash": found.get("hash", ""),
        "is_current_map": found.get("hash", "") == desk.translator(profile).library.hash,
        "resources": resources,
        "rows": rows_in_words(desk.translator(profile), rows),
    }


def rows_in_words(translator: Translator, names: set[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of these names; several maps may have a row of one name."""
    library = translator.library
    found: dict[str, list[dict[str, Any]]] = {}
    for row_map in library.maps.values():
        for row in row_map.rows:
            if row.id in names:
                found.setdefault(row.id, []).append(to_json(explained(library, row_map, row)))
    return found


def to_json(row: Explained) -> dict[str, Any]:
    """Return a row in words as JSON."""
    names = ("map", "row", "file", "line", "kind", "text", "text_zh")
    return {name: getattr(row, name) for name in names}


def profile_of(desk: Desk, channel: str) -> ChannelProfile:
    """Return a channel's profile, or the default one where the channel is gone."""
    return desk.profiles().get(channel) or ChannelProfile(name=channel)


def _filter_of(query: Mapping[str, str]) -> MessageFilter:
    state = query.get("state") or None
    if state is not None and state not in STATES:
        raise InvalidContent(_wrong("state", f"one of {', '.join(STATES)}"))
    return MessageFilter(
        channel=query.get("channel") or None,
        event=query.get("event") or None,
        state=state,
        control_id=query.get("control_id") or None,
        since=_time(query, "since"),
        until=_time(query, "until"),
        before=_number(query, "before", 2**62),
        limit=_number(query, "limit", MOST_ROWS) or 50,
    )


def _with_numbers(wanted: MessageFilter, numbers: list[str]) -> MessageFilter:
    return MessageFilter(
        **{
            name: getattr(wanted, name)
            for name in MessageFilter.__dataclass_fields__
            if name != "numbers"
        },
        numbers=numbers,
    )


async def _numbers_of(desk: Desk, connection: Any, given: str) -> list[str]:
    """Return the number that was given and all others of the patients who carry it.

    `Patient/<id>` names a record; a number may come as `7^^^H1`.
    """
    number = given.partition("^")[0]
    if given.startswith("Patient/"):
        ids, number = [given.removeprefix("Patient/")], ""
    else:
        criteria = f"identifier={number.replace('&', '').replace('|', '').replace('$', '')}"
        matched = await desk.hub.store.searcher.match(
            connection, "Patient", criteria, _MOST_PATIENTS
        )
        ids = list(matched)
    numbers = [number] if number else []
    for id_ in ids:
        try:
            stored = await desk.hub.store.read("Patient", id_)
        except Problem:
            continue
        for identifier in resource_json.parse(stored.body).get("identifier", []):
            numbers.append(str(identifier.get("value", "")))
    return [one for one in dict.fromkeys(numbers) if one]


def _time(query: Mapping[str, str], name: str) -> datetime.datetime | None:
    text = query.get(name)
    if not text:
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidContent(_wrong(name, "a time such as 2026-03-01T08:00:00+08:00")) from None
    return found if found.tzinfo else found.astimezone()


def _number(query: Mapping[str, str], name: str, most: int) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= most:
        raise InvalidContent(_wrong(name, f"a number from 1 to {most}"))
    return int(text)


def _wrong(name: str, should: str) -> Issue:
    return Issue(
        code="value",
        key="console-parameter",
        text_en=f"The parameter {name} is not {should}",
        text_zh=f"参数 {name} 的值不正确",
        fix_en=f"Give {should}.",
        fix_zh=f"请给出：{should}。",
        expression=f"http.{name}",
    )


def _text(data: bytes, charset: str) -> str:
    """Return a message as text, a line a segment; what cannot be read is marked."""
    try:
        text, _ = decode(data, charset)
    except Problem:
        text = data.decode("utf-8", "replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > _LONGEST_RAW:
        return f"{text[:_LONGEST_RAW]}\n… ({len(data)} bytes)"
    return text


def _tree(data: bytes, charset: str) -> list[dict[str, Any]]:
    try:
        return tree_of(parse(data, charset))
    except Problem:
        return []


def _sent(row: Mapping[str, Any]) -> dict[str, Any]:
    payload, receipt = row["payload"], row["receipt"]
    return {
        **row,
        "payload": bytes(payload).decode("utf-8", "replace")[:_LONGEST_RAW] if payload else "",
        "receipt": bytes(receipt).decode("utf-8", "replace")[:_LONGEST_RAW] if receipt else "",
    }
