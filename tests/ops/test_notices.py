"""People are reminded over real sockets: channels in turn, at night not, the dead never."""

import asyncio
import contextlib
import datetime
import json
import uuid

import pytest

from adapters.notify.simulators import SmsSimulator, WechatSimulator
from adapters.transport.http_serving import serving_on_socket
from care import reminder
from care.reminder import CHANNEL, TEMPLATE_TYPE, WECHAT_ID, QuietHours
from conformance.cphc import BASE
from conformance.resource_json import dump, parse
from fhir_store.operations import Patch, Update, WriteContext
from fhir_store.store import Store, make_pool
from ops import notice_channels
from ops.bell import Bell
from ops.flow_delivery import DeliveryWorkers
from ops.flow_notices import Notices
from ops.metrics import Metrics
from ops.notice_channels import choose_notices, notice_destinations, senders_of
from ops.settings import Settings

ZONE = datetime.timezone(datetime.timedelta(hours=8))
NEVER_QUIET = QuietHours(start=datetime.time(0), end=datetime.time(0))
DAY = datetime.timedelta(days=1)


def resident(id_="p1", **more):
    return {
        "resourceType": "Patient",
        "id": id_,
        "identifier": [{"system": WECHAT_ID, "value": f"openid-{id_}"}],
        "telecom": [{"system": "phone", "use": "mobile", "value": "13800000000"}],
        **more,
    }


def request(id_="r1", patient="p1", at=None, **more):
    at = at or datetime.datetime.now(ZONE) - datetime.timedelta(minutes=1)
    return {
        "resourceType": "CommunicationRequest",
        "id": id_,
        "status": "active",
        "category": [{"coding": [{"system": TEMPLATE_TYPE, "code": "service-due"}]}],
        "medium": [{"coding": [{"system": CHANNEL, "code": one}]} for one in ("wechat", "sms")],
        "subject": {"reference": f"Patient/{patient}"},
        "payload": [{"contentString": "您有一项服务待完成"}],
        "occurrenceDateTime": at.isoformat(),
        **more,
    }


class World:
    def __init__(self, store, sms, wechat, notices):
        self.store, self.sms, self.wechat, self.notices = store, sms, wechat, notices

    async def write(self, *resources):
        context = WriteContext(actor="test", at=datetime.datetime.now(datetime.UTC))
        operations = [Update(resource=parse(dump(one))) for one in resources]
        await self.store.write(operations, context=context)

    async def until(self, condition, now=None, seconds=15):
        for _ in range(int(seconds / 0.05)):
            while await self.notices.look(now):
                pass
            if await condition():
                return
            await asyncio.sleep(0.05)
        raise AssertionError((self.sms.entries(), self.wechat.entries()))

    async def read(self, type_, id_):
        return json.loads((await self.store.read(type_, id_)).body)

    def is_status(self, status, id_="r1"):
        async def condition():
            return (await self.read("CommunicationRequest", id_))["status"] == status

        return condition

    async def attempts(self):
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute(
                "select body from resource join rtype using (tid) where name = 'Communication'"
                " and not del order by rid"
            )
            found = [json.loads(body) for (body,) in await cursor.fetchall()]
        return [(one["medium"][0]["coding"][0]["code"], one["status"]) for one in found]


@contextlib.asynccontextmanager
async def world(url, tmp_path, *, sms=None, wechat=None, **choices):
    sms_cloud = SmsSimulator(ledger=tmp_path / "sms.jsonl", moods=sms or {})
    wechat_cloud = WechatSimulator(ledger=tmp_path / "wechat.jsonl", moods=wechat or {})
    async with (
        serving_on_socket(sms_cloud) as sms_url,
        serving_on_socket(wechat_cloud) as wechat_url,
        make_pool(url) as pool,
    ):
        settings = Settings(
            sms_url=sms_url,
            sms_secret_id=sms_cloud.secret_id,
            sms_secret_key=sms_cloud.secret_key,
            sms_app_id="1400",
            sms_sign_name="桥南社区",
            sms_templates="renewal=1001,*=1000",
            wechat_url=wechat_url,
            wechat_app_id=wechat_cloud.app_id,
            wechat_secret=wechat_cloud.secret,
            wechat_templates="*=tm-1",
        )
        store = Store(pool, choose_destinations=choose_notices)
        senders = senders_of(settings)
        delivery = DeliveryWorkers(
            store,
            notice_destinations(settings, store, senders),
            bell=Bell(pool, "outbox"),
            metrics=Metrics(),
            poll_seconds=0.05,
        )
        await delivery.start()
        facts = {"channels": frozenset(senders), "quiet": NEVER_QUIET, **choices}
        try:
            yield World(store, sms_cloud, wechat_cloud, Notices(store=store, **facts))
        finally:
            await delivery.stop()


def run(body, url, tmp_path, **choices):
    async def main():
        async with world(url, tmp_path, **choices) as made:
            await body(made)

    asyncio.run(main())


