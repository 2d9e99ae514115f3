"""Custom SearchParameter resources: registered behind the writes, built in the background.

A stored SearchParameter becomes one row of `sparam` for each of its base types. Every process
reads the rows every few seconds and from then on indexes what it writes; `SETTLE` later, when all
know it, the builder walks the older resources and adds their rows. Until it is through, the
parameter is `building` and searches on it say how far it is.
"""

from array import array
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import orjson
from psycopg import AsyncConnection

from conformance import search_paths
from conformance.search_parameters import (
    FIRST_CUSTOM,
    SearchParameter,
    custom_parameter,
    parameters_of,
    resource_types,
    type_number,
)
from fhir_store.index_rows import IndexRows, rows_of
from fhir_store.keys import resource_key

Connection = AsyncConnection[Any]
SETTLE = 10.0  # seconds until every process has read a new row of sparam
BATCH = 200
_TYPES = {"number", "date", "string", "token", "reference", "quantity", "uri"}
_ROOM = 4096

# parameters: what is known, with its state
_KNOWN = b"""
SELECT pid, tid, code, type, expr, url, targets, state, built_rid, until_rid
  FROM sparam WHERE state IN ('building', 'active', 'refused') ORDER BY pid"""
# take_turn: one process registers or builds at a time
_TAKE_TURN = b"""
SELECT txid, rid FROM search_progress WHERE name = 'parameters' FOR UPDATE SKIP LOCKED"""
_WRITTEN = b"""
SELECT rid, txid, fid, del, body FROM resource
 WHERE tid = %(tid)s AND (txid, rid) > (%(after)s, %(rid)s) AND txid < change_horizon()
 ORDER BY txid, rid LIMIT 100"""
_NOTE = b"UPDATE search_progress SET txid = %(txid)s, rid = %(rid)s WHERE name = 'parameters'"
_RETIRE = b"""
UPDATE sparam SET state = 'retired'
 WHERE generation = %(key)s AND state IN ('building', 'active', 'refused')
RETURNING tid, code"""
# waiting: those whose code another one had
_WAITING = b"""
SELECT pid, type, expr FROM sparam
 WHERE tid = %(tid)s AND code = %(code)s AND state = 'refused' ORDER BY pid"""
_REVIVE = b"UPDATE sparam SET state = 'building', begun_at = now() WHERE pid = %(pid)s"
_REGISTER = b"""
INSERT INTO sparam (pid, tid, code, type, expr, state, generation, url, targets)
SELECT %(base)s + greatest(%(first)s, coalesce(max(pid) - %(base)s + 1, 0)), %(tid)s, %(code)s,
       %(type)s, %(expr)s, %(state)s, %(key)s, %(url)s, %(targets)s::text[]
  FROM sparam WHERE tid = %(tid)s
HAVING greatest(%(first)s, coalesce(max(pid) - %(base)s + 1, 0)) < %(room)s"""
_TAKEN = b"""
SELECT 1 FROM sparam
 WHERE tid = %(tid)s AND code = %(code)s AND state IN ('building', 'active')"""
# to_build: the oldest parameter that every process knows by now
_TO_BUILD = b"""
SELECT pid, tid, code, type, expr, url, targets, built_rid, until_rid FROM sparam
 WHERE state = 'building' AND begun_at < now() - %(settle)s * interval '1 second'
 ORDER BY pid LIMIT 1"""
_UNTIL = b"SELECT coalesce(max(rid), 0) FROM resource WHERE tid = %(tid)s AND NOT del"
# older: resources to be indexed, kept from other writers until their rows are there
_OLDER = b"""
SELECT rid, body, pset FROM resource
 WHERE tid = %(tid)s AND NOT del AND rid > %(after)s AND rid <= %(until)s
 ORDER BY rid LIMIT %(limit)s FOR NO KEY UPDATE"""
_BUILT = b"""
UPDATE sparam SET built_rid = %(built)s, until_rid = %(until)s, state = %(state)s
 WHERE pid = %(pid)s"""
_PRESENT = b"""
UPDATE resource SET pset = pset || %(ordinal)s::int2
 WHERE rid = %(rid)s AND NOT pset @> ARRAY[%(ordinal)s::int2]"""
_ADD = {
    "ix_token": ("h", "sid"),
    "ix_ref": ("tgt", "pid"),
    "ix_date": ("h", "lo", "hi"),
    "ix_num": ("h", "lo", "hi"),
    "ix_str": ("h", "v", "x"),
}
_ADD_GRAMS = b"INSERT INTO ix_gram (rid, g) VALUES (%(rid)s, %(grams)s)"
_DICTIONARY = b"""
INSERT INTO code_dict (pid, sid, code, display) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a custom parameter is: `percent` 100 when active."""

    parameter: SearchParameter
    percent: int


