"""Apps hear what happens: real receivers that fail, are slow or die; a hub that dies between."""

import asyncio
import contextlib
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys

import httpx
import pytest
from psycopg import DatabaseError
from websockets.asyncio.client import connect

from care.subscription import BACKPORT
from conformance.cphc import BASE
from conformance.resource_json import dump, parse
from conformance.structure import require_valid
from fhir_store.operations import Update, WriteContext
from fhir_store.store import Store, make_pool
from fhir_store.subscriptions import (
    list_dead,
    list_subscribers,
    note_caller,
    subscribers_named,
    tell_again,
)
from ops import flow_notifications, flow_subscriptions
from ops.bell import Bell
from ops.flow_subscriptions import SubscriptionFollower
from ops.settings import Settings
from ops.wiring import running_hub
from routes import authorize
from routes.bearer import ANYBODY, Caller
from routes.scopes import parse_scopes
from routes.subscription_notices import Notices, caller_from, caller_json

TOPIC = f"{BASE}/SubscriptionTopic/"


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Receiver:
    """A rest-hook on a real socket; `answers`: a status, seconds of silence, or None to hang up."""

    def __init__(self):
        self.bundles = []
        self.headers = []
        self.answers = []
        self.port = 0
        self._server = None
        self._lines = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._lines:
            task.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader, writer):
        self._lines.add(asyncio.current_task())
        try:
            await self._answer(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                bundle = json.loads(await reader.readexactly(length))
                answer = self.answers.pop(0) if self.answers and kind_of(bundle) else 200
                if answer is None:
                    writer.transport.abort()
                    return
                if isinstance(answer, float):
                    await asyncio.sleep(answer)
                    answer = 200
                if answer == 200:
                    self.headers.append(head)
                    self.bundles.append(bundle)
                writer.write(f"HTTP/1.1 {answer} X\r\ncontent-length: 0\r\n\r\n".encode())

    def numbers(self):
        return [number for bundle in self.bundles for number in numbers_of(bundle)]

    def kinds(self):
        return [parameters_of(bundle)["type"] for bundle in self.bundles]

    async def until(self, condition, seconds=15):
        for _ in range(int(seconds / 0.05)):
            if condition(self):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not in time: {self.kinds()} {self.numbers()}")


def parameters_of(bundle):
    parameters = bundle["entry"][0]["resource"]["parameter"]
    return {
        one["name"]: next((v for k, v in one.items() if k.startswith("value")), None)
        for one in parameters
    }


def kind_of(bundle):
    return parameters_of(bundle)["type"] == "event-notification"


def numbers_of(bundle):
    return [
        int(part["valueString"])
        for one in bundle["entry"][0]["resource"]["parameter"]
        if one["name"] == "notification-event"
        for part in one["part"]
        if part["name"] == "event-number"
    ]


def subscription(endpoint=None, topic="package-published", content="id-only", **more):
    channel = {
        "type": "rest-hook" if endpoint else "websocket",
        "payload": "application/fhir+json",
        "_payload": {
            "extension": [{"url": BACKPORT + "backport-payload-content", "valueCode": content}]
        },
        "extension": [
            {
                "url": BACKPORT + name,
                "valueUnsignedInt" if "period" in name else "valuePositiveInt": v,
            }
            for name, v in more.items()
        ],
    }
    if not channel["extension"]:
        del channel["extension"]
    if endpoint:
        channel |= {"endpoint": endpoint, "header": ["X-Secret: s3cret"]}
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": TOPIC + topic,
        "channel": channel,
    }


def package(number):
    return {"resourceType": "PlanDefinition", "id": f"pack{number}", "status": "active"}


@contextlib.asynccontextmanager
async def hub(database_url, **settings):
    chosen = Settings(**{"auth": "off", "http_port": 0, "mllp_port": 0, **settings})
    roles = frozenset({"http", "worker"})
    async with (
        running_hub(chosen, database_url, roles=roles) as running,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{running.http_port}/fhir", timeout=30
        ) as client,
    ):
        client.store = running.store
        yield client


async def subscribed(client, receiver, id_="s1", **wishes):
    body = {**subscription(receiver.url, **wishes), "id": id_}
    made = await client.put(f"/Subscription/{id_}", json=body)
    assert made.status_code in (200, 201), made.text
    await receiver.until(lambda r: "handshake" in r.kinds())


async def publish(client, *numbers):
    for number in numbers:
        made = await client.put(f"/PlanDefinition/pack{number}", json=package(number))
        assert made.status_code == 201, made.text