def test_a_reminder_goes_out_once_by_the_first_channel(database_url, tmp_path):
    async def body(w):
        await w.write(resident(), request())
        await w.until(w.is_status("completed"))
        await w.write(request(status="completed"))
        for _ in range(3):
            await w.notices.look()
        (entry,) = w.wechat.entries()
        assert (entry["to"], entry["template"]) == ("openid-p1", "tm-1")
        assert w.sms.entries() == []
        assert await w.attempts() == [("wechat", "completed")]

    run(body, database_url, tmp_path)


def test_one_channel_stands_in_for_another_that_refuses(database_url, tmp_path):
    async def body(w):
        await w.write(resident(), request())
        await w.until(w.is_status("completed"))
        assert [one["template"] for one in w.sms.entries()] == ["1000"]
        assert await w.attempts() == [("wechat", "not-done"), ("sms", "completed")]

    run(body, database_url, tmp_path, wechat={"refused": 1.0})


def test_one_channel_stands_in_for_another_that_is_away_too_long(database_url, tmp_path):
    async def body(w):
        await w.write(resident(), request())
        await w.until(w.is_status("completed"))
        assert len(w.sms.entries()) == 1
        assert (await w.attempts())[0] == ("wechat", "not-done")

    patience = datetime.timedelta(milliseconds=300)
    run(body, database_url, tmp_path, wechat={"quota": 1.0}, patience=patience)


def test_a_request_that_no_channel_delivers_waits_for_a_person(database_url, tmp_path):
    async def body(w):
        await w.write(resident(), request())
        await w.until(w.is_status("on-hold"))
        assert [status for _, status in await w.attempts()] == ["not-done", "not-done"]

    run(body, database_url, tmp_path, wechat={"refused": 1.0}, sms={"blacklist": 1.0})


def test_an_sms_that_is_in_doubt_is_asked_about_before_it_goes_again(database_url, tmp_path):
    async def body(w):
        no_wechat = resident(identifier=[{"system": "urn:x", "value": "1"}])
        await w.write(no_wechat, request())
        w.sms.moods = {"internal": 1.0}
        await w.until(w.is_status("active"))
        w.sms.moods = {}
        await w.until(w.is_status("completed"))
        assert len(w.sms.entries()) == 1

    run(body, database_url, tmp_path)


@pytest.mark.parametrize("is_checked", [True, False])
def test_the_dead_get_no_reminder(database_url, tmp_path, monkeypatch, is_checked):
    """Death between the decision and the sending counts, too; without the checks it goes out."""
    if not is_checked:
        monkeypatch.setattr(reminder, "is_deceased", lambda _: False)
        monkeypatch.setattr(notice_channels, "is_deceased", lambda _: False)

    async def body(w):
        await w.write(resident(deceasedDateTime="2026-01-01"), request())
        await w.until(w.is_status("revoked" if is_checked else "completed"))
        assert (w.wechat.entries() == []) is is_checked

    run(body, database_url, tmp_path)


def test_death_between_decision_and_sending_stops_the_message(database_url, tmp_path):
    async def body(w):
        w.wechat.moods = {"busy": 1.0}
        await w.write(resident(), request())

        async def is_put_off():
            async with w.store.pool.connection() as connection:
                cursor = await connection.execute("select state from outbox")
                return await cursor.fetchall() == [("deferred",)]

        await w.until(is_put_off)
        await w.write(resident(deceasedBoolean=True))
        w.wechat.moods = {}
        await w.until(w.is_status("revoked"))
        assert w.wechat.entries() == []

    run(body, database_url, tmp_path, wechat={"busy": 1.0})


def test_at_night_it_waits_until_the_morning(database_url, tmp_path):
    async def body(w):
        night = datetime.datetime(2026, 5, 1, 23, tzinfo=ZONE)
        await w.write(resident(), request(at=night))
        for _ in range(3):
            await w.notices.look(night + datetime.timedelta(minutes=1))
        assert await w.attempts() == []
        await w.notices.look(night.replace(day=2, hour=8))
        assert [channel for channel, _ in await w.attempts()] == ["wechat"]

    run(body, database_url, tmp_path, quiet=QuietHours())


def contract(id_="c1", end=None, status="executed", patient="p1"):
    today = datetime.datetime.now(ZONE).date()
    return {
        "resourceType": "Contract",
        "id": id_,
        "status": status,
        "legalState": {"coding": [{"code": status}]},
        "applies": {"start": str(today - 300 * DAY), "end": str(end or today + 30 * DAY)},
        "subject": [{"reference": f"Patient/{patient}"}],
        "term": [
            {
                "offer": {"topic": {"reference": "PlanDefinition/basic"}},
                "action": [
                    {
                        "type": {"text": "x"},
                        "intent": {"text": "x"},
                        "status": {"text": "x"},
                        "performer": {"reference": "CareTeam/t1"},
                    }
                ],
            }
        ],
    }


