"""Hostile XML and archives at every entry that is not the SOAP door.

Each is refused by a named problem within 250 ms of processor time; no file is read and nobody is
called. The SOAP door has its own in tests/adapters/province/test_xml_attacks.py.
"""

import io
import os
import pathlib
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import openpyxl
import pytest

from care.identity import sheets
from conformance import resource_xml
from conformance.problem import Problem
from mappings.engine.tree import read_xml

CPU_SECONDS = 0.25
FHIR = "http://hl7.org/fhir"


@dataclass
class Trap:
    """A file whose reading is noticed, and a port whose callers are noticed."""

    pipe: pathlib.Path
    listener: socket.socket
    was_read: threading.Event

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def is_sprung(self) -> bool:
        self.listener.setblocking(False)
        try:
            caller, _ = self.listener.accept()
        except BlockingIOError:
            return self.was_read.is_set()
        caller.close()
        return True


@pytest.fixture
def trap(tmp_path: pathlib.Path) -> Iterator[Trap]:
    pipe = tmp_path / "secret.txt"
    os.mkfifo(pipe)
    was_read, is_over = threading.Event(), threading.Event()

    def wait_for_reader() -> None:
        with pipe.open("wb"):
            if not is_over.is_set():
                was_read.set()

    thread = threading.Thread(target=wait_for_reader)
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Trap(pipe, listener, was_read)
    is_over.set()
    while thread.is_alive():
        descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        thread.join(0.05)
        os.close(descriptor)


def laughs(levels: int = 12) -> str:
    lines = ["<!ENTITY a0 'ha'>"]
    lines += [f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, levels)]
    return "".join(lines)


Make = Callable[[Trap], str | bytes]


def _with(subset: str, use: str = "&x;") -> str:
    return f'<!DOCTYPE Patient [{subset}]><Patient xmlns="{FHIR}"><id value="{use}"/></Patient>'


def _inside(content: str, attributes: str = "") -> str:
    return f'<Patient xmlns="{FHIR}"{attributes}>{content}</Patient>'


XML: dict[str, Make] = {
    "external entity, file": lambda t: _with(f"<!ENTITY x SYSTEM 'file://{t.pipe}'>"),
    "external entity, http": lambda t: _with(f"<!ENTITY x SYSTEM 'http://127.0.0.1:{t.port}/'>"),
    "external entity, ftp": lambda t: _with(f"<!ENTITY x SYSTEM 'ftp://127.0.0.1:{t.port}/'>"),
    "external entity, public": lambda t: _with(f"<!ENTITY x PUBLIC 'p' 'file://{t.pipe}'>"),
    "parameter entity": lambda t: _with(
        f"<!ENTITY % p SYSTEM 'http://127.0.0.1:{t.port}/e.dtd'>%p;"
    ),
    "external subset, file": lambda t: (
        f'<!DOCTYPE Patient SYSTEM "file://{t.pipe}"><Patient xmlns="{FHIR}"/>'
    ),
    "external subset, http": lambda t: (
        f'<!DOCTYPE Patient SYSTEM "http://127.0.0.1:{t.port}/"><Patient xmlns="{FHIR}"/>'
    ),
    "unparsed entity": lambda t: _with(
        f"<!NOTATION n SYSTEM 'n'><!ENTITY x SYSTEM 'file://{t.pipe}' NDATA n>", "1"
    ),
    "laughs": lambda _: _with(laughs(), "&a11;"),
    "quadratic": lambda _: _with(f"<!ENTITY x '{'a' * 50_000}'>", "&x;" * 10_000),
    "recursion": lambda _: _with("<!ENTITY x '&y;'><!ENTITY y '&x;'>"),
    "attribute default": lambda _: _with("<!ATTLIST id value CDATA 'x'>", "1"),
    "empty document type": lambda _: f'<!DOCTYPE Patient><Patient xmlns="{FHIR}"/>',
    "undeclared entity": lambda _: _inside('<id value="&nbsp;"/>'),
    "XInclude, file": lambda t: _inside(
        '<x:include xmlns:x="http://www.w3.org/2001/XInclude" parse="text" '
        f'href="file://{t.pipe}"/><active value="maybe"/>'
    ),
    "XInclude, http": lambda t: _inside(
        '<x:include xmlns:x="http://www.w3.org/2001/XInclude" '
        f'href="http://127.0.0.1:{t.port}/"/><active value="maybe"/>'
    ),
    "ten thousand levels": lambda _: _inside("<a>" * 10_000 + "</a>" * 10_000),
    "hundred levels": lambda _: _inside("<contact>" * 100 + "</contact>" * 100),
    "attribute twice": lambda _: _inside('<id value="1" value="2"/>'),
    "prefix nobody declared": lambda _: _inside("<q:a/>"),
    "cut short": lambda _: _inside("<id value=")[:-12],
    "two roots": lambda _: _inside("") + _inside(""),
    "NUL": lambda _: _inside('<id value="a\x00"/>'),
    "reference to NUL": lambda _: _inside('<id value="&#0;"/>'),
    "lone surrogate": lambda _: _inside('<id value="Z"/>').encode().replace(b"Z", b"\xed\xa0\x80"),
    "overlong": lambda _: _inside('<id value="Z"/>').encode().replace(b"Z", b"\xc0\xbc"),
    "entity in UTF-16": lambda t: _with(f"<!ENTITY x SYSTEM 'file://{t.pipe}'>").encode("utf-16"),
    "entity in UTF-7": lambda t: (
        b'<?xml version="1.0" encoding="UTF-7"?>'
        + _with(f"<!ENTITY x SYSTEM 'file://{t.pipe}'>").encode("utf-7")
    ),
    "unknown encoding": lambda _: '<?xml version="1.0" encoding="x-none"?>' + _inside(""),
    "not XML": lambda _: "PID|1",
    "nothing": lambda _: "",
}

