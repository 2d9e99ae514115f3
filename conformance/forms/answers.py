"""QuestionnaireResponse against its Questionnaire.

https://hl7.org/fhir/R4/questionnaireresponse.html#notes
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.forms.answer_rules import check_answer, extension_values, issue
from conformance.forms.calculated import check_calculated
from conformance.forms.enabling import is_enabled, same
from conformance.forms.occurrences import Occurrences, Seen
from conformance.problem import Issue
from conformance.terminology.concepts import value_of
from conformance.terminology.library import Library

_FHIR = "http://hl7.org/fhir/StructureDefinition/"
COMPLETE = ("completed", "amended")
DEEPEST = 32


@dataclass(frozen=True, slots=True)
class _Checking:
    library: Library
    occurrences: Occurrences
    is_complete: bool

    def is_asked(self, question: Mapping[str, Any], place: int, above: tuple[int, ...]) -> bool:
        return is_enabled(question, Seen(self.occurrences, place, above))


def check_response(
    response: Mapping[str, Any], questionnaire: Mapping[str, Any] | None, library: Library
) -> list[Issue]:
    """Return everything that is wrong with the answers; the structure itself is checked elsewhere.

    A missing answer counts once the response is completed or amended.
    """
    if questionnaire is None:
        return [
            issue(
                "questionnaire-not-found",
                "QuestionnaireResponse.questionnaire",
                "The questionnaire of the response is not known",
                "找不到答卷所属的问卷",
                "Create the Questionnaire, or correct the canonical address.",
                "请先创建问卷，或更正其规范地址。",
            )
        ]
    checking = _Checking(
        library, Occurrences(response.get("item", ())), response.get("status") in COMPLETE
    )
    found = list(
        _check_items(
            questionnaire.get("item", ()),
            response.get("item", ()),
            "QuestionnaireResponse",
            checking,
            (),
        )
    )
    if any(one.severity == "error" for one in found):
        return found  # what is calculated from faulty answers would only repeat their fault
    return [*found, *check_calculated(response, questionnaire)]


def _check_items(
    questions: Sequence[Mapping[str, Any]],
    items: Sequence[Mapping[str, Any]],
    place: str,
    checking: _Checking,
    above: tuple[int, ...],
) -> Iterator[Issue]:
    """Judge items of one level; `above` are the places of the items around them."""
    if len(above) > DEEPEST:
        yield issue(
            "depth",
            place,
            f"Items are nested deeper than {DEEPEST}",
            f"题目嵌套超过 {DEEPEST} 层",
            "Flatten the response as the questionnaire has it.",
            "请按问卷的层次填写。",
        )
        return
    known = {question["linkId"]: question for question in questions}
    given: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for number, item in enumerate(items):
        here = f"{place}.item[{number}]"
        link_id = item.get("linkId", "")
        if link_id in known:
            given.setdefault(link_id, []).append((here, item))
        else:
            yield issue(
                "link-id",
                here,
                f"There is no question {link_id!r} at this place",
                f"此处没有题目 {link_id!r}",
                "Use the linkId and the nesting of the questionnaire.",
                "请使用问卷中的 linkId 与层次。",
            )
    yield from _check_order(list(known), items, place)
    behind = above[-1] + 1 if above else 0  # where a question would stand that is not answered
    for link_id, question in known.items():
        own = given.get(link_id, [])
        if own or checking.is_asked(question, behind, above):
            yield from _check_question(question, own, place, checking, above)
        if own:
            behind = checking.occurrences.end_of(own[-1][1])


def _check_order(
    asked: Sequence[str], items: Sequence[Mapping[str, Any]], place: str
) -> Iterator[Issue]:
    """Judge that answers stand in the order of their questions; unknown ones are told elsewhere."""
    order = {link_id: number for number, link_id in enumerate(asked)}
    last = -1
    for number, item in enumerate(items):
        here = order.get(item.get("linkId", ""), last)
        if here < last:
            name, after = asked[here], asked[last]
            yield issue(
                "order",
                f"{place}.item[{number}]",
                f"Question {name} stands behind {after}, and the questionnaire asks it before",
                f"题目 {name} 排在 {after} 之后，而问卷中它在前",
                f"Move {name} in front of {after}: items stand in the order of the questionnaire.",
                f"请将 {name} 移到 {after} 之前：题目顺序应与问卷一致。",
            )
        last = max(last, here)


def _check_question(
    question: Mapping[str, Any],
    given: Sequence[tuple[str, Mapping[str, Any]]],
    place: str,
    checking: _Checking,
    above: tuple[int, ...],
) -> Iterator[Issue]:
    name, kind = question["linkId"], question.get("type")
    places = checking.occurrences.place_of
    verdicts = [checking.is_asked(question, places(item), above) for _, item in given]
    if not all(verdicts):
        yield from _check_not_asked(name, itertools.compress(given, (not one for one in verdicts)))
        given = list(itertools.compress(given, verdicts))
        if not given:
            return
    count = sum(len(item.get("answer", ())) for _, item in given)
    occurrences = len(given) if kind == "group" else count
    if checking.is_complete:
        yield from _check_presence(question, occurrences, place)
    if occurrences > 1 or len(given) > 1:
        yield from _check_repetition(question, occurrences, given)
    for here, item in given:
        if kind in ("group", "display", "question"):
            yield from _check_without_answer(question, item, here)
        elif item.get("item"):
            yield _misplaced(name, here)
        if kind == "group":
            nested, inner = question.get("item", ()), (*above, places(item))
            yield from _check_items(nested, item.get("item", ()), here, checking, inner)
            continue
        for number, answer in enumerate(item.get("answer", ())):
            inside = f"{here}.answer[{number}]"
            if kind not in ("display", "question"):
                yield from check_answer(question, answer, inside, checking.library)
            nested, inner = question.get("item", ()), (*above, places(item))
            yield from _check_items(nested, answer.get("item", ()), inside, checking, inner)
    yield from _check_exclusive(question, given)


def _check_not_asked(name: str, given: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Issue]:
    for here, item in given:
        if item.get("answer") or item.get("item"):
            yield issue(
                "not-enabled",
                here,
                f"Question {name} is answered though it is not asked",
                f"题目 {name} 未启用却有答案",
                "Remove the answer, or change what enableWhen asks for.",
                "请删除该答案，或更改其启用条件所依据的答案。",
            )


def _check_presence(question: Mapping[str, Any], count: int, place: str) -> Iterator[Issue]:
    least = extension_values(question, f"{_FHIR}questionnaire-minOccurs")
    needed = max([1 if question.get("required") else 0, *least])
    if question.get("type") != "display" and count < needed:
        name = question["linkId"]
        yield Issue(
            code="required",
            key="form-required",
            expression=place,
            text_en=f"Question {name} needs {needed} answer(s) and has {count}",
            text_zh=f"题目 {name} 需要 {needed} 个答案，现有 {count} 个",
            fix_en="Answer it, or leave the response in-progress.",
            fix_zh="请作答，或将答卷保持为进行中。",
        )


def _check_repetition(
    question: Mapping[str, Any], count: int, given: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[Issue]:
    most = extension_values(question, f"{_FHIR}questionnaire-maxOccurs")
    if (count > 1 and not question.get("repeats")) or (most and count > most[0]):
        name = question["linkId"]
        limit = most[0] if most and question.get("repeats") else 1
        yield issue(
            "repeats",
            given[-1][0],
            f"Question {name} is answered {count} times of at most {limit}",
            f"题目 {name} 作答 {count} 次，最多 {limit} 次",
            "Keep one answer, or correct the count.",
            "请只保留允许数量的答案。",
        )


def _check_without_answer(
    question: Mapping[str, Any], item: Mapping[str, Any], here: str
) -> Iterator[Issue]:
    kind = question.get("type")
    if item.get("answer") or (kind != "group" and kind == "display"):
        yield issue(
            "no-answer",
            here,
            f"{question['linkId']} is a {kind} and takes no answer",
            f"{question['linkId']} 为 {kind}，不能作答",
            "Put the answers on the questions inside.",
            "请在其下的题目中作答。",
        )
    elif kind == "question":
        yield issue(
            "abstract",
            here,
            "The questionnaire gives this question no type of its own",
            "问卷未给出该题目的具体类型",
            "Give Questionnaire.item.type a concrete type.",
            "请为 Questionnaire.item.type 指定具体类型。",
        )


def _misplaced(name: str, here: str) -> Issue:
    return issue(
        "nesting",
        here,
        f"Question {name} holds items beside its answers",
        f"题目 {name} 的子题目未放在答案之下",
        "Put nested items inside answer.item.",
        "请把子题目放入 answer.item。",
    )


def _check_exclusive(
    question: Mapping[str, Any], given: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[Issue]:
    exclusive = [
        value_of(option)
        for option in question.get("answerOption", ())
        if True in extension_values(option, f"{_FHIR}questionnaire-optionExclusive")
    ]
    values = [value_of(answer) for _, item in given for answer in item.get("answer", ())]
    if len(values) > 1 and any(same(value, option) for value in values for option in exclusive):
        yield issue(
            "exclusive",
            given[0][0],
            f"Question {question['linkId']} has an answer that stands alone beside others",
            f"题目 {question['linkId']} 的排他选项与其他选项同时被选",
            "Keep the exclusive option alone, or take it away.",
            "请只保留排他选项，或取消它。",
        )
