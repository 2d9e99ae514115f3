"""A whole hub in a thread with its built pages, and a real Chromium."""

import asyncio
import os
import pathlib
import queue
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ops.console_build import ConsolePages
from ops.settings import Settings
from ops.wiring import running_hub

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


expect.set_options(timeout=15_000)  # a busy machine


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a hub listens."""

    base: str
    mllp_port: int
    home: pathlib.Path


@pytest.fixture(scope="session")
def built_pages() -> pathlib.Path:
    """The console's pages, built once for these sources below `build/`."""
    pages = ConsolePages(home=ROOT / "build", may_install=False)
    with ThreadPoolExecutor() as apart:  # Playwright has a loop of its own in this thread
        apart.submit(lambda: asyncio.run(pages.build())).result()
    found = pages.assets()
    if found.folder is None:
        pytest.skip(found.why_en)
    return found.folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, or the one that QIAO_CHROMIUM names."""
    program = os.environ.get("QIAO_CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium here (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def site(database_url: str, tmp_path: pathlib.Path, built_pages: pathlib.Path) -> Iterator[Site]:
    """A hub on a fresh database, all roles, access control off."""
    home = tmp_path / "home"
    (home / "console").mkdir(parents=True)
    (home / "console" / built_pages.name).symlink_to(built_pages)
    settings = Settings(auth="off", http_port=0, mllp_port=0, home=home)
    ready: queue.Queue[Site | BaseException] = queue.Queue()
    stop = threading.Event()

    async def serve() -> None:
        async with running_hub(settings, database_url) as hub:
            base = f"http://127.0.0.1:{hub.http_port}"
            ready.put(Site(base=base, mllp_port=hub.mllp_port or 0, home=home))
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as failure:
            ready.put(failure)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        found = ready.get(timeout=60)
        if isinstance(found, BaseException):
            raise found
        yield found
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def page(chromium: Browser, site: Site) -> Iterator[Page]:
    """A page of a Chinese reader; a fault of the script or a refused load fails the test."""
    context = chromium.new_context(
        viewport={"width": 1440, "height": 900}, locale="zh-CN", timezone_id="Asia/Shanghai"
    )
    context.set_default_timeout(15_000)
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    yield tab
    context.close()
    assert faults == []
