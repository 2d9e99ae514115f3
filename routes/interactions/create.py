"""The create interaction."""

from fhir_store.operations import Create
from routes.answer import Answer
from routes.bodies import resource_to_write
from routes.hub import Hub
from routes.request import Request
from routes.versions import written_answer
from routes.writing import require_no_parameters, write


async def create(hub: Hub, request: Request) -> Answer:
    """Create a resource, or find the one that If-None-Exist means.

    https://hl7.org/fhir/R4/http.html#create
    """
    require_no_parameters(request)
    resource = await resource_to_write(request, hub)
    operation = Create(resource=resource, if_none_exist=request.header(b"if-none-exist"))
    return await write(hub, request, operation, written_answer)
