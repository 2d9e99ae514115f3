"""The update interaction, by id and by criteria."""

from fhir_store.operations import Update
from routes.answer import Answer
from routes.bodies import require_same_id, resource_to_write
from routes.hub import Hub
from routes.preferences import parse_if_match
from routes.request import Request
from routes.versions import written_answer
from routes.writing import criteria_of, require_no_parameters, write


async def update(hub: Hub, request: Request) -> Answer:
    """Write the next version, or the first under an id the client chose.

    https://hl7.org/fhir/R4/http.html#update
    """
    require_no_parameters(request)
    resource = await resource_to_write(request, hub)
    require_same_id(resource, request.address.id)
    operation = Update(
        resource=resource, if_match=if_match_of(request), must_be_new=must_be_new(request)
    )
    return await write(hub, request, operation, written_answer)


async def conditional_update(hub: Hub, request: Request) -> Answer:
    """Update the one resource that matches the criteria, or create it.

    https://hl7.org/fhir/R4/http.html#cond-update
    """
    resource = await resource_to_write(request, hub)
    operation = Update(
        resource=resource,
        criteria=criteria_of(request),
        if_match=if_match_of(request),
        must_be_new=must_be_new(request),
    )
    return await write(hub, request, operation, written_answer)


def if_match_of(request: Request) -> int | None:
    """Return the version that the client says is current."""
    header = request.header(b"if-match")
    return None if header is None else parse_if_match(header)


def must_be_new(request: Request) -> bool:
    """Say whether the client wants to create only: `If-None-Match: *`."""
    return (request.header(b"if-none-match") or "").strip() == "*"
