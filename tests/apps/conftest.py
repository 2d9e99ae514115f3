"""A whole hub in a thread with its built pages, and a real Chromium."""

import asyncio
import contextlib
import http.server
import json
import os
import pathlib
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
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


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """Who signs tokens."""

    key: RSAKey
    jwks_url: str
    name: str = "https://login.example"

    def token(self, scope: str, seconds: int = 600) -> str:
        """Return a signed token."""
        claims = {
            "iss": self.name, "aud": "https://hub.example/fhir", "sub": "engineer",
            "exp": int(time.time()) + seconds, "scope": scope,
        }  # fmt: skip
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)


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
def database_url(used_database_url: str) -> str:
    """With the package, as each start of a hub but the first finds it."""
    return used_database_url


@pytest.fixture
def home(tmp_path: pathlib.Path, built_pages: pathlib.Path) -> pathlib.Path:
    """A hub's folder that has the built pages."""
    home = tmp_path / "home"
    (home / "console").mkdir(parents=True)
    (home / "console" / built_pages.name).symlink_to(built_pages)
    return home


@pytest.fixture
def site(database_url: str, home: pathlib.Path) -> Iterator[Site]:
    """A hub on a fresh database, all roles, access control off."""
    settings = Settings(auth="off", http_port=0, mllp_port=0, home=home)
    with hub_in_a_thread(settings, database_url) as found:
        yield found


@pytest.fixture
def guarded_site(database_url: str, home: pathlib.Path, issuer: Issuer) -> Iterator[Site]:
    """A hub that asks for tokens of `issuer`."""
    settings = Settings(
        auth="on",
        http_port=0,
        mllp_port=0,
        home=home,
        issuer=issuer.name,
        audience="https://hub.example/fhir",
        jwks_url=issuer.jwks_url,
    )
    with hub_in_a_thread(settings, database_url) as found:
        yield found


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A sign-in service that serves its public key over HTTP."""
    key = RSAKey.generate_key(2048, parameters={"kid": "one"})
    keys = json.dumps(KeySet([key]).as_dict(private=False)).encode()

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(keys)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Issuer(key=key, jwks_url=f"http://127.0.0.1:{server.server_address[1]}/jwks")
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def hub_in_a_thread(settings: Settings, database_url: str) -> Iterator[Site]:
    """Run a hub until the block ends."""
    ready: queue.Queue[Site | BaseException] = queue.Queue()
    stop = threading.Event()

    async def serve() -> None:
        async with running_hub(settings, database_url) as hub:
            base = f"http://127.0.0.1:{hub.http_port}"
            ready.put(Site(base=base, mllp_port=hub.mllp_port or 0, home=settings.home))
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
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of a Chinese reader; a fault of the script or a refused load fails the test."""
    guarded = "guarded_site" in request.fixturenames
    request.getfixturevalue("guarded_site" if guarded else "site")  # which ends after the page
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
    # A refused token is an answer, a hub that is away no fault of the page.
    expected = ("401", "ERR_CONNECTION_REFUSED")
    assert [one for one in faults if not any(word in one for word in expected)] == []