class CustomParameters:
    """The custom parameters a process knows; `refresh` keeps them current.

    `lookup` also gives those that are stored and cannot be searched, with their `fault`.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._states: tuple[State, ...] = ()
        self._by_type: Mapping[str, Mapping[str, SearchParameter]] = {}
        self._custom: Mapping[str, tuple[SearchParameter, ...]] = {}

    def lookup(self, type_: str) -> Mapping[str, SearchParameter]:
        """Return code → parameter of a type, custom ones included."""
        return self._by_type.get(type_) or parameters_of(type_)

    def index(self, resource: Mapping[str, Any]) -> IndexRows:
        """Return the index rows of a resource, custom parameters included."""
        return rows_of(resource, custom=self._custom.get(str(resource.get("resourceType")), ()))

    def states(self) -> tuple[State, ...]:
        """Return all custom parameters and how far they are."""
        return self._states

    async def refresh(self, connection: Connection) -> None:
        """Read the registered parameters."""
        rows = await (await connection.execute(_KNOWN)).fetchall()
        if rows == self._rows:
            return
        custom: dict[str, list[SearchParameter]] = {}
        known: dict[str, dict[str, SearchParameter]] = {}
        for one in (_refused(row) for row in rows if row[7] == "refused"):
            known.setdefault(one.base, {})[one.code] = one
        states = tuple(_state(row) for row in rows if row[7] != "refused")
        for state in states:
            one = state.parameter
            custom.setdefault(one.base, []).append(one)
            known.setdefault(one.base, {})[one.code] = one
        self._custom = {type_: tuple(found) for type_, found in custom.items()}
        self._by_type = {type_: {**found, **parameters_of(type_)} for type_, found in known.items()}
        self._states, self._rows = states, rows


def _state(row: tuple[Any, ...]) -> State:
    *facts, state, built, until = row
    percent = 100 if state == "active" else min(99, built * 100 // until if until else 0)
    return State(parameter=_parameter(tuple(facts)), percent=percent)


def _refused(row: tuple[Any, ...]) -> SearchParameter:
    """Return one that cannot be searched; "code" where another SearchParameter has its code."""
    _, tid, code, kind, expression, url, *_ = row
    type_ = resource_types()[tid - 1]
    fault = fault_of(type_, {"code": code, "type": kind, "expression": expression}) or "code"
    named = {"code": code, "type": kind, "url": url or ""}
    return replace(custom_parameter(type_, named, 0), fault=fault)


def _parameter(facts: tuple[Any, ...]) -> SearchParameter:
    pid, tid, code, kind, expression, url, targets = facts
    resource = {"code": code, "type": kind, "url": url or "", "expression": expression}
    if targets:
        resource["target"] = list(targets)
    return custom_parameter(resource_types()[tid - 1], resource, pid % _ROOM)


async def register_written(connection: Connection) -> int:
    """Register SearchParameter resources written since the last call; returns how many were read.

    One that cannot be indexed, or whose code another one of the type has, is kept as `refused`,
    the latter until the code is free.
    """
    async with connection.transaction():
        place = await (await connection.execute(_TAKE_TURN)).fetchone()
        if place is None:
            return 0
        values = {"tid": type_number("SearchParameter"), "after": place[0], "rid": place[1]}
        rows = await (await connection.execute(_WRITTEN, values)).fetchall()
        for rid, txid, fid, is_deleted, body in rows:
            key = resource_key("SearchParameter", fid) & 0x7FFFFFFF
            retired = await (await connection.execute(_RETIRE, {"key": key})).fetchall()
            if not is_deleted:
                await _register(connection, orjson.loads(body), key)
            for number, code in retired:
                await _revive(connection, {"tid": number, "code": code})
            await connection.execute(_NOTE, {"txid": txid, "rid": rid})
        return len(rows)


async def _register(connection: Connection, resource: Mapping[str, Any], key: int) -> None:
    if resource.get("status") == "retired":
        return
    for type_ in _bases_of(resource):
        values = {
            "base": type_number(type_) * _ROOM,
            "first": FIRST_CUSTOM,
            "room": _ROOM,
            "tid": type_number(type_),
            "code": resource.get("code", ""),
            "type": resource.get("type", ""),
            "expr": resource.get("expression"),
            "key": key,
            "url": resource.get("url", ""),
            "targets": list(resource.get("target", ())),
        }
        taken = await (await connection.execute(_TAKEN, values)).fetchone()
        is_searchable = taken is None and not fault_of(type_, resource)
        values["state"] = "building" if is_searchable else "refused"
        await connection.execute(_REGISTER, values)


async def _revive(connection: Connection, freed: Mapping[str, Any]) -> None:
    """Let the oldest parameter that was refused for this code alone have it, if nobody has."""
    if await (await connection.execute(_TAKEN, freed)).fetchone() is not None:
        return
    type_ = resource_types()[freed["tid"] - 1]
    for pid, kind, expression in await (await connection.execute(_WAITING, freed)).fetchall():
        if not fault_of(type_, {"code": freed["code"], "type": kind, "expression": expression}):
            await connection.execute(_REVIVE, {"pid": pid})
            return


def _bases_of(resource: Mapping[str, Any]) -> Sequence[str]:
    bases = resource.get("base", ())
    if {"Resource", "DomainResource"} & set(bases):
        return resource_types()
    return [base for base in bases if base in set(resource_types())]


def fault_of(type_: str, resource: Mapping[str, Any]) -> str:
    """Return the element for which a SearchParameter cannot be searched on a type; "" if it can.

    Its code must not be R4's own, its type an indexed one, and its expression readable.
    """
    code, expression = resource.get("code", ""), resource.get("expression")
    if not code or code in parameters_of(type_) or set(code) & set(".:,$|"):
        return "code"
    if resource.get("type") not in _TYPES:
        return "type"
    try:
        search_paths.places_of(expression or "", type_)
    except search_paths.NotSimple:
        return "" if _engine_reads(expression) else "expression"
    return "" if expression else "expression"


def _engine_reads(expression: str | None) -> bool:
    from conformance import fhirpath
    from conformance.problem import Problem

    try:
        fhirpath.compile(expression or "")
    except Problem:
        return False
    return True


async def build_step(connection: Connection, *, settle: float = SETTLE, batch: int = BATCH) -> bool:
    """Build one batch of the oldest parameter in a transaction; False when nothing is left."""
    async with connection.transaction():
        if await (await connection.execute(_TAKE_TURN)).fetchone() is None:
            return False
        row = await (await connection.execute(_TO_BUILD, {"settle": settle})).fetchone()
        if row is None:
            return False
        *facts, built, until = row
        pid, tid = row[0], row[1]
        if not until:
            last = await (await connection.execute(_UNTIL, {"tid": tid})).fetchone()
            until = 0 if last is None else int(last[0])
        values = {"tid": tid, "after": built, "until": until, "limit": batch}
        rows = await (await connection.execute(_OLDER, values)).fetchall()
        parameter = _parameter(tuple(facts))
        for rid, body, _ in rows:
            await _add_rows(connection, parameter, rid, orjson.loads(body))
        is_done = len(rows) < batch
        reached = until if is_done else rows[-1][0]
        state = "active" if is_done else "building"
        await connection.execute(
            _BUILT, {"pid": pid, "built": reached, "until": until, "state": state}
        )
        return True


async def _add_rows(
    connection: Connection, parameter: SearchParameter, rid: int, resource: Mapping[str, Any]
) -> None:
    """Add the rows that the parameter gives to a resource and that are not there yet."""
    with_it = rows_of(resource, custom=(parameter,))
    without = rows_of(resource)
    if parameter.ordinal not in with_it.present:
        return
    pairs: dict[str, tuple[AbstractSet[Any], AbstractSet[Any]]] = {
        "ix_token": (with_it.tokens, without.tokens),
        "ix_ref": (with_it.references, without.references),
        "ix_date": (with_it.dates, without.dates),
        "ix_num": (with_it.numbers, without.numbers),
        "ix_str": (with_it.strings, without.strings),
    }
    for table, (all_rows, own_rows) in pairs.items():
        columns = _ADD[table]
        for row in all_rows - own_rows:
            await connection.execute(
                _insertion(table, columns), {**_named(columns, row), "rid": rid}
            )
    if grams := b"".join(with_it.grams - without.grams):
        values = {"rid": rid, "grams": array("i", grams).tolist()}
        await connection.execute(_ADD_GRAMS, values)
    await connection.execute(_PRESENT, {"ordinal": parameter.ordinal, "rid": rid})
    async with connection.cursor() as cursor:
        new = sorted(with_it.codes - without.codes)
        await cursor.executemany(_DICTIONARY, new)


def _insertion(table: str, columns: tuple[str, ...]) -> bytes:
    values = ", ".join(f"%({c})s" for c in columns)
    same = " AND ".join(f"{c} = %({c})s" for c in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}, rid) SELECT {values}, %(rid)s"
        f" WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same} AND rid = %(rid)s)"
    ).encode()


def _named(columns: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(columns, row, strict=True))
