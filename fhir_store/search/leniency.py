"""A refused parameter: as a warning for who is treated leniently, or as the refusal it stays."""

from dataclasses import replace

from conformance.problem import Issue, UnknownParameter


def without_leniency(unknown: UnknownParameter) -> UnknownParameter:
    """Return the refusal without the advice to have the parameter left out."""
    fixes = (
        "See the CapabilityStatement for the parameters of each type.",
        "各类型的参数见 CapabilityStatement。",
    )
    return UnknownParameter(
        *(
            replace(issue, fix_en=fixes[0], fix_zh=fixes[1])
            if "handling=lenient" in issue.fix_en
            else issue
            for issue in unknown.issues
        )
    )


def as_warning(issue: Issue) -> Issue:
    """Return the refusal of a parameter as the warning that it was left out."""
    return Issue(
        severity="warning",
        code=issue.code,
        key=issue.key,
        text_en=issue.text_en + " (left out)",
        text_zh=issue.text_zh + "（已忽略）",
        fix_en=issue.fix_en,
        fix_zh=issue.fix_zh,
        expression=issue.expression,
    )
