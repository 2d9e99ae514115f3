"""What maps are checked for when they load: every row gets its class, or a fault with its fix."""

import importlib
from collections.abc import Mapping

from mappings.engine.backward import UnreadableFilter, parse_filter
from mappings.engine.codecs import CODECS
from mappings.engine.conditions import UnreadableCondition, compile_condition
from mappings.engine.element_paths import fault_of, type_made_by
from mappings.engine.rows import Fault, MessageMap, Row, RowMap
from mappings.engine.scopes import UnreadableSource, parse_source
from mappings.engine.tables import Table
from mappings.engine.targets import UnreadablePath, parse_target
from mappings.engine.tree import UnreadableTreePath, parse_tree_path
from mappings.engine.tree_maps import texts_at

EXACT, LOSSY, FORWARD, BACKWARD, IGNORED = "exact", "lossy", "forward", "backward", "ignored"
_POLICIES = ("hold", "pass", "drop")


class Checker:
    """Classifies every row and refuses what is neither exact, declared lossy nor one-way."""

    def __init__(
        self, maps: Mapping[str, RowMap], tables: Mapping[str, Table], faults: list[Fault]
    ) -> None:
        self._maps = maps
        self._tables = tables
        self._faults = faults
        self.classes: dict[str, str] = {}
        self._open: set[str] = set()

    def check(self, row_map: RowMap) -> None:
        """Check one map and note the class of each of its rows."""
        if row_map.kind == "map" and not row_map.to and not row_map.document:
            self._fault(row_map, None, "says no resource type", "Add `to: Patient` or another.")
        for row in row_map.rows:
            self._check_row(row_map, row)
            self.classes[f"{row_map.name}/{row.id}"] = self._class(row_map, row)
        for path in (*row_map.identity, *row_map.key):
            self._check_target(row_map, None, path)
        for condition in row_map.require_when:
            self._check_tree_condition(row_map, None, condition)

    def no_such_message(self, message: MessageMap, missing: list[str]) -> None:
        """Report what a message map includes and nobody wrote."""
        self._faults.append(
            Fault(
                file=message.file,
                line=1,
                row=message.name,
                text=f"includes {', '.join(missing)}, which no file defines",
                fix="Correct the name or add the message map.",
            )
        )

    def check_message(self, message: MessageMap, ids: set[str]) -> None:
        """Check that a message map names maps and groups that exist."""
        names = {group.name for group in message.groups} | {""}
        for group in message.groups:
            for outer in set(group.within) - names:
                self._faults.append(
                    Fault(
                        file=message.file,
                        line=1,
                        row=group.name,
                        text=f"stands in the unknown group {outer!r}",
                        fix=f"Use one of {', '.join(sorted(names - {''}))}.",
                    )
                )
        for making in message.makes:
            missing = []
            if making.map not in self._maps:
                missing.append(f"the map {making.map!r}")
            if making.within not in names:
                missing.append(f"the group {making.within!r}")
            missing.extend(
                f"the resource {name!r}"
                for name in (*making.links.values(), *making.into)
                if name not in ids
            )
            missing.extend(
                f"the map {into.element!r}"
                for into in making.into.values()
                if into.element and into.element not in self._maps
            )
            for what in missing:
                self._faults.append(
                    Fault(
                        file=message.file,
                        line=making.line,
                        row=making.id,
                        text=f"names {what}, which does not exist",
                        fix="Correct the name or add what it names.",
                    )
                )
        self._check_effects(message, names, ids)

    def _check_effects(self, message: MessageMap, groups: set[str], ids: set[str]) -> None:
        """Check what a message map says of records that belong together and of what is undone."""
        wrong = [
            f"names {rule.get(key, '')!r} as {key!r}, which does not exist"
            for rules, keys in (
                (message.merges, ("surviving", "prior")),
                (message.relations, ("each",)),
            )
            for rule in rules
            for key in ("in", *keys)
            if rule.get(key, "") not in (groups if key == "in" else ids)
        ]
        wrong += [
            f"says {rule.get('are')!r} of a relation"
            for rule in message.relations
            if rule.get("are") not in ("linked", "unlinked")
        ]
        wrong += ["says of something undone no `en` or no `zh`"] * any(
            not (undone.text_en and undone.text_zh) for undone in message.undone
        )
        self._faults.extend(
            Fault(
                file=message.file,
                line=1,
                row=message.name,
                text=text,
                fix="Name a group and lines of `makes`; `are: linked` or `unlinked`; both texts.",
            )
            for text in wrong
        )

    def _fault(self, row_map: RowMap, row: Row | None, text: str, fix: str) -> None:
        self._faults.append(
            Fault(
                file=row_map.file,
                line=row.line if row else row_map.line,
                row=row.id if row else row_map.name,
                text=text,
                fix=fix,
            )
        )

    def _check_row(self, row_map: RowMap, row: Row) -> None:
        is_type = row_map.reads_parts
        if row.ignore:
            if not row.source:
                self._fault(row_map, row, "ignores nothing", "Name the field in `v2:`.")
            return
        if row.py:
            self._check_python(row_map, row)
            return
        if not row.target:
            self._fault(row_map, row, "has no `fhir:`", "Name the target, or `ignore:` the field.")
        else:
            self._check_target(row_map, row, row.target)
        if row_map.source_kind != "v2" and row.source:
            self._check_tree_path(row_map, row)
        if row.when_fhir:
            self._check_filter(row_map, row)
        if not row.source and row.value is None:
            self._fault(
                row_map, row, "has no source", "Name the field in `v2:` or give a `value:`."
            )
        if row.source and row_map.source_kind == "v2":
            self._check_source(row_map, row, row.source, is_type=is_type)
        if row.when and row_map.source_kind == "v2":
            self._check_condition(row_map, row)
        elif row.when:
            self._check_tree_condition(row_map, row, row.when)
        self._check_names(row_map, row)

    def _check_names(self, row_map: RowMap, row: Row) -> None:
        for name in (row.use, row.refer, *row_map.includes):
            if name and name not in self._maps:
                self._fault(
                    row_map,
                    row,
                    f"uses {name!r}, which no file defines",
                    "Correct the name, or add the type or map.",
                )
        if row.codec and row.codec not in CODECS:
            self._fault(
                row_map,
                row,
                f"names the unknown codec {row.codec!r}",
                f"Use one of {', '.join(sorted(CODECS))}.",
            )
        if row.table and row.table not in self._tables:
            self._fault(
                row_map,
                row,
                f"names the unknown table {row.table!r}",
                "Add the ConceptMap to tables/ or correct the name.",
            )
        if row.unknown not in _POLICIES and not row.unknown.startswith("default:"):
            self._fault(
                row_map,
                row,
                f"has the policy unknown: {row.unknown!r}",
                "Use hold, pass, drop or default:<code>.",
            )
        if row.only not in {"", "forward", "backward"}:
            self._fault(
                row_map, row, f"has only: {row.only!r}", "Use only: forward or only: backward."
            )

    def _check_python(self, row_map: RowMap, row: Row) -> None:
        if not row.reads or not row.writes:
            self._fault(
                row_map,
                row,
                "calls Python without saying what it reads and writes",
                "Add `reads:` and `writes:`, so that trace and coverage stay true.",
            )
        if not row.only and not row.py_back:
            self._fault(
                row_map,
                row,
                "calls Python both ways",
                "Say `only: forward` (or backward), or name the function back in `py_back:`.",
            )
        for path in (row.py, row.py_back):
            if path and not _is_function(path):
                self._fault(
                    row_map,
                    row,
                    f"calls {path!r}, which does not exist",
                    "Correct the dotted name of the function.",
                )

    def _check_source(self, row_map: RowMap, row: Row, path: str, *, is_type: bool) -> None:
        try:
            parse_source(path, is_type=is_type)
        except UnreadableSource as error:
            self._fault(row_map, row, str(error), "Write the path as the guide does.")

    def _check_tree_path(self, row_map: RowMap, row: Row) -> None:
        try:
            parse_tree_path(row.source)
        except UnreadableTreePath as error:
            self._fault(row_map, row, str(error), "Write the path as A/B[*]/@c.")

    def _check_filter(self, row_map: RowMap, row: Row) -> None:
        try:
            parse_filter(row.when_fhir)
        except (UnreadableFilter, UnreadablePath) as error:
            self._fault(
                row_map,
                row,
                f"its when_fhir {error}",
                "Write path = 'value', path != 'value', path exists or path missing.",
            )

    def _check_target(self, row_map: RowMap, row: Row | None, path: str) -> None:
        try:
            steps = parse_target(path)
        except UnreadablePath as error:
            self._fault(row_map, row, str(error), "Write the path as in FHIRPath.")
            return
        type_ = type_made_by(row_map.to, row_map.name)
        # The paths of an identity also name what is no element, such as the sender's facility.
        if row is not None and type_ and (wrong := fault_of(type_, steps)) is not None:
            self._fault(row_map, row, *wrong)

    def _check_tree_condition(self, row_map: RowMap, row: Row | None, condition: str) -> None:
        try:
            compile_condition(condition, texts_at)
        except (UnreadableCondition, UnreadableTreePath) as error:
            self._fault(
                row_map,
                row,
                f"its condition {error}",
                "Use VALUED, EQUALS, IN, COUNT, LENGTH, READS AS, AND, OR, NOT.",
            )

    def _check_condition(self, row_map: RowMap, row: Row) -> None:
        is_type = row_map.reads_parts
        paths: list[str] = []

        def collect(path: str) -> object:
            paths.append(path)
            return lambda _scope: []

        try:
            compile_condition(row.when, collect)  # type: ignore[arg-type]
        except UnreadableCondition as error:
            self._fault(
                row_map,
                row,
                f"its condition {error}",
                "Use VALUED, EQUALS, IN, COUNT, LENGTH, READS AS, AND, OR, NOT.",
            )
        for path in paths:
            self._check_source(row_map, row, path, is_type=is_type)

    # -- classification ------------------------------------------------------------------------

    def _class(self, row_map: RowMap, row: Row) -> str:
        if row.ignore:
            return IGNORED
        if row.only:
            return FORWARD if row.only == "forward" else BACKWARD
        if row.value is not None:
            self._fault(
                row_map,
                row,
                "writes a constant and says no direction",
                "Say `only: forward`; the way back has nothing to read.",
            )
            return FORWARD
        if row.table and row.table in self._tables:
            return self._class_of_table(row_map, row, self._tables[row.table])
        if row.use and row.use in self._maps:
            return self._class_of_type(row.use)
        if row.py:
            return LOSSY
        if row.refer and row.refer in self._maps:
            return self._class_of_type(row.refer)
        if row.loses:
            return LOSSY
        codec = CODECS.get(row.codec or "text")
        return EXACT if codec is None or codec.name == "text" or codec.is_exact else LOSSY

    def _class_of_table(self, row_map: RowMap, row: Row, table: Table) -> str:
        missing = sorted(table.collapsed - set(row.back))
        if missing and not row.loses:
            self._fault(
                row_map,
                row,
                f"goes through table {table.name}, where several codes become {', '.join(missing)}",
                "Say in `back:` which code each of them goes back to, or `only: forward`.",
            )
        # A coded element goes back as its code alone; its texts are the table's.
        is_lossy = bool(table.collapsed or row.use) or row.unknown.startswith("default:")
        return LOSSY if is_lossy else EXACT

    def _class_of_type(self, name: str) -> str:
        if name in self._open:
            return EXACT
        self._open.add(name)
        row_map = self._maps[name]
        classes = [
            self._class_of_type(row.use or row.refer)
            if (row.use or row.refer) in self._maps
            else self._quiet(row_map, row)
            for row in row_map.rows
            if not row.ignore
        ]
        self._open.discard(name)
        return EXACT if all(kind == EXACT for kind in classes) else LOSSY

    def _quiet(self, row_map: RowMap, row: Row) -> str:
        """Return a row's class without reporting its faults twice."""
        faults, self._faults = self._faults, []
        kind = self._class(row_map, row)
        self._faults = faults
        return kind


def _is_function(path: str) -> bool:
    module, _, name = path.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name)
    except (ImportError, ValueError):
        return False
