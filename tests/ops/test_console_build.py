"""The console's pages are built where Node is, and their absence is told where it is not."""

import asyncio
import json
import pathlib
import shutil

import pytest

from ops import console_build
from ops.console_build import ConsolePages, version_of


def sources_in(folder: pathlib.Path) -> pathlib.Path:
    """Sources whose build needs no package: vite is a script that copies."""
    (folder / "src").mkdir(parents=True)
    (folder / "node_modules").mkdir()
    package = {"name": "pages", "version": "1.0.0", "private": True}
    (folder / "package.json").write_text(json.dumps(package), encoding="utf-8")
    lock = {"name": "pages", "version": "1.0.0", "lockfileVersion": 3, "requires": True,
            "packages": {"": {"name": "pages", "version": "1.0.0"}}}  # fmt: skip
    (folder / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    (folder / "src" / "index.html").write_text("<p>built</p>", encoding="utf-8")
    return folder


def test_without_node_the_pages_say_what_is_missing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(console_build, "_wheel", lambda: None)
    pages = ConsolePages(home=tmp_path / "home", may_install=False)
    assert "qiao up" in pages.assets().why_en
    asyncio.run(pages.build())
    found = pages.assets()
    assert found.folder is None
    assert "Node 20.19" in found.why_en
    assert not list((tmp_path / "home").rglob("build-*"))


def test_without_sources_the_pages_say_so(tmp_path: pathlib.Path) -> None:
    pages = ConsolePages(home=tmp_path, sources=tmp_path / "none")
    asyncio.run(pages.build())
    assert "sources" in pages.assets().why_en


def test_a_build_that_fails_is_told_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node here")
    sources = sources_in(tmp_path / "sources")
    pages = ConsolePages(home=tmp_path / "home", sources=sources, may_install=False)
    asyncio.run(pages.build())  # there is no vite among its packages
    assert pages.assets().folder is None
    assert "failed" in pages.assets().why_en
    assert list((tmp_path / "home" / "console").iterdir()) == []


def test_other_sources_are_another_version_and_packages_are_not_sources(
    tmp_path: pathlib.Path,
) -> None:
    sources = sources_in(tmp_path / "sources")
    first = version_of(sources)
    (sources / "node_modules" / "a.js").write_text("1", encoding="utf-8")
    assert version_of(sources) == first
    (sources / "src" / "index.html").write_text("<p>changed</p>", encoding="utf-8")
    assert version_of(sources) != first


def test_the_lock_of_the_pages_names_no_address_and_all_hashes() -> None:
    lock = json.loads((console_build.SOURCES / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert not [name for name, one in packages.items() if "resolved" in one]
    assert not [name for name, one in packages.items() if "integrity" not in one]
    lines = console_build.LOCK.read_text(encoding="utf-8")
    assert "http" not in lines
    assert "--hash=sha256:" in lines
