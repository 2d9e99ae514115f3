"""Rows in words, English and Chinese, for people who talk about them with a sender."""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from mappings.engine.library import Library, default_folder
from mappings.engine.rows import Row, RowMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One row: its map, where it stands, its class (exact, lossy, forward …) and a sentence.

    The sentence is in English (`text`) and Chinese (`text_zh`).
    """

    map: str
    row: str
    file: str
    line: int
    kind: str
    text: str
    text_zh: str


def explain(library: Library, row: str) -> Iterator[Explained]:
    """Yield every row of a name such as `PID-8` or `PID-Patient/PID-8`."""
    wanted_map, _, wanted = row.rpartition("/")
    for row_map in library.maps.values():
        if wanted_map not in {"", row_map.name}:
            continue
        for one in row_map.rows:
            if one.id == wanted:
                yield explained(library, row_map, one)


def rows_like(library: Library, row: str, most: int = 8) -> list[str]:
    """Return names of rows that somebody may mean: another case, a segment, what reads a field.

    `PID` gives rows of the segment, `PID-3.1` those that read PID-3, `birthDate` those that
    write it, `PDI-8` what is spelt like it.
    """
    asked = row.rpartition("/")[2].casefold()
    field = asked.partition(".")[0]
    rows = [(row_map, one) for row_map in library.maps.values() for one in row_map.rows]
    found = [
        f"{row_map.name}/{one.id}"
        for row_map, one in rows
        if asked
        and (
            field in (one.id.casefold(), re.split(r"[.\[]", one.source.casefold())[0])
            or one.id.casefold().startswith(f"{field}-")
            or re.split(r"[.\[:]", one.target.casefold())[0] == asked
        )
    ]
    if not found:
        return difflib.get_close_matches(row.upper(), {one.id for _, one in rows}, most)
    return found[:most]


def explained(library: Library, row_map: RowMap, row: Row) -> Explained:
    """Return one row of a map in words."""
    return Explained(
        map=row_map.name,
        row=row.id,
        file=row_map.file,
        line=row.line,
        kind=library.classes[f"{row_map.name}/{row.id}"],
        text=sentence(row),
        text_zh=sentence_zh(row),
    )


def sentence(row: Row) -> str:
    """Say what a row does and what it loses."""
    if row.ignore:
        return f"{row.source} is not read: {row.ignore}"
    origin = row.source or (f"the value {row.value!r}" if row.value is not None else _read_by(row))
    parts = [f"{origin} becomes {row.target or ', '.join(row.writes)}"]
    for text, value in (
        ("by", row.py),
        ("with", ", ".join(f"{path} {value!r}" for path, value in row.defaults.items())),
        ("as type", row.use),
        ("as a resource made by", row.refer),
        ("by codec", row.codec),
        ("through table", row.table),
        ("when", row.when),
        ("and back when", row.when_fhir),
        ("only", row.only),
        ("losing", row.loses),
    ):
        if value:
            parts.append(f"{text} {value}")
    return ", ".join(parts)


def _read_by(row: Row) -> str:
    """Return what a function reads, or the function where it does not say."""
    return ", ".join(row.reads) or row.py or row.py_back


KINDS_ZH = {
    "exact": "可逆",
    "lossy": "有损",
    "forward": "单向",
    "backward": "仅回写",
    "ignored": "不读取",
}
_ONLY_ZH = {"forward": "单向", "backward": "仅回写"}


def sentence_zh(row: Row) -> str:
    """Say in Chinese what a row does and what it loses."""
    if row.ignore:
        return f"不读取 {row.source}：{reason_zh(row.ignore)}"
    origin = row.source or (f"常量 {row.value!r}" if row.value is not None else _read_by(row))
    parts = [f"{origin} 写入 {row.target or '、'.join(row.writes)}"]
    for text, value in (
        ("由函数 ", row.py),
        ("同时写入 ", "、".join(f"{path} {value!r}" for path, value in row.defaults.items())),
        ("按数据类型 ", row.use),
        ("作为另一资源，映射 ", row.refer),
        ("按编解码 ", row.codec),
        ("经代码表 ", row.table),
        ("条件 ", row.when),
        ("回写条件 ", row.when_fhir),
        ("", _ONLY_ZH.get(row.only, row.only)),
        ("丢失：", row.loses and reason_zh(row.loses)),
    ):
        if value:
            parts.append(f"{text}{value}")
    return "，".join(parts)


def reason_zh(reason: str) -> str:
    """Return a reason (`ignore:`, `loses:`) in Chinese; one that we do not know as it is."""
    known = _reasons_zh()
    if reason in known:
        return known[reason]
    field = re.search(r"\b(?:[A-Z][A-Z0-9]{2}-\d+(?:\.\d+)?|[a-z]+[A-Z]\w+)\b", reason)
    if field is None:
        return reason
    general = known.get(reason.replace(field.group(0), "*", 1))
    return reason if general is None else general.replace("*", field.group(0))


@functools.cache
def _reasons_zh() -> Mapping[str, str]:
    file = default_folder() / "reasons_zh.yaml"
    read: dict[str, str] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return read
