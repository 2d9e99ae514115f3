"""A registry's list of institutions (机构名录) with their doctors, by a flat map into the store.

Each record finds by its identifiers what is stored, or makes it: a repeated list changes nothing, a
newer one brings up to date what it names and leaves the rest. The list goes in whole or not at all.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance.problem import Issue, Problem
from conformance.structure import require_valid
from fhir_store.operations import Create, Operation, Origin, Update, WriteContext
from fhir_store.store import Store
from mappings.document_bundles import document_bundle
from mappings.engine.context import Sender
from mappings.engine.library import Library
from mappings.flat import FlatDocuments
from mappings.translated import (
    DERIVED_KEY,
    Match,
    TranslatedMessage,
    TranslatedResource,
    key_of,
)
from ops.record_desk import Desk

Row = Mapping[str, str]
Pair = tuple[str, str]
Tables = Mapping[str, Sequence[Row]]
_AT_ONCE = 500  # operations of one statement of the write door


class RefusedList(Exception):
    """Why a list does not go in: the row of the main table (1 is its headings) and the issue."""

    def __init__(self, faults: Sequence[tuple[int, Issue]]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = list(faults)


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of a list: resources made and changed by type, and what was left out of rows."""

    records: int = 0
    made: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    notes: list[tuple[int, Issue]] = field(default_factory=list)


def read_list(
    library: Library, headings: Sequence[str], tables: Tables
) -> tuple[list[TranslatedMessage], Report]:
    """Return the resources of each record; `tables` names the main one "".

    Raises InvalidContent where no map knows the headings, InvalidStructure for a child without its
    parent, and RefusedList with every other fault.
    """
    flat = FlatDocuments(library)
    name = flat.name_of(headings)
    row_map = library.maps[name]
    main = str(row_map.document["main"])
    whole = {**tables, main: tables[""]}
    next(flat.read(name, whole), None)  # a child without its parent is no matter of one record
    report = Report()
    messages: list[TranslatedMessage] = []
    key = str(row_map.document["key"])
    faults = _twice(whole[main], key)
    children = _by_parent(row_map.document.get("children", {}), tables)
    for number, row in enumerate(whole[main], 2):
        faults += [(number, one) for one in _lacking(row, row_map.require)]
        own = {child: rows.get(row.get(key, ""), []) for child, rows in children.items()}
        try:
            message = _message(library, flat, name, {main: [row], **own})
        except Problem as problem:
            faults += [(number, issue) for issue in problem.issues]
            continue
        report.notes += [(number, note) for note in message.notes]
        messages.append(message)
    if faults:
        raise RefusedList(sorted(faults, key=lambda fault: fault[0]))
    report.records = len(messages)
    return messages, report


async def write_list(
    store: Store,
    messages: Sequence[TranslatedMessage],
    report: Report,
    context: WriteContext,
    *,
    is_dry: bool = False,
) -> None:
    """Write all records in one commit, or only count what they would change."""
    async with store.begin() as transaction:
        desk = await Desk.prepare(transaction, messages)
        origin = Origin(trace_id=context.trace_id, source=context.source)
        operations = [one for each in messages for one in desk.operations_of(each, origin)]
        made = _keys(operations, Create)
        changed = _keys(operations, Update) - made
        report.made.update(type_ for type_, _ in made)
        report.changed.update(type_ for type_, _ in changed)
        if is_dry:
            return
        for first in range(0, len(operations), _AT_ONCE):
            await transaction.apply(operations[first : first + _AT_ONCE], context=context)


def _by_parent(columns: Mapping[str, str], tables: Tables) -> dict[str, dict[str, list[Row]]]:
    """Return the rows of each child table by the key of the main row that they name."""
    found: dict[str, dict[str, list[Row]]] = {}
    for child, column in columns.items():
        by_key = found.setdefault(child, {})
        for one in tables.get(child, ()):
            by_key.setdefault(one.get(column, ""), []).append(one)
    return found


def _message(library: Library, flat: FlatDocuments, name: str, tables: Tables) -> TranslatedMessage:
    (read,) = flat.read(name, tables)
    entries = document_bundle(library.maps[name], read)["entry"]
    identities = {
        str(entry["fullUrl"]): _pairs(entry["resource"])
        for entry in entries
        if entry["resource"]["resourceType"] != "PractitionerRole"
    }
    resources = [_resource(entry, identities) for entry in entries]
    for one in resources:
        require_valid(one.resource)
    return TranslatedMessage(
        event=name,
        control_id="",
        order_keys=(),
        resources=tuple(resources),
        notes=read.notes,
        map_name=name,
        map_hash=read.map_hash,
    )


def _resource(
    entry: Mapping[str, Any], identities: Mapping[str, tuple[Pair, ...]]
) -> TranslatedResource:
    resource = dict(entry["resource"])
    pairs = _pairs(resource)
    if resource["resourceType"] == "PractitionerRole":
        # A role is the one of a person at an institution: neither's number is its own.
        held = [resource.get(name, {}).get("reference", "") for name in _OF_A_ROLE]
        parts = [text for one in held for pair in identities.get(one, ()) for text in pair]
        own = (f"{Sender().namespace}/{DERIVED_KEY}", key_of("PractitionerRole", *parts))
        derived = {"system": own[0], "value": own[1]}
        resource["identifier"] = [*resource.get("identifier", ()), derived]
        pairs = (own,)
    return TranslatedResource(
        key=str(entry["fullUrl"]).removeprefix("urn:uuid:"),
        resource=resource,
        identity=pairs,
        match=Match.MERGE,
    )


_OF_A_ROLE = ("organization", "practitioner")


def _pairs(resource: Mapping[str, Any]) -> tuple[Pair, ...]:
    return tuple(
        (one["system"], one["value"])
        for one in resource.get("identifier", ())
        if one.get("system") and one.get("value")
    )


def _lacking(row: Row, required: Sequence[str]) -> list[Issue]:
    return [
        Issue(
            code="required",
            key="list-required",
            text_en=f"{column} is empty",
            text_zh=f"“{column}”为空",
            fix_en="Fill it in.",
            fix_zh="请填写。",
            expression=column,
        )
        for column in required
        if not row.get(column)
    ]


def _twice(rows: Sequence[Row], key: str) -> list[tuple[int, Issue]]:
    issue = Issue(
        code="duplicate",
        key="list-twice",
        text_en=f"{key} stands in an earlier row",
        text_zh=f"“{key}”与前面的行重复",
        fix_en="Keep one of the rows.",
        fix_zh="请保留其中一行。",
        expression=key,
    )
    seen = set[str]()
    found: list[tuple[int, Issue]] = []
    for number, row in enumerate(rows, 2):
        value = row.get(key, "")
        if value and value in seen:
            found.append((number, issue))
        seen.add(value)
    return found


def _keys(operations: Sequence[Operation], kind: type[Create] | type[Update]) -> set[Pair]:
    return {
        (str(one.resource["resourceType"]), str(one.resource["id"]))
        for one in operations
        if isinstance(one, kind)
    }
