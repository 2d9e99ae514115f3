"""Converters of one value: plain, by codec, through a code table; each notes its source."""

from collections.abc import Callable, Mapping
from typing import Any

from conformance.problem import Issue
from mappings.engine.codecs import Codec
from mappings.engine.context import Context, UnreadableValue
from mappings.engine.rows import Row
from mappings.engine.tables import Concept, Table
from mappings.hl7.escape import unescape
from mappings.translated import HeldCode, TraceEntry

# raw text, level (0 field, 1 component, 2 subcomponent), context, target path, source path
Convert = Callable[[str, int, Context, str, str], Any]


NULL = '""'  # HL7's "delete this value" is no value in a resource


def leaf_converter(row: Row, codec: Codec, traced: bool) -> Convert:
    """Return the converter of a single value."""
    identifier = row.id
    if codec.name == "text":
        return _text_leaf(identifier, traced)
    forward = codec.forward
    read = _joined if codec.is_composite else first_text

    def leaf(raw: str, level: int, context: Context, target: str, source: str) -> Any:
        text = read(raw, level, context)
        if not text:
            return None
        try:
            value = forward(text, context)
        except UnreadableValue as error:
            context.note(identifier, source, str(error))
            return None
        if traced and value is not None:
            context.trace.append((target, source, identifier))
        return value

    return leaf


def _text_leaf(identifier: str, traced: bool) -> Convert:
    def text_leaf(raw: str, level: int, context: Context, target: str, source: str) -> Any:
        text = first_text(raw, level, context)
        if not text:
            return None
        if traced:
            context.trace.append((target, source, identifier))
        return text

    return text_leaf


def _joined(raw: str, level: int, context: Context) -> str:
    """Return all parts of a component for a composite codec."""
    if raw.isalnum():
        return raw
    separators = context.separators
    mark = (separators.component, separators.subcomponent, "")[level]
    text = raw.replace(mark, "\x1f") if mark else raw
    if separators.escape not in raw:
        return text
    parts = raw.split(mark) if mark else [raw]
    return "\x1f".join([unescape(part, separators, context.codec) for part in parts])


def first_text(raw: str, level: int, context: Context) -> str:
    """Return the first subcomponent of the text, unescaped and without blanks around."""
    if raw.isalnum():
        return raw  # no delimiter is a letter or digit
    separators = context.separators
    if level == 0 and separators.component in raw:
        raw = raw.split(separators.component, 1)[0]
    if level <= 1 and separators.subcomponent and separators.subcomponent in raw:
        raw = raw.split(separators.subcomponent, 1)[0]
    if raw == NULL:
        return ""
    if separators.escape and separators.escape in raw:
        raw = unescape(raw, separators, context.codec)
    return raw.strip() if raw.isprintable() else clean(raw)


def clean(text: str) -> str:
    """Drop control characters, which no FHIR string may hold, but for tab and line ends."""
    return "".join(
        letter for letter in text if (letter >= " " and letter != "\x7f") or letter in "\t\n\r"
    ).strip()


def _lookup(
    table: Table, code: str, row: Row, context: Context, source: str, *, local: bool = False
) -> Concept | None:
    """Return the concept of a code by the sender's overlay, the table, or the row's policy."""
    overlay = context.sender.code_overlay.get(table.name)
    if overlay and code in overlay:
        wanted = overlay[code]
        return next(
            (concept for concept in table.forward.values() if concept.code == wanted),
            Concept(wanted, "", ""),
        )
    concept = table.forward.get(code)
    if concept is not None:
        return concept
    policy = row.unknown
    if policy.startswith("default:"):
        return Concept(policy[8:], "", "")
    if policy == "hold":
        context.held.append(
            HeldCode(
                table=table.name,
                code=code,
                system=table.source_system,
                source=source,
                row=row.id,
            )
        )
        return None
    if policy == "pass":
        return None if local else Concept(code, "", "")
    context.notes.append(
        Issue(
            severity="warning",
            code="code-invalid",
            key="map-code",
            text_en=f"{source} holds a code that table {table.name} does not know",
            text_zh=f"{source} 的代码不在对照表 {table.name} 中",
            fix_en="Add the code to the sender's overlay of the table.",
            fix_zh="请在该发送方的对照表补充此代码。",
            expression=source,
        )
    )
    return None


def code_converter(table: Table, row: Row, traced: bool) -> Convert:
    """Return the converter of a bare code through a table."""
    identifier, known = row.id, table.forward

    def code(raw: str, level: int, context: Context, target: str, source: str) -> Any:
        text = raw if raw.isalnum() else first_text(raw, level, context)
        if not text:
            return None
        concept = None if context.sender.code_overlay else known.get(text)
        if concept is None:
            concept = _lookup(table, text, row, context, source)
        if concept is None:
            return None
        if traced:
            context.trace.append((target, source, identifier))
        return concept.code

    return code


def _coding(concept: Concept) -> dict[str, str]:
    coding = {"code": concept.code}
    if concept.system:
        coding["system"] = concept.system
    if concept.display:
        coding["display"] = concept.display
    return coding


def coded_converter(convert: Convert, table: Table, row: Row, traced: bool) -> Convert:
    """Return the converter of a coded element whose first coding goes through a table.

    What the sender says besides (alternate codings, the original text) stands behind it.
    """
    identifier = row.id
    is_coding = row.use.endswith("-Coding")
    # Several codes mean a collapsed one: the sender's own coding stays beside it.
    known = {
        code: (_coding(concept), concept.code in table.collapsed)
        for code, concept in table.forward.items()
    }

    def coded(raw: str, level: int, context: Context, target: str, source: str) -> Any:
        text = raw if raw.isalnum() else first_text(raw, level, context)
        ready = None if context.sender.code_overlay else known.get(text)
        if ready is None:
            concept = _lookup(table, text, row, context, source, local=True) if text else None
            if concept is None:
                return convert(raw, level, context, target, source)
            ready = (_coding(concept), concept.code in table.collapsed)
        coding, is_collapsed = ready[0].copy(), ready[1]
        if traced:
            place = target if is_coding else f"{target}.coding[0]"
            context.trace.append((place, source, identifier))
        if is_coding:
            return coding
        whole: dict[str, Any] = {"coding": [coding]}
        if is_collapsed or raw.count(context.marks[1 if level else 0]) >= _ALTERNATE:
            at = len(context.trace)
            said = convert(raw, level, context, target, source) or {}
            own = coding["code"] if is_collapsed else text
            _say_besides(whole, said, own, context.trace, (at, target))
        return whole

    return coded


_ALTERNATE = 3  # delimiters in front of the second code of a CWE


def _say_besides(
    whole: dict[str, Any],
    said: Mapping[str, Any],
    code: str,
    trace: list[TraceEntry],
    begin: tuple[int, str],
) -> None:
    """Add what was read of a coded element, but for the coding that the table's stands for.

    `begin` is where the trace of the reading begins, and the element's path.
    """
    at, target = begin
    places: dict[str, str] = {}
    for number, item in enumerate(said.get("coding", ())):
        if number or item.get("code") != code:
            places[f"{target}.coding[{number}"] = f"{target}.coding[{len(whole['coding'])}"
            whole["coding"].append(item)
    if "text" in said:
        whole["text"] = said["text"]
    entries = trace[at:]
    del trace[at:]
    for path, source, row in entries:
        head, bracket, rest = path.partition("]")
        if head in places:
            trace.append((places[head] + bracket + rest, source, row))
        elif not head.startswith(f"{target}.coding["):
            trace.append((path, source, row))
