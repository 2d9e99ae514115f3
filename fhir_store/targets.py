"""Finds out which resource each operation is about, before anything is written."""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import AsyncConnection

from conformance.problem import InvalidContent, Issue, NotSupported, Problem, TooCostly
from conformance.search_parameters import parameters_of
from fhir_store import references, statements
from fhir_store.arrays import Int4s, Int8s
from fhir_store.audit_events import OWN_ID
from fhir_store.conditional import Criteria, Match, parse_criteria, require_one
from fhir_store.failures import not_found
from fhir_store.keys import key_of, system_number
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
_SEVERAL_LIMIT = 1_000  # one conditional delete takes no more than this


@dataclass(slots=True, kw_only=True)
class Target:
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
    try:
        for operation in request.operations:
            if not isinstance(operation, Claim | Release):
                plan.targets.append(_target_of(operation))
                if request.link and isinstance(operation, Create | Update):
                    for text in references.conditional_references(operation.resource):
                        plan.references[text] = parse_criteria(text.partition("?")[0], text)
    except Problem as problem:
        plan.failure = problem
    return plan


def settle(plan: Plan, matches: Matches, made: Made) -> None:
    """Decide what the matches of the conditions mean, and put final references in place.

    `made` are the resources that earlier operations of the same commit will make under a
    condition, so that the second of two equal conditions finds what the first has made.
    """
    own: Made = {}
    try:
        for target in plan.targets:
            if (criteria := target.criteria) is not None:
                _settle_target(target, criteria, _found(criteria, plan, matches, {**made, **own}))
                if target.ids and not isinstance(target.operation, Delete):
                    own[criteria] = (target.ids[0], plan)
        if plan.request.distinct:
            _require_distinct(plan.targets)
        if plan.request.link:
            _link(plan, matches, {**made, **own})
    except Problem as problem:
        plan.failure = problem
    else:
        made.update(own)


def _target_of(operation: ResourceOperation) -> Target:
    _require_lawful(operation)
    text = operation.if_none_exist if isinstance(operation, Create) else operation.criteria
    if text is None:
        return Target(operation=operation, ids=[_own_id(operation)])
    return Target(operation=operation, ids=[], criteria=parse_criteria(_type_of(operation), text))


def _found(criteria: Criteria, plan: Plan, matches: Matches, made: Made) -> list[str]:
    if criteria in made:
        id_, maker = made[criteria]
        if maker is not plan:
            plan.leans_on.append(maker)
        return [id_]
    found = matches[criteria]
    if isinstance(found, Problem):
        raise found
    return found


def _link(plan: Plan, matches: Matches, made: Made) -> None:
    links: dict[str, str] = {}
    for target in plan.targets:
        operation = target.operation
        if not isinstance(operation, Delete) and operation.full_url:
            links[operation.full_url] = f"{target.type}/{target.ids[0]}"
    for text, criteria in plan.references.items():
        id_ = require_one(criteria, _found(criteria, plan, matches, made))
        if id_ is None:
            raise InvalidContent(_unresolved(criteria))
        links[text] = f"{criteria.type}/{id_}"
    if not links:
        return
    for target in plan.targets:
        if isinstance(target.operation, Create | Update):
            operation = target.operation
            resource = references.rewrite(operation.resource, links, operation.full_url)
            target.operation = replace(target.operation, resource=resource)


async def search(connection: Connection, match: Match | None, plans: Sequence[Plan]) -> Matches:
    """Lock all criteria in one order, then search; identifiers of one type in one statement."""
    limits: dict[Criteria, int] = {}
    for plan in plans:
        limits.update(dict.fromkeys(plan.references.values(), 2))
        for target in plan.targets:
            if target.criteria is not None:
                takes_all = isinstance(target.operation, Delete) and target.operation.several
                limits[target.criteria] = _SEVERAL_LIMIT + 1 if takes_all else 2
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


async def _match(
    connection: Connection, match: Match | None, criteria: Criteria, limit: int
) -> list[str] | Problem:
    if match is None:
        return NotSupported(_NO_SEARCH)
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
            keyed[key_of(parameter.number, "c", value), system_number(system)] = identity
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
        raise InvalidContent(_NO_ID)
    return own


