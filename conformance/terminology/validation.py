"""$validate-code on ValueSet and CodeSystem.

https://hl7.org/fhir/R4/valueset-operation-validate-code.html
https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from conformance.problem import NotFound
from conformance.terminology.concepts import CodeSystem, Concept, value_of
from conformance.terminology.expansion import STANDARDS_STATUS, cautions
from conformance.terminology.languages import wording
from conformance.terminology.library import Library
from conformance.terminology.members import (
    Member,
    Reading,
    canonical_of,
    code_system_not_here,
    members_of,
)

TX_ISSUE_TYPE = "http://hl7.org/fhir/tools/CodeSystem/tx-issue-type"
VALUE_SET_DEPRECATED = "http://hl7.org/fhir/StructureDefinition/valueset-deprecated"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeQuestion:
    """One coding to check; `place` is where it stands in the request, as FHIRPath."""

    system: str | None
    version: str | None
    code: str
    display: str | None
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to say of a code; `kind` is a code of the tx-issue-type list."""

    severity: str
    code: str
    kind: str
    text: str
    expression: str | None = None

    def to_fhir(self) -> dict[str, Any]:
        """Return the OperationOutcome.issue."""
        issue: dict[str, Any] = {
            "severity": self.severity,
            "code": self.code,
            "details": {
                "coding": [{"system": TX_ISSUE_TYPE, "code": self.kind}],
                "text": self.text,
            },
        }
        if self.expression:
            issue["expression"] = [self.expression]
            if self.kind != "invalid-display":
                issue["location"] = [self.expression]  # deprecated in R4, still read by some
        return issue


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeAnswer:
    """What is known of the coding after looking."""

    question: CodeQuestion
    concept: Concept | None
    system: CodeSystem | None
    display: str | None
    findings: tuple[Finding, ...]

    @property
    def is_valid(self) -> bool:
        """Say whether nothing speaks against the coding."""
        return all(finding.severity not in ("error", "fatal") for finding in self.findings)


def validate_in_value_set(
    question: CodeQuestion,
    value_set: Mapping[str, Any],
    library: Library,
    supplements: tuple[str, ...] = (),
) -> CodeAnswer:
    """Check one coding against a value set; raises NotFound for what cannot be read."""
    reading = Reading(library=library, supplements=supplements)
    members = members_of(value_set, reading)
    member = _find(question, members)
    system_url = question.system or (member.system if member else None)
    system = _system_of(system_url, question.version, reading)
    concept = member.concept if member else system.find(question.code) if system else None
    findings = [_status_finding(*caution, reading) for caution in cautions(value_set, reading)]
    if member is None and concept is None and system and system.url in reading.partial:
        findings.append(_unknown_code(question, system))
    elif member is None:
        findings += _not_in(question, concept, system_url, system, value_set)
    if member:
        findings += _deprecated_in(member, question, value_set)
    if concept:
        findings += _comments(concept, question)
        findings += _wrong_display(question, concept, system, member)
    display = member.display if member else concept.display if concept else None
    return CodeAnswer(
        question=question, concept=concept, system=system, display=display, findings=tuple(findings)
    )


def validate_in_code_system(question: CodeQuestion, system: CodeSystem) -> CodeAnswer:
    """Check one coding against a code system; raises NotFound where its codes are not here."""
    if system.is_name_only:
        raise NotFound(code_system_not_here(system.url))
    concept = system.find(question.code)
    findings: list[Finding] = []
    if concept is None:
        findings.append(_unknown_code(question, system))
    else:
        findings += _comments(concept, question)
        findings += _wrong_display(question, concept, system, None)
    return CodeAnswer(
        question=question,
        concept=concept,
        system=system,
        display=concept.display if concept else None,
        findings=tuple(findings),
    )


def refused_as_abstract(answer: CodeAnswer) -> CodeAnswer:
    """Return the answer where only concepts that may be used in a record are lawful."""
    code = answer.question.code
    text = (
        f"The concept '{code}' is abstract, and abstract concepts are not allowed in this context"
    )
    finding = Finding(
        severity="error",
        code="business-rule",
        kind="code-rule",
        text=text,
        expression=_inside(answer.question, "code"),
    )
    return replace(answer, findings=(*answer.findings, finding))


def in_language(answer: CodeAnswer, wish: str | None) -> CodeAnswer:
    """Return the answer with its display in the language asked for, where there is one."""
    if not wish or answer.concept is None or answer.system is None:
        return answer
    own = answer.system.resource.get("language")
    return replace(answer, display=wording(answer.display, own, answer.concept.designations, wish))


def to_parameters(answer: CodeAnswer, *, codeable_concept: Any = None) -> dict[str, Any]:
    """Return the operation's output."""
    question, system = answer.question, answer.system
    status = answer.concept.status if answer.concept else None
    texts = [f.text for f in answer.findings if f.severity == "error"] or [
        f.text
        for f in answer.findings
        if f.kind == "code-comment" and " in the value set " not in f.text
    ]
    issues = [finding.to_fhir() for finding in answer.findings]
    parameters: list[tuple[str, str, Any]] = [
        ("result", "valueBoolean", answer.is_valid),
        ("code", "valueCode", answer.concept.code if answer.concept else question.code),
        ("system", "valueUri", system.url if system else question.system),
        ("version", "valueString", system.version if system and answer.concept else None),
        ("display", "valueString", answer.display),
        (
            "inactive",
            "valueBoolean",
            True if answer.concept and answer.concept.is_inactive else None,
        ),
        ("status", "valueCode", status),
        ("message", "valueString", "; ".join(texts) or None),
        ("codeableConcept", "valueCodeableConcept", codeable_concept),
        (
            "issues",
            "resource",
            {"resourceType": "OperationOutcome", "issue": issues} if issues else None,
        ),
    ]
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": n, kind: value} for n, kind, value in parameters if value is not None
        ],
    }