@pytest.mark.anyio
async def test_a_hook_is_greeted_and_told_each_event_once_in_order(database_url):
    async with hub(database_url) as client, Receiver() as receiver:
        await publish(client, 0)
        await subscribed(client, receiver, content="full-resource")
        await publish(client, *range(1, 6))
        await client.put("/PlanDefinition/pack1", json={**package(1), "title": "again"})
        await receiver.until(lambda r: len(r.numbers()) == 5)
        assert receiver.numbers() == [1, 2, 3, 4, 5]
        assert all("x-secret: s3cret" in head for head in receiver.headers)
        last = receiver.bundles[-1]
        assert last["type"] == "history"
        assert last["entry"][1]["resource"]["id"] == "pack5"
        assert last["entry"][1]["request"] == {"method": "PUT", "url": "PlanDefinition/pack5"}
        assert parameters_of(last)["topic"] == TOPIC + "package-published"
        state = (await client.get("/Subscription/s1")).json()
        assert state["status"] == "active"
        status = (await client.get("/Subscription/s1/$status")).json()
        assert parameters_of(status)["events-since-subscription-start"] == "5"


@pytest.mark.anyio
async def test_notifications_are_valid_r4(database_url):
    async with hub(database_url) as client, Receiver() as receiver:
        await subscribed(client, receiver, content="full-resource")
        await publish(client, 1)
        await receiver.until(lambda r: r.numbers() == [1])
        for bundle in receiver.bundles:
            require_valid(parse(json.dumps(bundle).encode()))


@pytest.mark.anyio
async def test_a_hook_that_fails_is_slow_and_is_killed_loses_nothing(database_url):
    async with hub(database_url) as client:
        async with Receiver() as receiver:
            await subscribed(client, receiver)
            receiver.answers = [503, None, 0.4, 500, 429]
            await publish(client, 1, 2, 3)
            await receiver.until(lambda r: len(r.numbers()) == 3)
        await publish(client, 4, 5)  # nobody listens
        await asyncio.sleep(0.6)
        async with receiver:
            await publish(client, 6)
            await receiver.until(lambda r: 6 in r.numbers())
            assert receiver.numbers() == [1, 2, 3, 4, 5, 6]


@pytest.mark.anyio
async def test_what_a_hook_refuses_goes_to_its_dead_letter_and_the_next_one_follows(database_url):
    async with hub(database_url) as client, Receiver() as receiver:
        await subscribed(client, receiver)
        receiver.answers = [200, 422]
        await publish(client, 1, 2, 3)
        await receiver.until(lambda r: 3 in r.numbers())
        assert receiver.numbers() == [1, 3]
        async with client.store.pool.connection() as connection:
            (dead,) = await list_dead(connection, "s1")
            assert (dead["number"], dead["id"], dead["dead"]) == (2, "pack2", "HTTP 422")
            # The receiver has the last event before the hub has written that it took it.
            for _ in range(200):
                (row,) = await list_subscribers(connection)
                if row["delivered"] == 3:
                    break
                await asyncio.sleep(0.02)
            assert (row["delivered"], row["dead"]) == (3, 1)
            assert await tell_again(connection, "s1", 2) == 1
        await receiver.until(lambda r: r.numbers() == [1, 3, 2, 3])
        again = (await client.get("/Subscription/s1/$events?eventsSinceNumber=2")).json()
        assert numbers_of(again) == [2, 3]


@pytest.mark.anyio
async def test_of_several_events_in_one_notification_only_the_refused_one_is_dead(database_url):
    async with hub(database_url) as client, Receiver() as receiver:
        await subscribed(client, receiver, **{"backport-max-count": 10})
        receiver.answers = [503, 422, 200, 422]
        await publish(client, 1, 2, 3)
        await receiver.until(lambda r: 3 in r.numbers())
        assert sorted(set(receiver.numbers())) in ([1, 3], [1, 2, 3])


@pytest.mark.anyio
async def test_a_dead_hook_holds_no_other_up_and_shows_its_error(database_url, monkeypatch):
    monkeypatch.setattr(flow_notifications, "_FAILURES_TO_ERROR", 2)
    async with hub(database_url) as client, Receiver() as dead, Receiver() as living:
        await subscribed(client, dead, "dead")
        await subscribed(client, living, "living")
        dead.answers = [None] * 1000
        await publish(client, *range(1, 9))
        await living.until(lambda r: len(r.numbers()) == 8)
        for _ in range(100):
            if (await client.get("/Subscription/dead")).json()["status"] == "error":
                break
            await asyncio.sleep(0.05)
        found = (await client.get("/Subscription/dead")).json()
        assert (found["status"], found["error"]) == ("error", "no reply: broken")
        dead.answers = []
        await dead.until(lambda r: len(r.numbers()) == 8)
        assert dead.numbers() == [*range(1, 9)]


