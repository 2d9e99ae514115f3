"""The read and vread interactions."""

from fhir_store.operations import Version
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
    return answer_of(await version_asked_for(hub, request, "read"), request)


async def vread(hub: Hub, request: Request) -> Answer:
    """Return one version of a resource.

    https://hl7.org/fhir/R4/http.html#vread
    """
    require_no_parameters(request)
    return answer_of(await version_asked_for(hub, request, "vread"), request)


async def version_asked_for(hub: Hub, request: Request, interaction: str) -> Version:
    """Return the version that the address names, the current one if it names none."""
    address = request.address
    if not address.version:
        return await hub.store.read(address.type, address.id)
    text = address.version
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return await hub.store.vread(address.type, address.id, number)
