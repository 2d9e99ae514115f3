"""The console's addresses: pages below /console, its own small API below /console/api.

Messages hold whole records, so only a caller whose rights open every type may see them ("s"), and
only one who may change every type may move them ("u").
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from conformance import resource_json
from conformance.problem import InvalidStructure, Issue, Problem, to_operation_outcome
from conformance.r4.tables import load
from fhir_store.audit import Access
from fhir_store.failures import outage_of
from routes.authorize import not_allowed
from routes.bearer import Caller
from routes.console import browsing, playground, work
from routes.console.assets import page
from routes.console.desk import Desk
from routes.console.held_codes import Resolution
from routes.negotiation import unsupported_media_type
from routes.receive_body import receive_body
from routes.statuses import headers_of, status_of

PLACE = "/console"
_DONE, _REFUSED = 0, 4  # AuditEvent.outcome
Body = TypeVar("Body", bound=msgspec.Struct)
Handle = Callable[[Request, Caller], Awaitable[Any]]


def console_router(desk: Desk) -> APIRouter:
    """Return the console's routes."""
    router = APIRouter()
    for path, method, letter, handle in (*_reading(desk), *_moving(desk), *_trying(desk)):
        _add(router, desk, f"{PLACE}/api{path}", method, letter, handle)

    async def pages(request: Request) -> Response:
        return page(desk.assets(), request.path_params.get("path", ""))

    for path in (PLACE, f"{PLACE}/{{path:path}}"):
        router.add_api_route(path, pages, methods=["GET"], include_in_schema=False)
    return router


Route = tuple[str, str, str, Handle]


def _reading(desk: Desk) -> list[Route]:
    async def find(request: Request, _: Caller) -> Any:
        return await browsing.find(desk, dict(request.query_params))

    async def kinds(_: Request, __: Caller) -> Any:
        return await browsing.kinds(desk)

    async def show(request: Request, _: Caller) -> Any:
        return await browsing.show(desk, _number(request))

    async def queues(_: Request, __: Caller) -> Any:
        return await work.queues(desk)

    return [
        ("/messages", "GET", "s", find),
        ("/kinds", "GET", "s", kinds),
        ("/messages/{number}", "GET", "s", show),
        ("/queues", "GET", "s", queues),
    ]


def _moving(desk: Desk) -> list[Route]:
    async def rehearse(request: Request, _: Caller) -> Any:
        asked = await _body(desk, request, work.Rehearsal)
        return await work.rehearse(desk, _number(request), asked)

    async def replay(request: Request, caller: Caller) -> Any:
        return await work.replay(desk, await _body(desk, request, work.Replays), actor_of(caller))

    async def skip(request: Request, caller: Caller) -> Any:
        asked = await _body(desk, request, work.Reason)
        return await work.skip(desk, _number(request), asked, actor_of(caller))

    async def resolve(request: Request, caller: Caller) -> Any:
        asked = await _body(desk, request, Resolution)
        return await work.resolve(desk, asked, actor_of(caller))

    return [
        ("/messages/{number}/rehearse", "POST", "s", rehearse),
        ("/messages/{number}/skip", "POST", "u", skip),
        ("/replay", "POST", "u", replay),
        ("/codes", "POST", "u", resolve),
    ]


def _trying(desk: Desk) -> list[Route]:
    async def try_out(request: Request, _: Caller) -> Any:
        return playground.try_out(desk, await _body(desk, request, playground.Trial))

    async def map_files(_: Request, __: Caller) -> Any:
        return {"files": playground.map_files(desk)}

    async def map_file(request: Request, _: Caller) -> Any:
        return playground.map_file(desk, request.path_params["name"])

    async def samples(_: Request, __: Caller) -> Any:
        return {"samples": playground.samples(desk)}

    async def save_case(request: Request, _: Caller) -> Any:
        return playground.save_case(desk, await _body(desk, request, playground.NewCase))

    return [
        ("/try", "POST", "s", try_out),
        ("/maps", "GET", "s", map_files),
        ("/maps/{name:path}", "GET", "s", map_file),
        ("/samples", "GET", "s", samples),
        ("/cases", "POST", "u", save_case),
    ]


def _add(
    router: APIRouter, desk: Desk, path: str, method: str, letter: str, handle: Handle
) -> None:
    async def answer(request: Request) -> Response:
        actor, outcome = "unknown", _REFUSED
        try:
            caller = await desk.hub.identify(request.headers.get("authorization"))
            actor = actor_of(caller)
            await require_everything(desk, caller, letter)
            found = await handle(request, caller)
            response = Response(
                orjson.dumps(found, default=_plain),
                media_type="application/json",
                headers={"cache-control": "no-store"},
            )
            outcome = _DONE
        except Problem as problem:
            response = _refusal(problem)
        except Exception as failure:
            if (away := outage_of(failure)) is None:
                raise
            response = _refusal(away)
        desk.hub.note(
            Access(
                actor=actor,
                at=datetime.now(UTC),
                action=f"console-{method.lower()}",
                outcome=outcome,
                detail=request.url.path[:200],
            )
        )
        return response

    router.add_api_route(path, answer, methods=[method], include_in_schema=False)


async def require_everything(desk: Desk, caller: Caller, letter: str) -> None:
    """Raise NotAllowed unless the caller's rights open every type without narrowing."""
    rights = await desk.hub.authorize(caller, letter, "Patient")
    if any(rights.criteria_of(type_) is not None for type_ in load().resource_types):
        raise not_allowed()


def actor_of(caller: Caller) -> str:
    """Return who it is, for the audit."""
    return caller.fhir_user or caller.subject


async def _body(desk: Desk, request: Request, kind: type[Body]) -> Body:
    # A page of another site can send a form without asking, but no JSON.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise unsupported_media_type("Content-Type: application/json", "application/json")
    data = await receive_body(
        request.receive,
        content_length=request.headers.get("content-length", "").encode() or None,
        encoding=request.headers.get("content-encoding", "").encode() or None,
        limits=desk.hub.limits,
    )
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as failure:
        raise InvalidStructure(_unreadable(str(failure))) from None


def _number(request: Request) -> int:
    text = request.path_params["number"]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidStructure(_unreadable("the message's number is not a number"))
    return int(text)


def _unreadable(reason: str) -> Issue:
    return Issue(
        code="structure",
        key="console-request",
        text_en=f"The request cannot be read: {reason}",
        text_zh="请求无法读取",
        fix_en="Send what docs/reference/console.md names.",
        fix_zh="请按 docs/reference/console.md 的说明发送。",
        expression="http.body",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


def _refusal(problem: Problem) -> Response:
    headers = {name.decode(): value.decode() for name, value in headers_of(problem)}
    body = resource_json.dump(to_operation_outcome(problem.issues))
    return Response(
        body, status_code=status_of(problem), media_type="application/fhir+json", headers=headers
    )
