"""The failures we can name to the other side, as one family.

Problem
├── InvalidContent        the content breaks a rule                        400 invalid
│   ├── InvalidStructure  JSON, XML or HL7 cannot be read                  400 structure
│   ├── UnknownParameter  a search parameter or option nobody defined      400 not-supported
│   └── BusinessRule      lawful data, unlawful wish                       422 business-rule
├── NotFound              nothing there, or nothing you may see            404 not-found
├── Gone                  it was deleted                                   410 deleted
├── VersionConflict       somebody else wrote first                        412 conflict
├── DuplicateFound        more than one match where one is needed          412 multiple-matches
├── EditConflict          writers collided; try again                      409 conflict
├── NotAllowed            known caller, no right                           403 forbidden
├── NotAuthenticated      unknown caller                                   401 login
├── TooCostly             over a limit of size, depth, time or count       413/422 too-costly
├── Throttled             too much at once; come back later                429 throttled
├── NotSupported          we do not do this                                501→400 not-supported
└── Unavailable           a part of ours is away for the moment            503 transient

Each carries `Issue`s; the table from kind to HTTP status stands in `routes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DETAILS_SYSTEM = "https://fhir.qiao.example/cphc/CodeSystem/cphc-issue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One finding: what is wrong, where, and how to mend it; without patient values.

    `code` is an IssueType (http://hl7.org/fhir/ValueSet/issue-type), `key` our own stable code
    for `details.coding`, `expression` a FHIRPath to the element.
    """

    severity: str = "error"
    code: str = "invalid"
    key: str
    text_en: str
    text_zh: str
    fix_en: str = ""
    fix_zh: str = ""
    expression: str | None = None
    line: int | None = None
    column: int | None = None

    def to_fhir(self) -> dict[str, Any]:
        """Return the `OperationOutcome.issue` element."""
        text = f"{self.text_en} / {self.text_zh}"
        issue: dict[str, Any] = {
            "severity": self.severity,
            "code": self.code,
            "details": {"coding": [{"system": DETAILS_SYSTEM, "code": self.key}], "text": text},
        }
        fix = " / ".join(part for part in (self.fix_en, self.fix_zh) if part)
        if fix:
            issue["diagnostics"] = fix
        if self.expression is not None:
            issue["expression"] = [self.expression]
        if self.line is not None:
            issue["extension"] = [
                {"url": f"{_ISSUE_EXTENSION}-{name}", "valueInteger": number}
                for name, number in (("line", self.line), ("col", self.column))
                if number is not None
            ]
        return issue


_ISSUE_EXTENSION = "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue"


def to_operation_outcome(issues: Sequence[Issue]) -> dict[str, Any]:
    """Return the issues as an OperationOutcome resource."""
    return {"resourceType": "OperationOutcome", "issue": [issue.to_fhir() for issue in issues]}


class Problem(Exception):
    """A failure we can name to the other side."""

    def __init__(self, *issues: Issue) -> None:
        super().__init__("; ".join(issue.text_en for issue in issues))
        self.issues = issues


class InvalidContent(Problem):
    """The content breaks a rule; sending it again unchanged cannot help."""


class InvalidStructure(InvalidContent):
    """The bytes cannot be read as what they claim to be."""


class UnknownParameter(InvalidContent):
    """A parameter, modifier or option is not defined, or not for this type."""


class BusinessRule(InvalidContent):
    """The data are lawful, the wish is not."""


class NotFound(Problem):
    """Nothing is there, or nothing the caller may see."""


class Gone(Problem):
    """It was here and has been deleted."""


class VersionConflict(Problem):
    """The version named in If-Match is not the current one."""


class DuplicateFound(Problem):
    """More than one resource matches where one is needed."""


class EditConflict(Problem):
    """Two writers collided; the same request may succeed when tried again."""


class NotAllowed(Problem):
    """The caller is known and has no right to this."""


class NotAuthenticated(Problem):
    """The caller is unknown or the token is not valid."""


class TooCostly(Problem):
    """A limit of size, depth, time or number is exceeded."""


class Throttled(Problem):
    """Too much at once; the caller should come back later."""


class NotSupported(Problem):
    """The hub does not do this."""


class Unavailable(Problem):
    """A part of the hub is away for the moment; try again."""
