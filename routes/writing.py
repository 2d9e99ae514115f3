"""What all writes share: their context, their conditions, and the repeat-safe answer."""

import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from conformance.problem import InvalidContent, Issue, UnknownParameter
from fhir_store.idempotency import IdempotencyKey, Reply, digest_of, find_reply, keep_reply
from fhir_store.operations import Operation, WriteContext, Written
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.guard import guarded, may_write_freely, shows_unread, type_of
from routes.hub import Hub
from routes.own_records import is_lay, require_own_business
from routes.preferences import MINIMAL
from routes.request import Request
from routes.subscription_rights import SUBSCRIPTION, require_contact

_LONGEST_KEY = 255
Work = Callable[[Transaction], Awaitable[Answer]]
AnswerAll = Callable[[list[Written], Request], Awaitable[Answer]]


async def write(
    hub: Hub,
    request: Request,
    operation: Operation,
    answer: Callable[[Written, Request], Answer],
) -> Answer:
    """Apply one operation and answer; with an Idempotency-Key, at most once."""

    async def answer_all(written: list[Written], request: Request) -> Answer:
        return answer(written[0], request)

    return await write_all(hub, request, [operation], answer_all)


async def write_all(
    hub: Hub,
    request: Request,
    operations: Sequence[Operation],
    answer: AnswerAll,
    *,
    is_transaction: bool = False,
) -> Answer:
    """Apply operations in one commit and answer; linked and distinct if they are a transaction.

    `answer` is given the request with what the caller may get back.
    """
    context = context_of(request)
    is_free = await may_write_freely(hub, request, operations)
    if request.prefer.return_ != "OperationOutcome" and await shows_unread(
        hub, request, operations
    ):
        request = msgspec.structs.replace(request, prefer=replace(request.prefer, return_=MINIMAL))
    asks_for_events = any(type_of(one) == SUBSCRIPTION for one in operations)
    is_alone = request.header(b"idempotency-key") is None
    if asks_for_events and not is_free:
        require_contact(request.caller, operations)
    if is_free and is_alone and not asks_for_events:
        written = await hub.store.write(
            operations, context=context, link=is_transaction, distinct=is_transaction
        )
        return await answer(written, request)

    async def apply(transaction: Transaction) -> list[Written]:
        async def unguarded() -> list[Written]:
            return await transaction.apply(
                operations, context=context, link=is_transaction, distinct=is_transaction
            )

        if is_free:
            written = await unguarded()
        else:
            judge = require_own_business if is_lay(request.caller) else None
            written = await guarded(hub, request, transaction, operations, unguarded, judge)
        for one in written if asks_for_events else ():
            if one.version.type == SUBSCRIPTION and not one.version.deleted:
                await hub.note_subscriber(transaction, request.caller, one.version.id)
        return written

    if is_alone:
        async with hub.store.begin() as transaction:
            written = await apply(transaction)
        return await answer(written, request)

    async def work(transaction: Transaction) -> Answer:
        return await answer(await apply(transaction), request)

    return await once(hub, request, work)


async def apply_permitted(
    hub: Hub, request: Request, transaction: Transaction, operations: Sequence[Operation]
) -> list[Written]:
    """Apply operations as far as the caller's rights go; NotAllowed or NotFound beyond them."""

    async def apply() -> list[Written]:
        return await transaction.apply(operations, context=context_of(request))

    if await may_write_freely(hub, request, operations):
        return await apply()
    return await guarded(hub, request, transaction, operations, apply)


async def once(hub: Hub, request: Request, work: Work) -> Answer:
    """Do the work in one transaction, or give the answer kept under the same Idempotency-Key."""
    key = _idempotency_key(request)
    async with hub.store.begin() as transaction:
        if key is not None:
            kept = await find_reply(transaction.connection, key)
            if kept is not None:
                return _answer_of(kept)
        answer = await work(transaction)
        if key is not None:
            await keep_reply(transaction.connection, key, _reply_of(answer))
        return answer


def context_of(request: Request) -> WriteContext:
    """Return who writes and when, for the audit row beside every version."""
    caller = request.caller
    return WriteContext(
        actor=caller.fhir_user or caller.subject,
        at=datetime.now(UTC),
        trace_id=request.request_id,
    )


def criteria_of(request: Request) -> str:
    """Return the criteria of a conditional interaction, which are its query."""
    if not request.query:
        raise InvalidContent(
            Issue(
                code="required",
                key="criteria-missing",
                text_en="The address names neither an id nor search criteria.",
                text_zh="地址中既没有 id，也没有检索条件。",
                fix_en="Write [type]/[id], or [type]?identifier=system|value.",
                fix_zh="请使用 [type]/[id]，或 [type]?identifier=system|value。",
                expression="http.path",
            )
        )
    return urllib.parse.urlencode(request.query)


def require_no_parameters(request: Request) -> None:
    """Raise UnknownParameter for a parameter where none is defined, unless asked to be lenient."""
    if request.query and not request.prefer.is_lenient:
        raise UnknownParameter(
            Issue(
                code="not-supported",
                key="parameter-unknown",
                text_en="This interaction takes no such parameter.",
                text_zh="该交互不接受此参数。",
                fix_en="Leave it out, or send Prefer: handling=lenient to have it ignored.",
                fix_zh="请去掉该参数，或发送 Prefer: handling=lenient 以忽略它。",
                expression="http.query",
            )
        )


def _idempotency_key(request: Request) -> IdempotencyKey | None:
    key = request.header(b"idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
        raise InvalidContent(
            Issue(
                code="value",
                key="idempotency-key",
                text_en="The Idempotency-Key is empty, too long or not printable.",
                text_zh="Idempotency-Key 为空、过长或含不可打印字符。",
                fix_en="Send a new UUID for each request, 255 characters at most.",
                fix_zh="请为每个请求发送一个新的 UUID，最长 255 个字符。",
                expression="http.Idempotency-Key",
            )
        )
    wishes = (b"if-match", b"if-none-match", b"if-none-exist", b"content-type", b"prefer")
    address = request.address
    return IdempotencyKey(
        caller=f"{request.caller.client}|{request.caller.subject}",
        key=key,
        request=digest_of(
            request.method.encode(),
            f"{address.type}/{address.id}/{address.operation}".encode(),
            urllib.parse.urlencode(request.query).encode(),
            *(request.headers.get(name, b"") for name in wishes),
            request.body,
        ),
    )


def _reply_of(answer: Answer) -> Reply:
    """Return the answer to keep; the body's first line says of what kind it is."""
    return Reply(
        status=answer.status,
        headers=[(name.decode(), value.decode()) for name, value in answer.headers],
        body=answer.kind.encode() + b"\n" + answer.body,
    )


def _answer_of(reply: Reply) -> Answer:
    kind, _, body = reply.body.partition(b"\n")
    return Answer(
        status=reply.status,
        body=body,
        kind=kind.decode(),  # type: ignore[arg-type]
        headers=tuple((name.encode(), value.encode()) for name, value in reply.headers),
    )
