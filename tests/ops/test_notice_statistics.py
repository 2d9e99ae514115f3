"""How many attempts reached people, by channel, over HTTP."""

import httpx
import pytest

from care.reminder import CHANNEL
from ops.settings import Settings
from ops.wiring import running_hub


@pytest.fixture
def anyio_backend():
    return "asyncio"


def attempt(channel, status, day):
    return {
        "resourceType": "Communication",
        "status": status,
        "medium": [{"coding": [{"system": CHANNEL, "code": channel}]}],
        "sent": f"{day}T23:59:00+08:00",
    }


@pytest.mark.anyio
async def test_attempts_are_counted_by_channel_and_outcome_in_a_span(database_url):
    chosen = Settings(auth="off", http_port=0, mllp_port=0)
    async with (
        running_hub(chosen, database_url, roles=frozenset({"http"})) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.http_port}/fhir") as client,
    ):
        for channel, status, day in (
            ("sms", "completed", "2026-05-01"),
            ("sms", "completed", "2026-05-31"),
            ("sms", "completed", "2026-06-01"),
            ("wechat", "not-done", "2026-05-02"),
            ("wechat", "unknown", "2026-05-02"),
        ):
            made = await client.post("/Communication", json=attempt(channel, status, day))
            assert made.status_code == 201, made.text
        span = {"start": "2026-05-01", "end": "2026-05-31"}
        answer = await client.get("/Communication/$notice-statistics", params=span)
        found = {}
        for count in answer.json()["parameter"]:
            parts = {part["name"]: part for part in count["part"]}
            channel = parts.pop("channel")["valueCoding"]["code"]
            found[channel] = {name: part["valueInteger"] for name, part in parts.items()}
        assert found == {
            "sms": {"delivered": 2, "failed": 0, "unknown": 0, "open": 0},
            "wechat": {"delivered": 0, "failed": 1, "unknown": 1, "open": 0},
        }
        wrong = await client.get("/Communication/$notice-statistics", params={"start": "May"})
        assert wrong.status_code == 400
        turned = {"start": "2026-05-31", "end": "2026-05-01"}
        wrong = await client.get("/Communication/$notice-statistics", params=turned)
        assert wrong.status_code == 400, "no span is not a span without messages"
