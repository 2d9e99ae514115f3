"""A folder of maps and tables, loaded whole or refused with every fault listed."""

import collections
import importlib.resources
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mappings.engine.backward import Backward
from mappings.engine.forward import Compiler
from mappings.engine.row_checks import Checker
from mappings.engine.row_files import (
    content_hash,
    read_documents,
    read_message_map,
    read_row_map,
)
from mappings.engine.rows import Fault, FaultyMaps, MessageMap, RowMap
from mappings.engine.tables import Table, read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Maps, types, message maps and tables under one content hash."""

    maps: Mapping[str, RowMap]
    messages: Mapping[str, MessageMap]
    tables: Mapping[str, Table]
    classes: Mapping[str, str]
    hash: str

    def message_map(self, event: str) -> MessageMap | None:
        """Return the message map that covers an event such as `ADT^A01`."""
        return self.messages.get(event)

    def compile(self, *, traced: bool = True, watched: bool = False) -> Compiler:
        """Return the closures of all maps."""
        return Compiler(self.maps, self.tables, traced=traced, watched=watched)

    def backward(self) -> Backward:
        """Return the rows on the way back."""
        return Backward(self.maps, self.tables)


def default_folder() -> pathlib.Path:
    """Return the folder of the maps that come with the hub."""
    return pathlib.Path(str(importlib.resources.files("mappings")))


_KEPT_LIBRARIES = 4
_kept: collections.OrderedDict[tuple[str, ...], Library] = collections.OrderedDict()


def load(folder: pathlib.Path | None = None) -> Library:
    """Load `maps/**.yaml` and `tables/*.json` of a folder.

    Files that are as they were when last loaded are not read into rows again: it is the same
    library. Raises `FaultyMaps` with all faults; a library never loads half.
    """
    root = folder or default_folder()
    files = sorted((root / "maps").rglob("*.yaml"))
    table_files = sorted((root / "tables").glob("*.json"))
    key = _key(root, files, table_files)
    if (known := _kept.get(key)) is not None:
        return known
    library = _read(root, files, table_files)
    if _key(root, files, table_files) == key:  # nobody wrote while we read
        _kept[key] = library
        while len(_kept) > _KEPT_LIBRARIES:
            _kept.popitem(last=False)
    return library


def _key(
    root: pathlib.Path, files: Sequence[pathlib.Path], table_files: Sequence[pathlib.Path]
) -> tuple[str, ...]:
    paths = [*files, *table_files]
    return (str(root), *map(str, paths), *(content_hash([path]) for path in paths))


def _read(
    root: pathlib.Path, files: Sequence[pathlib.Path], table_files: Sequence[pathlib.Path]
) -> Library:
    faults: list[Fault] = []
    if not files:
        faults.append(
            Fault(
                file=str(root),
                line=1,
                row="-",
                text="holds no maps",
                fix="Name a folder with maps/*.yaml and tables/*.json in it.",
            )
        )
    maps: dict[str, RowMap] = {}
    parts: dict[str, MessageMap] = {}
    for file in files:
        if any(part.endswith(".cases") for part in file.parts):
            continue
        for document in read_documents(file, faults):
            name = file.relative_to(root).as_posix()
            if "message" in document:
                message = read_message_map(document, name, faults)
                parts[message.name] = message
            elif "map" in document or "type" in document:
                row_map = read_row_map(document, name, faults)
                maps[row_map.name] = row_map
    tables = {file.stem: read_table(file) for file in table_files}
    checker = Checker(maps, tables, faults)
    for row_map in maps.values():
        checker.check(row_map)
    messages: dict[str, MessageMap] = {}
    # A part may refer to what only some of the maps that include it make.
    ids = {making.id for message in parts.values() for making in message.makes}
    for message in parts.values():
        missing = [name for name in message.includes if name not in parts]
        if missing:
            checker.no_such_message(message, missing)
            continue
        whole = message.with_parts(parts)
        if message.events:
            checker.check_message(whole, ids)
        messages.update(dict.fromkeys(message.events, whole))
    if faults:
        # A part is checked with each that includes it.
        raise FaultyMaps(list(dict.fromkeys(faults)))
    return Library(
        maps=maps,
        messages=messages,
        tables=tables,
        classes=checker.classes,
        hash=content_hash([*files, *table_files]),
    )
