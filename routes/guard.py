"""Writes by callers who may not write everything: judged before and after, in the same commit.

Before: what an operation touches must be open to the caller as it is. After: what it became must
be open to the caller too. Either failing undoes everything.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from conformance.problem import EditConflict, Issue, NotAllowed
from fhir_store.authorization import NOTHING, Authorization
from fhir_store.failures import not_found
from fhir_store.operations import Claim, Create, Delete, Operation, Patch, Release, Update, Written
from fhir_store.permits import permitted_ids
from fhir_store.transaction import Transaction
from routes.authorize import not_allowed
from routes.hub import Hub
from routes.request import Request

Key = tuple[str, str]
Resource = Mapping[str, Any]
Apply = Callable[[], Awaitable[list[Written]]]
Judge = Callable[[Resource | None, Written], None]
Write = Create | Update | Patch | Delete


async def may_write_freely(hub: Hub, request: Request, operations: Sequence[Operation]) -> bool:
    """Say whether nothing narrows what the operations may write.

    Raises NotAllowed where the caller has no right at all for one of them.
    """
    is_free = True
    for operation in operations:
        if not isinstance(operation, Claim | Release):
            type_ = type_of(operation)
            rights = [await _rights(hub, request, one, type_) for one in _letters_of(operation)]
            if all(one.criteria_of(type_) == () for one in rights):
                raise not_allowed()
            is_free &= all(one.criteria_of(type_) is None for one in rights)
    return is_free


async def shows_unread(hub: Hub, request: Request, operations: Sequence[Operation]) -> bool:
    """Say whether the answer may show content that the caller did not send and may not read.

    What a patch leaves, and what If-None-Exist finds. Where rights are narrowed, the guard has held
    a patch's result to the right to update, and a find to the right to read.
    """
    for operation in operations:
        is_find = isinstance(operation, Create) and operation.if_none_exist is not None
        if not (is_find or isinstance(operation, Patch)):
            continue
        type_ = type_of(operation)
        reading = (await _rights(hub, request, "r", type_)).criteria_of(type_)
        if reading is None:
            continue
        letter = "c" if is_find else "u"
        judged = (await _rights(hub, request, letter, type_)).criteria_of(type_)
        if judged is None if is_find else judged != reading:
            return True
    return False


async def guarded(
    hub: Hub,
    request: Request,
    transaction: Transaction,
    operations: Sequence[Operation],
    apply: Apply,
    judge: Judge | None = None,
) -> list[Written]:
    """Apply the operations between the two judgements; `judge` has a third about each change."""
    touched: dict[Key, Resource] = {}
    writes = [one for one in operations if not isinstance(one, Claim | Release)]
    for operation in writes:
        touched |= await _require_touchable(hub, request, transaction, operation)
    written = await apply()
    for operation, one in zip(writes, written, strict=True):
        await _require_holdable(hub, request, transaction, operation, one, touched)
        if judge is not None:
            judge(touched.get((one.version.type, one.version.id)), one)
    return written


async def _require_touchable(
    hub: Hub, request: Request, transaction: Transaction, operation: Write
) -> Mapping[Key, Resource]:
    """Return what the operation will touch; raise where that is hidden from the caller."""
    type_ = type_of(operation)
    criteria, id_ = _aim_of(operation)
    if criteria is not None:
        ids = await hub.store.searcher.match(transaction.connection, type_, criteria, 2)
    elif id_ is not None:
        ids = [id_]
    else:
        return {}
    living = await transaction.read_for_update([(type_, one) for one in ids])
    letter = "r" if isinstance(operation, Create) else _letters_of(operation)[0]
    rights = await _rights(hub, request, letter, type_)
    seen = await permitted_ids(
        transaction.connection, hub.store.searcher, type_, (one for _, one in living), rights
    )
    hidden = {key for key in living if key[1] not in seen}
    if id_ is not None and isinstance(operation, Patch | Delete) and (hidden or not living):
        raise not_found(type_, id_)
    if hidden:
        raise not_allowed()
    return living


async def _require_holdable(
    hub: Hub,
    request: Request,
    transaction: Transaction,
    operation: Write,
    written: Written,
    touched: Mapping[Key, Resource],
) -> None:
    """Raise NotAllowed where what was written is not open to the caller."""
    version = written.version
    if not version.version:
        return
    key = (version.type, version.id)
    if not written.created and key not in touched:
        raise EditConflict(_MOVED)
    if version.deleted:
        return
    letter = "c" if written.created else "r" if isinstance(operation, Create) else "u"
    rights = await _rights(hub, request, letter, version.type)
    seen = await permitted_ids(
        transaction.connection, hub.store.searcher, version.type, [version.id], rights
    )
    if not seen:
        raise not_allowed()


async def _rights(hub: Hub, request: Request, letter: str, type_: str) -> Authorization:
    try:
        return await hub.authorize(request.caller, letter, type_)
    except NotAllowed:
        return NOTHING


def _letters_of(operation: Write) -> tuple[str, ...]:
    """Return the rights that an operation may need, the one for existing resources first."""
    match operation:
        case Create():
            return ("c",)
        case Update():
            return ("u", "c")
        case Patch():
            return ("u",)
        case Delete():
            return ("d",)


def type_of(operation: Operation) -> str:
    """Return the type an operation writes; claims have none."""
    if isinstance(operation, Claim | Release):
        return ""
    if isinstance(operation, Create | Update):
        return str(operation.resource["resourceType"])
    return operation.type


def _aim_of(operation: Write) -> tuple[str | None, str | None]:
    """Return (criteria, id): how the operation names what it touches."""
    match operation:
        case Create():
            return operation.if_none_exist, None
        case Update():
            id_ = None if operation.criteria else operation.resource.get("id")
            return operation.criteria, id_
        case _:
            return operation.criteria, operation.id


_MOVED = Issue(
    code="conflict",
    key="write-collided",
    text_en="Another writer changed the same resource at the same moment.",
    text_zh="同一资源正被另一写入者修改。",
    fix_en="Send the same request again.",
    fix_zh="请原样重新提交。",
)
