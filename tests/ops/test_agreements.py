"""From the text that is read to the paper that is printed, over HTTP."""

import base64
from typing import Any

import pytest
from contracting import APPROVE, application, asked, signing, world

from care.agreement.text import sm3

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def with_hash(parameters: dict[str, Any], digest: str, *more: dict[str, Any]) -> dict[str, Any]:
    kept = [one for one in parameters["parameter"] if one["name"] != "agreementHash"]
    return asked(*kept, {"name": "agreementHash", "valueString": digest}, *more)


TEMPLATE = {
    "name": "template",
    "valueReference": {"reference": "Contract/cphc-agreement-template"},
}


async def test_the_agreement_that_is_read_is_kept_signed_and_printed(database_url: str) -> None:
    async with world(database_url) as client:
        shown = await client.post("/Contract/$agreement", json=application("c1"))
        assert shown.status_code == 200, shown.text
        told = {part["name"]: part for part in shown.json()["parameter"]}
        digest = told["agreementHash"]["valueString"]
        assert digest == sm3(told["text"]["valueString"])
        other = with_hash(application("c1"), "0" * 64, TEMPLATE)
        refused = await client.post("/Contract/$submit-application", json=other)
        assert refused.status_code == 422
        assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "agreement-changed"
        read = {"name": "readAt", "valueDateTime": "2026-01-01T10:00:00+08:00"}
        wish = with_hash(application("c1"), digest, TEMPLATE, read)
        made = await client.post("/Contract/$submit-application", json=wish)
        assert made.status_code == 201, made.text
        confirmation = made.json()["supportingInfo"][0]["reference"]
        answers = (await client.get(f"/{confirmation}")).json()
        assert [a["linkId"] for a in answers["item"]] == ["template", "agreement-hash", "confirmed"]
        await client.post("/Contract/c1/$review", json=APPROVE)
        signed = await client.post("/Contract/c1/$sign", json=with_hash(signing(), digest))
        assert signed.json()["status"] == "executed", signed.text
        binary = (await client.get("/Contract/c1/$agreement-pdf")).json()
        assert binary["resourceType"] == "Binary"
        assert base64.b64decode(binary["data"]).startswith(b"%PDF-")
        for accept in ("text/html,*/*;q=0.8", "application/pdf"):
            file = await client.get("/Contract/c1/$agreement-pdf", headers={"accept": accept})
            assert file.headers["content-type"] == "application/pdf"
            assert file.content.startswith(b"%PDF-")
        elsewhere = await client.get("/Contract/c1", headers={"accept": "application/pdf"})
        assert elsewhere.status_code == 406, "a resource is no file"
        legal = signed.json()["legal"][0]["contentReference"]["reference"]
        document = (await client.get(f"/{legal}")).json()
        document["content"][0]["attachment"]["data"] = base64.b64encode(b"forged").decode()
        await client.put(f"/{legal}", json=document)
        differs = await client.get("/Contract/c1/$agreement-pdf")
        assert differs.status_code == 422
        assert (
            differs.json()["issue"][0]["details"]["coding"][0]["code"] == "agreement-text-differs"
        )


async def test_an_agreement_without_a_text_of_ours_is_not_printed(database_url: str) -> None:
    async with world(database_url) as client:
        await client.post("/Contract/$submit-application", json=application("c1"))
        answer = await client.get("/Contract/c1/$agreement-pdf")
        assert answer.status_code == 422
        assert "template" in answer.json()["issue"][0]["diagnostics"]
        assert (await client.get("/Contract/none/$agreement-pdf")).status_code == 404
        bad = application("c2")
        bad["parameter"].append({**TEMPLATE, "valueReference": {"reference": "Contract/none"}})
        assert (await client.post("/Contract/$agreement", json=bad)).status_code == 400
