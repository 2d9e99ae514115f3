"""Hostile XML at the SOAP entry: refused with a fault, no file opened, no socket opened."""

import asyncio
import contextlib
import datetime
import gzip
import importlib.resources
import os
import pathlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import lxml.etree
import pytest

from adapters.envelope.profile import profile_of
from adapters.envelope.seal import seal
from adapters.province.ledger import Ledger
from adapters.province.simulator import ProvinceSimulator, running
from adapters.safe_xml import MOST_TAGS, UnreadableXml, parse_xml

KEY = b"shared key"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
PROVINCE = "urn:qiao:province:1"
DOCUMENT = (
    importlib.resources.files("adapters.province")
    .joinpath("resident_registration.xml")
    .read_bytes()
)


@dataclass
class Canary:
    """A named pipe whose opening is noticed, and a port that counts its callers."""

    pipe: pathlib.Path
    port: int = 0
    opened: threading.Event = field(default_factory=threading.Event)
    callers: int = 0


@pytest.fixture
def canary(tmp_path: pathlib.Path) -> Iterator[Canary]:
    pipe = tmp_path / "secret.txt"
    os.mkfifo(pipe)
    found = Canary(pipe)

    def wait_for_reader() -> None:
        with pipe.open("wb") as end:
            if not done.is_set():
                found.opened.set()
                end.write(b"the secret")

    done = threading.Event()
    thread = threading.Thread(target=wait_for_reader)
    thread.start()
    yield found
    done.set()
    while thread.is_alive():
        # Whoever reads lets the waiting writer go.
        descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        thread.join(0.05)
        os.close(descriptor)


def wire(**changes: str) -> dict[str, str]:
    fields = {
        "orgCode": "HOSP-A",
        "sysCode": "QIAO",
        "bizType": "resident",
        "opType": "A",
        "batchNo": "B1",
        "msgId": "m-1",
    }
    now = datetime.datetime.now(datetime.UTC)
    sealed = seal(profile_of("province_upload"), fields, payload=DOCUMENT, key=KEY, at=now)
    return {name: text for name, text in {**sealed, **changes}.items() if text}


def elements(texts: dict[str, str]) -> str:
    return "".join(f"<{name}>{text}</{name}>" for name, text in texts.items())


def upload(inside: str | None = None, *, attributes: str = "") -> str:
    content = elements(wire()) if inside is None else inside
    return f'<UploadRequest xmlns="{PROVINCE}"{attributes}>{content}</UploadRequest>'


def soap(body: str | None = None, *, before: str = "", header: str = "") -> str:
    content = upload() if body is None else body
    return f'{before}<s:Envelope xmlns:s="{SOAP}">{header}<s:Body>{content}</s:Body></s:Envelope>'


def with_field(name: str, text: str) -> str:
    return upload(elements(wire(**{name: text})))


Attack = str | bytes
Make = Callable[[Canary], Attack]


def entity(definition: str, *, use: str = "&x;") -> str:
    return soap(with_field("orgName", use), before=f"<!DOCTYPE a [{definition}]>")


def laughs() -> str:
    lines = ['<!ENTITY a0 "ha">']
    lines += [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)]
    return entity("".join(lines), use="&a11;")