@pytest.mark.anyio
async def test_a_silent_subscription_gives_a_sign_of_life(database_url):
    async with hub(database_url) as client, Receiver() as receiver:
        await subscribed(client, receiver, **{"backport-heartbeat-period": 1})
        await receiver.until(lambda r: r.kinds().count("heartbeat") >= 2)
        assert receiver.numbers() == []


@pytest.mark.anyio
async def test_what_cannot_be_had_is_refused_with_advice(database_url):
    async with hub(database_url) as client:
        for wrong in (
            {"criteria": TOPIC + "nothing"},
            {"channel": {"type": "email"}},
            {
                "channel": {
                    "type": "rest-hook",
                    "endpoint": "http://127.0.0.1:1/",
                    "header": ["a\tb"],
                }
            },
        ):
            body = {**subscription("http://127.0.0.1:1/"), **wrong, "id": "bad"}
            assert (await client.put("/Subscription/bad", json=body)).status_code in (200, 201)
            for _ in range(100):
                found = (await client.get("/Subscription/bad")).json()
                if found["status"] == "error":
                    break
                await asyncio.sleep(0.05)
            assert "Write" in found["error"], found
        missing = await client.get("/Subscription/$status?id=none")
        assert missing.status_code == 404


@pytest.mark.parametrize(
    ("endpoint", "allowed", "may"),
    [
        ("https://app.example/hook/1", ["https://app.example/hook"], True),
        ("https://app.example.evil.com/hook", ["https://app.example"], False),
        ("https://app.example@evil.com/hook", ["https://app.example"], False),
        ("http://app.example/hook", ["https://app.example"], False),
        ("https://app.example:8443/hook", ["https://app.example"], False),
        ("https://app.example/hook/../admin", ["https://app.example/hook"], False),
        ("http://169.254.169.254/", [], False),
        ("http://127.0.0.1:9/x", list(flow_notifications.LOOPBACK), True),
        ("http://[::1", ["http://127.0.0.1"], False),
    ],
)
def test_only_addresses_that_are_allowed_are_called(endpoint, allowed, may):
    assert flow_notifications.is_allowed(endpoint, allowed) is may


@pytest.mark.anyio
async def test_a_token_is_given_for_websockets_alone(database_url):
    async with hub(database_url) as client, Receiver() as receiver:
        await subscribed(client, receiver)
        answer = await client.get("/Subscription/s1/$get-ws-binding-token")
        issue = answer.json()["issue"][0]
        key = issue["details"]["coding"][0]["code"]
        assert (answer.status_code, key) == (422, "subscription-channel")
        assert "channel.type is websocket" in issue["diagnostics"]


@pytest.mark.anyio
async def test_a_websocket_is_bound_told_in_order_and_catches_up_by_events(database_url):
    async with hub(database_url) as client:
        body = {**subscription(), "id": "w1"}
        await client.put("/Subscription/w1", json=body)

        async def token():
            for _ in range(100):
                answer = await client.get("/Subscription/w1/$get-ws-binding-token")
                if answer.status_code == 200:
                    parts = {p["name"]: p for p in answer.json()["parameter"]}
                    return parts["websocket-url"]["valueUrl"], parts["token"]["valueString"]
                await asyncio.sleep(0.05)
            raise AssertionError(answer.text)

        url, word = await token()
        async with connect(url) as socket:
            await socket.send(f"bind-with-token: {word};")
            assert parameters_of(json.loads(await socket.recv()))["type"] == "handshake"
            await publish(client, *range(1, 6))
            heard = [numbers_of(json.loads(await socket.recv())) for _ in range(5)]
            assert heard == [[1], [2], [3], [4], [5]]
        await publish(client, 6, 7)
        for _ in range(100):
            status = (await client.get("/Subscription/w1/$status")).json()
            if parameters_of(status)["events-since-subscription-start"] == "7":
                break
            await asyncio.sleep(0.05)
        url, word = await token()
        async with connect(url) as socket:
            await socket.send(f"bind-with-token: {word}")
            await socket.recv()
            missed = await client.get("/Subscription/w1/$events?eventsSinceNumber=6")
            assert numbers_of(missed.json()) == [6, 7]
            await publish(client, 8)
            assert numbers_of(json.loads(await socket.recv())) == [8]
        for wrong in (f"bind-with-token: {word}", "bind-with-token: x", "hello"):
            async with connect(url) as socket:
                await socket.send(wrong)
                with pytest.raises(Exception, match="1008"):
                    await socket.recv()


