"""The history interaction at three levels."""

import base64
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from conformance.date_ranges import range_of
from conformance.problem import InvalidContent, Issue, UnknownParameter
from fhir_store.histories import HistoryPage, HistoryQuery, Place
from routes.answer import Answer
from routes.bundle_bytes import Link, bundle, history_entry
from routes.hub import Hub
from routes.interactions.read import require_visible
from routes.request import Request

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime(1, 1, 2, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
_KNOWN = frozenset({"_count", "_since", "_at", "_page"})


async def history_instance(hub: Hub, request: Request) -> Answer:
    """Return the versions of one resource, newest first.

    https://hl7.org/fhir/R4/http.html#history
    """
    await require_visible(hub, request)
    return await _history(hub, request, "r")


async def history_type(hub: Hub, request: Request) -> Answer:
    """Return the versions of all resources of a type, newest first.

    https://hl7.org/fhir/R4/http.html#history
    """
    return await _history(hub, request, "s")


async def history_system(hub: Hub, request: Request) -> Answer:
    """Return the versions of all resources, newest first.

    https://hl7.org/fhir/R4/http.html#history
    """
    return await _history(hub, request, "s")


async def _history(hub: Hub, request: Request, letter: str) -> Answer:
    query = _query_of(hub, request)
    authorization = await hub.authorize(request.caller, letter, request.address.type)
    page = await hub.store.history(query, authorization=authorization)
    entries = [history_entry(version, request.base, request.shape) for version in page.versions]
    body = bundle("history", entries, links=_links(request, page), at=datetime.now(UTC))
    return Answer(status=200, body=body)


def _query_of(hub: Hub, request: Request) -> HistoryQuery:
    values = _values_of(request)
    limits = hub.limits
    since = _span("_since", values["_since"])[0] if "_since" in values else None
    return HistoryQuery(
        type=request.address.type or None,
        id=request.address.id or None,
        since=since,
        at=_span("_at", values["_at"]) if "_at" in values else None,
        count=_count(values.get("_count"), limits.page_default, limits.page_maximum),
        after=_place_of(values["_page"]) if "_page" in values else None,
    )


def _values_of(request: Request) -> Mapping[str, str]:
    """Return the parameters by name; an unknown or repeated one is refused."""
    values: dict[str, str] = {}
    for name, value in request.query:
        if name in _KNOWN and name not in values:
            values[name] = value
        elif not request.prefer.is_lenient:
            raise UnknownParameter(
                Issue(
                    code="not-supported",
                    key="parameter-unknown",
                    text_en="A history takes _count, _since and _at, each once.",
                    text_zh="历史记录接受 _count、_since、_at，每个一次。",
                    fix_en="Leave other parameters out; use a search to filter by content.",
                    fix_zh="请去掉其他参数；按内容筛选请使用检索。",
                    expression="http.query",
                )
            )
    return values


def _count(text: str | None, default: int, most: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise _bad("_count", "a whole number", "整数")
    if int(text) == 0:
        raise _bad("_count", "1 or more", "不小于 1 的整数")
    return min(int(text), most)


def _span(name: str, text: str) -> tuple[datetime, datetime]:
    """Return the moments that a date covers, [start, end)."""
    try:
        first, last = range_of(text)
        return _moment(first), _moment(last + 1)
    except (ValueError, OverflowError) as error:
        raise _bad(name, "a date or time with its zone", "带时区的日期或时间") from error


def _moment(microseconds: int) -> datetime:
    """Return the moment, or the nearest that a timestamp can be: the first day has a time zone."""
    least, most = ((one - _EPOCH) // timedelta(microseconds=1) for one in (_FIRST, _LAST))
    return _EPOCH + timedelta(microseconds=min(max(microseconds, least), most))


def _place_of(token: str) -> Place:
    """Return where the page begins; the token holds no secret, so it bears no signature."""
    try:
        moment, rid, version = base64.urlsafe_b64decode(token + "==").decode("ascii").split(".")
        return Place(
            last_updated=_EPOCH + timedelta(microseconds=int(moment)),
            rid=int(rid) & 0x7FFF_FFFF_FFFF_FFFF,
            version=int(version) & 0x7FFF_FFFF,
        )
    except (ValueError, OverflowError) as error:
        raise _bad("_page", "the value of a 'next' link, unchanged", "next 链接中的原值") from error


def _links(request: Request, page: HistoryPage) -> list[Link]:
    address = request.address
    steps = [step for step in (address.type, address.id, "_history") if step]
    url = "/".join([request.base, *steps])
    kept = [(name, value) for name, value in request.query if name != "_page"]
    links = [Link(relation="self", url=_with(url, list(request.query)))]
    if page.next is not None:
        moment = (page.next.last_updated - _EPOCH) // timedelta(microseconds=1)
        text = f"{moment}.{page.next.rid}.{page.next.version}"
        token = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        links.append(Link(relation="next", url=_with(url, [*kept, ("_page", token)])))
    return links


def _with(url: str, query: list[tuple[str, str]]) -> str:
    return f"{url}?{urllib.parse.urlencode(query)}" if query else url


def _bad(name: str, form_en: str, form_zh: str) -> InvalidContent:
    return InvalidContent(
        Issue(
            code="value",
            key="parameter-value",
            text_en=f"The value of {name} cannot be read.",
            text_zh=f"{name} 的值无法读取。",
            fix_en=f"Send {form_en}.",
            fix_zh=f"请发送{form_zh}。",
            expression=f"http.{name}",
        )
    )