ATTACKS: dict[str, Make] = {
    "external entity, file": lambda c: entity(f'<!ENTITY x SYSTEM "file://{c.pipe}">'),
    "external entity, http": lambda c: entity(f'<!ENTITY x SYSTEM "http://127.0.0.1:{c.port}/">'),
    "external entity, ftp": lambda c: entity(f'<!ENTITY x SYSTEM "ftp://127.0.0.1:{c.port}/a">'),
    "external entity, public": lambda c: entity(f'<!ENTITY x PUBLIC "p" "file://{c.pipe}">'),
    "parameter entity": lambda c: entity(
        f'<!ENTITY % p SYSTEM "http://127.0.0.1:{c.port}/evil.dtd"> %p;'
    ),
    "parameter entity that reads a file": lambda c: entity(
        f'<!ENTITY % f SYSTEM "file://{c.pipe}"><!ENTITY % e "<!ENTITY x \'%f;\'>"> %e;'
    ),
    "external DTD, http": lambda c: soap(
        before=f'<!DOCTYPE a SYSTEM "http://127.0.0.1:{c.port}/a.dtd">'
    ),
    "external DTD, file": lambda c: soap(before=f'<!DOCTYPE a SYSTEM "file://{c.pipe}">'),
    "unparsed entity": lambda c: entity(
        f'<!NOTATION n SYSTEM "n"><!ENTITY x SYSTEM "file://{c.pipe}" NDATA n>', use="1"
    ),
    "billion laughs": lambda c: laughs(),
    "quadratic blowup": lambda c: entity(f'<!ENTITY x "{"a" * 50_000}">', use="&x;" * 10_000),
    "entity in an attribute": lambda c: soap(
        upload(attributes=' a="&x;"'), before='<!DOCTYPE a [<!ENTITY x "y">]>'
    ),
    "recursive entity": lambda c: entity('<!ENTITY x "&y;"><!ENTITY y "&x;">'),
    "attribute defaults from a DTD": lambda c: soap(
        before='<!DOCTYPE a [<!ATTLIST opType a CDATA "D">]>'
    ),
    "empty DOCTYPE": lambda c: soap(before="<!DOCTYPE a>"),
    "DOCTYPE in small letters": lambda c: soap(before="<!doctype a>"),
    "DOCTYPE behind a byte-order mark": lambda c: (
        b"\xef\xbb\xbf" + entity(f'<!ENTITY x SYSTEM "file://{c.pipe}">').encode()
    ),
    "DOCTYPE in UTF-16": lambda c: entity(f'<!ENTITY x SYSTEM "file://{c.pipe}">').encode("utf-16"),
    "DOCTYPE in UTF-16 without a mark": lambda c: entity(
        f'<!ENTITY x SYSTEM "file://{c.pipe}">'
    ).encode("utf-16-be"),
    "DOCTYPE in UTF-32": lambda c: entity(f'<!ENTITY x SYSTEM "file://{c.pipe}">').encode("utf-32"),
    "DOCTYPE in UTF-7": lambda c: (
        b'<?xml version="1.0" encoding="UTF-7"?>'
        + entity(f'<!ENTITY x SYSTEM "file://{c.pipe}">').encode("utf-7")
    ),
    "DOCTYPE in EBCDIC": lambda c: (
        '<?xml version="1.0" encoding="IBM037"?>' + entity(f'<!ENTITY x SYSTEM "file://{c.pipe}">')
    ).encode("cp037"),
    "unknown encoding": lambda c: '<?xml version="1.0" encoding="x-none"?>' + soap(),
    "UTF-8 declared, GB18030 sent": lambda c: soap(with_field("orgName", "演示医院")).encode(
        "gb18030"
    ),
    "overlong UTF-8": lambda c: soap().encode() + b"\xc0\xbc",
    "lone surrogate": lambda c: (
        soap(with_field("orgName", "a")).encode().replace(b"<orgName>a", b"<orgName>\xed\xa0\x80")
    ),
    "NUL byte": lambda c: soap(with_field("orgName", "a\x00b")),
    "control character": lambda c: soap(with_field("orgName", "a\x08b")),
    "character reference to NUL": lambda c: soap(with_field("orgName", "&#0;")),
    "undefined entity": lambda c: soap(with_field("orgName", "&nbsp;")),
    "blank before the declaration": lambda c: ' <?xml version="1.0"?>' + soap(),
    "processing instruction": lambda c: (
        f'<?xml-stylesheet type="text/xsl" href="http://127.0.0.1:{c.port}/a.xsl"?>' + soap()
    ),
    "XInclude, file": lambda c: soap(
        upload(
            elements(wire(orgName=""))
            + '<x:include xmlns:x="http://www.w3.org/2001/XInclude" parse="text" '
            + f'href="file://{c.pipe}"/>'
        )
    ),
    "XInclude, http": lambda c: soap(
        upload(
            elements(wire(orgName=""))
            + '<x:include xmlns:x="http://www.w3.org/2001/XInclude" '
            + f'href="http://127.0.0.1:{c.port}/"/>'
        )
    ),
    "XOP include": lambda c: soap(
        with_field(
            "payload",
            f'<i:Include xmlns:i="http://www.w3.org/2004/08/xop/include" href="file://{c.pipe}"/>',
        )
    ),
    "schema location on a field": lambda c: soap(
        upload(
            elements(wire()).replace(
                "<orgCode>",
                '<orgCode xmlns:i="http://www.w3.org/2001/XMLSchema-instance" '
                f'i:schemaLocation="urn:a http://127.0.0.1:{c.port}/a.xsd">',
            )
        )
    ),
    "type on a field": lambda c: soap(
        upload(
            elements(wire()).replace(
                "<orgCode>",
                '<orgCode xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="i:evil">',
            )
        )
    ),
    "ten thousand levels": lambda c: soap("<a>" * 10_000 + "</a>" * 10_000),
    "a hundred levels": lambda c: soap("<a>" * 100 + "</a>" * 100),
    "three megabytes": lambda c: soap(with_field("payload", "A" * 3_000_000)),
    "too many elements": lambda c: soap(upload("<a/>" * (MOST_TAGS + 1))),
    "too many attributes": lambda c: soap(
        upload(attributes="".join(f' a{n}="1"' for n in range(MOST_TAGS)))
    ),
    "attribute twice": lambda c: soap(upload(attributes=' a="1" a="2"')),
    "a name of a megabyte": lambda c: soap(f"<{'n' * 1_000_000}/>"),
    "cut short": lambda c: soap()[:-10],
    "two roots": lambda c: soap() + soap(),
    "prefix nobody declared": lambda c: soap("<q:a/>"),
    "not XML": lambda c: "PID|1||999001",
    "HTML": lambda c: "<html><body><br></body></html>",
    "nothing": lambda c: "",
    "SOAP 1.2": lambda c: soap().replace(SOAP, "http://www.w3.org/2003/05/soap-envelope"),
    "no SOAP": lambda c: upload(),
    "header that must be understood": lambda c: soap(
        header='<s:Header><q:a xmlns:q="urn:q" s:mustUnderstand="1"/></s:Header>'
    ),
    "two bodies": lambda c: soap().replace(
        "</s:Body>", "</s:Body><s:Body>" + upload() + "</s:Body>"
    ),
    "two requests in one body": lambda c: soap(upload() + upload()),
    "empty body": lambda c: soap(""),
    "unknown operation": lambda c: soap(f'<DropAll xmlns="{PROVINCE}"/>'),
    "operation of another namespace": lambda c: soap(upload().replace(PROVINCE, "urn:other")),
    "a field twice, the signed one first": lambda c: soap(
        upload(elements(wire()) + "<opType>D</opType>")
    ),
    "a field twice, the signed one last": lambda c: soap(
        upload("<opType>D</opType>" + elements(wire()))
    ),
    "signed request wrapped in a header": lambda c: soap(
        upload(elements(wire(opType="D"))),
        header=f'<s:Header s:mustUnderstand="0">{upload()}</s:Header>',
    ),
    "a field inside a field": lambda c: soap(with_field("msgId", "m-1<opType>D</opType>")),
}

