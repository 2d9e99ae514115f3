"""SMS and WeChat over real sockets: signatures, tokens, moods, and never a raise."""

import asyncio
import datetime
import json

import pytest

from adapters.notify.notice_text import NoticeText
from adapters.notify.simulators import (
    SMS_MOODS,
    WECHAT_MOODS,
    SmsSimulator,
    WechatSimulator,
)
from adapters.notify.sms import SmsAccount, SmsSender
from adapters.notify.wechat import WechatSender
from adapters.notify.wechat_api import WechatAccount
from adapters.port import Outgoing, Verdict
from adapters.transport import tc3
from adapters.transport.http_serving import serving_on_socket

NOTICE = NoticeText(to="13800000000", template="1001", parameters=("王秀英", "2026-12-31"))
TO_OPENID = NoticeText(to="openid-1", template="t-1", parameters=("协议将于 2026-12-31 到期",))


def test_the_signature_is_that_of_the_providers_published_example():
    """https://cloud.tencent.com/document/api/213/30654: a JSON body with Chinese escaped."""
    body = (
        b'{"Limit": 1, "Filters": [{"Values": ["\\u672a\\u547d\\u540d"], "Name": "instance-name"}]}'
    )
    headers = tc3.signed_headers(
        secret_id="AKID********************************",
        secret_key="********************************",
        service="cvm",
        host="cvm.tencentcloudapi.com",
        action="DescribeInstances",
        version="2017-03-12",
        region="ap-guangzhou",
        body=body,
        at=datetime.datetime.fromtimestamp(1551113065, datetime.UTC),
    )
    expected = "10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f"
    assert headers["authorization"].endswith(f"Signature={expected}")


async def _sms(tmp_path, *sends, moods=None, ask=False, reply_seconds=5.0, **account):
    simulator = SmsSimulator(ledger=tmp_path / "sms.jsonl", moods=moods or {}, hang_seconds=2)
    async with serving_on_socket(simulator) as url:
        made = SmsAccount(
            endpoint=url,
            **{
                "secret_id": simulator.secret_id,
                "secret_key": simulator.secret_key,
                "app_id": "1400",
                "sign_name": "桥南社区",
                **account,
            },
        )
        sender = SmsSender(made, reply_seconds=reply_seconds)
        receipts = []
        for n, notice in enumerate(sends):
            receipts.append(await sender.send(Outgoing(key=f"k{n}", payload=notice.to_bytes())))
            if ask:
                receipts.append(await sender.ask(f"k{n}"))
        await sender.close()
    return receipts, simulator.entries()


def test_an_sms_is_signed_sent_and_entered_once(tmp_path):
    (receipt,), entries = asyncio.run(_sms(tmp_path, NOTICE))
    assert receipt.verdict is Verdict.ACCEPTED
    (entry,) = entries
    assert (entry["to"], entry["template"], entry["key"]) == ("+8613800000000", "1001", "k0")
    assert entry["parameters"] == ["王秀英", "2026-12-31"]
    assert receipt.reference == entry["serial"]


@pytest.mark.parametrize(
    ("wrong", "code", "verdict"),
    [
        ({"secret_key": "other"}, "AuthFailure.SignatureFailure", Verdict.DEFERRED),
        ({"secret_id": "AKIDother"}, "AuthFailure.SecretIdNotFound", Verdict.DEFERRED),
    ],
)
def test_another_key_is_not_let_in(tmp_path, wrong, code, verdict):
    (receipt,), entries = asyncio.run(_sms(tmp_path, NOTICE, **wrong))
    assert (receipt.code, receipt.verdict, entries) == (code, verdict, [])


def test_what_was_changed_or_is_old_is_not_let_in():
    at = datetime.datetime.now(datetime.UTC)
    facts = {"secret_id": "a", "secret_key": "b", "service": "sms"}
    signed = {
        **tc3.signed_headers(
            **facts, host="h", action="SendSms", version="v", region="r", body=b"{}", at=at
        ),
        "host": "h",
    }
    assert tc3.check(signed, b"{}", **facts, now=at) is None
    assert tc3.check(signed, b"{ }", **facts, now=at) == "AuthFailure.SignatureFailure"
    late = at + tc3.CLOCK_SKEW * 2
    assert tc3.check(signed, b"{}", **facts, now=late) == "AuthFailure.SignatureExpire"
    other = {**signed, "x-tc-action": "DeleteAll"}
    assert tc3.check(other, b"{}", **facts, now=at) == "AuthFailure.SignatureFailure"


@pytest.mark.parametrize(
    ("mood", "verdict"),
    [
        ("busy", Verdict.DEFERRED),
        ("limit", Verdict.DEFERRED),
        ("timeout", Verdict.UNKNOWN),
        ("internal", Verdict.UNKNOWN),
        ("blacklist", Verdict.REFUSED),
        ("daily", Verdict.REFUSED),
    ],
)
def test_each_mood_of_the_sms_cloud_is_the_verdict_that_is_known(tmp_path, mood, verdict):
    assert mood in SMS_MOODS
    (sent, asked), entries = asyncio.run(
        _sms(tmp_path, NOTICE, moods={mood: 1.0}, ask=True, reply_seconds=0.5)
    )
    assert sent.verdict is verdict
    assert (asked.verdict is Verdict.ACCEPTED) == (len(entries) == 1)
    assert len(entries) == (mood == "timeout")


