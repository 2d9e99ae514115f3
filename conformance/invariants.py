"""The constraints of R4, compiled for each type and judged over a whole resource.

https://hl7.org/fhir/R4/conformance-rules.html#constraints. A rule holds when it is true; empty is
not. `conformance.structure` judges form; the rules it already covers are left out here.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.constraint_reach import (
    BY_HAND,
    CERTAIN,
    Presence,
    keys_of,
    presence_test,
    shortcut,
)
from conformance.constraint_texts import ConstraintText, constraint_texts
from conformance.fhirpath import model
from conformance.fhirpath.direct import compile_test
from conformance.fhirpath.direct_steps import Test
from conformance.fhirpath.evaluation import NO_PORTS, Ports
from conformance.fhirpath.parser import parse
from conformance.fhirpath.scope import Scope
from conformance.problem import InvalidContent, Issue, NotSupported
from conformance.r4 import tables

COVERED = frozenset(
    {"ele-1", "ext-1", "ref-1", "dom-2", "dom-3", "dom-4", "dom-5", "dom-6", "txt-1", "txt-2"}
)
"""Keys of the rules that `conformance.structure` judges without FHIRPath.

dom-6, a narrative in every resource, is good practice between people; nobody asks it of machines.
"""

CORRECTIONS = {
    # `Boolean` is the System type, which a FHIR element never is (fhirpath.html#types); R4B and R5
    # say what is meant.
    "que-7": "operator = 'exists' implies (answer is boolean)",
    # Its text says "more than one", its expression more than two; R5 says one.
    "que-12": "enableWhen.count() > 1 implies enableBehavior.exists()",
    # Without a fullUrl the R4 text is empty; R5 asks only where there is one.
    "bdl-8": "fullUrl.exists() implies fullUrl.contains('/_history/').not()",
    # Without a probability the R4 text is empty.
    "ras-2": "probability.empty()"
    " or (probability is decimal implies (probability as decimal) <= 100)",
    # The code of the required value set is noshow; R4B says it.
    "app-4": "cancelationReason.exists() implies (status = 'noshow' or status = 'cancelled')",
    # `in` asks for one item on its left and `when` repeats; R4B asks of each.
    "tim-9": "offset.empty() or (when.exists()"
    " and when.select($this in ('C' | 'CM' | 'CD' | 'CV')).allFalse())",
    # Where precisions differ, `<=` is empty and the R4 text fails; R5 compares the boundaries.
    "per-1": "start.hasValue().not() or end.hasValue().not() or (start <= end)"
    " or (start.lowBoundary() <= end.highBoundary())",
    "mdd-1": "whenHandedOver.empty() or whenPrepared.empty() or (whenHandedOver >= whenPrepared)"
    " or (whenHandedOver.highBoundary() >= whenPrepared.lowBoundary())",
    # Units that cannot be compared give empty; R5 lets them pass.
    "rng-2": "low.value.empty() or high.value.empty() or (low <= high)"
    " or low.comparable(high).not()",
}
"""R4 rules whose expression is not what their text says, and what is evaluated instead."""

Place = tuple[Any, str, int | None] | None
"""A chain (parent, step, index) from an element up to its resource."""

Finding = tuple["Rule", Place, str]
Walk = Callable[[Any, Place, Scope, list[Finding]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One compiled constraint: `test(value, scope)` is true where it holds.

    It holds for an element that has none of the members in `keys`; None says nothing.
    """

    key: str
    severity: str
    expression: str
    test: Test
    keys: frozenset[str] | None = None

    def verdict(self, value: Any, scope: Scope) -> str:
        """Return "" where the rule holds, `broken` where not, `unjudged` where nobody can tell."""
        try:
            return "" if self.test(value, scope) is True else "broken"
        except (InvalidContent, NotSupported):
            return "unjudged"


def check(resource: Mapping[str, Any], *, ports: Ports = NO_PORTS) -> list[Issue]:
    """Return the constraints of R4 that the resource, its parts and its contained ones break.

    The resource should be structurally sound. Raises TooCostly over the limits of FHIRPath.
    """
    type_name = resource.get("resourceType")
    if not isinstance(type_name, str) or not model.is_resource(type_name):
        return []
    found: list[Finding] = []
    _walk_of(type_name)(resource, None, Scope(resource, None, ports), found)
    return [_issue(type_name, finding) for finding in found]


