"""Every option list of the forms as CodeSystem and ValueSet, so that its codes can be looked up.

The questions keep their `answerOption`s, coded in these systems: a score, an option that stands
alone and the order of the paper belong to the question.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from conformance.cphc import BASE
from conformance.cphc.code_systems import CONFIDENCE, CONFIDENCE_EXTENSION
from conformance.forms.options import shared_lists
from conformance.forms.questionnaires import ORDINAL, VERSION, questionnaires, translation_of

SYSTEMS = f"{BASE}/CodeSystem/"
SOURCE = "国家基本公共卫生服务规范（第三版）"
_SCALES = "General knowledge of the psychological scale"


class _List(NamedTuple):
    """One list; `options` are (code, label, score)."""

    id: str
    chinese: str
    english: str
    source: str
    confidence: str
    options: Sequence[tuple[str, str, int | None]]


def option_value_sets() -> Iterator[dict[str, Any]]:
    """Yield a CodeSystem and a ValueSet for each option list, shared ones first."""
    shared = list(_shared())
    known = {f"{SYSTEMS}{one.id}" for one in shared}
    for one in (*shared, *_own_lists(known)):
        yield _code_system(one)
        yield _value_set(one)


def _shared() -> Iterator[_List]:
    for name, one in shared_lists().items():
        source = SOURCE if one.confidence == "secondary" else _SCALES
        options = [(option.code, option.label, option.score) for option in one.options]
        yield _List(f"phs3-{name}", one.chinese, one.english, source, one.confidence, options)


def _own_lists(known: set[str]) -> Iterator[_List]:
    """Yield the lists that stand in one form; each question there has a system of its own."""
    for form in questionnaires().values():
        confidence = form["extension"][0]["valueCode"]
        source = SOURCE if form["id"].startswith("phs3-") else _SCALES
        for item in _choices(form["item"]):
            codings = [option["valueCoding"] for option in item["answerOption"]]
            system = codings[0]["system"]
            if system not in known:
                yield _List(
                    system.removeprefix(SYSTEMS),
                    f"{form['title']}：{item['text']}",
                    f"{translation_of(form['_title'])}: {translation_of(item['_text'])}",
                    source,
                    confidence,
                    [(one["code"], one["display"], _score_of(one)) for one in codings],
                )


def _choices(items: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for item in items:
        if "answerOption" in item:
            yield item
        yield from _choices(item.get("item", ()))


def _score_of(coding: Mapping[str, Any]) -> int | None:
    scores: list[int] = [extension["valueDecimal"] for extension in coding.get("extension", ())]
    return scores[0] if scores else None


def _code_system(one: _List) -> dict[str, Any]:
    return {
        "resourceType": "CodeSystem",
        "id": one.id,
        "language": "zh",
        "extension": [{"url": CONFIDENCE_EXTENSION, "valueCode": one.confidence}],
        "url": f"{SYSTEMS}{one.id}",
        "version": VERSION,
        "name": _name(one.id),
        "title": f"{one.chinese} ({one.english})",
        "status": "active",
        "purpose": f"{one.source}. Confidence: {CONFIDENCE[one.confidence]}.",
        "caseSensitive": True,
        "valueSet": f"{BASE}/ValueSet/vs-{one.id}",
        "content": "complete",
        "count": len(one.options),
        "concept": [_concept(*option) for option in one.options],
    }


def _concept(code: str, label: str, score: int | None) -> dict[str, Any]:
    concept = {"code": code, "display": label}
    if score is None:
        return concept
    return {"extension": [{"url": ORDINAL, "valueDecimal": score}], **concept}


def _value_set(one: _List) -> dict[str, Any]:
    id_ = f"vs-{one.id}"
    return {
        "resourceType": "ValueSet",
        "id": id_,
        "language": "zh",
        "url": f"{BASE}/ValueSet/{id_}",
        "version": VERSION,
        "name": _name(id_),
        "title": f"{one.chinese} ({one.english})",
        "status": "active",
        "compose": {"include": [{"system": f"{SYSTEMS}{one.id}"}]},
    }


def _name(id_: str) -> str:
    return "".join(part.capitalize() for part in id_.split("-"))
