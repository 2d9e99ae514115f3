"""Functions that rows call by `py:` where a row's words do not suffice."""

from collections.abc import Mapping
from typing import Any

from mappings.engine.codecs import CODECS
from mappings.engine.context import Context, UnreadableValue
from mappings.engine.converters import NULL, clean
from mappings.engine.forward import PythonCall
from mappings.engine.naming import own_system, system_of_authority
from mappings.engine.sinks import Sink
from mappings.hl7.escape import escape, unescape


def telephone(call: PythonCall) -> None:
    """Write a number from its parts as `+86 755 12345678 X12` (XTN-5 to XTN-8)."""
    country, area, local, extension = (call.text(number) for number in (5, 6, 7, 8))
    text = local
    if area:
        text = f"{area} {text}"
        if country:
            text = f"+{country} {text}"
        if extension:
            text = f"{text} X{extension}"
    call.out["value"] = text
    call.trace(f"{call.target}.value", f"{call.source}.7")


def entity_system(call: PythonCall) -> None:
    """Write the system of an entity identifier from EI-2 to EI-4."""
    if not call.text(1):
        return
    system = system_of_authority(call.text(2), call.text(3), call.text(4), call.context)
    if system is None:
        system = own_system(call.context)
    call.out["system"] = system
    call.trace(f"{call.target}.system", f"{call.source}.2")


# HL7 tables 0191 and 0291 -> MIME types, as far as they are certain.
_MIME = {
    "pdf": "application/pdf",
    "html": "text/html",
    "xml": "application/xml",
    "rtf": "application/rtf",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "png": "image/png",
    "tiff": "image/tiff",
    "octet-stream": "application/octet-stream",
    "plain": "text/plain",
    "dicom": "application/dicom",
    "basic": "audio/basic",
}
_MAIN_TYPES = {"text", "image", "audio", "video", "application", "multipart"}


def content_type(call: PythonCall) -> None:
    """Write the MIME type of an attachment from its type and subtype."""
    numbers = [2, 3] if "2" in call.row.reads else [3, 4]
    main, sub = (call.text(number).strip().lower() for number in numbers)
    mime = ""
    if "/" in sub:
        mime = sub
    elif sub in _MIME:
        mime = _MIME[sub]
    elif main in _MAIN_TYPES and sub:
        mime = f"{main}/{sub}"
    if mime:
        call.out["contentType"] = mime
        call.trace(f"{call.target}.contentType", f"{call.source}.{numbers[1]}")


def device_system(call: PythonCall) -> None:
    """Write the system of a device's identifier."""
    if not call.text(1):
        return
    context = call.context
    system = system_of_authority(call.text(2), call.text(3), call.text(4), context)
    call.out["identifier"][0]["system"] = system or own_system(context)
    call.trace(f"{call.target}.identifier[0].system", f"{call.source}.2")


def event_display(call: PythonCall) -> None:
    """Write MSH-9 as it stands, the name people know the event by."""
    fields = call.parts[0][0]
    if len(fields) > 9 and fields[9]:
        call.out.setdefault("eventCoding", {})["display"] = fields[9]
        call.trace("MessageHeader.eventCoding.display", "MSH[1]-9[1]")


def endpoint(call: PythonCall) -> None:
    """Write a URI for an application that names none: R4 asks for an endpoint."""
    where, number = ("source", 3) if call.row.id == "MSH-3n" else ("destination", 5)
    element = call.out.get(where)
    if where == "destination":
        if not element:
            return
        element = element[0]
    elif element is None:
        element = call.out[where] = {}
    if "endpoint" in element:
        return
    fields = call.parts[0][0]
    raw = fields[number] if len(fields) > number else ""
    name = raw.split(call.context.separators.component, 1)[0]
    system = system_of_authority(f"application-{name or 'unnamed'}", "", "", call.context)
    element["endpoint"] = system or call.context.sender.namespace
    path = where if where == "source" else f"{where}[0]"
    call.trace(f"MessageHeader.{path}.endpoint", f"MSH[1]-{number}[1]")


