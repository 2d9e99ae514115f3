"""Finds out which resource each operation is about, before anything is written."""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct, structs
from psycopg import AsyncConnection

from conformance.problem import InvalidContent, NotSupported, Problem, TooCostly
from conformance.search_parameters import parameters_of
from fhir_store import references, statements, target_texts
from fhir_store.arrays import Int4s, Int8s
from fhir_store.audit_events import OWN_ID
from fhir_store.conditional import Criteria, Match, parse_criteria, require_one
from fhir_store.failures import not_found
from fhir_store.keys import identifier_key, system_number
from fhir_store.operations import (
    Claim,
    Create,
    Delete,
    Patch,
    Release,
    Update,
    WriteRequest,
    Written,
)
from fhir_store.resource_types import TYPE_IDS

Connection = AsyncConnection[Any]
Identifier = tuple[str, str]
Identity = tuple[str, Identifier]
ResourceOperation = Create | Update | Patch | Delete
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


class Target(Struct, kw_only=True):
    """An operation and the ids it is about.

    `is_found` says that a condition found them; otherwise the id is the operation's own or new.
    """

    operation: ResourceOperation
    ids: list[str]
    criteria: Criteria | None = None
    is_found: bool = False

    @property
    def type(self) -> str:
        """The resource type the operation is about."""
        return _type_of(self.operation)


@dataclass(slots=True, kw_only=True)
class Plan:
    """A write request on its way: what each operation is about, and why it failed if it did.

    `references` are its conditional references; `leans_on` are the other plans of the same commit
    whose new resources it takes as matches of its conditions.
    """

    request: WriteRequest
    targets: list[Target] = field(default_factory=list)
    references: dict[str, Criteria] = field(default_factory=dict)
    leans_on: list["Plan"] = field(default_factory=list)
    failure: Problem | None = None
    results: list[Written] = field(default_factory=list)


Matches = Mapping[Criteria, list[str] | Problem]
Made = dict[Criteria, tuple[str, Plan]]


def plan_of(request: WriteRequest) -> Plan:
    """Read the operations; nothing is asked of the database."""
    plan = Plan(request=request)
    meant: set[str] = set()
    try:
        for operation in request.operations:
            if not isinstance(operation, Claim | Release):
                plan.targets.append(_target_of(operation))
                if request.link and isinstance(operation, Create | Update):
                    for text in references.open_references(operation.resource):
                        if text.startswith(references.PLACEHOLDER):
                            meant.add(text.partition("#")[0].partition("/")[0])
                        else:
                            plan.references[text] = parse_criteria(text.partition("?")[0], text)
        if meant:
            _require_entries(meant, plan.targets)
    except Problem as problem:
        plan.failure = problem
    return plan


def settle(plan: Plan, matches: Matches, made: Made) -> None:
    """Decide what the matches of the conditions mean, and put final references in place.

    `made` are the resources that earlier operations of the same commit will make under a
    condition, so that the second of two equal conditions finds what the first has made. What an
    earlier operation of the plan deletes is no match: deletes come first (http.html#trules).
    """
    own: Made = {}
    deleted: set[tuple[str, str]] = set()
    try:
        for target in plan.targets:
            if (criteria := target.criteria) is not None:
                found = _found(criteria, plan, matches, {**made, **own}, deleted)
                _settle_target(target, criteria, found)
                if target.ids and not isinstance(target.operation, Delete):
                    own[criteria] = (target.ids[0], plan)
            if isinstance(target.operation, Delete):
                deleted.update((target.type, id_) for id_ in target.ids)
        if plan.request.distinct:
            _require_distinct(plan.targets)
        if plan.request.link:
            _link(plan, matches, {**made, **own}, deleted)
    except Problem as problem:
        plan.failure = problem
    else:
        made.update(own)


def _require_entries(meant: set[str], targets: Sequence[Target]) -> None:
    """Refuse references by `urn:uuid:` to what is in no entry: nobody could ever follow them."""
    for target in targets:
        if not isinstance(target.operation, Delete) and target.operation.full_url:
            meant.discard(target.operation.full_url)
    if meant:
        raise InvalidContent(target_texts.no_entry(min(meant)))


def _target_of(operation: ResourceOperation) -> Target:
    _require_lawful(operation)
    text = operation.if_none_exist if isinstance(operation, Create) else operation.criteria
    if text is None:
        return Target(operation=operation, ids=[_own_id(operation)])
    return Target(operation=operation, ids=[], criteria=parse_criteria(_type_of(operation), text))