# A tree of a partner knows no FHIR: what is only wrong as a resource is no attack on it.
ONLY_FHIR = frozenset({"XInclude, file", "XInclude, http"})


def _refused(read: Callable[[bytes], object], data: bytes, trap: Trap) -> None:
    began = time.process_time()
    with pytest.raises(Problem) as refused:
        read(data)
    assert time.process_time() - began < CPU_SECONDS
    assert refused.value.issues[0].key
    assert refused.value.issues[0].fix_en
    assert "secret" not in str(refused.value)
    assert not trap.is_sprung()


def _bytes(made: str | bytes) -> bytes:
    return made if isinstance(made, bytes) else made.encode()


@pytest.mark.parametrize("name", XML)
def test_hostile_xml_is_no_resource(name: str, trap: Trap) -> None:
    _refused(resource_xml.parse, _bytes(XML[name](trap)), trap)


@pytest.mark.parametrize("name", sorted(set(XML) - ONLY_FHIR))
def test_hostile_xml_is_no_document_of_a_partner(name: str, trap: Trap) -> None:
    _refused(lambda data: read_xml(data, FHIR), _bytes(XML[name](trap)), trap)


@pytest.mark.parametrize("name", sorted(ONLY_FHIR))
def test_an_include_in_a_partners_document_includes_nothing(name: str, trap: Trap) -> None:
    tree = read_xml(_bytes(XML[name](trap)), FHIR)
    assert [child.text for child in tree.all("include")] == [""]
    assert not trap.is_sprung()


def _book(change: Callable[[zipfile.ZipFile, dict[str, bytes]], None]) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["姓名", "证件号码"])
    plain = io.BytesIO()
    book.save(plain)
    with zipfile.ZipFile(plain) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        change(archive, parts)
        for name, data in parts.items():
            archive.writestr(name, data)
    return out.getvalue()


def _doctype(subset: str, use: str) -> Callable[[zipfile.ZipFile, dict[str, bytes]], None]:
    def change(_: zipfile.ZipFile, parts: dict[str, bytes]) -> None:
        name = "xl/sharedStrings.xml"
        text = f"<!DOCTYPE sst [{subset}]>" + (
            '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
            f"<si><t>{use}</t></si></sst>"
        )
        parts[name] = text.encode()

    return change


def _padded(size: int) -> Callable[[zipfile.ZipFile, dict[str, bytes]], None]:
    def change(_: zipfile.ZipFile, parts: dict[str, bytes]) -> None:
        parts["xl/media/a.bin"] = b"\0" * size

    return change


def _many(_: zipfile.ZipFile, parts: dict[str, bytes]) -> None:
    parts |= {f"xl/media/{number}.bin": b"" for number in range(5000)}


BOOKS: dict[str, Callable[[Trap], bytes]] = {
    "bomb": lambda _: _book(_padded(300_000_000 // 4)),
    "entity bomb in a part": lambda _: _book(_doctype(laughs(), "&a11;")),
    "quadratic in a part": lambda _: _book(
        _doctype(f"<!ENTITY x '{'a' * 50_000}'>", "&x;" * 1_000)
    ),
    "external entity in a part": lambda t: _book(
        _doctype(f"<!ENTITY x SYSTEM 'file://{t.pipe}'>", "&x;")
    ),
    "external entity of the network": lambda t: _book(
        _doctype(f"<!ENTITY x SYSTEM 'http://127.0.0.1:{t.port}/'>", "&x;")
    ),
    "five thousand entries": lambda _: _book(_many),
    "cut short": lambda _: _book(lambda *_: None)[:-60],
    "no archive": lambda _: b"PK\x03\x04" + b"\0" * 200,
}


@pytest.mark.parametrize("name", BOOKS)
def test_a_hostile_workbook_is_refused(name: str, trap: Trap) -> None:
    data = BOOKS[name](trap)
    _refused(lambda given: sheets.read_sheet(given, sheets.XLSX), data, trap)


def test_an_entry_that_climbs_out_of_its_archive_writes_no_file(
    trap: Trap, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def climb(_: zipfile.ZipFile, parts: dict[str, bytes]) -> None:
        parts["../../slipped.txt"] = b"out"
        parts["/slipped.txt"] = b"out"

    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert sheets.read_sheet(_book(climb), sheets.XLSX).headings
    assert not list(tmp_path.rglob("slipped.txt"))
    assert not pathlib.Path("/slipped.txt").exists()


def test_there_are_sixty_attacks_and_a_trap_that_springs(trap: Trap) -> None:
    assert 2 * len(XML) + len(BOOKS) >= 60
    with socket.create_connection(("127.0.0.1", trap.port)):
        assert trap.is_sprung()
