"""Answers that stand under a code of an earlier edition of their form.

They are what was answered then, so they are taken, with the code of today named.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from conformance.cphc.concept_maps import FormerCode, former_codes
from conformance.problem import Issue


def former_code_issue(value: Any, options: Sequence[Any], where: str) -> Issue | None:
    """Return the warning that names today's code; None where the answer is of no earlier edition.

    A code that both editions have is known by its display alone.
    """
    if not isinstance(value, Mapping):
        return None
    code, display = value.get("code"), value.get("display")
    codings = [one for one in options if isinstance(one, Mapping)]
    for system in {one.get("system") for one in codings}:
        former = former_codes().get((str(value.get("system")), str(system)), {}).get(str(code))
        if former is None:
            continue
        today = [one for one in codings if _is_of(one, value.get("system"), code)]
        is_told_apart = display is not None and display == former.display
        if today and (not is_told_apart or today[0].get("display") == display):
            continue
        if not today and former.display is not None and display not in (None, former.display):
            continue
        return _issue(value, former, str(system), where)
    return None


def _is_of(option: Mapping[str, Any], system: Any, code: Any) -> bool:
    return bool(option.get("system") == system and option.get("code") == code)


def _issue(value: Mapping[str, Any], former: FormerCode, system: str, where: str) -> Issue:
    codes = ", ".join(former.targets)
    is_open = len(former.targets) > 1
    also_en = f", and answer {former.beside[0]} with {former.beside[1]}" if former.beside else ""
    also_zh = f"，并将 {former.beside[0]} 答为 {former.beside[1]}" if former.beside else ""
    return Issue(
        severity="warning",
        code="code-invalid",
        key="form-former-code",
        expression=where,
        text_en=f"The answer {value.get('code')} is a code of an earlier edition of the form",
        text_zh=f"答案 {value.get('code')} 是该表单旧版的代码",
        fix_en=f"Write {'one of ' if is_open else ''}{codes} of {system}{also_en}"
        + ("; a person chooses." if is_open else "."),
        fix_zh=f"现行代码为 {system} 的 {codes}{also_zh}{'，须由人工选定' if is_open else ''}。",
    )