def _find(question: CodeQuestion, members: Mapping[tuple[str, str], Member]) -> Member | None:
    if question.system is not None:
        found = members.get((question.system, question.code))
        if found is None:
            folded = question.code.casefold()
            same_system = (m for m in members.values() if m.system == question.system)
            found = next(
                (m for m in same_system if m.concept and m.code.casefold() == folded != m.code),
                None,
            )
            found = found if found and _ignores_case(found) else None
        return found
    fitting = [member for (_, code), member in members.items() if code == question.code]
    return fitting[0] if len({m.system for m in fitting}) == 1 else None


def _ignores_case(member: Member) -> bool:
    return member.concept is not None and member.code != member.concept.code


def _system_of(url: str | None, version: str | None, reading: Reading) -> CodeSystem | None:
    if url is None:
        return None
    return reading.code_system(f"{url}|{version}" if version else url)


def _status_finding(canonical: str, status: str, reading: Reading) -> Finding:
    kind = "CodeSystem" if canonical in reading.systems else "ValueSet"
    text = f"Reference to {status} {kind} {canonical}"
    return Finding(severity="information", code="business-rule", kind="status-check", text=text)


def _not_in(
    question: CodeQuestion,
    concept: Concept | None,
    system_url: str | None,
    system: CodeSystem | None,
    value_set: Mapping[str, Any],
) -> Iterable[Finding]:
    place = _inside(question, "code")
    if system is not None and concept is None:
        yield _unknown_code(question, system)
    if concept and concept.is_inactive and value_set.get("compose", {}).get("inactive") is False:
        text = f"The concept '{concept.code}' is valid but is not active"
        yield Finding(
            severity="error", code="business-rule", kind="code-rule", text=text, expression=place
        )
    named = f"{system_url}#{question.code}" if system_url else question.code
    text = f"The provided code '{named}' was not found in the value set '{canonical_of(value_set)}'"
    yield Finding(
        severity="error", code="code-invalid", kind="not-in-vs", text=text, expression=place
    )


def _unknown_code(question: CodeQuestion, system: CodeSystem) -> Finding:
    version = f" version '{system.version}'" if system.version else ""
    text = f"Unknown code '{question.code}' in the CodeSystem '{system.url}'{version}"
    if not system.is_whole:
        text += f", of which only a part is here (content: {system.resource['content']})"
    return Finding(
        severity="error" if system.is_whole else "warning",
        code="code-invalid",
        kind="invalid-code",
        text=text,
        expression=_inside(question, "code"),
    )


def _deprecated_in(
    member: Member, question: CodeQuestion, value_set: Mapping[str, Any]
) -> Iterable[Finding]:
    for extension in member.enumerated.get("extension", ()):
        marked = extension.get("url") == VALUE_SET_DEPRECATED and value_of(extension) in (
            True,
            "true",
        )
        if marked or (
            extension.get("url") == STANDARDS_STATUS and value_of(extension) == "deprecated"
        ):
            text = (
                f"The presence of the concept '{member.code}' in the system '{member.system}' in "
                f"the value set {canonical_of(value_set)} is marked with a status of deprecated "
                "and its use should be reviewed"
            )
            yield Finding(
                severity="warning",
                code="business-rule",
                kind="code-comment",
                text=text,
                expression=_inside(question, "code"),
            )


def _comments(concept: Concept, question: CodeQuestion) -> Iterable[Finding]:
    if concept.is_inactive:
        status = concept.status
        words = f"{status} and inactive" if status and status != "inactive" else "inactive"
        text = (
            f"The concept '{concept.code}' has a status of {words} and its use should be reviewed"
        )
        yield Finding(
            severity="warning",
            code="business-rule",
            kind="code-comment",
            text=text,
            expression=question.place or None,
        )


def _wrong_display(
    question: CodeQuestion, concept: Concept, system: CodeSystem | None, member: Member | None
) -> Iterable[Finding]:
    """Compare wording without regard to case and spaces, in every language there is."""
    if question.display is None or system is None:
        return
    language = system.resource.get("language", "")
    choices: list[tuple[str, str]] = [(concept.display, language)] if concept.display else []
    choices += [
        (str(d["value"]), str(d["language"])) for d in concept.designations if "language" in d
    ]
    own = [str(d["value"]) for d in concept.designations if "language" not in d]
    own += [str(member.enumerated["display"])] if member and "display" in member.enumerated else []
    said = " ".join(question.display.casefold().split())
    if said in (" ".join(text.casefold().split()) for text in [*own, *(c for c, _ in choices)]):
        return
    listed = " or ".join(f"'{text}' ({of})" if of else f"'{text}'" for text, of in choices)
    many = f"one of {len(choices)} choices: " if len(choices) > 1 else ""
    text = (
        f"Wrong Display Name '{question.display}' for {system.url}#{concept.code}. "
        f"Valid display is {many}{listed} (for the language(s) '--')"
    )
    yield Finding(
        severity="error",
        code="invalid",
        kind="invalid-display",
        text=text,
        expression=_inside(question, "display"),
    )


def _inside(question: CodeQuestion, element: str) -> str:
    return f"{question.place}.{element}" if question.place else element
