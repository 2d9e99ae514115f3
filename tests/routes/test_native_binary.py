"""Binary in its native form: bytes in, bytes out, nothing that a browser would run."""

import base64
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

PICTURE = b"\x89PNG\r\n\x00\xff{"
AS_PNG = {"content-type": "image/png"}
IMAGE = "image/avif,image/png,image/*;q=0.8,*/*;q=0.5"  # as a browser asks


async def test_content_goes_in_and_out_as_it_is(serve: Any) -> None:
    async with serve() as client:
        owned = {**AS_PNG, "x-security-context": "Patient/p1"}
        made = await client.post("/Binary", content=PICTURE, headers=owned)
        assert made.status_code == 201, made.text
        resource = made.json()
        assert base64.b64decode(resource["data"]) == PICTURE
        assert resource["contentType"] == "image/png"
        assert resource["securityContext"] == {"reference": "Patient/p1"}
        place = f"/Binary/{resource['id']}"
        for path in (place, f"{place}/_history/1"):
            for accept in ("image/png", "image/*", IMAGE, "image/png, application/fhir+json;q=0.1"):
                answer = await client.get(path, headers={"accept": accept})
                assert (answer.status_code, answer.content) == (200, PICTURE), accept
                assert answer.headers["content-type"] == "image/png"
                assert answer.headers["etag"] == 'W/"1"'
        head = await client.head(place, headers={"accept": "image/png"})
        assert (head.headers["content-length"], head.content) == (str(len(PICTURE)), b"")
        known = {"accept": "image/png", "if-none-match": 'W/"1"'}
        assert (await client.get(place, headers=known)).status_code == 304


async def test_whoever_asks_for_fhir_or_anything_gets_the_resource(serve: Any) -> None:
    async with serve() as client:
        made = await client.put("/Binary/b1", content=PICTURE, headers=AS_PNG)
        assert made.status_code == 201, made.text
        for accept in ("*/*", "application/fhir+json", "application/json, image/png;q=0.5", ""):
            answer = await client.get("/Binary/b1", headers={"accept": accept})
            assert answer.json()["contentType"] == "image/png", accept
        forced = await client.get("/Binary/b1?_format=json", headers={"accept": "image/png"})
        assert forced.json()["id"] == "b1"
        for accept in ("image/jpeg", "application/pdf"):
            refused = await client.get("/Binary/b1", headers={"accept": accept})
            assert refused.status_code == 406
        wrapped = {"resourceType": "Binary", "contentType": "text/plain", "data": "aGk="}
        made = await client.post("/Binary", json=wrapped)
        text = await client.get(f"/Binary/{made.json()['id']}", headers={"accept": "text/plain"})
        assert text.text == "hi"


async def test_a_page_is_no_page_of_ours(serve: Any) -> None:
    page = b"<svg xmlns='http://www.w3.org/2000/svg'><script>steal()</script></svg>"
    async with serve() as client:
        headers = {"content-type": "image/svg+xml"}
        assert (await client.put("/Binary/s", content=page, headers=headers)).status_code == 201
        answer = await client.get("/Binary/s", headers={"accept": "image/svg+xml"})
        assert answer.content == page
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox")


@pytest.mark.parametrize("kind", ["image/png\nx-evil: 1", "image/png\tx", "png", "画/图"])
async def test_a_type_that_is_no_header_never_becomes_one(serve: Any, kind: str) -> None:
    async with serve() as client:
        resource = {"resourceType": "Binary", "id": "b2", "contentType": kind, "data": "aGk="}
        written = await client.put("/Binary/b2", json=resource)
        if written.status_code == 201:
            answer = await client.get("/Binary/b2", headers={"accept": "image/png"})
            assert answer.status_code in (200, 406)
            assert "x-evil" not in answer.headers


async def test_other_types_take_resources_only(serve: Any) -> None:
    async with serve() as client:
        refused = await client.post("/Patient", content=PICTURE, headers=AS_PNG)
        assert refused.status_code == 415
        refused = await client.get("/Patient", headers={"accept": "image/png"})
        assert refused.status_code == 406
        broken = {"content-type": "application/fhir+json"}
        assert (await client.post("/Binary", content=PICTURE, headers=broken)).status_code == 400
        empty = await client.post("/Binary", content=b"", headers=AS_PNG)
        assert empty.status_code == 400
