"""Golden cases: a folder with `in.hl7`, `out.fhir.json`, `back.hl7` and `why.md`.

A case of a partner's document has `in.xml` and `back.xml` instead, one of tables what
`mappings.flat_cases` says.
"""

import itertools
import json
import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conformance import resource_json
from conformance.problem import InvalidContent, Issue
from mappings.bundles import differences, to_bundle
from mappings.channels.loader import load_channels
from mappings.channels.profile import ChannelProfile
from mappings.document_cases import DocumentCases, is_document
from mappings.engine.library import Library, default_folder
from mappings.flat_cases import FlatCases, ReadTables, is_flat
from mappings.hl7.message import parse
from mappings.put_back import PutBack
from mappings.translate import Translator
from mappings.translated import TranslatedMessage, Unmapped

_NAME_END = re.compile(r"[.\[:]")
_BEGINNINGS = frozenset({"in.hl7", "in.xml", "in.csv", "in.xlsx"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value that is not as the case says, with the row that wrote it where one did."""

    path: str
    expected: str | None
    found: str | None
    row: str


def case_folders(root: pathlib.Path | None = None) -> Iterator[pathlib.Path]:
    """Yield every folder below `*.cases` that holds what a case begins with."""
    for file in sorted((root or default_folder() / "maps").rglob("in.*")):
        if file.name in _BEGINNINGS:
            yield file.parent


class Cases:
    """Runs cases with one library; `tables` reads those of a case about tables."""

    def __init__(self, library: Library, tables: ReadTables | None = None) -> None:
        self._maps = library.maps
        self._translator = Translator(library)
        self._put_back = PutBack(library)
        self._documents = DocumentCases(library)
        self._flat = FlatCases(library, tables) if tables else None

    def out(self, folder: pathlib.Path) -> tuple[Any, dict[str, str]]:
        """Return what the case's input becomes now, as plain JSON, and the row of each path."""
        if self._flat and is_flat(folder):
            return self._flat.out(folder)
        if is_document(folder):
            return self._documents.out((folder / "in.xml").read_bytes())
        result = self._translator.translate((folder / "in.hl7").read_bytes(), _channel(folder))
        if isinstance(result, Unmapped):
            return {"unmapped": result.event}, {}
        data = resource_json.dump(to_bundle(result))
        return json.loads(data, parse_float=str), _rows_by_path(result)

    def check(self, folder: pathlib.Path) -> list[Difference]:
        """Return how the case differs from what it says; empty where it holds."""
        found, rows = self.out(folder)
        expected = _expected(folder / "out.fhir.json")
        differing = [
            Difference(
                path=path, expected=was, found=now, row=rows.get(path) or self._silent(path, rows)
            )
            for path, was, now in differences(expected, found)
        ]
        for name, text in self.back(folder).items():
            back = folder / name
            if back.exists() and text != (wanted := back.read_bytes().decode()):
                line, was, now = _first_difference(wanted, text)
                differing.append(
                    Difference(path=f"{name}:{line}", expected=was, found=now, row="-")
                )
        return differing

    def _silent(self, path: str, rows: dict[str, str]) -> str:
        """Name the rows that write an element which nothing wrote; `-` where there is none."""
        entry, _, element = path.partition(".resource.")
        names = {row.partition("/")[0] for at, row in rows.items() if at.startswith(f"{entry}.")}
        found = [
            f"{name}/{row.id}"
            for name in sorted(names & self._maps.keys())
            for row in self._maps[name].rows
            if element and _NAME_END.split(row.target)[0] == _NAME_END.split(element)[0]
        ]
        return f"{' or '.join(found)}, which wrote nothing" if found else "-"

    def back(self, folder: pathlib.Path) -> dict[str, str]:
        """Return what the case's resources alone make, by file name.

        Of a message its segments, one a line; of a document the document; of tables each of them.
        """
        if self._flat and is_flat(folder):
            return self._flat.back(folder)
        if is_document(folder):
            return {"back.xml": self._documents.back((folder / "in.xml").read_bytes())}
        return {"back.hl7": self._segments(folder)}

    def _segments(self, folder: pathlib.Path) -> str:
        channel = _channel(folder)
        message = parse((folder / "in.hl7").read_bytes(), channel.charset)
        result = self._translator.translate(message, channel)
        if isinstance(result, Unmapped):
            return ""
        lines = []
        for place, fields in self._put_back.rebuild(
            result.resources, channel.sender, message.separators
        ):
            name = place[:3]
            numbers = {number: raw for (_, number), raw in fields.items()}
            texts = [numbers.get(number, "") for number in range(1, max(numbers) + 1)]
            lines.append(message.separators.field.join([name, *texts]))
        return "\n".join(lines) + "\n"

    def accept(self, folder: pathlib.Path) -> None:
        """Write what the case's message becomes now as what it shall become."""
        found, _ = self.out(folder)
        text = json.dumps(found, ensure_ascii=False, indent=1)
        (folder / "out.fhir.json").write_text(text + "\n", encoding="utf-8")
        for name, text in self.back(folder).items():
            (folder / name).write_text(text, encoding="utf-8", newline="")


def _first_difference(wanted: str, found: str) -> tuple[int, str, str]:
    """Return the first line that differs, from 1, as it shall be and as it is; "" beyond an end."""
    pairs = itertools.zip_longest(wanted.split("\n"), found.split("\n"), fillvalue="")
    for number, (was, now) in enumerate(pairs, 1):
        if was != now:
            return number, was.rstrip("\r"), now.rstrip("\r")
    return 1, wanted, found


def _expected(file: pathlib.Path) -> Any:
    """Return what a case shall become; raises InvalidContent where it does not say so."""
    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_float=str)
    except (FileNotFoundError, ValueError) as error:
        what = (
            ("does not exist", "不存在")
            if isinstance(error, OSError)
            else ("is no JSON", "不是 JSON")
        )
        raise InvalidContent(
            Issue(
                key="case-expected",
                text_en=f"{file.name} {what[0]}",
                text_zh=f"{file.name} {what[1]}",
                fix_en="Write it with `qiao map accept CASE` and read it before you commit it.",
                fix_zh="请用 qiao map accept 写出该文件，并在提交前核对。",
            )
        ) from None


def _channel(folder: pathlib.Path) -> ChannelProfile:
    """Return the case's own `channel.yaml`, else the default channel."""
    if (folder / "channel.yaml").exists():
        return next(iter(load_channels(folder).values()))
    return ChannelProfile()


def _rows_by_path(result: TranslatedMessage) -> dict[str, str]:
    rows: dict[str, str] = {}
    for number, one in enumerate(result.resources):
        for target, _, row in one.trace:
            path = target.partition(".")[2]
            rows[f"entry[{number}].resource.{path}"] = f"{one.map_name}/{row}"
    return rows
