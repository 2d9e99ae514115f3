"""Entries of batch-response and transaction-response Bundles; http.html#transaction-response."""

import orjson

from conformance.problem import Problem, to_operation_outcome
from fhir_store.operations import Written
from routes.answer import Answer
from routes.bundle_bytes import instant
from routes.render import part_of
from routes.request import Request
from routes.statuses import status_of

_REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    422: "Unprocessable Entity",
}


def written_entry(written: Written, request: Request) -> bytes:
    """Return the entry of one write; the resource is in it if the client prefers it so."""
    version = written.version
    if version.deleted or not version.version:
        return _entry(204, etag=version.version or None)
    address = f"{request.base}/{version.type}/{version.id}"
    is_wanted = request.prefer.return_ == "representation"
    return _entry(
        201 if written.created else 200,
        full_url=address if is_wanted else None,
        resource=version.body if is_wanted else None,
        location=f"{address}/_history/{version.version}",
        etag=version.version,
        last_modified=instant(version.last_updated),
    )


def answered_entry(answer: Answer, request: Request) -> bytes:
    """Return the entry of a request that was answered as if it had come alone."""
    headers = {name: value.decode() for name, value in answer.headers}
    body = answer.body or None
    if body is not None and answer.kind == "resource" and request.shape.is_partial:
        body = part_of(body, request.shape)
    is_write = request.method in {"POST", "PUT", "PATCH"} and "location" in {
        name.decode() for name in dict(answer.headers)
    }
    if is_write and request.prefer.return_ is None:
        body = None
    return _entry(
        answer.status,
        resource=body,
        location=headers.get(b"location"),
        etag=headers.get(b"etag"),
    )


def refused_entry(problem: Problem) -> bytes:
    """Return the entry of a request that was refused."""
    outcome = orjson.dumps(to_operation_outcome(problem.issues))
    return _entry(status_of(problem), outcome=outcome)


def _entry(
    status: int,
    *,
    full_url: str | None = None,
    resource: bytes | None = None,
    location: str | None = None,
    etag: int | str | None = None,
    last_modified: str | None = None,
    outcome: bytes | None = None,
) -> bytes:
    response = {"status": f"{status} {_REASONS.get(status, '')}".strip()}
    if location is not None:
        response["location"] = location
    if etag is not None:
        response["etag"] = f'W/"{etag}"' if isinstance(etag, int) else etag
    if last_modified is not None:
        response["lastModified"] = last_modified
    written = orjson.dumps(response)
    if outcome is not None:
        written = written[:-1] + b',"outcome":' + outcome + b"}"
    parts = []
    if full_url is not None:
        parts.append(b'"fullUrl":' + orjson.dumps(full_url))
    if resource is not None:
        parts.append(b'"resource":' + resource)
    parts.append(b'"response":' + written)
    return b"{" + b",".join(parts) + b"}"
