"""How FHIRPath says no: each refusal names the place in the expression and what would mend it."""

from collections.abc import Iterable
from dataclasses import replace

from conformance.fhirpath.chinese import in_chinese
from conformance.near_names import nearest
from conformance.problem import InvalidContent, Issue, NotSupported, TooCostly


def place_of(source: str, at: int) -> str:
    """Return `line L, column C` (both from 1) of the character `at` in the expression."""
    before = source[:at]
    return f"line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))}"


def in_place(failure: InvalidContent, source: str, at: int) -> InvalidContent:
    """Return the refusal with the place in the expression, where it has none yet."""
    if any(issue.line is not None for issue in failure.issues):
        return failure
    before = source[:at]
    line, column = before.count("\n") + 1, at - before.rfind("\n")
    placed = [
        replace(
            issue,
            text_en=f"{place_of(source, at)}: {issue.text_en}",
            text_zh=f"第 {line} 行第 {column} 列：{issue.text_zh}",
            line=line,
            column=column,
        )
        for issue in failure.issues
    ]
    return type(failure)(*placed)


def invalid_syntax(source: str, at: int, *, expected: str, found: str) -> InvalidContent:
    """Return the refusal of a text that is not FHIRPath."""
    place = place_of(source, at)
    before = source[:at]
    line, column = before.count("\n") + 1, at - before.rfind("\n")
    return InvalidContent(
        Issue(
            code="invalid",
            key="fhirpath-syntax",
            text_en=f"Not a FHIRPath expression: {place}: expected {expected}, found {found}",
            text_zh=f"不是有效的 FHIRPath 表达式：第 {line} 行第 {column} 列"
            f"应为{in_chinese(expected)}，实际为{in_chinese(found)}",
            fix_en="Correct the expression at this place; "
            "the grammar is http://hl7.org/fhirpath/N1/grammar.html.",
            fix_zh="请在该处更正表达式；语法见 http://hl7.org/fhirpath/N1/grammar.html。",
            line=line,
            column=column,
        )
    )


def invalid_use(
    text_en: str, text_zh: str, *, fix_en: str = "", fix_zh: str = ""
) -> InvalidContent:
    """Return the refusal of an expression that is FHIRPath and cannot be evaluated."""
    return InvalidContent(
        Issue(
            code="invalid",
            key="fhirpath-evaluation",
            text_en=text_en,
            text_zh=text_zh,
            fix_en=fix_en or "Correct the expression or the data it is applied to.",
            fix_zh=fix_zh or "请更正表达式或其所作用的数据。",
        )
    )


def unknown_name(
    what: str, name: str, known: str = "", candidates: Iterable[str] = ()
) -> InvalidContent:
    """Return the refusal of a function, type, variable or element nobody defined.

    `known` are the only names there are; of `candidates` the nearest is suggested.
    """
    near = nearest(name, candidates)
    fix = f"Use one of: {known}." if known else "Check the spelling."
    fix_zh = f"可用：{known}。" if known else "请检查拼写。"
    if near:
        fix, fix_zh = f"Did you mean {near}?", f"是否应为 {near}？"
    return InvalidContent(
        Issue(
            code="not-found" if what != "function" else "not-supported",
            key="fhirpath-unknown",
            text_en=f"FHIRPath knows no {what} `{name}`",
            text_zh=f"FHIRPath 中没有定义{in_chinese(what)} `{name}`",
            fix_en=fix,
            fix_zh=fix_zh,
        )
    )


def too_costly(what: str, limit: int) -> TooCostly:
    """Return the refusal of an expression that would take more than we give."""
    return TooCostly(
        Issue(
            code="too-costly",
            key="fhirpath-limit",
            text_en=f"The FHIRPath expression needs more {what} than the limit of {limit}",
            text_zh=f"FHIRPath 表达式超出限制：{in_chinese(what)}上限为 {limit}",
            fix_en="Simplify the expression or apply it to less data.",
            fix_zh="请简化表达式，或减少其所作用的数据。",
        )
    )


def no_port(function: str, port: str) -> NotSupported:
    """Return the refusal of a function whose outside helper was not given."""
    return NotSupported(
        Issue(
            code="not-supported",
            key="fhirpath-port",
            text_en=f"`{function}()` needs a {port}, and none was given to this evaluation",
            text_zh=f"`{function}()` 需要{in_chinese(port)}，本次求值未提供",
            fix_en="Evaluate it on the hub, where it is wired, or leave the function out.",
            fix_zh="请在已接通该服务的桥上求值，或去掉该函数。",
        )
    )