def rule_of(
    constraint: tables.Constraint, type_name: str, resource_type: str | None = None
) -> Rule:
    """Compile one constraint for elements of a type; raises InvalidContent if it cannot be."""
    expression = constraint.expression
    if CORRECTIONS.get(constraint.key) and _is_ours(constraint):
        expression = CORRECTIONS[constraint.key]
    tree = parse(expression)
    presence = BY_HAND.get(expression) or presence_test(tree, type_name)
    if presence is None:
        whole = compile_test(tree, type_name, resource_type, as_filters=True)
        certain = CERTAIN.get(constraint.key) if _is_ours(constraint) else None
        test = _quickened(whole, certain or shortcut(tree, type_name))
    else:
        test = _native(presence)
    rule = Rule(key=constraint.key, severity=constraint.severity, expression=expression, test=test)
    keys = keys_of(tree, type_name)
    if not keys or not _holds_for_nothing(rule, type_name):
        return rule
    return dataclasses.replace(rule, keys=keys)


def _native(presence: Presence) -> Test:
    return lambda value, _scope: presence(value)


def _quickened(test: Test, certain: Presence | None) -> Test:
    """Return a test that is not run where the members alone decide."""
    if certain is None:
        return test
    return lambda value, scope: certain(value) or test(value, scope)


def _holds_for_nothing(rule: Rule, type_name: str) -> bool:
    """Say whether a rule holds for an element without any member."""
    empty = {"resourceType": type_name} if model.is_resource(type_name) else {}
    scope = Scope(empty)
    scope.context = (empty, type_name)
    return rule.verdict(empty, scope) == ""


def _is_ours(constraint: tables.Constraint) -> bool:
    """Say whether the rule is R4's own and not another's of the same key."""
    return (constraint.key, constraint.expression) in _published()


@functools.cache
def _published() -> frozenset[tuple[str, str]]:
    """Return key and expression of all rules of R4, as published and as corrected."""
    found = set(CORRECTIONS.items())
    for info in tables.load().types.values():
        for rules in (info.constraints, *(one.constraints for one in info.elements.values())):
            found.update((rule.key, rule.expression) for rule in rules)
    return frozenset(found)


@functools.cache
def rules_of(type_name: str) -> tuple[Rule, ...]:
    """Return the rules of a type, or of a backbone element given by its path."""
    head, _, inner = type_name.partition(".")
    info = tables.load().types[head]
    constraints = info.constraints if not inner else info.elements[inner].constraints
    resource_type = head if info.kind == "resource" else None
    return tuple(
        rule_of(constraint, type_name, resource_type)
        for constraint in constraints
        if constraint.key not in COVERED
    )


def _plain_keys(type_name: str) -> frozenset[str]:
    """Return the JSON keys below which there is nothing to judge; most elements have no others."""
    slots = model.slots_of(type_name).items()
    return frozenset(
        key
        for key, (child, slot) in slots
        if slot.is_primitive and not _own_rules(type_name, child, slot)
    ) | {"resourceType"}


@functools.cache
def _walk_of(type_name: str) -> Walk:
    """Return the walk over elements of a type: its rules, then its children's."""
    rules, plain = rules_of(type_name), _plain_keys(type_name)
    handlers: dict[str, tuple[Walk, str] | None] = {}

    def handler_of(key: str) -> tuple[Walk, str] | None:
        is_companion = key[:1] == "_"
        known = model.slots_of(type_name).get(key[1:] if is_companion else key)
        inner = None
        if known is not None:
            inner = _walk_of("Element") if is_companion else _element_walk(type_name, *known)
        handlers[key] = (inner, model.step_of(*known)) if known and inner else None
        return handlers[key]

    def walk(value: Any, place: Place, scope: Scope, found: list[Finding]) -> None:
        if type(value) is not dict:
            return
        if rules:
            scope.context = (value, type_name)
            _judge(rules, value, place, scope, found)
        if plain.issuperset(value):
            return
        for key, content in value.items():
            try:
                handler = handlers[key]
            except KeyError:
                handler = handler_of(key)
            if handler is None:
                continue
            inner, step = handler
            if type(content) is list:
                for index, item in enumerate(content):
                    inner(item, (place, step, index), scope, found)
            else:
                inner(content, (place, step, None), scope, found)

    return walk


