"""Which wording of a concept is shown to whom: https://hl7.org/fhir/R4/languages.html."""

from collections.abc import Iterable, Mapping
from typing import Any

_MOST = 20  # languages of one wish that are looked at


def ranked(wish: str) -> tuple[str, ...]:
    """Return the languages of `zh-CN, en;q=0.5` in lower case, the most wanted first.

    The form is that of Accept-Language (RFC 9110 12.5.4); what is wanted with `q=0` or cannot be
    read is left out.
    """
    found = []
    for part in wish.split(",")[:_MOST]:
        tag, _, rest = part.partition(";")
        weight = _weight(rest)
        if tag.strip() and weight > 0:
            found.append((-weight, tag.strip().lower()))
    return tuple(tag for _, tag in sorted(found, key=lambda one: one[0]))


def _weight(text: str) -> float:
    name, _, value = text.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def wording(
    display: str | None,
    language: str | None,
    designations: Iterable[Mapping[str, Any]],
    wish: str | None,
) -> str | None:
    """Return the wording in the first wanted language that there is, else the display itself.

    `language` is that of the display, where the code system says so.
    """
    known = [(str(d["language"]).lower(), str(d["value"])) for d in designations if "language" in d]
    if language and display is not None:
        known.insert(0, (language.lower(), display))
    for wanted in ranked(wish or ""):
        if wanted == "*":
            return display
        for fits in (_is_same, _is_kin):
            for tag, text in known:
                if fits(tag, wanted):
                    return text
    return display


def _is_same(tag: str, wanted: str) -> bool:
    return tag == wanted


def _is_kin(tag: str, wanted: str) -> bool:
    return tag.partition("-")[0] == wanted.partition("-")[0]