def result_text(call: PythonCall) -> None:
    """Write OBX-5 of any type as text, one line for each repetition."""
    context = call.context
    fields = _main(call)
    raw = fields[5] if len(fields) > 5 else ""
    separators = context.separators
    if not raw or raw == '""':
        return
    lines = [
        " ".join(
            unescape(part, separators, context.codec)
            for component in repetition.split(separators.component)
            for part in component.split(separators.subcomponent or "\0")
            if part
        )
        for repetition in raw.split(separators.repetition or "\0")
    ]
    text = clean("\n".join(lines))
    if text:
        call.out["valueString"] = text
        call.trace(f"{call.target}.valueString", f"{call.source}-5[1]")
        if call.row.id == "OBX-5un":
            reason = f"is not of the type {fields[2]} that OBX-2 names"
            context.note(call.row.id, f"{call.source}-5[1]", reason, is_kept=True)


def _main(call: PythonCall) -> list[str]:
    """Return the fields of the segment the map runs for."""
    for fields, prefix in zip(call.parts[0], call.parts[1], strict=True):
        if prefix == call.source:
            return list(fields)
    return []


_COMPONENT_VALUES = {
    "NM": ("valueQuantity", None, "nm.decimal"),
    "DT": ("valueDateTime", None, "dtm.dateTime"),
    "TS": ("valueDateTime", None, "dtm.dateTime"),
    "DTM": ("valueDateTime", None, "dtm.dateTime"),
    "TM": ("valueTime", None, "tm.time"),
}


def result_components(call: PythonCall) -> None:
    """Write each repetition of OBX-5 as a component named by the observation's own code.

    Its coding stays with the observation: R4's obs-7 wants no value beside a component that repeats
    it, and another OBX of the same instance (OBX-21) may bring one.
    """
    fields, context = _main(call), call.context
    kind = fields[2]
    separators = context.separators
    concept = call.compiler.type("CWE-CodeableConcept")
    code = {"text": _words_of(call.out.get("code", {}))}
    for number, raw in enumerate(fields[5].split(separators.repetition or "\0"), 1):
        source = f"{call.source}-5[{number}]"
        index = len(call.out.get("component", ()))
        path = f"{call.target}.component[{index}]"
        element: dict[str, Any] = {"code": code}
        if kind in _COMPONENT_VALUES:
            name, _, codec = _COMPONENT_VALUES[kind]
            text = unescape(raw.split(separators.component, 1)[0], separators, context.codec)
            if not text:
                continue
            try:
                value: Any = CODECS[codec].forward(text, context)
            except UnreadableValue as error:
                context.note(call.row.id, source, str(error), is_kept=True)
                name, value = "valueString", clean(text)
                if not value:
                    continue
            if kind == "NM" and name != "valueString":
                value = {"value": value, **_unit(fields, call)}
                name = "valueQuantity"
            element[name] = value
            call.trace(f"{path}.{name}", source)
        else:
            value = concept(raw, 0, context, f"{path}.valueCodeableConcept", source)
            if value is None:
                continue
            element["valueCodeableConcept"] = value
        call.trace(f"{path}.code", f"{call.source}-5[{number}]")
        call.out.setdefault("component", []).append(element)


def _words_of(code: dict[str, Any]) -> str:
    for one in (code, *code.get("coding", ())):
        for name in ("text", "display", "code"):
            if one.get(name):
                return str(one[name])
    return "not stated by the sender"


def _unit(fields: list[str], call: PythonCall) -> dict[str, str]:
    raw = fields[6] if len(fields) > 6 else ""
    separators = call.context.separators
    parts = [
        unescape(part, separators, call.context.codec) for part in raw.split(separators.component)
    ]
    code, unit, system = (*parts, "", "", "")[:3]
    found = {"unit": unit or code} if unit or code else {}
    if code and system:
        found["code"] = code
        uri = CODECS["code-system"].forward(system, call.context)
        if uri:
            found["system"] = uri
    return found


