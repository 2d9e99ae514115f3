"""Maps as they stand in their YAML files, read with the line of each row."""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from mappings.engine.rows import Fault, Group, Into, Making, MessageMap, Row, RowMap, Undone

_LINE = "\0line"


class _Loader(yaml.CSafeLoader):
    """YAML that remembers the line of every mapping."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    pairs: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    if len(pairs) < len(node.value):
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
    pairs[_LINE] = node.start_mark.line + 1
    return pairs


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)

_ROW_KEYS = {
    "id": "id",
    "v2": "source",
    "xml": "source",
    "json": "source",
    "flat": "source",
    "fhir": "target",
    "use": "use",
    "refer": "refer",
    "as": "codec",
    "code": "table",
    "unknown": "unknown",
    "value": "value",
    "with": "defaults",
    "when": "when",
    "when_fhir": "when_fhir",
    "only": "only",
    "back": "back",
    "ignore": "ignore",
    "loses": "loses",
    "py": "py",
    "py_back": "py_back",
    "reads": "reads",
    "writes": "writes",
}


def content_hash(paths: list[pathlib.Path]) -> str:
    """Return the first 12 hex digits of the SHA-256 over the files' contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def read_documents(path: pathlib.Path, faults: list[Fault]) -> list[dict[str, Any]]:
    """Return the YAML documents of one file; one that is no YAML or not to be read is a fault."""
    text = _text(path, faults)
    if text is None:
        return []
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", "") or "no YAML"
        faults.append(
            Fault(
                file=path.name,
                line=line,
                row="-",
                text=f"is not YAML: {problem}",
                fix="Mend the line; quote values with : or #.",
            )
        )
        return []
    if any(not isinstance(document, dict | None) for document in documents):
        fix = "Begin each document with `key: value` lines."
        faults.append(Fault(file=path.name, line=1, row="-", text="holds no mapping", fix=fix))
    return [document for document in documents if isinstance(document, dict)]


def _text(path: pathlib.Path, faults: list[Fault]) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        text, fix = (
            "is not UTF-8",
            "Save the file as UTF-8; GBK or ANSI is what an editor made of it.",
        )
    except OSError as refusal:
        line, text = 1, f"cannot be read: {refusal.strerror}"
        fix = "Let the hub's user read it, or take it out of the folder."
    faults.append(Fault(file=path.name, line=line, row="-", text=text, fix=fix))
    return None


def read_row_map(document: dict[str, Any], file: str, faults: list[Fault]) -> RowMap:
    """Return the map or type of one YAML document, reporting unknown keys."""
    is_type = "type" in document
    name = str(document.get("type") or document.get("map"))
    rows = tuple(_read_row(given, file, faults) for given in document.get("rows") or ())
    _refuse_twins(rows, file, faults)
    kinds = {
        key
        for given in document.get("rows") or ()
        for key in ("xml", "json", "flat")
        if key in given
    }
    allowed = {"type", "map", "to", "rows", "identity", "identity_types", "key", "match", "with"}
    allowed |= {
        "require_when",
        "include",
        "document",
        "once",
        "apart",
        "key_of",
        "require",
        "require_any",
    }
    allowed.add(_LINE)
    _refuse_unknown(document, allowed, (file, name), faults)
    return RowMap(
        name=name,
        kind="type" if is_type else "map",
        file=file,
        line=document[_LINE],
        to=str(document.get("to", "")),
        rows=rows,
        identity=_texts(document.get("identity")),
        identity_types=_texts(document.get("identity_types")),
        key=_texts(document.get("key")),
        match=str(document.get("match", "merge")),
        defaults=_plain(document.get("with")),
        includes=_texts(document.get("include")),
        source_kind=kinds.pop() if kinds else "v2",
        document={
            name: _plain(value) if isinstance(value, dict) else value
            for name, value in _plain(document.get("document")).items()
        },
        once=bool(document.get("once")),
        apart=_texts(document.get("apart")),
        key_of=str(document.get("key_of", "")),
        require=_texts(document.get("require")),
        require_any=_texts(document.get("require_any")),
        require_when={
            condition: _texts(paths)
            for condition, paths in _plain(document.get("require_when")).items()
        },
    )