def test_a_number_that_is_none_is_refused_and_a_dead_cloud_defers(tmp_path):
    bad = NoticeText(to="12", template="1001")
    (receipt,), _ = asyncio.run(_sms(tmp_path, bad))
    assert receipt.verdict is Verdict.REFUSED

    async def dead():
        account = SmsAccount(
            endpoint="http://127.0.0.1:1", secret_id="a", secret_key="b", app_id="c", sign_name="d"
        )
        sender = SmsSender(account)
        return await sender.send(Outgoing(key="k", payload=NOTICE.to_bytes()))

    assert asyncio.run(dead()).verdict is Verdict.DEFERRED


async def _wechat(tmp_path, count=1, *, moods=None, notice=TO_OPENID, between=None, **choices):
    simulator = WechatSimulator(
        ledger=tmp_path / "wechat.jsonl", moods=moods or {}, hang_seconds=2, **choices
    )
    async with serving_on_socket(simulator) as url:
        account = WechatAccount(endpoint=url, app_id="wxsimulated", secret="simulated")
        sender = WechatSender(account, reply_seconds=0.5 if moods else 5.0)
        receipts = []
        for n in range(count):
            outgoing = Outgoing(key=f"k{n}", payload=notice.to_bytes())
            receipts.append(await sender.send(outgoing))
            if between:
                between(simulator)
        await sender.close()
    return receipts, simulator


def test_one_token_serves_many_messages(tmp_path):
    receipts, simulator = asyncio.run(_wechat(tmp_path, 5))
    assert [one.verdict for one in receipts] == [Verdict.ACCEPTED] * 5
    assert simulator.fetched == 1
    assert simulator.entries()[0]["parameters"] == ["协议将于 2026-12-31 到期"]


def test_a_token_that_ended_is_fetched_anew_and_the_message_goes(tmp_path):
    receipts, simulator = asyncio.run(
        _wechat(tmp_path, 3, between=lambda simulator: simulator.end_token())
    )
    assert [one.verdict for one in receipts] == [Verdict.ACCEPTED] * 3
    assert simulator.fetched == 3


def test_a_token_is_not_begun_with_when_it_is_about_to_end(tmp_path):
    receipts, simulator = asyncio.run(_wechat(tmp_path, 2, token_seconds=0.9))
    assert receipts[-1].verdict is Verdict.ACCEPTED
    assert simulator.fetched == 2


def test_many_sends_at_once_fetch_one_token(tmp_path):
    async def main():
        simulator = WechatSimulator(ledger=tmp_path / "wechat.jsonl")
        async with serving_on_socket(simulator) as url:
            account = WechatAccount(endpoint=url, app_id="wxsimulated", secret="simulated")
            sender = WechatSender(account)
            outgoing = [Outgoing(key=f"k{n}", payload=TO_OPENID.to_bytes()) for n in range(20)]
            await asyncio.gather(*map(sender.send, outgoing))
            await sender.close()
        return simulator

    simulator = asyncio.run(main())
    assert (simulator.fetched, len(simulator.entries())) == (1, 20)


@pytest.mark.parametrize(
    ("mood", "code", "verdict"),
    [
        ("busy", "-1", Verdict.DEFERRED),
        ("refused", "43101", Verdict.REFUSED),
        ("quota", "45009", Verdict.DEFERRED),
        ("invalid", "40001", Verdict.DEFERRED),
        ("expired", "42001", Verdict.DEFERRED),
        ("timeout", "ReadTimeout", Verdict.UNKNOWN),
    ],
)
def test_each_mood_of_wechat_is_the_verdict_that_is_known(tmp_path, mood, code, verdict):
    assert mood in WECHAT_MOODS
    (receipt,), simulator = asyncio.run(_wechat(tmp_path, moods={mood: 1.0}))
    assert (receipt.code, receipt.verdict) == (code, verdict)
    assert len(simulator.entries()) == (mood == "timeout")


def test_a_wrong_secret_sends_nothing_and_says_why(tmp_path):
    (receipt,), simulator = asyncio.run(_wechat(tmp_path, secret="other"))
    assert (receipt.code, receipt.verdict) == ("40125", Verdict.DEFERRED)
    assert simulator.entries() == []


def test_what_is_no_notice_is_refused(tmp_path):
    async def main():
        sms = SmsSender(
            SmsAccount(
                endpoint="http://127.0.0.1:1", secret_id="", secret_key="", app_id="", sign_name=""
            )
        )
        wechat = WechatSender(WechatAccount(endpoint="http://127.0.0.1:1", app_id="", secret=""))
        for sender in (sms, wechat):
            for payload in (b"", b"[]", json.dumps({"to": 1}).encode()):
                receipt = await sender.send(Outgoing(key="k", payload=payload))
                assert receipt.verdict is Verdict.REFUSED
            await sender.close()

    asyncio.run(main())