def _found(
    criteria: Criteria, plan: Plan, matches: Matches, made: Made, deleted: set[tuple[str, str]]
) -> list[str]:
    if criteria in made:
        id_, maker = made[criteria]
        if maker is not plan:
            plan.leans_on.append(maker)
        return [id_]
    found = matches[criteria]
    if isinstance(found, Problem):
        raise found
    return [id_ for id_ in found if (criteria.type, id_) not in deleted] if deleted else found


def _link(plan: Plan, matches: Matches, made: Made, deleted: set[tuple[str, str]]) -> None:
    links: dict[str, str] = {}
    for target in plan.targets:
        operation = target.operation
        if not isinstance(operation, Delete) and operation.full_url:
            links[operation.full_url] = f"{target.type}/{target.ids[0]}"
    for text, criteria in plan.references.items():
        found = _found(criteria, plan, matches, made, deleted)
        id_ = require_one(criteria, _with_own(found, criteria, plan.targets))
        if id_ is None:
            raise InvalidContent(target_texts.unresolved(criteria))
        links[text] = f"{criteria.type}/{id_}"
    if not links:
        return
    for target in plan.targets:
        if isinstance(target.operation, Create | Update):
            operation = target.operation
            resource = references.rewrite(operation.resource, links, operation.full_url)
            target.operation = structs.replace(operation, resource=resource)


def _with_own(found: Sequence[str], criteria: Criteria, targets: Sequence[Target]) -> Sequence[str]:
    """Return the matches of a reference by identifier as they will be after the plan's own writes.

    References are resolved after these (http.html#trules); what it patches counts as it was.
    """
    if criteria.identifier is None:
        return found
    ids = dict.fromkeys(found)
    for target in targets:
        operation = target.operation
        if target.type != criteria.type or not isinstance(operation, Create | Update):
            continue
        if isinstance(operation, Create) and target.is_found:
            continue  # nothing is written
        has_it = any(
            (one.get("system", ""), one.get("value")) == criteria.identifier
            for one in _identifiers_in(operation.resource)
        )
        if has_it:
            ids[target.ids[0]] = None
        else:
            ids.pop(target.ids[0], None)
    return list(ids)


