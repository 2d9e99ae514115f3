"""A Subscription as asked for: the Subscriptions R5 Backport on R4.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/
"""

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from care.effects import Resource, refuse
from care.topics import TOPICS, Topic, topic_of

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
Content = Literal["empty", "id-only", "full-resource"]
_CONTENTS: tuple[Content, ...] = ("empty", "id-only", "full-resource")
_LONGEST_HEADER = 1_000
_MOST_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a subscriber wants: which events, how much of them, where to, how often a heartbeat.

    `filters` are pairs of a search parameter of the topic's focus and its value; `headers` go with
    each notification; `heartbeat` and `timeout` are seconds, 0 for none.
    """

    topic: Topic
    channel: Literal["rest-hook", "websocket"]
    endpoint: str
    content: Content
    headers: tuple[tuple[str, str], ...]
    filters: tuple[tuple[str, str], ...]
    heartbeat: int
    timeout: int
    most: int


def wish_of(subscription: Resource) -> Wish:
    """Return what is asked for; raise BusinessRule with advice where it cannot be had."""
    topic = topic_of(str(subscription.get("criteria", "")))
    if topic is None:
        names = ", ".join(one.canonical for one in TOPICS)
        raise refuse(
            "subscription-topic",
            "The criteria name no topic",
            "criteria 不是已知的订阅主题",
            f"Write one of {names}.",
            f"请使用其中之一：{names}。",
            "Subscription.criteria",
        )
    channel = subscription.get("channel", {})
    kind = channel.get("type")
    if kind not in ("rest-hook", "websocket"):
        raise refuse(
            "subscription-channel",
            "The channel is neither rest-hook nor websocket",
            "渠道类型应为 rest-hook 或 websocket",
            "Write one of them.",
            "请改用其中之一。",
            "Subscription.channel.type",
        )
    if channel.get("payload", "application/fhir+json") != "application/fhir+json":
        raise refuse(
            "subscription-payload",
            "Notifications are application/fhir+json",
            "通知内容为 application/fhir+json",
            "Write that, or leave payload out.",
            "请使用该类型或省略 payload。",
            "Subscription.channel.payload",
        )
    content = _extension(channel.get("_payload", {}), "backport-payload-content") or "id-only"
    if content not in _CONTENTS:
        raise refuse(
            "subscription-content",
            "The payload content is not known",
            "未知的 payload content",
            f"Write {', '.join(_CONTENTS)}.",
            f"请使用 {'、'.join(_CONTENTS)}。",
            "Subscription.channel.payload.extension",
        )
    return Wish(
        topic=topic,
        channel=kind,
        endpoint=str(channel.get("endpoint", "")),
        content=content,
        headers=_headers(channel.get("header", ())),
        filters=_filters(subscription, topic),
        heartbeat=_seconds(channel, "backport-heartbeat-period"),
        timeout=_seconds(channel, "backport-timeout"),
        most=min(_MOST_AT_ONCE, _seconds(channel, "backport-max-count") or 1),
    )


def _headers(lines: Any) -> tuple[tuple[str, str], ...]:
    found = []
    for line in lines:
        name, colon, value = str(line).partition(":")
        if not colon or not name.replace("-", "").isalnum() or not _is_plain(line):
            raise refuse(
                "subscription-header",
                "A header cannot be sent",
                "header 无法发送",
                "Write `Name: value` in one line of ASCII.",
                "请写成一行 ASCII 的“名称: 值”。",
                "Subscription.channel.header",
            )
        if name.lower() not in ("host", "content-length", "content-type", "transfer-encoding"):
            found.append((name.lower(), value.strip()))
    return tuple(found)


def _is_plain(line: Any) -> bool:
    text = str(line)
    return text.isascii() and text.isprintable() and len(text) <= _LONGEST_HEADER


def _filters(subscription: Resource, topic: Topic) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for extension in subscription.get("_criteria", {}).get("extension", ()):
        if extension.get("url") != BACKPORT + "backport-filter-criteria":
            continue
        type_, mark, query = str(extension.get("valueString", "")).partition("?")
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
        if not mark or type_ != topic.about or not pairs:
            raise refuse(
                "subscription-filter",
                "A filter does not speak of what the topic is about",
                "过滤条件与订阅主题的资源不符",
                f"Write {topic.about}?parameter=value.",
                f"请写成 {topic.about}?参数=值。",
                "Subscription.criteria.extension",
            )
        found += pairs
    return tuple(found)


def _extension(element: Mapping[str, Any], name: str) -> Any:
    for one in element.get("extension", ()):
        if one.get("url") == BACKPORT + name:
            return next((v for k, v in one.items() if k.startswith("value")), None)
    return None


def _seconds(channel: Mapping[str, Any], name: str) -> int:
    value = _extension(channel, name)
    return int(value) if value is not None else 0