@pytest.mark.anyio
@pytest.mark.parametrize("period", [1, 0])
async def test_a_quiet_websocket_gives_a_sign_of_life_where_it_is_asked_for(database_url, period):
    """The twin is the subscription without a period: it stays silent."""
    async with hub(database_url) as client:
        wishes = {"backport-heartbeat-period": period} if period else {}
        await client.put("/Subscription/w1", json={**subscription(**wishes), "id": "w1"})
        for _ in range(100):
            answer = await client.get("/Subscription/w1/$get-ws-binding-token")
            if answer.status_code == 200:
                break
            await asyncio.sleep(0.05)
        parts = {p["name"]: p for p in answer.json()["parameter"]}
        async with connect(parts["websocket-url"]["valueUrl"]) as socket:
            await socket.send(f"bind-with-token: {parts['token']['valueString']}")
            assert parameters_of(json.loads(await socket.recv()))["type"] == "handshake"
            if period:
                for _ in range(2):
                    beat = parameters_of(json.loads(await socket.recv()))
                    assert beat["type"] == "heartbeat"
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(socket.recv(), 2.5)


def test_a_caller_is_kept_whole():
    caller = Caller(
        subject="s",
        client="c",
        scopes=parse_scopes("user/Contract.rs?status=executed patient/*.read"),
        patient="p1",
        fhir_user="Patient/p1",
    )
    assert caller_from(json.loads(json.dumps(caller_json(caller)))) == caller


@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_subscriber_never_hears_what_it_may_not_read(database_url, monkeypatch, is_guarded):
    """Rights are those of who subscribed; a teller that skips them tells of another's form."""
    if not is_guarded:
        everybody = ANYBODY
        for module in (
            flow_subscriptions,
            __import__("routes.subscription_notices").subscription_notices,
        ):
            monkeypatch.setattr(module, "caller_from", lambda _: everybody)

    def form(patient):
        return {
            "resourceType": "QuestionnaireResponse",
            "id": f"q-{patient}",
            "status": "completed",
            "subject": {"reference": f"Patient/{patient}"},
        }

    async def main():
        async with hub(database_url) as client, Receiver() as receiver:
            caller = Caller(
                subject="app", scopes=parse_scopes("patient/*.rs"), patient="mine", fhir_user=None
            )
            body = {**subscription(receiver.url, topic="followup-result"), "id": "s1"}
            async with client.store.begin() as transaction:
                await note_caller(transaction.connection, "s1", caller_json(caller))
                context = WriteContext(actor="app", at=datetime.datetime.now(datetime.UTC))
                await transaction.apply([Update(resource=parse(dump(body)))], context=context)
            await receiver.until(lambda r: "handshake" in r.kinds())
            for patient in ("other", "mine"):
                await client.put(
                    f"/Patient/{patient}", json={"resourceType": "Patient", "id": patient}
                )
                await client.put(f"/QuestionnaireResponse/q-{patient}", json=form(patient))
            await receiver.until(lambda r: r.numbers() == ([1] if is_guarded else [1, 2]))
            told = [
                e["fullUrl"].rpartition("/")[2] for b in receiver.bundles for e in b["entry"][1:]
            ]
            assert told == (["q-mine"] if is_guarded else ["q-other", "q-mine"])

    asyncio.run(main())