def _identifiers_in(resource: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the identifiers of a resource; some types have one, most a list."""
    found = resource.get("identifier", ())
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]


async def search(connection: Connection, match: Match | None, plans: Sequence[Plan]) -> Matches:
    """Lock all criteria in one order, then search; identifiers of one type in one statement."""
    limits: dict[Criteria, int] = {}
    for plan in plans:
        conditional = [one for one in plan.targets if one.criteria is not None]
        if not (conditional or plan.references):
            continue
        deletes = [one for one in plan.targets if isinstance(one.operation, Delete)]
        # Two matches are too many, beside those that the plan itself deletes.
        usual = 2 + sum(target_texts.SEVERAL_LIMIT if _takes_all(one) else 1 for one in deletes)
        for one in plan.references.values():
            limits[one] = max(usual, limits.get(one, 0))
        for target in conditional:
            if (criteria := target.criteria) is not None:
                limit = target_texts.SEVERAL_LIMIT + 1 if _takes_all(target) else usual
                limits[criteria] = max(limit, limits.get(criteria, 0))
    if not limits:
        return {}
    await lock(connection, (one.lock_key for one in limits))
    found: dict[Criteria, list[str] | Problem] = {}
    by_type: dict[str, list[tuple[Criteria, Identifier]]] = {}
    for criteria, limit in limits.items():
        if criteria.identifier is not None:
            by_type.setdefault(criteria.type, []).append((criteria, criteria.identifier))
        else:
            found[criteria] = await _match(connection, match, criteria, limit)
    for type_, several in by_type.items():
        hits = await find_by_identifier(connection, [(type_, one) for _, one in several])
        found.update((criteria, hits.get((type_, one), [])) for criteria, one in several)
    return found


def _takes_all(target: Target) -> bool:
    return isinstance(target.operation, Delete) and target.operation.several


async def _match(
    connection: Connection, match: Match | None, criteria: Criteria, limit: int
) -> list[str] | Problem:
    if match is None:
        return NotSupported(target_texts.NO_SEARCH)
    try:
        return list(await match(connection, criteria.type, criteria.text, limit))
    except Problem as problem:
        return problem


async def find_by_identifier(
    connection: Connection, wanted: Iterable[Identity], *, prepare: bool = True
) -> dict[Identity, list[str]]:
    """Return the ids of living resources that carry each identifier, oldest first.

    For many at a time do not `prepare`: a plan made for few, or on small tables, serves them ill.
    """
    keyed: dict[tuple[int, int], Identity] = {}
    for identity in wanted:
        parameter = parameters_of(identity[0]).get("identifier")
        if parameter is not None:
            system, value = identity[1]
            keyed[identifier_key(parameter.number, value), system_number(system)] = identity
    if not keyed:
        return {}
    cursor = await connection.execute(
        statements.FIND_BY_IDENTIFIER,
        {
            "h": Int8s(h for h, _ in keyed),
            "sid": Int4s(sid for _, sid in keyed),
            "tid": Int4s(TYPE_IDS[type_] for type_, _ in keyed.values()),
        },
        prepare=prepare,
    )
    found: dict[Identity, list[str]] = {}
    for h, sid, fid in await cursor.fetchall():
        ids = found.setdefault(keyed[h, sid], [])
        if fid not in ids:
            ids.append(fid)
    return found


async def lock(connection: Connection, lock_keys: Iterable[int]) -> None:
    """Take transaction-long advisory locks, in one order for everybody."""
    ordered = Int8s(sorted(set(lock_keys)))
    await connection.execute(statements.LOCK_KEYS, {"keys": ordered}, prepare=True)


def new_id() -> str:
    """Return an id for a new resource."""
    return str(uuid.uuid4())


def _type_of(operation: ResourceOperation) -> str:
    if isinstance(operation, Create | Update):
        return str(operation.resource.get("resourceType"))
    return operation.type


def _own_id(operation: ResourceOperation) -> str:
    if isinstance(operation, Create):
        return operation.id or new_id()
    own = operation.resource.get("id") if isinstance(operation, Update) else operation.id
    if not isinstance(own, str):
        raise InvalidContent(target_texts.NO_ID)
    return own


def _settle_target(target: Target, criteria: Criteria, matches: list[str]) -> None:
    """Decide what a condition's matches mean. http://hl7.org/fhir/R4/http.html#cond-update."""
    operation = target.operation
    if isinstance(operation, Delete) and operation.several:
        if len(matches) > target_texts.SEVERAL_LIMIT:
            raise TooCostly(target_texts.TOO_MANY)
        target.ids, target.is_found = matches, True
        return
    only = require_one(criteria, matches)
    if only is not None:
        if isinstance(operation, Update):
            own = operation.resource.get("id", only)
            if own != only:
                raise InvalidContent(target_texts.OTHER_ID)
        target.ids, target.is_found = [only], True
    elif isinstance(operation, Create):
        target.ids = [operation.id or new_id()]
    elif isinstance(operation, Update):
        target.ids = [str(operation.resource.get("id") or new_id())]
    elif isinstance(operation, Patch):
        raise not_found(criteria.type, "?")


def _require_distinct(targets: Sequence[Target]) -> None:
    """Refuse a transaction that writes one resource twice. http://hl7.org/fhir/R4/http.html#trules."""
    seen: set[tuple[str, str]] = set()
    for target in targets:
        if isinstance(target.operation, Create) and target.is_found:
            continue  # nothing is written
        for id_ in target.ids:
            if (target.type, id_) in seen:
                raise InvalidContent(target_texts.twice(target.type))
            seen.add((target.type, id_))


def _require_lawful(operation: ResourceOperation) -> None:
    """Refuse what would not make a readable row: an unknown type or an id outside R4's pattern."""
    if _type_of(operation) not in TYPE_IDS:
        raise InvalidContent(target_texts.UNKNOWN_TYPE)
    id_ = operation.resource.get("id") if isinstance(operation, Update) else operation.id
    if id_ is not None and not _ID.fullmatch(str(id_)):
        raise InvalidContent(target_texts.BAD_ID)
    if (
        isinstance(operation, Update)
        and operation.resource["resourceType"] == "AuditEvent"
        and OWN_ID.fullmatch(str(id_))
    ):
        raise InvalidContent(target_texts.AUDIT_ID)
