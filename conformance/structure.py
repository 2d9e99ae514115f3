"""Structural validation: whether this is a resource of R4, element by element.

`check` returns issues, `require_valid` raises: form, types, numbers of values, required codes,
references, contained resources, extensions, narratives, and then R4's constraints in FHIRPath
(`conformance.invariants`). Profiles are judged by `conformance.profiles`.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conformance import invariants
from conformance.findings import Found
from conformance.problem import InvalidContent, Issue, TooCostly
from conformance.structure_compile import Compiler
from conformance.structure_texts import TEXTS

_MOST_ISSUES = 200
_TOO_DEEP = Issue(
    severity="fatal",
    code="too-long",
    key="too-deep",
    text_en="The resource is nested too deeply to be checked.",
    text_zh="资源嵌套过深，无法校验。",
    fix_en="Send flatter data: no resource of the standard needs so many levels.",
    fix_zh="请减少嵌套层数：标准资源不需要这么多层。",
)


@functools.cache
def _compiler(*, narratives: bool) -> Compiler:
    return Compiler(narratives=narratives)


def check(
    resource: Mapping[str, Any],
    *,
    constraints: bool = True,
    narratives: bool = True,
    trusts_references: bool = False,
) -> list[Issue]:
    """Return what is wrong with a resource by base R4; an empty list means it is valid.

    Where the structure has no error, R4's constraints are judged too, unless `constraints` is
    False; some of them are warnings. `narratives` says whether their XHTML is read. With
    `trusts_references` a reference that is neither absolute nor `Type/id` is a warning. Never
    raises on bad content. Expressions are FHIRPath from the resource's type. At most 200 issues
    are told.
    """
    value = resource if type(resource) is dict else dict(resource)
    compiler = _compiler(narratives=narratives)
    try:
        found = None if compiler.certainly_fits(value) else compiler.whole_resource(value)
        if not found:
            return _check_constraints(value) if constraints else []
    except RecursionError:
        return [_TOO_DEEP]
    name = value.get("resourceType")
    root = name if type(name) is str and name.isidentifier() else "Resource"
    issues = [issue_of(root, one) for one in found[:_MOST_ISSUES]]
    if not trusts_references:
        return issues
    issues = [_trusted(one) for one in issues]
    if constraints and all(one.severity == "warning" for one in issues):
        issues += _check_constraints(value)
    return issues


def _trusted(issue: Issue) -> Issue:
    return replace(issue, severity="warning") if issue.key == "bad-reference" else issue


def _check_constraints(resource: dict[str, Any]) -> list[Issue]:
    try:
        return invariants.check(resource)[:_MOST_ISSUES]
    except TooCostly as problem:
        return list(problem.issues)


def require_valid(resource: Mapping[str, Any]) -> None:
    """Raise InvalidContent with every error `check` finds (TooCostly if it is nested too deep)."""
    errors = [issue for issue in check(resource) if issue.severity in {"error", "fatal"}]
    if errors:
        raise (TooCostly if errors == [_TOO_DEEP] else InvalidContent)(*errors)


def issue_of(root: str, found: Found) -> Issue:
    """Return a finding with its texts; `root` is the type of the resource."""
    path, key, arguments = found
    text = TEXTS[key]
    values = [*arguments, "", ""]
    fix_en, fix_zh = text.fix_en, text.fix_zh
    if key == "unknown-element" and arguments[1]:
        fix_en, fix_zh = "Did you mean {1}?", "是否应为 {1}？"
    return Issue(
        code=text.code,
        key=key,
        text_en=text.en.format(*values),
        text_zh=text.zh.format(*values),
        fix_en=fix_en.format(*values),
        fix_zh=fix_zh.format(*values),
        expression=root + path,
    )