def require_attachment(call: PythonCall) -> None:
    """Keep the one attachment that R4 asks for where the sender's could not be read."""
    if "content" not in call.out:
        call.out["content"] = [{"attachment": {"title": "not readable"}}]
        call.trace(f"{call.target}.content[0].attachment.title", f"{call.source}-5[1]")


# HL7 table 0191, type of referenced data, as TXA-3 (table 0191 by use).
_PRESENTATIONS = {
    "AP": "application/octet-stream",
    "AU": "audio/basic",
    "FT": "text/plain",
    "IM": "image/jpeg",
    "TEXT": "text/plain",
    "TX": "text/plain",
    "multipart": "multipart/mixed",
}


def presentation(call: PythonCall) -> None:
    """Write the MIME type that TXA-3 names."""
    fields = _main(call)
    mime = _PRESENTATIONS.get(fields[3] if len(fields) > 3 else "")
    if mime:
        content = call.out.setdefault("content", [{}])
        content[0].setdefault("attachment", {})["contentType"] = mime
        call.trace(f"{call.target}.content[0].attachment.contentType", f"{call.source}-3[1]")


def remark(call: PythonCall) -> None:
    """Write a remark of several repetitions as one text, a line for each."""
    fields, context = _main(call), call.context
    raw = fields[3] if len(fields) > 3 else ""
    if not raw or raw == NULL:
        return
    separators = context.separators
    lines = [
        unescape(line, separators, context.codec)
        for line in raw.split(separators.repetition or "\0")
    ]
    text = clean("\n".join(lines))
    if text:
        call.out["text"] = text
        call.trace(f"{call.target}.text", f"{call.source}-3[1]")


def remark_back(element: Mapping[str, Any], sink: Sink, _context: Context) -> None:
    """Write each line of a note as a repetition of NTE-3."""
    for number, line in enumerate(str(element.get("text", "")).split("\n")):
        sink.put("NTE-3[*]", line, number)


def event_back(element: Mapping[str, Any], sink: Sink, _context: Context) -> None:
    """Write the event's name as the three parts of MSH-9."""
    display = str(element.get("eventCoding", {}).get("display", ""))
    sink.put_parts("MSH-9", display.split("^"))


# Types of OBX-5 (HL7 table 0125) by the element that holds the value.
_VALUE_TYPES = {
    "valueQuantity": "NM",
    "valueRange": "SN",
    "valueRatio": "SN",
    "valueCodeableConcept": "CWE",
    "valueDateTime": "DTM",
    "valueTime": "TM",
    "valuePeriod": "DR",
    "valueString": "ST",
}


def value_type(element: Mapping[str, Any], sink: Sink, _context: Context) -> None:
    """Write the type in which the rows write OBX-5 where no original says another."""
    for name, kind in _VALUE_TYPES.items():
        if name not in element:
            continue
        value = element[name]
        if name == "valueQuantity" and "comparator" in value:
            kind = "SN"
        elif name == "valueRange" and not {"low", "high"} <= value.keys():
            kind = "NR"
        sink.put("OBX-2", kind)


def range_sign(_element: Mapping[str, Any], sink: Sink, _context: Context) -> None:
    """Write what stands between the two numbers of a range (SN-3)."""
    sink.put("3", "-")


def ratio_sign(_element: Mapping[str, Any], sink: Sink, _context: Context) -> None:
    """Write what stands between the two numbers of a ratio or titre (SN-3)."""
    sink.put("3", ":")


def own_assigner(call: PythonCall) -> None:
    """Let the sender's facility assign an identifier that names no authority."""
    context = call.context
    if not context.facility:
        return
    raw = escape(context.facility, context.separators)
    made = call.compiler.map("HD-Organization").run_part(raw, 1, context, "MSH[1]-4[1]")
    if made is None:
        return
    holder, path = call.out, call.target
    if "identifier" in holder:
        holder, path = holder["identifier"][0], f"{path}.identifier[0]"
    holder.setdefault("assigner", {})["reference"] = f"urn:uuid:{made.key}"
    call.trace(f"{path}.assigner.reference", call.source)
