"""The addresses of a bulk export: its status, its files, and its end.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-status-request
"""

import email.utils
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from conformance import resource_json
from conformance.problem import Problem, to_operation_outcome
from fhir_store.audit import Access
from routes.export_jobs import ExportJobs, Job
from routes.hub import Hub
from routes.operations.export import owner_of
from routes.statuses import headers_of, status_of

PLACE = "/exports"
NDJSON = "application/fhir+ndjson"
# AuditEvent.outcome, as for every other access.
_DONE, _REFUSED = 0, 4
Handle = Callable[[Request, str], Awaitable[Response]]


def export_router(hub: Hub, jobs: ExportJobs) -> APIRouter:
    """Return the routes beside the FHIR base; each knows the caller by the same token."""
    router = APIRouter()

    def add(path: str, method: str, handle: Handle) -> None:
        async def answer(request: Request) -> Response:
            action = f"$export-{method.lower()}"
            actor, outcome = "unknown", _REFUSED
            try:
                caller = await hub.identify(request.headers.get("authorization"))
                actor = caller.fhir_user or caller.subject
                response = await handle(request, owner_of(caller))
                outcome = _DONE
            except Problem as problem:
                response = _refusal(problem)
            hub.note(
                Access(
                    actor=actor,
                    at=datetime.now(UTC),
                    action=action,
                    outcome=outcome,
                    detail=request.url.path[:200],
                )
            )
            return response

        router.add_api_route(
            path, answer, methods=[method], include_in_schema=False, response_model=None
        )

    async def status(request: Request, owner: str) -> Response:
        job = jobs.read(request.path_params["job"], owner)
        return _status(job, jobs.limits.kept_seconds)

    async def cancel(request: Request, owner: str) -> Response:
        await jobs.cancel(request.path_params["job"], owner)
        return Response(status_code=202)

    async def file(request: Request, owner: str) -> Response:
        params = request.path_params
        path = jobs.path_of(params["job"], params["file"], owner)
        return FileResponse(path, media_type=NDJSON, headers={"cache-control": "no-store"})

    add(f"{PLACE}/{{job}}", "GET", status)
    add(f"{PLACE}/{{job}}", "DELETE", cancel)
    add(f"{PLACE}/{{job}}/{{file}}", "GET", file)
    return router


def _status(job: Job, kept_seconds: float) -> Response:
    if job.state == "running":
        headers = {"x-progress": job.progress, "retry-after": "1"}
        return Response(status_code=202, headers=headers)
    if job.state == "failed":
        body = resource_json.dump(to_operation_outcome(job.issues))
        return Response(body, status_code=500, media_type="application/fhir+json")
    expires = datetime.fromtimestamp(job.started + kept_seconds, UTC)
    headers = {"expires": email.utils.format_datetime(expires, usegmt=True)}
    body = msgspec.json.encode(_manifest(job))
    return Response(body, media_type="application/json", headers=headers)


def _manifest(job: Job) -> dict[str, Any]:
    place = f"{job.root}{PLACE}/{job.id}"
    return {
        "transactionTime": job.transaction_time,
        "request": job.request,
        "requiresAccessToken": job.requires_token,
        "output": [
            {"type": one.type, "url": f"{place}/{one.file}", "count": one.count}
            for one in job.output
        ],
        "error": [],
    }


def _refusal(problem: Problem) -> Response:
    headers = {name.decode(): value.decode() for name, value in headers_of(problem)}
    body = resource_json.dump(to_operation_outcome(problem.issues))
    status = status_of(problem)
    return Response(body, status_code=status, media_type="application/fhir+json", headers=headers)
