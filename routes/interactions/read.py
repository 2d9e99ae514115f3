"""The read and vread interactions."""

from routes.answer import Answer
from routes.hub import Hub
from routes.request import Request
from routes.versions import answer_of
from routes.writing import require_no_parameters


async def read(hub: Hub, request: Request) -> Answer:
    """Return the current version of a resource.

    https://hl7.org/fhir/R4/http.html#read
    """
    require_no_parameters(request)
    address = request.address
    version = await hub.store.read(address.type, address.id)
    return answer_of(version, request)


async def vread(hub: Hub, request: Request) -> Answer:
    """Return one version of a resource.

    https://hl7.org/fhir/R4/http.html#vread
    """
    require_no_parameters(request)
    address = request.address
    number = int(address.version) if address.version.isascii() and address.version.isdigit() else 0
    version = await hub.store.vread(address.type, address.id, number)
    return answer_of(version, request)
