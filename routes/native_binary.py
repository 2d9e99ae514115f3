"""Binary in its native form: other content than FHIR's goes in and out as it is.

https://hl7.org/fhir/R4/binary.html#rest
"""

import base64
import re
from typing import Any

from msgspec import structs

from conformance import resource_json
from routes.answer import Answer
from routes.negotiation import is_of_fhir, media_types_in, not_acceptable
from routes.request import Request

BINARY = "Binary"
# What stands in a header must be one line of printable ASCII.
_HEADER = re.compile(r"[!-~]+/[!-~]+( [!-~]+)*")
# A page or a drawing may hold scripts, and comes from where the records are.
_HARMLESS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
)


def is_native(request: Request) -> bool:
    """Say whether the body is the content of a Binary, not a resource."""
    address = request.address
    content_type = request.header(b"content-type")
    is_binary = address.type == BINARY and not (address.operation or address.member)
    return is_binary and bool(content_type) and not is_of_fhir(content_type or "")


def binary_of(request: Request) -> dict[str, Any]:
    """Return the resource of a native body; `X-Security-Context` names whose it is."""
    resource: dict[str, Any] = {"resourceType": BINARY}
    if request.address.id:
        resource["id"] = request.address.id
    resource["contentType"] = request.header(b"content-type")
    if context := request.header(b"x-security-context"):
        resource["securityContext"] = {"reference": context}
    resource["data"] = base64.b64encode(request.body).decode()
    return resource


def as_asked_for(answer: Answer, request: Request) -> Answer:
    """Return the answer to a read: the content itself where Accept names its type before FHIR's."""
    accept = request.header(b"accept")
    has_choice = request.address.type == BINARY and answer.kind == "resource"
    if not has_choice or not accept or any(name == "_format" for name, _ in request.asked):
        return answer
    resource = resource_json.parse(answer.body)
    content_type = str(resource.get("contentType", ""))
    for wanted in media_types_in(accept):
        if is_of_fhir(wanted, as_answer=True):
            return answer
        if _covers(wanted, content_type) and _HEADER.fullmatch(content_type):
            headers = (*answer.headers, (b"content-type", content_type.encode()), *_HARMLESS)
            body = base64.b64decode(resource.get("data", ""))
            return structs.replace(answer, kind="file", body=body, headers=headers)
    raise not_acceptable()


def _covers(wanted: str, content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return wanted in (kind, f"{kind.partition('/')[0]}/*")
