"""Works out, without the database, what a sequence of operations makes of the current versions.

`Changes` is filled with the locked current rows, takes the operations in order, and then holds
every row to be written at once: a resource changed twice in one call is written once, with the
version between them in the history.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from conformance.problem import InvalidContent, Issue
from fhir_store import body
from fhir_store.failures import collided, gone, not_found, version_conflict
from fhir_store.index_rows import IndexRows
from fhir_store.operations import (
    ANY_VERSION,
    METHODS,
    Delete,
    Origin,
    Patch,
    Resource,
    Update,
    Version,
    WriteContext,
    Written,
)

_ACTIONS = {"c": "create", "u": "update", "p": "patch", "d": "delete"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Key = tuple[str, str]
Index = Callable[[Resource], IndexRows]
"""Gives the index rows of a resource; `fhir_store.index_rows.rows_of` with the hub's settings."""

_NONE: frozenset[Any] = frozenset()
NO_ROWS = IndexRows(*[_NONE] * len(IndexRows._fields))


def microseconds_of(moment: datetime) -> int:
    """Return a time as a whole number since 1970, UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


class State(Struct, kw_only=True):
    """One logical resource as it stands now, in the database or after the operations so far."""

    rid: int
    type: str
    id: str
    version: int
    last_updated: datetime
    op: str
    chash: int | None
    body: bytes
    parsed: Resource | None = None

    @property
    def is_deleted(self) -> bool:
        """Whether this is a tombstone."""
        return self.op == "d"

    def resource(self) -> Resource:
        """Return the content, parsed once."""
        if self.parsed is None:
            self.parsed = body.to_resource(self.body)
        return self.parsed

    def to_version(self) -> Version:
        """Return what callers see."""
        return Version(
            type=self.type,
            id=self.id,
            version=self.version,
            last_updated=self.last_updated,
            deleted=self.is_deleted,
            body=self.body,
            method=METHODS[self.op],
        )


class AuditRow(Struct, frozen=True, kw_only=True):
    """One access, as it goes into the audit table."""

    context: WriteContext
    origin: Origin | WriteContext
    action: str
    type: str
    id: str
    version: int
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindexed:
    """The index rows that one resource loses and gains; grams change as a whole."""

    rid: int
    lost: IndexRows
    gained: IndexRows


@dataclass(slots=True, kw_only=True)
class Changes:
    """What is to be written when all operations have been taken."""

    rids: Iterator[int]
    before: dict[Key, State | None] = field(default_factory=dict)
    after: dict[Key, State] = field(default_factory=dict)
    between: list[State] = field(default_factory=list)
    audit: list[AuditRow] = field(default_factory=list)
    origin: Origin | WriteContext = field(init=False)
    _context: WriteContext | None = field(init=False, default=None)
    _at: datetime = field(init=False)
    _replaced: list[tuple[Key, State | None]] = field(init=False)
    _marks: tuple[int, int] = field(init=False)

    def begin(self, context: WriteContext) -> None:
        """Take the following operations for this writer; `undo` comes back to here."""
        if self._context is not context:  # an import has one for all its lines
            self._context = context
            self._at = body.to_milliseconds(context.at)
        self.origin = context
        self._replaced = []
        self._marks = (len(self.between), len(self.audit))

    def undo(self) -> None:
        """Forget everything since the last `begin`."""
        for key, state in reversed(self._replaced):
            if state is None:
                del self.after[key]
            else:
                self.after[key] = state
        between, audit = self._marks
        del self.between[between:], self.audit[audit:]

    def create(self, resource: Resource, id_: str) -> Written:
        """Write the first version under an id that nobody has."""
        key = (resource["resourceType"], id_)
        self.before.setdefault(key, None)
        return self._put(key, resource, op="c")

    def update(self, operation: Update, id_: str) -> Written:
        """Write the next version, or the first one."""
        key = (operation.resource["resourceType"], id_)
        current = self._current(key)
        if operation.must_be_new and current is not None and not current.is_deleted:
            raise version_conflict(key, current.version, wanted="none")
        _require_version(key, current, operation.if_match)
        return self._put(key, operation.resource, op="u")

    def patch(self, operation: Patch, id_: str) -> Written:
        """Write what the patch makes of the current content."""
        key = (operation.type, id_)
        current = self._current(key)
        _require_version(key, current, operation.if_match)
        if current is None:
            raise not_found(*key)
        if current.is_deleted:
            raise gone(*key)
        changed = operation.change(body.to_resource(current.body))
        if changed.get("resourceType") != operation.type or changed.get("id", id_) != id_:
            raise InvalidContent(_IDENTITY_CHANGED)
        return self._put(key, changed, op="p")

    def delete(self, operation: Delete, id_: str) -> Written:
        """Leave a tombstone; nothing there or a tombstone already is no failure."""
        key = (operation.type, id_)
        current = self._current(key)
        _require_version(key, current, operation.if_match)
        if current is None:
            return self.nothing(operation.type, id_)
        if current.is_deleted:
            return Written(version=current.to_version(), changed=False)
        state = State(
            rid=current.rid,
            type=operation.type,
            id=id_,
            version=current.version + 1,
            last_updated=max(self._at, current.last_updated),
            op="d",
            chash=None,
            body=b"",
        )
        self._replace(key, state)
        return Written(version=state.to_version(), previous=current.resource())

    def nothing(self, type_: str, id_: str = "") -> Written:
        """Return the result of deleting what is not there: a version 0."""
        version = Version(type=type_, id=id_, version=0, last_updated=self._at, deleted=True)
        return Written(version=version, changed=False)

    def require_there(self, key: Key) -> None:
        """Have the request tried again where what its condition found was deleted since."""
        current = self._current(key)
        if current is None or current.is_deleted:
            raise collided()

    def unchanged(self, key: Key, action: str) -> Written:
        """Note that an operation found its content already there."""
        current = self._current(key)
        if current is None:
            raise not_found(*key)
        self._note(action, current, "unchanged")
        return Written(version=current.to_version(), changed=False)

    def reindexed(self, index: Index) -> list[Reindexed]:
        """Return the difference of index rows of every resource that existed before."""
        found = []
        for key, state in self.after.items():
            old = self.before[key]
            if old is not None:
                lost = NO_ROWS if old.is_deleted else index(old.resource())
                gained = NO_ROWS if state.is_deleted else index(state.resource())
                found.append(_difference(state.rid, lost, gained))
        return found

    def _current(self, key: Key) -> State | None:
        return self.after.get(key) or self.before.get(key)

    def _put(self, key: Key, resource: Resource, *, op: str) -> Written:
        current = self._current(key)
        content = body.content_of(resource)
        if current is not None and not current.is_deleted and _is_same(current, resource, content):
            return self.unchanged(key, _ACTIONS[op])
        version = 1 if current is None else current.version + 1
        at = self._at if current is None else max(self._at, current.last_updated)
        state = State(
            rid=next(self.rids) if current is None else current.rid,
            type=key[0],
            id=key[1],
            version=version,
            last_updated=at,
            op=op,
            chash=content.key,
            body=content.to_body(key[1], version, at, self.origin.source),
            parsed=resource,
        )
        self._replace(key, state)
        was_there = current is not None and not current.is_deleted
        return Written(
            version=state.to_version(),
            created=not was_there,
            resource=resource,
            previous=current.resource() if current is not None and was_there else None,
        )

    def _replace(self, key: Key, state: State) -> None:
        earlier = self.after.get(key)
        if earlier is not None:
            self.between.append(earlier)
        self._replaced.append((key, earlier))
        self.after[key] = state
        self._note(_ACTIONS[state.op], state)

    def _note(self, action: str, state: State, detail: str | None = None) -> None:
        assert self._context is not None
        row = AuditRow(
            context=self._context,
            origin=self.origin,
            action=action,
            type=state.type,
            id=state.id,
            version=state.version,
            detail=detail,
        )
        self.audit.append(row)


def _is_same(current: State, resource: Resource, content: body.Content) -> bool:
    """Compare contents; a meta.source that the door filled in is no part of them."""
    if current.chash == content.key:
        return True
    if content.source is None or current.resource().get("meta", {}).get("source") != content.source:
        return False
    meta = {name: value for name, value in resource["meta"].items() if name != "source"}
    return current.chash == body.content_of({**resource, "meta": meta}).key


def _difference(rid: int, old: IndexRows, new: IndexRows) -> Reindexed:
    return Reindexed(
        rid=rid,
        lost=_without(old, new),
        gained=_without(new, old)._replace(systems=new.systems),
    )


def _without(rows: IndexRows, others: IndexRows) -> IndexRows:
    """Return the rows that the others do not have; `present` stays whole, `grams` too if others."""
    return IndexRows(
        tokens=rows.tokens - others.tokens,
        references=rows.references - others.references,
        dates=rows.dates - others.dates,
        numbers=rows.numbers - others.numbers,
        strings=rows.strings - others.strings,
        grams=_NONE if rows.grams == others.grams else rows.grams,
        present=rows.present,
        codes=rows.codes - others.codes,
        systems=_NONE,
    )


def _require_version(key: Key, current: State | None, wanted: int | None) -> None:
    if wanted == ANY_VERSION:
        if current is None or current.is_deleted:
            raise version_conflict(key, None, wanted="*")
    elif wanted is not None and (current is None or current.version != wanted):
        have = None if current is None else current.version
        raise version_conflict(key, have, wanted=str(wanted))


_IDENTITY_CHANGED = Issue(
    code="invariant",
    key="identity-changed",
    text_en="A patch may change neither resourceType nor id",
    text_zh="补丁不得修改 resourceType 或 id",
    fix_en="Remove the change of resourceType or id from the patch.",
    fix_zh="请从补丁中去掉对 resourceType 或 id 的修改。",
)
