"""An answer before it is rendered, and the few ways to make one."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from conformance import resource_json
from conformance.problem import Issue, to_operation_outcome

Headers = tuple[tuple[bytes, bytes], ...]
# `resource`: parts may be left out on request; `whole`: an outcome, or a Bundle whose entries
# are shaped already; `none`: no body; `file`: bytes whose content type stands in the headers.
Kind = Literal["resource", "whole", "none", "file"]


class Answer(Struct, frozen=True, kw_only=True):
    """Status, headers and a body of FHIR JSON that is ready to be sent."""

    status: int
    body: bytes = b""
    kind: Kind = "whole"
    headers: Headers = ()


def nothing(status: int, headers: Headers = ()) -> Answer:
    """Return an answer without a body."""
    return Answer(status=status, kind="none", headers=headers)


def outcome(status: int, issues: Sequence[Issue], headers: Headers = ()) -> Answer:
    """Return an OperationOutcome."""
    body = resource_json.dump(to_operation_outcome(issues))
    return Answer(status=status, body=body, headers=headers)
