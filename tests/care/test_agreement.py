"""The text of an agreement and its printed form, read back by other programs."""

import base64
import datetime
import io
import re
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from care.agreement.printing import Sheet, Signer, image_of, printed
from care.agreement.text import Terms, compose, sm3
from conformance.cphc.agreement_template import agreement_template
from conformance.problem import BusinessRule
from routes.operations.agreements import font

PLAN = {"id": "basic", "title": "基础服务包", "url": "urn:basic", "version": "1"}


def composed(**changed: Any) -> Any:
    facts: dict[str, Any] = {
        "template": agreement_template(),
        "terms": Terms(
            packages={"PlanDefinition/basic": Decimal("60")},
            start=datetime.date(2026, 3, 2),
            end=datetime.date(2027, 3, 1),
            edits={"PlanDefinition/basic": "每月上门一次"},
        ),
        "resident": {
            "name": [{"text": "王秀英"}],
            "identifier": [{"system": "urn:oid:2.16.156.10011.1.3", "value": "999001196005010024"}],
        },
        "team": {"name": "桥南第一团队"},
        "packages": {"PlanDefinition/basic": PLAN},
        "items": {"PlanDefinition/basic": [{"title": "健康咨询"}]},
    }
    facts |= changed
    template, terms = facts.pop("template"), facts.pop("terms")
    return compose(template, terms, **facts)


def test_sm3_is_the_one_of_the_standard() -> None:
    # GB/T 32905-2016, A.1
    assert sm3("abc") == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"


def test_the_text_says_who_what_by_whom_how_and_for_how_much() -> None:
    text = composed().text
    for said in (
        "王秀英", "9990**********0024", "桥南第一团队", "基础服务包（urn:basic|1）", "60.00 元",
        "健康咨询", "补充约定：每月上门一次", "2026年3月2日至2027年3月1日", "费用合计 60.00 元",
    ):  # fmt: skip
        assert said in text, said
    assert "999001196005010024" not in text
    assert "{" not in text


def test_every_fact_changes_the_digest() -> None:
    digest = composed().digest
    others = {
        composed(team={"name": "第二团队"}).digest,
        composed(items={"PlanDefinition/basic": []}).digest,
        composed(packages={"PlanDefinition/basic": {**PLAN, "version": "2"}}).digest,
    }
    assert len(others | {digest}) == 4
    assert composed().digest == digest


def test_a_template_that_says_nothing_or_too_much_is_refused() -> None:
    for broken, key in (
        ({**agreement_template(), "status": "executed"}, "template-not-published"),
        ({**agreement_template(), "term": []}, "template-not-published"),
        ({**agreement_template(), "term": [{"text": "{salary}"}]}, "template-word"),
    ):
        with pytest.raises(BusinessRule) as caught:
            composed(template=broken)
        assert caught.value.issues[0].key == key


def signature() -> bytes:
    made = io.BytesIO()
    image = Image.new("RGB", (300, 100), "white")
    for x in range(20, 280):
        image.putpixel((x, 50 + x % 17), (0, 0, 0))
    image.save(made, format="PNG")
    return made.getvalue()


def sheet(text: str) -> Sheet:
    shown = image_of({"data": base64.b64encode(signature()).decode()})
    assert shown is not None
    return Sheet(
        number="N-0001",
        text=text,
        digest=sm3(text),
        state="履约中 (in effect)",
        signers=[
            Signer(side="甲方", name="王秀英", when="2026-03-02 10:00", image=shown),
            Signer(side="乙方", name="李医生", when="2026-03-02 10:01", image=shown),
        ],
        checks=[("签署记录", "地点 22.55,114.1 GCJ-02")],
    )


@pytest.mark.parametrize(
    "data", [None, "", "not base64!", base64.b64encode(b"no image").decode(), 7]
)
def test_what_is_no_image_is_not_shown(data: Any) -> None:
    assert image_of({"data": data}) is None


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs poppler-utils")
def test_the_paper_carries_text_font_images_and_a_page_to_check_by(tmp_path: Path) -> None:
    made = composed()
    file = tmp_path / "agreement.pdf"
    file.write_bytes(printed(sheet(made.text), font()))

    def told(*command: str) -> str:
        return subprocess.run([*command], check=True, capture_output=True, text=True).stdout

    text = re.sub(r"\s", "", told("pdftotext", "-layout", str(file), "-"))
    for line in made.text.split("\n"):
        assert re.sub(r"\s", "", line) in text, line
    assert made.digest in text
    assert "核验页" in text
    fonts = told("pdffonts", str(file)).splitlines()[2:]
    assert all("NotoSansSC" in row for row in fonts)
    assert all(row.split()[-5] == "yes" for row in fonts), "embedded"
    assert len(told("pdfimages", "-list", str(file)).splitlines()) > 2
    assert len(file.read_bytes()) < 400_000


def test_a_paper_that_is_not_in_effect_says_so() -> None:
    made = composed()
    plain = printed(sheet(made.text), font())
    marked = printed(
        Sheet(
            number="N",
            text=made.text,
            digest="0",
            state="",
            signers=[],
            checks=[],
            watermark="作废",
        ),
        font(),
    )
    assert plain[:5] == marked[:5] == b"%PDF-"