def _settle_target(target: Target, criteria: Criteria, matches: list[str]) -> None:
    """Decide what a condition's matches mean. http://hl7.org/fhir/R4/http.html#cond-update."""
    operation = target.operation
    if isinstance(operation, Delete) and operation.several:
        if len(matches) > _SEVERAL_LIMIT:
            raise TooCostly(_TOO_MANY)
        target.ids, target.is_found = matches, True
        return
    only = require_one(criteria, matches)
    if only is not None:
        if isinstance(operation, Update):
            own = operation.resource.get("id", only)
            if own != only:
                raise InvalidContent(_OTHER_ID)
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
                raise InvalidContent(_twice(target.type))
            seen.add((target.type, id_))


def _require_lawful(operation: ResourceOperation) -> None:
    """Refuse what would not make a readable row: an unknown type or an id outside R4's pattern."""
    if _type_of(operation) not in TYPE_IDS:
        raise InvalidContent(_UNKNOWN_TYPE)
    id_ = operation.resource.get("id") if isinstance(operation, Update) else operation.id
    if id_ is not None and not _ID.fullmatch(str(id_)):
        raise InvalidContent(_BAD_ID)
    if (
        isinstance(operation, Update)
        and operation.resource["resourceType"] == "AuditEvent"
        and OWN_ID.fullmatch(str(id_))
    ):
        raise InvalidContent(_AUDIT_ID)


def _unresolved(criteria: Criteria) -> Issue:
    return Issue(
        code="not-found",
        key="reference-unresolved",
        text_en=f"A conditional reference to {criteria.type} matches no resource",
        text_zh=f"指向 {criteria.type} 的条件引用没有匹配的资源",
        fix_en="Create the resource first, or put it into the same transaction.",
        fix_zh="请先创建该资源，或将其放入同一事务。",
    )


def _twice(type_: str) -> Issue:
    return Issue(
        code="duplicate",
        key="entry-duplicate",
        text_en=f"Two entries of the transaction write the same {type_}",
        text_zh=f"事务中有两个条目写入同一个 {type_}",
        fix_en="Join the two entries into one, or send two requests.",
        fix_zh="请将两个条目合并为一个，或分两次提交。",
        expression="Bundle.entry",
    )


_NO_SEARCH = Issue(
    code="not-supported",
    key="criteria-search",
    text_en="This condition needs the search, which is not wired here",
    text_zh="该条件需要检索功能，此处未启用",
    fix_en="Use identifier=system|value.",
    fix_zh="请使用 identifier=system|value。",
)
_NO_ID = Issue(
    code="required",
    key="id-required",
    text_en="An update needs the id of the resource",
    text_zh="更新操作必须给出资源的 id",
    fix_en="Put the id into the resource and the address.",
    fix_zh="请在资源和地址中给出 id。",
    expression="id",
)
_BAD_ID = Issue(
    code="value",
    key="id-format",
    text_en="An id has 1 to 64 letters, digits, '-' or '.'",
    text_zh="id 只能由 1 至 64 个字母、数字、“-”或“.”组成",
    fix_en="Choose another id, for example a UUID.",
    fix_zh="请改用其他 id，例如 UUID。",
    expression="id",
)
_AUDIT_ID = Issue(
    code="business-rule",
    key="audit-event-id",
    text_en="Ids of this form belong to the hub's own audit",
    text_zh="此形式的 id 专用于本系统自身的审计",
    fix_en="Choose another id, for example a UUID, or let POST choose one.",
    fix_zh="请改用其他 id，例如 UUID，或用 POST 由服务器分配。",
    expression="AuditEvent.id",
)
_OTHER_ID = Issue(
    code="value",
    key="id-differs",
    text_en="The resource carries another id than the one the condition found",
    text_zh="资源中的 id 与条件匹配到的资源不一致",
    fix_en="Leave the id out, or use the id of the match.",
    fix_zh="请去掉 id，或使用匹配资源的 id。",
    expression="id",
)
_UNKNOWN_TYPE = Issue(
    code="not-supported",
    key="type-unknown",
    text_en="This is no resource type of FHIR R4",
    text_zh="不是 FHIR R4 的资源类型",
    fix_en="Check the spelling of resourceType.",
    fix_zh="请检查 resourceType 的拼写。",
    expression="resourceType",
)
_TOO_MANY = Issue(
    code="too-costly",
    key="delete-too-many",
    text_en=f"The condition matches more than {_SEVERAL_LIMIT} resources",
    text_zh=f"条件匹配的资源超过 {_SEVERAL_LIMIT} 个",
    fix_en="Narrow the condition and repeat the request.",
    fix_zh="请缩小条件范围后重试。",
)