@pytest.mark.anyio
@pytest.mark.parametrize("is_repeated", [True, False])
async def test_events_are_numbered_by_rights_that_changed_meanwhile(
    database_url, monkeypatch, is_repeated
):
    """The twin judges by the rights it remembers, and its step fails."""
    monkeypatch.setattr(authorize, "_SECONDS", 600.0)
    caller = Caller(
        subject="d", scopes=parse_scopes("user/*.rs"), fhir_user="Practitioner/d", patient=None
    )
    own = {"subject": {"reference": "Patient/p"}}
    member = {"participant": [{"member": {"reference": "Practitioner/d"}}]}
    team = {"resourceType": "CareTeam", "id": "t", "status": "active", **own}
    form = {"resourceType": "QuestionnaireResponse", "status": "completed", **own}
    wish = {**subscription("http://127.0.0.1:9/", topic="followup-result"), "id": "s1"}
    async with make_pool(database_url, size=2) as pool:
        store = Store(pool)

        async def written(*resources):
            context = WriteContext(actor="a", at=datetime.datetime.now(datetime.UTC))
            async with store.begin() as transaction:
                await note_caller(transaction.connection, "s1", caller_json(caller))
                operations = [Update(resource=one) for one in resources]
                await transaction.apply(operations, context=context)

        notices = Notices(store=store, authorize=authorize.Authorizer(store).authorize, base="x")
        follower = SubscriptionFollower(store=store, notices=notices, bell=Bell(pool, "x"))

        async def heard():
            async with asyncio.timeout(30):
                while not await (follower.step() if is_repeated else follower._step()):
                    await asyncio.sleep(0.05)
            async with pool.connection() as connection:
                (found,) = await subscribers_named(connection, ["s1"])
            return found.last_number

        await written({"resourceType": "Patient", "id": "p"}, {**team, **member}, wish)
        await written({**form, "id": "q1"})
        while await heard() != 1:
            pass
        await written({**team, "status": "inactive"}, {**form, "id": "q2"})
        if is_repeated:
            assert await heard() == 1
        else:
            with pytest.raises(DatabaseError):
                await heard()


@pytest.mark.anyio
async def test_a_filter_lets_through_what_it_names(database_url):
    async with hub(database_url) as client, Receiver() as receiver:
        body = subscription(receiver.url)
        filter_url = BACKPORT + "backport-filter-criteria"
        wanted = "PlanDefinition?title=基础包"
        body["_criteria"] = {"extension": [{"url": filter_url, "valueString": wanted}]}
        await client.put("/Subscription/s1", json={**body, "id": "s1"})
        await receiver.until(lambda r: "handshake" in r.kinds())
        for number, title in enumerate(("老年包", "基础包", "儿童包")):
            await client.put(
                f"/PlanDefinition/pack{number}", json={**package(number), "title": title}
            )
        await receiver.until(lambda r: r.numbers() == [1])
        assert receiver.bundles[-1]["entry"][1]["fullUrl"].endswith("pack1")


_PROCESS = """
import asyncio, sys
from ops.settings import Settings
from ops.wiring import running_hub
async def main():
    async with running_hub(Settings(auth="off", http_port=0, mllp_port=0), sys.argv[1],
                           roles=frozenset({"worker"})):
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_one_commit", [True, False])
def test_a_hub_killed_between_loses_no_event_and_keeps_their_order(
    database_url, is_one_commit, monkeypatch
):
    """Killed again and again by SIGKILL; the twin keeps the follower's place before its events."""
    monkeypatch.setattr(flow_notifications, "_LEASE", datetime.timedelta(seconds=1))
    script = _PROCESS.replace(
        "async def main",
        "import datetime\nfrom ops import flow_notifications\n"
        "flow_notifications._LEASE = datetime.timedelta(seconds=1)\nasync def main",
        1,
    )
    if not is_one_commit:
        script = script.replace(
            "async def main",
            "from ops import flow_subscriptions as f\n"
            "async def lost(*_):\n    return []\n"
            "f.SubscriptionFollower._follow, kept = lost, f.SubscriptionFollower._follow\n"
            "async def main",
            1,
        )

    async def start():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, database_url,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=pathlib.Path(__file__).parents[2], env={**os.environ},
        )  # fmt: skip
        await process.stdout.readline()
        return process

    async def main():
        async with Receiver() as receiver, make_pool(database_url) as pool:
            store = Store(pool)

            async def write(*resources):
                context = WriteContext(actor="app", at=datetime.datetime.now(datetime.UTC))
                operations = [Update(resource=parse(dump(one))) for one in resources]
                await store.write(operations, context=context)

            async with hub(database_url) as client:
                await subscribed(client, receiver)
            number = 0
            for _ in range(3):
                process = await start()
                for _ in range(15):
                    number += 1
                    await write(package(number))
                    await asyncio.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                await process.wait()
            process = await start()
            try:
                if is_one_commit:
                    await receiver.until(lambda r: number in r.numbers(), 40)
                else:
                    await asyncio.sleep(2)
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
            first = list(dict.fromkeys(receiver.numbers()))
            assert (first == [*range(1, number + 1)]) is is_one_commit

    asyncio.run(main())
