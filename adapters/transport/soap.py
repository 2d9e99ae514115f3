"""SOAP 1.1 messages, read and written (https://www.w3.org/TR/2000/NOTE-SOAP-20000508/)."""

from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from adapters.safe_xml import Element, UnreadableXml, parse_xml

SOAP_11 = "http://schemas.xmlsoap.org/soap/envelope/"
CONTENT_TYPE = "text/xml; charset=utf-8"

_HEAD = f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{SOAP_11}"><s:Body>'
_TAIL = "</s:Body></s:Envelope>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A SOAP fault: `code` is a local name such as Client, `reason` a stable word.

    `is_received` tells a fault the other side sent from one we found in its bytes.
    """

    code: str
    text: str
    reason: str = ""
    is_received: bool = False


def to_message(namespace: str, name: str, content: str) -> bytes:
    """Return a message whose body holds one element with this content (already XML)."""
    return f'{_HEAD}<{name} xmlns="{namespace}">{content}</{name}>{_TAIL}'.encode()


def to_element(name: str, text: str) -> str:
    """Return one element with escaped text."""
    return f"<{name}>{escape(text)}</{name}>"


def to_fault(fault: Fault) -> bytes:
    """Return a fault message."""
    detail = f"<detail>{to_element('reason', fault.reason)}</detail>" if fault.reason else ""
    text = escape(fault.text)
    return (
        f"{_HEAD}<s:Fault><faultcode>s:{fault.code}</faultcode>"
        f"<faultstring>{text}</faultstring>{detail}</s:Fault>{_TAIL}"
    ).encode()


def read_body(data: bytes, *, most_bytes: int) -> Element | Fault:
    """Return the only element in the body, or the fault to answer (or found, in a reply)."""
    try:
        root = parse_xml(data, most_bytes=most_bytes)
    except UnreadableXml as unreadable:
        return Fault(code="Client", text=str(unreadable), reason=unreadable.reason)
    if root.tag != f"{{{SOAP_11}}}Envelope":
        is_soap = isinstance(root.tag, str) and root.tag.endswith("}Envelope")
        code = "VersionMismatch" if is_soap else "Client"
        return Fault(code=code, text="the document is not a SOAP 1.1 envelope", reason="not-soap")
    parts = list(root)
    header = parts.pop(0) if parts and parts[0].tag == f"{{{SOAP_11}}}Header" else ()
    for block in header:
        if block.get(f"{{{SOAP_11}}}mustUnderstand", "0") not in ("0", "false"):
            text = "a header that must be understood is not known here"
            return Fault(code="MustUnderstand", text=text, reason="header")
    if [part.tag for part in parts] != [f"{{{SOAP_11}}}Body"] or len(parts[0]) != 1:
        text = "the envelope must hold one Body with one element"
        return Fault(code="Client", text=text, reason="body")
    return _content_of(parts[0][0])


def texts_of(element: Element, namespace: str) -> Mapping[str, str] | Fault:
    """Return the texts of an element's children by name; each once, without attributes or children.

    Two fields of one name would let one be checked and the other be used.
    """
    texts: dict[str, str] = {}
    for child in element:
        name = str(child.tag).removeprefix(f"{{{namespace}}}")
        if name in texts or "}" in name or len(child) or child.attrib:
            text = "a field is repeated, nested or of another namespace"
            return Fault(code="Client", text=text, reason="fields")
        texts[name] = child.text or ""
    return texts


def _content_of(element: Element) -> Element | Fault:
    if element.tag != f"{{{SOAP_11}}}Fault":
        return element
    code = (element.findtext("faultcode") or "").rpartition(":")[2] or "Server"
    return Fault(
        code=code,
        text=element.findtext("faultstring") or "",
        reason=element.findtext("detail/reason") or "",
        is_received=True,
    )
