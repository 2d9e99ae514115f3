"""The two ways in which a patch is refused: it cannot be read, or it does not fit the resource."""

from conformance.problem import BusinessRule, InvalidContent, Issue


def unreadable(number: int | None, what_en: str, what_zh: str, fix_en: str = "") -> InvalidContent:
    """Return the refusal of a patch document that breaks its own format."""
    where_en, where_zh = _where(number)
    return InvalidContent(
        Issue(
            code="invalid",
            key="patch-unreadable",
            text_en=f"The patch cannot be read{where_en}: {what_en}.",
            text_zh=f"补丁无法读取{where_zh}：{what_zh}。",
            fix_en=fix_en or "Correct the patch document and send it again.",
            fix_zh="请改正补丁内容后重新发送。",
            expression=_expression(number),
        )
    )


def inapplicable(number: int, what_en: str, what_zh: str, fix_en: str = "") -> BusinessRule:
    """Return the refusal of a readable patch that does not fit the resource as it is now."""
    where_en, where_zh = _where(number)
    return BusinessRule(
        Issue(
            code="processing",
            key="patch-inapplicable",
            text_en=f"The patch does not fit the resource{where_en}: {what_en}.",
            text_zh=f"补丁与资源当前内容不符{where_zh}：{what_zh}。",
            fix_en=fix_en or "Read the resource again and build the patch on what it holds now.",
            fix_zh="请重新读取该资源，并按其当前内容生成补丁。",
            expression=_expression(number),
        )
    )


def _where(number: int | None) -> tuple[str, str]:
    if number is None:
        return "", ""
    return f" (operation {number + 1})", f"（第 {number + 1} 个操作）"


def _expression(number: int | None) -> str | None:
    return None if number is None else f"operation[{number}]"
