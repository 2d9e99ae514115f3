"""The delete interaction, by id and by criteria."""

from collections.abc import Sequence

from conformance.problem import Issue
from fhir_store.operations import Delete, Written
from routes.answer import Answer, nothing, outcome
from routes.hub import Hub
from routes.interactions.update import if_match_of
from routes.request import Request
from routes.versions import headers_of
from routes.writing import criteria_of, require_no_parameters, write


async def delete(hub: Hub, request: Request) -> Answer:
    """Leave a tombstone; deleting what is not there succeeds.

    https://hl7.org/fhir/R4/http.html#delete
    """
    require_no_parameters(request)
    operation = Delete(
        type=request.address.type, id=request.address.id, if_match=if_match_of(request)
    )
    return await write(hub, request, operation, _deleted_answer)


async def conditional_delete(hub: Hub, request: Request) -> Answer:
    """Delete the one resource that matches the criteria; several are refused.

    https://hl7.org/fhir/R4/http.html#3.1.0.7.1
    """
    operation = Delete(type=request.address.type, criteria=criteria_of(request))
    return await write(hub, request, operation, _deleted_answer)


def _deleted_answer(written: Written, request: Request) -> Answer:
    headers = headers_of(written.version)[:1] if written.version.version else ()
    if request.prefer.return_ == "OperationOutcome":
        return outcome(200, _done(), headers)
    return nothing(204, headers)


def _done() -> Sequence[Issue]:
    return [
        Issue(
            severity="information",
            code="informational",
            key="deleted",
            text_en="The resource is deleted.",
            text_zh="资源已删除。",
        )
    ]
