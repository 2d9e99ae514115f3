"""The hub's operations and what each is given: one list for the definitions and for the refusals.

`sources/operations.yaml` says how a row is written.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.cphc import BASE, VERSION
from conformance.cphc.code_systems import sources
from conformance.yaml_text import read_yaml

_CARDINALITIES = {"": (0, "1"), "!": (1, "1"), "*": (0, "*"), "+": (1, "*")}
_LEVELS = {
    "system": ("system",),
    "type": ("type",),
    "instance": ("instance",),
    "both": ("type", "instance"),
}
Given = Mapping[str, "Parameter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What an operation is given under a name: its type or parts, and how often."""

    name: str
    type: str = ""
    parts: Given | None = None
    least: int = 0
    most: str = "1"

    @property
    def is_single(self) -> bool:
        """Say whether it may be given only once."""
        return self.most == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRow:
    """One row of the list; `given` is None where the parameters are not listed.

    `only_at` names parameters that count at one level alone.
    """

    code: str
    types: tuple[str, ...]
    levels: tuple[str, ...]
    affects_state: bool
    chinese: str
    english: str
    definition: str
    is_ours: bool
    given: Given | None
    only_at: Mapping[str, frozenset[str]]

    def given_at(self, level: str) -> Given | None:
        """Return the parameters that count at a level."""
        if self.given is None:
            return None
        others = [names for at, names in self.only_at.items() if at != level]
        hidden = frozenset().union(*others)
        return {name: one for name, one in self.given.items() if name not in hidden}


@functools.cache
def operation_rows() -> tuple[OperationRow, ...]:
    """Return the list."""
    return tuple(map(_row, read_yaml((sources() / "operations.yaml").read_text("utf-8"))))


@functools.cache
def operation_row(type_: str, code: str) -> OperationRow | None:
    """Return the row of an operation at a type, or at the system where `type_` is empty."""
    for row in operation_rows():
        if row.code == code and (type_ in row.types if type_ else not row.types):
            return row
    return None


def definition_of(type_: str, code: str) -> str:
    """Return the canonical address of the definition; KeyError where the list lacks it."""
    row = operation_row(type_, code)
    if row is None:
        raise KeyError(f"{type_}/${code} is not in operations.yaml")
    return row.definition


def operation_definitions() -> Iterator[dict[str, Any]]:
    """Yield the definitions of the hub's own operations."""
    for row in operation_rows():
        if row.is_ours:
            yield _definition(row)


def _row(source: Mapping[str, Any]) -> OperationRow:
    code, types, level, affects, chinese, english = source["is"]
    given = source.get("in")
    return OperationRow(
        code=code,
        types=tuple(types),
        levels=_LEVELS[level],
        affects_state=affects,
        chinese=chinese,
        english=english,
        definition=source.get("of") or f"{BASE}/OperationDefinition/{'-'.join([*types, code])}",
        is_ours="of" not in source,
        given=None if given is None else _given(given),
        only_at={at: frozenset(names) for at, names in source.get("at", {}).items()},
    )


def _given(source: Mapping[str, Any]) -> Given:
    return {name: _parameter(name, written) for name, written in source.items()}


def _parameter(name: str, written: Any) -> Parameter:
    if isinstance(written, str):
        mark = written[-1] if written[-1] in _CARDINALITIES else ""
        least, most = _CARDINALITIES[mark]
        return Parameter(name=name, type=written.removesuffix(mark), least=least, most=most)
    mark, parts = written
    least, most = _CARDINALITIES[mark]
    return Parameter(name=name, parts=_given(parts), least=least, most=most)


def _definition(row: OperationRow) -> dict[str, Any]:
    id_ = row.definition.rpartition("/")[2]
    resource: dict[str, Any] = {
        "resourceType": "OperationDefinition",
        "id": id_,
        "url": row.definition,
        "version": VERSION,
        "name": "".join(part[:1].upper() + part[1:] for part in id_.split("-")),
        "title": f"{row.chinese} ({row.english})",
        "status": "active",
        "kind": "operation",
        "affectsState": row.affects_state,
        "code": row.code,
        "system": "system" in row.levels,
        "type": "type" in row.levels,
        "instance": "instance" in row.levels,
    }
    if row.types:
        resource["resource"] = list(row.types)
    if row.given:
        resource["parameter"] = [_defined(one, row) for one in row.given.values()]
    return resource


def _defined(one: Parameter, row: OperationRow | None = None) -> dict[str, Any]:
    levels = [at for at, names in row.only_at.items() if one.name in names] if row else []
    found: dict[str, Any] = {
        "name": one.name,
        "use": "in",
        # What counts at one level cannot be asked for at the other.
        "min": 0 if levels else one.least,
        "max": one.most,
    }
    if levels:
        found["documentation"] = f"Only at the {levels[0]}."
    if one.parts is None:
        found["type"] = one.type
    else:
        found["part"] = [_defined(part) for part in one.parts.values()]
    return found