def _element_walk(owner: str, child: model.Child, slot: model.Slot) -> Walk | None:
    """Return the walk for one JSON key: the element's own rules and those of its type."""
    if slot.is_resource:
        return _walk_resource
    own = _own_rules(owner, child, slot)
    if slot.is_primitive:
        return _primitive_walk(own) if own else None
    inner = _walk_of(slot.type)
    if not own:
        return inner

    def walk(value: Any, place: Place, scope: Scope, found: list[Finding]) -> None:
        _judge(own, value, place, scope, found)
        inner(value, place, scope, found)

    return walk


def _primitive_walk(rules: tuple[Rule, ...]) -> Walk:
    return lambda value, place, scope, found: _judge(rules, value, place, scope, found)


def _judge(
    rules: tuple[Rule, ...], value: Any, place: Place, scope: Scope, found: list[Finding]
) -> None:
    for rule in rules:
        if rule.keys is not None and type(value) is dict and rule.keys.isdisjoint(value):
            continue
        try:
            if rule.test(value, scope) is not True:
                found.append((rule, place, "broken"))
        except (InvalidContent, NotSupported):
            found.append((rule, place, "unjudged"))


def _own_rules(owner: str, child: model.Child, slot: model.Slot) -> tuple[Rule, ...]:
    """Return the rules written at the element that its type does not bring itself."""
    head, _, inner = owner.partition(".")
    info = tables.load().types[head]
    written = child.name if not child.is_choice else f"{child.name}[x]"
    element = info.elements[f"{inner}.{written}" if inner else written]
    if slot.type == element.path:
        return ()
    brought = {rule.key for rule in rules_of(slot.type)} if not slot.is_primitive else set()
    resource_type = head if info.kind == "resource" else None
    return tuple(
        rule_of(constraint, slot.type, resource_type)
        for constraint in element.constraints
        if constraint.key not in COVERED and constraint.key not in brought
    )


def _walk_resource(value: Any, place: Place, scope: Scope, found: list[Finding]) -> None:
    """Judge a resource inside another: its own `%resource`, contained ones in their container."""
    type_name = value.get("resourceType") if isinstance(value, dict) else None
    if not isinstance(type_name, str) or not model.is_resource(type_name):
        return
    is_contained = place is not None and place[1] == "contained"
    root = scope.root if is_contained else value
    _walk_of(type_name)(value, place, Scope(value, root, scope.ports, scope.limits), found)


def expression_of(type_name: str, place: Place) -> str:
    """Return the FHIRPath of a place in a resource."""
    parts: list[str] = []
    while place is not None:
        place, step, index = place
        parts.append(step if index is None else f"{step}[{index}]")
    return ".".join([type_name, *reversed(parts)])


def _issue(type_name: str, finding: Finding) -> Issue:
    rule, place, verdict = finding
    if verdict == "unjudged":
        return Issue(
            severity="information",
            code="incomplete",
            key=rule.key,
            text_en=f"The rule {rule.key} could not be judged: {rule.expression}",
            text_zh=f"规则 {rule.key} 无法判定：{rule.expression}",
            expression=expression_of(type_name, place),
        )
    text = constraint_texts().get(rule.key)
    if text is None or (rule.key, rule.expression) not in _published():
        text = ConstraintText(
            f"The rule {rule.key} does not hold: {rule.expression}",
            f"不满足规则 {rule.key}：{rule.expression}",
            "Change the element so that this expression is true.",
            "请修改该元素，使此表达式为真。",
        )
    return Issue(
        severity=rule.severity,
        code="invariant",
        key=rule.key,
        text_en=text.en,
        text_zh=text.zh,
        fix_en=text.fix_en,
        fix_zh=text.fix_zh,
        expression=expression_of(type_name, place),
    )
