"""Which channel, when, and when no more: the rules of reminders by themselves."""

import datetime

import pytest

from care.contract.renewal import RenewalReminder
from care.reminder import (
    CHANNEL,
    CONSENT_CATEGORY,
    REPEAT,
    STOP_RULE,
    WECHAT_ID,
    Circumstances,
    QuietHours,
    Send,
    Stop,
    Wait,
    decide,
    renewal_request,
)
from conformance.structure import check

ZONE = datetime.timezone(datetime.timedelta(hours=8))
NOON = datetime.datetime(2026, 5, 1, 12, tzinfo=ZONE)
HOUR = datetime.timedelta(hours=1)
RESIDENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": WECHAT_ID, "value": "openid-1"}],
    "telecom": [{"system": "phone", "use": "mobile", "value": "13800000000"}],
}


def request(at=NOON, channels=("wechat", "sms"), **more):
    return {
        "resourceType": "CommunicationRequest",
        "id": "r1",
        "status": "active",
        "medium": [{"coding": [{"system": CHANNEL, "code": one}]} for one in channels],
        "subject": {"reference": "Patient/p1"},
        "payload": [{"contentString": "您有一项服务待完成"}],
        "occurrenceDateTime": at.isoformat(),
        **more,
    }


def around(now=NOON, **more):
    facts = {
        "resident": RESIDENT,
        "about": None,
        "consents": [],
        "attempts": [],
        "channels": frozenset({"wechat", "sms"}),
    }
    return Circumstances(now=now, **{**facts, **more})


def attempted(decision, status):
    return {**decision.attempt, "status": status}


def test_the_first_channel_comes_first_the_next_only_when_it_failed():
    first = decide(request(), around())
    assert isinstance(first, Send)
    assert first.channel == "wechat"
    under_way = decide(request(), around(attempts=[first.attempt]))
    assert under_way == Wait(until=None)
    second = decide(request(), around(attempts=[attempted(first, "not-done")]))
    assert isinstance(second, Send)
    assert second.channel == "sms"
    both = [attempted(first, "not-done"), attempted(second, "not-done")]
    assert decide(request(), around(attempts=both)).status == "on-hold"
    assert decide(request(), around(attempts=[attempted(first, "completed")])) == Stop(
        status="completed", reason="sent"
    )


@pytest.mark.parametrize(
    ("facts", "channel"),
    [
        ({"resident": {**RESIDENT, "identifier": []}}, "sms"),
        ({"channels": frozenset({"sms"})}, "sms"),
        ({"resident": {**RESIDENT, "telecom": []}}, "wechat"),
    ],
)
def test_a_channel_without_address_or_sender_is_passed_over(facts, channel):
    assert decide(request(), around(**facts)).channel == channel


@pytest.mark.parametrize(
    "resident", [{"deceasedBoolean": True}, {"deceasedDateTime": "2026-01-01"}]
)
@pytest.mark.parametrize("priority", ["routine", "stat"])
def test_the_dead_are_told_nothing(resident, priority):
    stop = decide(request(priority=priority), around(resident={**RESIDENT, **resident}))
    assert stop == Stop(status="revoked", reason="the resident has died")


@pytest.mark.parametrize(
    "about",
    [
        {"resourceType": "Task", "status": "completed"},
        {"resourceType": "Task", "status": "cancelled"},
        {"resourceType": "Contract", "status": "revoked"},
    ],
)
def test_what_is_settled_needs_no_reminder(about):
    assert decide(request(), around(about=about)).status == "revoked"


@pytest.mark.parametrize(
    ("hour", "until"),
    [(20, None), (21, (2, 8)), (23, (2, 8)), (3, (1, 8)), (7, (1, 8)), (8, None)],
)
def test_nobody_is_disturbed_at_night_unless_it_is_urgent(hour, until):
    now = NOON.replace(hour=hour)
    decision = decide(request(at=now - 48 * HOUR), around(now=now))
    if until is None:
        assert isinstance(decision, Send)
    else:
        day, clock = until
        assert decision == Wait(until=NOON.replace(day=day, hour=clock))
    urgent = decide(request(at=now - 48 * HOUR, priority="stat"), around(now=now))
    assert isinstance(urgent, Send)


def test_quiet_hours_within_a_day():
    quiet = QuietHours(start=datetime.time(12), end=datetime.time(14))
    assert quiet.ends_at(NOON) == NOON.replace(hour=14)
    assert quiet.ends_at(NOON.replace(hour=14)) is None


def consent(*channels, status="active", type_="deny"):
    provision = {"type": type_, "purpose": [{"code": "PATADMIN"}]}
    if channels:
        provision["code"] = [{"coding": [{"system": CHANNEL, "code": one}]} for one in channels]
    return {
        "resourceType": "Consent",
        "status": status,
        "category": [{"coding": [{"system": CONSENT_CATEGORY, "code": "notice"}]}],
        "provision": provision,
    }


@pytest.mark.parametrize(
    ("consents", "channel"),
    [
        ([consent("wechat")], "sms"),
        ([consent("sms")], "wechat"),
        ([consent(status="inactive")], "wechat"),
        ([consent(type_="permit")], "wechat"),
        ([consent()], None),
        ([consent("sms"), consent("wechat")], None),
    ],
)
def test_what_a_resident_forbids_is_not_used(consents, channel):
    decision = decide(request(), around(consents=consents))
    assert getattr(decision, "channel", None) == channel
    if channel is None:
        assert decision.status == "on-hold"


def repeated(rule):
    timing = {"repeat": {"period": 1, "periodUnit": "d", "count": 3}}
    extensions = [
        {"url": REPEAT, "valueTiming": timing},
        {"url": STOP_RULE, "valueCode": rule},
    ]
    return request(extension=extensions)


def test_a_reminder_until_it_is_done_comes_again_and_ends_after_its_count():
    attempts = []
    for day in range(3):
        now = NOON + 24 * day * HOUR
        sent = decide(repeated("until-done"), around(now=now, attempts=attempts))
        assert isinstance(sent, Send)
        attempts.append(attempted(sent, "completed"))
        later = decide(repeated("until-done"), around(now=now + HOUR, attempts=attempts))
        end = Stop(status="completed", reason="sent")
        assert later == (Wait(until=now + 24 * HOUR) if day < 2 else end)
    assert len({one["id"] for one in attempts}) == 3


def test_a_reminder_that_stops_at_success_does_not_come_again():
    sent = decide(repeated("first-success"), around())
    done = around(attempts=[attempted(sent, "completed")])
    assert decide(repeated("first-success"), done).status == "completed"


def test_what_is_not_due_waits_and_what_is_over_ends():
    assert decide(request(at=NOON + HOUR), around()) == Wait(until=NOON + HOUR)
    over = request()
    del over["occurrenceDateTime"]
    over["occurrencePeriod"] = {"start": "2026-04-01", "end": "2026-04-30"}
    assert decide(over, around()).status == "revoked"


def test_what_is_sent_before_a_contract_ends_is_sound_r4():
    due = RenewalReminder(
        contract="Contract/c1",
        resident="Patient/p1",
        team="CareTeam/t1",
        on=NOON.date(),
        days_left=0,
    )
    asked = renewal_request(due, NOON)
    assert check(asked) == []
    sent = decide(asked, around())
    assert isinstance(sent, Send)
    assert check(sent.attempt) == []
    assert check({**asked, "sender": {"reference": "CareTeam/t1"}}) != []
