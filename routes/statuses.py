"""Problems as HTTP answers: one table from kind to status, and always an OperationOutcome."""

from collections.abc import Mapping

from conformance.problem import (
    BusinessRule,
    DuplicateFound,
    EditConflict,
    Gone,
    InvalidContent,
    Issue,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotSupported,
    Problem,
    Throttled,
    TooCostly,
    Unavailable,
    UnknownParameter,
    VersionConflict,
)
from routes.negotiation import NotAcceptable, UnsupportedMediaType


class MethodNotAllowed(NotSupported):
    """The address exists and does not answer to this method."""

    def __init__(self, *allowed: str) -> None:
        names = ", ".join(allowed)
        super().__init__(
            Issue(
                code="not-supported",
                key="method",
                text_en="This address does not answer to this method.",
                text_zh="该地址不支持此方法。",
                fix_en=f"Use one of {names}.",
                fix_zh=f"请使用 {names}。",
                expression="http.method",
            )
        )
        self.allowed = allowed


class ReceiveTimeout(TooCostly):
    """The request did not arrive in time."""


class AddressTooLong(TooCostly):
    """The URL is longer than what is read."""


# The first class that fits rules, so the special stand before the general.
STATUS: Mapping[type[Problem], int] = {
    NotAcceptable: 406,
    UnsupportedMediaType: 415,
    MethodNotAllowed: 405,
    ReceiveTimeout: 408,
    AddressTooLong: 414,
    BusinessRule: 422,
    UnknownParameter: 400,
    InvalidContent: 400,
    NotFound: 404,
    Gone: 410,
    VersionConflict: 412,
    DuplicateFound: 412,
    EditConflict: 409,
    NotAllowed: 403,
    NotAuthenticated: 401,
    TooCostly: 422,
    Throttled: 429,
    NotSupported: 400,
    Unavailable: 503,
    Problem: 400,
}


def status_of(problem: Problem) -> int:
    """Return the HTTP status of a problem."""
    if type(problem) is TooCostly and any(issue.code == "too-long" for issue in problem.issues):
        return 413
    for kind in type(problem).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500  # pragma: no cover


def headers_of(problem: Problem) -> list[tuple[bytes, bytes]]:
    """Return the headers that belong to the status: how to log in, when to come back."""
    if isinstance(problem, NotAuthenticated):
        return [(b"www-authenticate", b'Bearer realm="fhir"')]
    if isinstance(problem, Throttled | Unavailable):
        return [(b"retry-after", b"2")]
    if isinstance(problem, MethodNotAllowed):
        return [(b"allow", ", ".join(problem.allowed).encode())]
    return []


def too_long(what_en: str, what_zh: str, limit: str, expression: str | None = None) -> TooCostly:
    """Return the refusal (413) of something larger than its limit."""
    return TooCostly(
        Issue(
            code="too-long",
            key="too-long",
            text_en=f"{what_en} is over the limit of {limit}.",
            text_zh=f"{what_zh}超过上限 {limit}。",
            fix_en="Send it in smaller parts, or as an import.",
            fix_zh="请拆分后发送，或使用导入。",
            expression=expression,
        )
    )


def unexpected() -> Issue:
    """Return what a client hears of a fault of ours: nothing but a word and what to do."""
    return Issue(
        severity="fatal",
        code="exception",
        key="unexpected",
        text_en="The hub failed; this is not the fault of the request.",
        text_zh="系统内部出错，与请求内容无关。",
        fix_en="Try again; if it stays, give the value of X-Request-Id to whoever runs the hub.",
        fix_zh="请重试；如仍失败，请将 X-Request-Id 告知系统管理员。",
    )