def _read_row(given: dict[str, Any], file: str, faults: list[Fault]) -> Row:
    line = given.get(_LINE, 0)
    identifier = str(given.get("id", "?"))
    if identifier == "?":
        faults.append(
            Fault(
                file=file, line=line, row="?", text="has no id", fix="Give it one, such as PID-7."
            )
        )
    unknown = [key for key in given if key not in _ROW_KEYS and key != _LINE]
    for key in unknown:
        faults.append(
            Fault(
                file=file,
                line=line,
                row=identifier,
                text=f"has the unknown key {key!r}",
                fix=f"Use one of {', '.join(sorted(_ROW_KEYS))}.",
            )
        )
    values: dict[str, Any] = {}
    for key, attribute in _ROW_KEYS.items():
        if key not in given:
            continue
        value = given[key]
        if attribute in {"reads", "writes"}:
            value = _texts(value)
        elif attribute in {"defaults", "back"}:
            value = _plain(value)
        elif attribute == "value":
            value = _without_lines(value)
        else:
            value = str(value)
        values[attribute] = value
    values["id"] = identifier
    return Row(line=line, **values)


def _refuse_twins(rows: tuple[Row, ...], file: str, faults: list[Fault]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            faults.append(
                Fault(
                    file=file,
                    line=row.line,
                    row=row.id,
                    text="has the id of an earlier row",
                    fix="Give each row its own id.",
                )
            )
        seen.add(row.id)


def _refuse_unknown(
    document: dict[str, Any], allowed: set[str], place: tuple[str, str], faults: list[Fault]
) -> None:
    for key in document:
        if key not in allowed:
            file, name = place
            faults.append(
                Fault(
                    file=file,
                    line=document[_LINE],
                    row=name,
                    text=f"has the unknown key {key!r}",
                    fix=f"Use one of {', '.join(sorted(allowed - {_LINE}))}.",
                )
            )


def read_message_map(document: dict[str, Any], file: str, faults: list[Fault]) -> MessageMap:
    """Return the message map of one YAML document."""
    allowed = {"message", "events", "groups", "makes", "order", "merges", "ignore", "include"}
    allowed |= {"relations", "undone", _LINE}
    _refuse_unknown(document, allowed, (file, str(document["message"])), faults)
    groups = tuple(
        Group(
            name=str(given["group"]),
            starts=_texts(given["starts"]),
            within=_texts(given.get("in")),
            takes=frozenset(_texts(given.get("takes"))),
        )
        for given in document.get("groups") or ()
    )
    makes = tuple(
        Making(
            id=str(given["id"]),
            line=given[_LINE],
            map=str(given["map"]),
            each=str(given["each"]),
            within=str(given.get("in", "")),
            when=str(given.get("when", "")),
            links=_plain(given.get("links")),
            into=_into(given.get("into")),
        )
        for given in document.get("makes") or ()
    )
    return MessageMap(
        name=str(document["message"]),
        file=file,
        events=_texts(document.get("events")),
        groups=groups,
        makes=makes,
        order=_texts(document.get("order")),
        merges=tuple(_plain(given) for given in document.get("merges") or ()),
        ignores=_plain(document.get("ignore")),
        includes=_texts(document.get("include")),
        relations=tuple(_plain(given) for given in document.get("relations") or ()),
        undone=tuple(
            Undone(
                events=_texts(given.get("events")),
                text_en=str(given.get("en", "")),
                text_zh=str(given.get("zh", "")),
            )
            for given in document.get("undone") or ()
        ),
    )


def _into(value: Any) -> dict[str, Into]:
    """Return places by resource: `account: path` or `{path: …, with: {…}, element: MAP}`."""
    return {
        name: Into(
            path=str(given["path"]),
            defaults=_plain(given.get("with")),
            element=str(given.get("element", "")),
        )
        if isinstance(given, dict)
        else Into(path=str(given))
        for name, given in _plain(value).items()
    }


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


def _without_lines(value: Any) -> Any:
    """Return a constant as it stands in the file, at every depth."""
    if isinstance(value, dict):
        return {str(key): _without_lines(item) for key, item in value.items() if key != _LINE}
    if isinstance(value, list):
        return [_without_lines(item) for item in value]
    return value


def _plain(value: Any) -> dict[str, Any]:
    return {str(key): item for key, item in (value or {}).items() if key != _LINE}


def line_of(document: Mapping[str, Any]) -> int:
    """Return the line where a mapping read by `read_documents` begins."""
    return int(document.get(_LINE, 1))
