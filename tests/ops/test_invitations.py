"""The code by which residents apply: a token, the mini program's own code, a picture to share."""

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from contracting import application, asked, world
from PIL import Image

from adapters.notify.simulators import WechatSimulator
from adapters.transport.http_serving import serving_on_socket

PATH = "/CareTeam/t1/$invitation-code"
DOCTOR = {"name": "doctor", "valueReference": {"reference": "Practitioner/d1"}}
MINI = {"name": "miniProgram", "valueBoolean": True}
POSTER = {"name": "poster", "valueBoolean": True}
PACKAGE = {"name": "package", "valueReference": {"reference": "PlanDefinition/basic"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def shared(
    database_url: str, folder: Path, **moods: float
) -> AsyncIterator[tuple[httpx.AsyncClient, WechatSimulator]]:
    wechat = WechatSimulator(ledger=folder / "wechat.jsonl", moods=moods, hang_seconds=1)
    async with serving_on_socket(wechat) as url:
        named = {
            "wechat_url": url,
            "wechat_app_id": wechat.app_id,
            "wechat_secret": wechat.secret,
            "wechat_page": "pages/sign/index",
        }
        async with world(database_url, **named) as client:
            yield client, wechat


def parts_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {
        one["name"]: next(value for key, value in one.items() if key.startswith("value"))
        for one in answer.json()["parameter"]
    }


def image_in(part: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(part["data"])))


def key_of(answer: httpx.Response) -> tuple[int, str]:
    issue = answer.json()["issue"][0]
    return answer.status_code, issue["details"]["coding"][0]["code"]


def by_code(contract: str, code: str) -> dict[str, Any]:
    wish = application(contract, 60.00, "p1", {"name": "invitation", "valueString": code})
    return asked(*(one for one in wish["parameter"] if one["name"] != "team"))


@pytest.mark.anyio
async def test_a_resident_applies_by_the_scene_of_the_mini_program(
    database_url: str, tmp_path: Path
) -> None:
    async with shared(database_url, tmp_path) as (client, wechat):
        parts = parts_of(await client.post(PATH, json=asked(DOCTOR, MINI)))
        (entry,) = wechat.entries()
        assert entry == {"scene": parts["scene"], "page": "pages/sign/index"}
        assert len(parts["scene"]) <= 32 < len(parts["invitation"])
        assert parts["miniProgramCode"]["contentType"] == "image/jpeg"
        assert image_in(parts["miniProgramCode"]).format == "JPEG"
        wish = by_code("c1", parts["scene"])
        made = await client.post("/Contract/$submit-application", json=wish)
        assert made.status_code == 201, made.text
        team = made.json()["term"][0]["action"][0]["performer"]["reference"]
        modes = [one.get("valueCode") for one in made.json()["extension"]]
        assert (team, "qr" in modes) == ("CareTeam/t1", True)


@pytest.mark.anyio
async def test_a_scene_that_is_unknown_or_changed_invites_to_nothing(
    database_url: str, tmp_path: Path
) -> None:
    async with shared(database_url, tmp_path) as (client, _):
        scene = parts_of(await client.post(PATH, json=asked(DOCTOR, MINI)))["scene"]
        path = "/Contract/$submit-application"
        for wrong in ("0" * 32, "../p1", "x"):
            assert key_of(await client.post(path, json=by_code("c1", wrong))) == (422, "qr-forged")
        kept = (await client.get(f"/Basic/{scene}")).json()
        value = kept["identifier"][0]["value"]
        # What was kept is signed: whoever may write it cannot invite to another team.
        forged = {**kept["identifier"][0], "value": f"x{value}"}
        await client.put(f"/Basic/{scene}", json={**kept, "identifier": [forged]})
        assert key_of(await client.post(path, json=by_code("c1", scene))) == (422, "qr-forged")
        await client.put(f"/Basic/{scene}", json=kept)
        assert (await client.post(path, json=by_code("c1", scene))).status_code == 201


@pytest.mark.anyio
@pytest.mark.parametrize("parts", [(MINI, POSTER), (POSTER,)], ids=["mini program", "plain"])
async def test_the_poster_shows_the_code_that_is_scanned(
    database_url: str, tmp_path: Path, parts: tuple[dict[str, Any], ...]
) -> None:
    async with shared(database_url, tmp_path) as (client, _):
        team = (await client.get("/CareTeam/t1")).json()
        long = {**team, "name": "桥南街道第一社区卫生服务中心家庭医生签约服务团队" * 3}
        await client.put("/CareTeam/t1", json=long)
        found = parts_of(await client.post(PATH, json=asked(DOCTOR, PACKAGE, *parts)))
        poster = image_in(found["poster"])
        assert (poster.format, poster.size) == ("PNG", (750, 1200))
        code = image_in(found["miniProgramCode" if MINI in parts else "image"])
        seen = poster.crop((165, 640, 585, 1060)).convert("L")
        wanted = code.convert("RGB").resize((420, 420)).convert("L")
        assert seen.tobytes() == wanted.tobytes()


@pytest.mark.anyio
@pytest.mark.parametrize("mood", ["busy", "quota", "invalid"])
async def test_without_a_code_of_wechat_nothing_is_kept(
    database_url: str, tmp_path: Path, mood: str
) -> None:
    async with shared(database_url, tmp_path, **{mood: 1.0}) as (client, wechat):
        answer = await client.post(PATH, json=asked(DOCTOR, MINI))
        assert key_of(answer) == (422, "mini-program-code")
        assert wechat.entries() == []
        kept = (await client.get("/Basic?subject=CareTeam/t1")).json()
        assert not [one for one in kept.get("entry", ()) if one["search"]["mode"] == "match"]
        # The advice: the plain code is there all the same.
        assert "invitation" in parts_of(await client.post(PATH, json=asked(DOCTOR)))


@pytest.mark.anyio
async def test_a_hub_without_a_mini_program_says_so(database_url: str) -> None:
    async with world(database_url) as client:
        answer = await client.post(PATH, json=asked(DOCTOR, MINI))
        assert key_of(answer) == (422, "mini-program-off")
