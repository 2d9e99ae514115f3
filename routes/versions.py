"""Answers about one version of a resource: headers, and what the client prefers to get back."""

from conformance.problem import Issue
from fhir_store.operations import Version, Written
from routes.answer import Answer, Headers, nothing, outcome
from routes.preferences import etag_matches, http_date, is_unmodified_since
from routes.request import Request


def headers_of(version: Version) -> Headers:
    """Return ETag and Last-Modified."""
    return (
        (b"etag", b'W/"%d"' % version.version),
        (b"last-modified", http_date(version.last_updated)),
    )


def answer_of(version: Version, request: Request) -> Answer:
    """Answer a read: the resource, or 304 if the client has it; http.html#cread."""
    headers = headers_of(version)
    if_none_match = request.header(b"if-none-match")
    if if_none_match is not None:
        if etag_matches(if_none_match, version.version):
            return nothing(304, headers)
    else:
        since = request.header(b"if-modified-since")
        if since is not None and is_unmodified_since(since, version.last_updated):
            return nothing(304, headers)
    return Answer(status=200, body=version.body, kind="resource", headers=headers)


def written_answer(written: Written, request: Request) -> Answer:
    """Answer a write as `Prefer: return=` asks; http.html#return."""
    version = written.version
    status = 201 if written.created else 200
    location = f"{request.base}/{version.type}/{version.id}/_history/{version.version}"
    headers = (*headers_of(version), (b"location", location.encode()))
    wished = request.prefer.return_
    if wished == "minimal":
        return nothing(status, headers)
    if wished == "OperationOutcome":
        return outcome(status, [_done(written)], headers)
    return Answer(status=status, body=version.body, kind="resource", headers=headers)


def _done(written: Written) -> Issue:
    if written.created:
        key, text_en, text_zh = "created", "The resource has been created.", "资源已创建。"
    elif written.changed:
        key, text_en, text_zh = "updated", "The resource has been updated.", "资源已更新。"
    else:
        key, text_en, text_zh = (
            "unchanged",
            "The content was there already; no new version was made.",
            "内容没有变化，未产生新版本。",
        )
    return Issue(
        severity="information", code="informational", key=key, text_en=text_en, text_zh=text_zh
    )