def test_a_renewal_is_spoken_of_30_and_7_days_before_and_on_the_last_day(database_url, tmp_path):
    async def body(w):
        today = datetime.datetime.now(ZONE).replace(hour=10, minute=0)
        await w.write(resident(), contract(end=(today + 30 * DAY).date()))
        for day in range(33):
            for _ in range(3):
                await w.notices.look(today + day * DAY)
        async with w.store.pool.connection() as connection:
            cursor = await connection.execute(
                "select body from resource join rtype using (tid)"
                " where name = 'CommunicationRequest' order by rid"
            )
            found = [json.loads(body) for (body,) in await cursor.fetchall()]
        assert [one["occurrenceDateTime"][:10] for one in found] == [
            str((today + day * DAY).date()) for day in (0, 23, 30)
        ]
        assert "7 天" in found[1]["payload"][0]["contentString"]

    run(body, database_url, tmp_path)


def test_who_has_signed_on_or_left_is_not_reminded(database_url, tmp_path):
    from care.contract.steps import SERVICE
    from fhir_store.operations import Claim

    async def body(w):
        today = datetime.datetime.now(ZONE).replace(hour=10, minute=0)
        await w.write(
            resident(), resident("p2"), contract(), contract("c2", patient="p2", status="revoked")
        )
        following = Claim(
            kind=SERVICE,
            key="Patient/p1",
            holder="Contract/next",
            period=(today + 40 * DAY, today + 400 * DAY),
        )
        context = WriteContext(actor="test", at=today)
        await w.store.write([following], context=context)
        for day in (0, 1, 23):
            await w.notices.look(today + day * DAY)
        async with w.store.pool.connection() as connection:
            cursor = await connection.execute(
                "select count(*) from resource join rtype using (tid)"
                " where name = 'CommunicationRequest'"
            )
            assert (await cursor.fetchone())[0] == 0

    run(body, database_url, tmp_path)


def test_templates_and_contracts_written_by_half_stop_no_other(database_url, tmp_path):
    async def body(w):
        odd = [
            {"resourceType": "Contract", "id": "template", "status": "policy"},
            {"resourceType": "Contract", "id": "half", "status": "executed"},
            {"resourceType": "Contract", "id": "none"},
            request("month", occurrenceDateTime="2026-05"),
            request("over", occurrencePeriod={"start": "2020", "end": "2020-05"}),
        ]
        del odd[-1]["occurrenceDateTime"]
        await w.write(resident(), *odd, request())
        await w.until(w.is_status("completed"))
        await w.until(w.is_status("revoked", "over"))

    run(body, database_url, tmp_path)


def test_a_request_that_is_revoked_before_its_time_is_not_sent(database_url, tmp_path):
    async def body(w):
        later = datetime.datetime.now(ZONE) + DAY
        await w.write(resident(), request(at=later))
        await w.notices.look()

        def revoke(resource):
            return {**resource, "status": "revoked"}

        context = WriteContext(actor="test", at=datetime.datetime.now(datetime.UTC))
        patch = Patch(type="CommunicationRequest", id="r1", change=revoke)
        await w.store.write([patch], context=context)
        for _ in range(3):
            await w.notices.look(later + DAY)
        assert await w.attempts() == []

    run(body, database_url, tmp_path)


async def _due_again(w):
    """Set the timers of all requests anew, as if they had not been taken back with the attempt."""
    async with w.store.pool.connection() as connection:
        await connection.execute(
            "update search_progress set txid = 0, rid = 0 where name = 'notices'"
        )
    while await w.notices.set_timers(datetime.datetime.now(datetime.UTC)):
        pass


@pytest.mark.parametrize("is_known", [True, False])
def test_a_request_that_is_due_again_is_not_sent_again(
    database_url, tmp_path, monkeypatch, is_known
):
    """What keeps it from going twice is the attempt, found by its request and by its id."""
    if not is_known:
        real = reminder._attempt
        monkeypatch.setattr(reminder, "_attempt", lambda *a: {**real(*a), "id": str(uuid.uuid4())})

        async def none_found(*_):
            return []

        monkeypatch.setattr(Notices, "_found", none_found)

    async def body(w):
        await w.write(resident(), request())
        for _ in range(2):
            await _due_again(w)
            async with w.store.begin() as transaction:
                await w.notices.send_due(transaction, datetime.datetime.now(datetime.UTC))
        assert len(await w.attempts()) == (1 if is_known else 2)

    run(body, database_url, tmp_path)


def test_two_hubs_send_nobody_anything_twice(database_url, tmp_path):
    async def body(w):
        people = [resident(f"p{n}") for n in range(30)]
        await w.write(*people, *(request(f"r{n}", f"p{n}") for n in range(30)))
        await _due_again(w)
        others = [w.notices, Notices(store=w.store, channels=w.notices.channels, quiet=NEVER_QUIET)]
        now = datetime.datetime.now(datetime.UTC)

        async def once(one):
            async with w.store.begin() as transaction:
                await one.send_due(transaction, now)
                await asyncio.sleep(0.2)

        await asyncio.gather(*map(once, others))
        await w.until(w.is_status("completed", "r29"))
        assert len(w.wechat.entries()) == len(await w.attempts()) == 30

    run(body, database_url, tmp_path)


def test_the_extensions_are_known_to_the_package():
    from conformance.cphc.artefacts import package

    urls = {one.get("url") for one in package()}
    assert f"{BASE}/StructureDefinition/cphc-notice-stop-rule" in urls
