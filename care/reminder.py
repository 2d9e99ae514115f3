"""Reminders: which channel, when, and when no more. A CommunicationRequest says what is wished.

`medium` holds the channels in the order of preference (`cphc-notify-channel`), `occurrenceDateTime`
when, `payload` the words: the first for people, the others the parameters of a template. Extension
`notice-repeat` (Timing) says how often again, `notice-stop-rule` when it ends: `first-success`, or
`until-done` (the Task or Contract it is about is settled). Each attempt is a Communication.
"""

import datetime
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from care.contract.renewal import RenewalReminder
from care.contract.surroundings import is_deceased
from care.effects import Resource
from care.periods import LOCAL
from care.topics import RENEWAL
from conformance.cphc import BASE

CHANNEL = f"{BASE}/CodeSystem/cphc-notify-channel"
TEMPLATE_TYPE = f"{BASE}/CodeSystem/cphc-message-template-type"
REPEAT = f"{BASE}/StructureDefinition/cphc-notice-repeat"
STOP_RULE = f"{BASE}/StructureDefinition/cphc-notice-stop-rule"
CONSENT_CATEGORY = f"{BASE}/CodeSystem/cphc-consent-category"
WECHAT_ID = "urn:qiao:wechat-openid"
NOTICE = "notice"
DEFAULT_CHANNELS = ("wechat", "sms")
_NAMES = uuid.UUID("1c3b1f0a-0c86-57a4-9e3e-6a2f7d0d6c11")
_MORNING = datetime.time(9)
_UNITS = {"h": "hours", "d": "days", "wk": "weeks"}
_SETTLED = {
    "Task": frozenset({"completed", "cancelled", "rejected", "failed", "entered-in-error"}),
    "Contract": frozenset({"terminated", "revoked", "cancelled", "rejected", "entered-in-error"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """When nobody is disturbed, local time; `start` after `end` goes over midnight."""

    start: datetime.time = datetime.time(21)
    end: datetime.time = datetime.time(8)

    def ends_at(self, now: datetime.datetime) -> datetime.datetime | None:
        """Return when the quiet that holds now ends; None where it does not hold."""
        local = now.astimezone(LOCAL)
        clock = local.time().replace(tzinfo=None)
        over_midnight = self.start > self.end
        if over_midnight:
            is_quiet = clock >= self.start or clock < self.end
        else:
            is_quiet = self.start <= clock < self.end
        if not is_quiet:
            return None
        day = local.date()
        if over_midnight and clock >= self.start:
            day += datetime.timedelta(days=1)
        return datetime.datetime.combine(day, self.end, LOCAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a decision is given: the resident, what it is about, consents, and earlier attempts.

    `channels` are those that this hub can send on; `about` is the Task or Contract, or None.
    """

    now: datetime.datetime
    resident: Resource
    about: Resource | None
    consents: Sequence[Resource]
    attempts: Sequence[Resource]
    channels: frozenset[str]
    quiet: QuietHours = QuietHours()


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Try this channel now; `attempt` is the Communication."""

    channel: str
    attempt: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Look again at an instant; None waits for the attempt under way."""

    until: datetime.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Say no more: the request's last status and why."""

    status: str
    reason: str


def due_at(request: Resource) -> datetime.datetime | None:
    """Return when an active request is to be looked at first; None for others."""
    if request.get("status") != "active":
        return None
    text = request.get("occurrenceDateTime") or request.get("occurrencePeriod", {}).get("start")
    if not text:
        text = request.get("authoredOn")
    return _instant(str(text)) if text else None


def decide(request: Resource, around: Circumstances) -> Send | Wait | Stop:
    """Decide what is done about a request that is due."""
    first = due_at(request)
    if first is None:
        return Stop(status=str(request.get("status")), reason="")
    stop = _stopped(request, around)
    if stop is not None:
        return stop
    attempts = [one for one in around.attempts if one.get("status") != "entered-in-error"]
    if any(one.get("status") in ("preparation", "in-progress") for one in attempts):
        return Wait(until=None)
    times = occurrences(request, first)
    reached = max((n for n, at in enumerate(times) if at <= around.now), default=-1)
    if reached < 0:
        return Wait(until=times[0])
    own = [one for one in attempts if _number_of(one) == reached]
    is_done = any(one.get("status") == "completed" for one in own)
    tried = {_channel_of(one) for one in own}
    open_channels = [one for one in channels_of(request) if one in around.channels - tried]
    open_channels = [
        one
        for one in open_channels
        if address_of(around.resident, one) and _is_allowed(around.consents, one)
    ]
    if is_done or not open_channels:
        following = times[reached + 1] if reached + 1 < len(times) else None
        if is_done and _stop_rule(request) == "first-success":
            return Stop(status="completed", reason="sent")
        if following is not None:
            return Wait(until=following)
        anything = any(one.get("status") == "completed" for one in attempts)
        return (
            Stop(status="completed", reason="sent")
            if anything
            else Stop(status="on-hold", reason="no channel reaches the resident")
        )
    if request.get("priority") not in ("asap", "stat"):
        quiet = around.quiet.ends_at(around.now)
        if quiet is not None:
            return Wait(until=quiet)
    channel = open_channels[0]
    return Send(channel=channel, attempt=_attempt(request, channel, reached, around.now))


def occurrences(request: Resource, first: datetime.datetime) -> list[datetime.datetime]:
    """Return all times of a request: the first, and those of its repetition (100 at most)."""
    for extension in request.get("extension", ()):
        if extension.get("url") == REPEAT:
            repeat = extension.get("valueTiming", {}).get("repeat", {})
            unit = _UNITS.get(str(repeat.get("periodUnit")))
            if unit is not None and repeat.get("period"):
                step = datetime.timedelta(**{unit: float(repeat["period"])})
                count = min(100, int(repeat.get("count", 1)))
                return [first + step * n for n in range(max(1, count))]
    return [first]


def channels_of(request: Resource) -> list[str]:
    """Return the channels in the order of preference."""
    found = [
        str(coding["code"])
        for medium in request.get("medium", ())
        for coding in medium.get("coding", ())
        if coding.get("system") == CHANNEL and "code" in coding
    ]
    return found or list(DEFAULT_CHANNELS)


def address_of(resident: Resource, channel: str) -> str:
    """Return where a channel reaches a resident; empty where it does not."""
    if channel == "wechat":
        for one in resident.get("identifier", ()):
            if one.get("system") == WECHAT_ID:
                return str(one.get("value", ""))
        return ""
    phones = [
        one
        for one in resident.get("telecom", ())
        if one.get("system") in ("phone", "sms") and one.get("use") != "old" and one.get("value")
    ]
    phones.sort(key=lambda one: one.get("use") != "mobile")
    return str(phones[0]["value"]) if phones else ""


def words_of(request_or_attempt: Resource) -> tuple[str, tuple[str, ...]]:
    """Return the text for people and the parameters of the template."""
    texts = [
        str(one["contentString"])
        for one in request_or_attempt.get("payload", ())
        if "contentString" in one
    ]
    text = texts[0] if texts else ""
    return text, tuple(texts[1:]) or (text,)


def category_of(resource: Resource) -> str:
    """Return the kind of message, by which a provider's template is chosen."""
    for category in resource.get("category", ()):
        for coding in category.get("coding", ()):
            if coding.get("system") == TEMPLATE_TYPE:
                return str(coding.get("code", ""))
    return ""


def renewal_request(reminder: RenewalReminder, now: datetime.datetime) -> dict[str, Any]:
    """Return the request to remind a resident that a contract ends; one for each day named."""
    end = reminder.on + datetime.timedelta(days=reminder.days_left)
    left = f"还有 {reminder.days_left} 天" if reminder.days_left else "今天"
    text = f"您的家庭医生签约协议将于 {end} 到期（{left}），续约请联系签约团队。"
    return {
        "resourceType": "CommunicationRequest",
        "id": str(uuid.uuid5(_NAMES, f"{reminder.contract} {reminder.on}")),
        "basedOn": [{"reference": reminder.contract}],
        "status": "active",
        "category": [{"coding": [{"system": TEMPLATE_TYPE, "code": RENEWAL}]}],
        "priority": "routine",
        "medium": [
            {"coding": [{"system": CHANNEL, "code": channel}]} for channel in DEFAULT_CHANNELS
        ],
        "subject": {"reference": reminder.resident},
        # The team cannot be the sender: R4 has no CareTeam there.
        "about": [{"reference": reminder.contract}, {"reference": reminder.team}],
        "payload": [
            {"contentString": text},
            {"contentString": end.isoformat()},
        ],
        "occurrenceDateTime": datetime.datetime.combine(reminder.on, _MORNING, LOCAL).isoformat(),
        "authoredOn": now.isoformat(),
    }


def settled_attempt(attempt: Resource, outcome: str, code: str, detail: str) -> dict[str, Any]:
    """Return the Communication when the provider's verdict is known: completed or not-done."""
    kept = {key: value for key, value in attempt.items() if key != "meta"}
    if outcome == "completed":
        return {**kept, "status": "completed"}
    reason = f"{code} {detail}".strip() or outcome
    return {**kept, "status": outcome, "statusReason": {"text": reason[:500]}}


def stopped(request: Resource, stop: Stop) -> dict[str, Any]:
    """Return the request when nothing more is said."""
    kept = {key: value for key, value in request.items() if key != "meta"}
    return {**kept, "status": stop.status, "statusReason": {"text": stop.reason}}


def _stopped(request: Resource, around: Circumstances) -> Stop | None:
    if is_deceased(around.resident):
        return Stop(status="revoked", reason="the resident has died")
    if not around.resident:
        return Stop(status="on-hold", reason="the resident is not known")
    about = around.about
    if about is not None and about.get("status") in _SETTLED.get(str(about["resourceType"]), ()):
        return Stop(status="revoked", reason="what it is about is settled")
    end = request.get("occurrencePeriod", {}).get("end")
    if end and _instant(str(end)) < around.now:
        return Stop(status="revoked", reason="its period is over")
    return None


def _attempt(
    request: Resource, channel: str, number: int, now: datetime.datetime
) -> dict[str, Any]:
    own = f"CommunicationRequest/{request['id']}"
    attempt: dict[str, Any] = {
        "resourceType": "Communication",
        "id": str(uuid.uuid5(_NAMES, f"{own} {number} {channel}")),
        "identifier": [{"system": "urn:qiao:notice-occurrence", "value": str(number)}],
        "basedOn": [{"reference": own}],
        "status": "in-progress",
        "medium": [{"coding": [{"system": CHANNEL, "code": channel}]}],
        "subject": request["subject"],
        "recipient": [request["subject"]],
        "sent": now.isoformat(),
    }
    for name in ("category", "about", "sender", "payload"):
        if name in request:
            attempt[name] = request[name]
    return attempt


def _number_of(attempt: Resource) -> int:
    for one in attempt.get("identifier", ()):
        if one.get("system") == "urn:qiao:notice-occurrence":
            return int(one["value"])
    return -1


def _channel_of(attempt: Resource) -> str:
    return channels_of(attempt)[0]


def _stop_rule(request: Resource) -> str:
    for extension in request.get("extension", ()):
        if extension.get("url") == STOP_RULE:
            return str(extension.get("valueCode", "first-success"))
    return "first-success"


def _is_allowed(consents: Sequence[Resource], channel: str) -> bool:
    """Say whether no consent of the resident's forbids the channel.

    A Consent on notices (category `notice`) of provision type deny forbids the channels that its
    `provision.code` names, all where it names none.
    """
    for consent in consents:
        if consent.get("status") != "active" or not _is_on_notices(consent):
            continue
        provision: Mapping[str, Any] = consent.get("provision", {})
        if provision.get("type") != "deny":
            continue
        named = {
            coding.get("code")
            for code in provision.get("code", ())
            for coding in code.get("coding", ())
            if coding.get("system") == CHANNEL
        }
        if not named or channel in named:
            return False
    return True


def _is_on_notices(consent: Resource) -> bool:
    return any(
        coding.get("system") == CONSENT_CATEGORY and coding.get("code") == NOTICE
        for category in consent.get("category", ())
        for coding in category.get("coding", ())
    )


def _instant(text: str) -> datetime.datetime:
    """Return the instant of a FHIR dateTime; a day is meant in the morning, a month its first."""
    if len(text) <= 10:
        year, month, day = [*map(int, text.split("-")), 1, 1][:3]
        return datetime.datetime.combine(datetime.date(year, month, day), _MORNING, LOCAL)
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=LOCAL)
