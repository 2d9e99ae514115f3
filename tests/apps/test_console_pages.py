"""The console in a real browser: find, follow a value both ways, mend, replay, try out, keep."""

import os
import pathlib
import socket

import pytest
from playwright.sync_api import Page, expect

# The first test of a run builds the pages, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)


def send(port: int, *messages: str) -> None:
    """Send messages over MLLP, each after the answer to the one before."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        for text in messages:
            line.sendall(b"\x0b" + text.encode() + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                answer += line.recv(4096)


def adt(control_id: str, number: str, sex: str = "M", name: str = "李^雷") -> str:
    return (
        f"MSH|^~\\&|HIS|H1|QIAO|HUB|20260101080000+0800||ADT^A08|{control_id}|P|2.5.1\r"
        f"PID|1||{number}^^^H1^MR~99900119900101{number:0>4}^^^CN^NNCHN||{name}||19900101|{sex}"
        "|||测试路1号^^深圳^广东^518000^CHN||13800000000\r"
        f"PV1|1|I|W3^R2^1||||||||||||||||V{number}^^^H1^VN\r"
    )


def shot(page: Page, name: str) -> None:
    """Keep a picture where QIAO_SCREENSHOTS names a folder, for people to look at."""
    if folder := os.environ.get("QIAO_SCREENSHOTS"):
        page.screenshot(path=pathlib.Path(folder) / f"{name}.png", full_page=False)


def test_a_message_is_found_and_its_values_followed_both_ways(page: Page, site) -> None:
    send(site.mllp_port, adt("A-1", "7"), adt("A-2", "8", name="韩^梅梅"))
    page.goto(f"{site.base}/console")
    rows = page.locator(".list tbody tr")
    expect(rows).to_have_count(2)
    shot(page, "messages")
    page.locator('input[name="patient"]').fill("8")
    page.get_by_role("button", name="查询").click()
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("A-2")
    assert "patient=8" in page.url
    rows.first.click()
    # From a field to what it became, by the row that did it.
    page.locator('.left [data-place="PID[1]-5[1].1"]').click()
    expect(page.locator(".middle .chosen")).to_have_text("PID[1]-5[1].1")
    expect(page.locator(".middle .id").first).to_have_text("XPN-1")
    expect(page.locator(".right .marked").first).to_contain_text("韩")
    shot(page, "field-to-element")
    # And the reverse.
    page.locator('.right [data-path="gender"]').first.click()
    expect(page.locator(".middle .id").first).to_have_text("PID-8")
    expect(page.locator(".middle .words").first).to_contain_text("patient.yaml")
    expect(page.locator(".left .marked").first).to_contain_text("M")
    shot(page, "element-to-field")
    for tab, text in (
        ("原文", "MSH|^~\\&|HIS"),
        ("解析树", "韩"),
        ("FHIR", "gender"),
        ("追踪", "XPN-1"),
        ("外发", "province"),
        ("应答", "MSA|AA|A-2"),
    ):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel", name=tab)).to_contain_text(text)
    shot(page, "ack")


def test_a_held_code_is_tried_resolved_and_replayed(page: Page, site) -> None:
    send(site.mllp_port, adt("H-1", "7", sex="9"), adt("H-2", "7"), adt("H-3", "8", sex="9"))
    page.goto(f"{site.base}/console#/work")
    code = page.locator(".codes .item")
    expect(code).to_have_count(1)
    expect(code).to_contain_text("AdministrativeSex")
    expect(code).to_contain_text("H-3")
    # Nobody resolves what has not been rehearsed.
    expect(page.locator('[data-test="resolve"]')).to_be_disabled()
    code.locator(".target").click()
    page.get_by_role("option", name="unknown").first.click()
    page.locator('[data-test="rehearse-code"]').click()
    expect(code.locator(".becomes", has_text="unknown").first).to_be_visible()
    shot(page, "held-code")
    page.locator('[data-test="resolve"]').click()
    expect(page.get_by_text("没有待办")).to_be_visible()
    expect(page.get_by_text("→ unknown")).to_be_visible()
    page.goto(f"{site.base}/console#/messages?state=translated")
    expect(page.locator(".list tbody tr")).to_have_count(3)


def test_a_parked_message_is_mended_and_replayed(page: Page, site) -> None:
    merge = (
        "MSH|^~\\&|HIS|H1|QIAO|HUB|20260101||ADT^A40|P-1|P|2.5.1\r"
        "PID|1||||李^雷||19900101|M\rMRG|9^^^H1^MR\r"
    )
    send(site.mllp_port, merge, adt("P-2", "9"))
    page.goto(f"{site.base}/console#/work")
    parked = page.locator(".panel", has_text="停放的患者")
    expect(parked).to_contain_text("P-1")
    expect(parked).to_contain_text("等待 1")
    shot(page, "parked")
    parked.get_by_role("link").first.click()
    page.locator('[data-test="rehearse"]').click()
    expect(page.locator(".result")).to_contain_text("仍然不能处理")
    page.get_by_placeholder("原因").fill("发送方确认此合并有误")
    page.get_by_role("button", name="跳过").click()
    expect(page.get_by_text("发送方确认此合并有误")).to_be_visible()
    page.goto(f"{site.base}/console#/messages?control_id=P-2")
    row = page.locator(".list tbody tr")
    expect(row).to_be_visible()
    for _ in range(30):  # it is being worked on
        if "已转换" in row.inner_text():
            break
        page.wait_for_timeout(500)
        page.get_by_role("button", name="查询").click()
    expect(row).to_contain_text("已转换")


def _with_religion(message: str) -> str:
    lines = message.replace("\r", "\n").split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("PID|"))
    fields = [*lines[at].split("|"), *[""] * 18][:18]
    fields[17] = "XYZ"
    return "\n".join([*lines[:at], "|".join(fields), *lines[at + 1 :]])


def test_the_playground_shows_rows_between_and_errors_inline(page: Page, site) -> None:
    page.goto(f"{site.base}/console#/playground")
    expect(page.locator('.right [data-path="gender"]').first).to_contain_text("male")
    source = page.locator(".source textarea")
    source.fill(source.input_value().replace("|M|", "|F|"))
    expect(page.locator('.right [data-path="gender"]').first).to_contain_text("female")
    page.locator('.left [data-place="PID[1]-8[1]"] .text').click()
    expect(page.locator(".middle .id").first).to_have_text("PID-8")
    shot(page, "playground")
    # A constant beside a value, and what stands in an extension, know their rows as well.
    page.locator('.right [data-path="telecom[0].use"]').first.click()
    expect(page.locator(".middle .id").first).to_have_text("PID-13")
    religion = page.locator('.right [data-path="extension[0].valueCodeableConcept.coding[0].code"]')
    source.fill(_with_religion(source.input_value()))
    religion.first.click()
    expect(page.locator(".middle .id").first).to_have_text("CWE-1")
    expect(religion.first).to_have_class("line marked")
    page.locator('[data-test="edit-map"]').check()
    editor = page.locator(".map textarea")
    good = editor.input_value()
    editor.fill(good.replace("as: dtm.date", "as: dtm.never", 1))
    fault = page.locator(".el-alert")
    expect(fault).to_contain_text("patient.yaml:")
    expect(fault).to_contain_text("dtm.never")
    shot(page, "playground-fault")
    editor.fill(good)
    expect(fault).to_have_count(0)
    page.locator('[data-test="save-case"]').click()
    page.locator('[data-test="case-name"]').fill("woman")
    page.locator('[data-test="case-why"]').fill("A woman without a visit.")
    page.locator('[data-test="save"]').click()
    expect(page.get_by_text("qiao map test")).to_be_visible()
    assert (site.home / "cases" / "console.cases" / "woman" / "out.fhir.json").exists()


def test_every_page_speaks_both_languages(page: Page, site) -> None:
    page.goto(f"{site.base}/console")
    expect(page.get_by_role("link", name="报文")).to_be_visible()
    page.get_by_role("button", name="English").click()
    for path, words in (("messages", "Search"), ("work", "Reason"), ("playground", "Save as case")):
        page.goto(f"{site.base}/console#/{path}")
        expect(page.get_by_text(words).first).to_be_visible()
        shown = page.locator("main").inner_text()
        assert not any("\u4e00" <= letter <= "\u9fff" for letter in shown if path != "playground")
    shot(page, "english")
    page.goto(f"{site.base}/console#/messages")
    expect(page.get_by_text("qiao demo sends one")).to_be_visible()
    page.goto(f"{site.base}/console#/messages?control_id=none")
    expect(page.get_by_text("clear or widen the filter")).to_be_visible()
    _every_page_says_that_the_hub_is_away(page, site.base)


def _every_page_says_that_the_hub_is_away(page: Page, base: str) -> None:
    page.goto(f"{base}/console#/playground")
    page.route("**/console/api/**", lambda route: route.abort("connectionrefused"))
    for path in ("messages", "messages/1", "work"):
        page.goto(f"{base}/console#/{path}")
        said = page.locator("[data-test=failure]")  # the playground tells of itself
        expect(said).to_contain_text("The hub does not answer")
        expect(said).to_contain_text("qiao doctor")
    shot(page, "away")
    page.unroute("**/console/api/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Nothing to do")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_no_page_is_wider_than_the_screen(page: Page, site, width: int) -> None:
    send(site.mllp_port, adt("W-1", "7"), adt("W-2", "8", sex="9"))
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site.base}/console")
    expect(page.locator(".list tbody tr")).to_have_count(2)
    for name, path in (("messages", "messages"), ("work", "work"), ("playground", "playground")):
        page.goto(f"{site.base}/console#/{path}")
        expect(page.locator("main .panel").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        shot(page, f"{name}-{width}")
        assert _overhang(page) <= 0, name
        links = page.locator("nav a").all()
        assert len({link.bounding_box()["y"] for link in links}) == 1  # one line of words
        assert all(link.evaluate("it => it.scrollHeight <= it.clientHeight") for link in links)
    page.goto(f"{site.base}/console#/messages?control_id=W-1")
    page.locator(".list tbody tr").first.click()
    page.locator('.left [data-place="PID[1]-8[1]"] .text').click()
    shot(page, f"message-{width}")
    assert _overhang(page) <= 0


def _overhang(page: Page) -> int:
    """Return by how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def test_a_guarded_console_asks_for_a_token_and_says_why_one_was_refused(
    page: Page, guarded_site, issuer
) -> None:
    send(guarded_site.mllp_port, adt("T-1", "7"))
    page.goto(f"{guarded_site.base}/console")
    sign_in = page.locator('[data-test="sign-in"]')
    expect(sign_in).to_be_visible()
    expect(page.locator(".list")).to_have_count(0)
    shot(page, "sign-in")
    enter = page.get_by_role("button", name="进入")
    expect(enter).to_be_disabled()
    # Expired: refused with the reason, and asked for again.
    page.locator('input[name="token"]').fill(issuer.token("system/*.rsu", seconds=-600))
    enter.click()
    expect(sign_in).to_contain_text("此令牌未被接受")
    shot(page, "sign-in-refused")
    # Pasted with the words that stand before it in a header.
    page.locator('input[name="token"]').fill(f"Bearer {issuer.token('system/*.rs')}")
    page.locator('input[name="token"]').press("Enter")
    expect(page.locator(".list tbody tr")).to_have_count(1)
    expect(sign_in).to_have_count(0)
    # It is kept for the tab, and gone after signing out.
    page.goto(f"{guarded_site.base}/console#/work")
    expect(page.locator(".page")).to_contain_text("没有待办")
    page.locator('[data-test="sign-out"]').click()
    expect(sign_in).to_be_visible()
    expect(page.locator('[data-test="sign-out"]')).to_have_count(0)