# These reach the envelope check and are refused there by a receipt, not by a fault.
BY_RECEIPT = {"signed request wrapped in a header"}


def is_fault(reply: bytes) -> bool:
    root = lxml.etree.fromstring(reply)
    [body] = root
    return [child.tag for child in body] == [f"{{{SOAP}}}Fault"]


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_request_is_refused_and_touches_nothing(
    name: str, canary: Canary, tmp_path: pathlib.Path
) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        canary.callers += 1
        writer.close()

    async def scenario() -> None:
        listener = await asyncio.start_server(listen, "127.0.0.1", 0)
        canary.port = listener.sockets[0].getsockname()[1]
        ledger = Ledger(tmp_path / "ledger.jsonl")
        async with (
            running(ProvinceSimulator(ledger=ledger, key=KEY)) as endpoint,
            httpx.AsyncClient(timeout=20) as client,
        ):
            attack = ATTACKS[name](canary)
            content = attack.encode() if isinstance(attack, str) else attack
            headers = {"content-type": "text/xml; charset=utf-8"}
            reply = await client.post(endpoint, content=content, headers=headers)
            if name in BY_RECEIPT:
                assert b"<code>E1005</code>" in reply.content
            else:
                assert reply.status_code in (413, 500)
                assert is_fault(reply.content)
            assert b"secret" not in reply.content
            assert len(ledger) == 0
            # The next good caller is served.
            good = await client.post(endpoint, content=soap().encode(), headers=headers)
            assert b"<status>accepted</status>" in good.content
        listener.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert not canary.opened.is_set()
    assert canary.callers == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"content-type": "multipart/related; type=application/xop+xml"},
        {"content-type": "text/xml", "content-encoding": "gzip"},
        {},
    ],
)
def test_a_body_in_another_dress_is_refused(
    headers: dict[str, str], tmp_path: pathlib.Path
) -> None:
    async def scenario() -> None:
        ledger = Ledger(tmp_path / "ledger.jsonl")
        async with (
            running(ProvinceSimulator(ledger=ledger, key=KEY)) as endpoint,
            httpx.AsyncClient() as client,
        ):
            bomb = gzip.compress(b"a" * 20_000_000)
            reply = await client.post(endpoint, content=bomb, headers=headers)
            assert reply.status_code == 415
            assert is_fault(reply.content)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in ATTACKS
        if any(word in name for word in ("entity", "DTD", "DOCTYPE", "laughs", "quadratic"))
    ],
)
def test_a_hostile_document_inside_a_good_envelope_is_refused(name: str, canary: Canary) -> None:
    attack = ATTACKS[name](canary)
    content = attack.encode() if isinstance(attack, str) else attack
    with pytest.raises(UnreadableXml):
        parse_xml(content)
    assert not canary.opened.is_set()


def test_an_unsafe_parser_would_have_opened_the_file(canary: Canary) -> None:
    attack = ATTACKS["external entity, file"](canary)
    unsafe = lxml.etree.XMLParser(resolve_entities=True, load_dtd=True, no_network=False)
    with contextlib.suppress(lxml.etree.XMLSyntaxError):
        lxml.etree.fromstring(str(attack).encode(), unsafe)
    assert canary.opened.wait(10)


def test_gb18030_is_read_where_it_is_declared() -> None:
    text = '<?xml version="1.0" encoding="GB18030"?><名>演示</名>'
    root = parse_xml(text.encode("gb18030"))
    assert (root.tag, root.text) == ("名", "演示")


def test_depth_may_reach_the_limit_and_no_further() -> None:
    assert parse_xml(b"<a>" * 32 + b"</a>" * 32).tag == "a"
    with pytest.raises(UnreadableXml, match="nested"):
        parse_xml(b"<a>" * 33 + b"</a>" * 33)
