"""The constraints that a profile adds to its base."""

from typing import Any

from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.direct import compile_test
from conformance.fhirpath.direct_steps import Test
from conformance.fhirpath.evaluation import Closure, Frame, Run, truth
from conformance.fhirpath.nodes import Node
from conformance.fhirpath.parser import parse
from conformance.problem import InvalidContent, NotSupported, TooCostly
from conformance.profiles.run import CheckRun, owner_of
from conformance.profiles.shapes import Shape
from conformance.profiles.slicing import NodeCheck
from conformance.profiles.texts import fault

_LONGEST = 1_000  # characters of a rule that a message shows


def rule_checks(shape: Shape, url: str, *, is_root: bool) -> list[NodeCheck]:
    """Compile the rules of an element that its base does not bring.

    `%resource` is the resource whose element it is: for a rule written at `Bundle.entry.resource`
    the Bundle, for one at a profile's root the resource itself.
    """
    known = {rule.get("key") for rule in shape.base.get("constraint", ())}
    return [
        _rule_check(rule, url, is_root=is_root)
        for rule in shape.facts.get("constraint", ())
        if rule.get("key") not in known and rule.get("expression")
    ]


def _rule_check(rule: dict[str, Any], url: str, *, is_root: bool) -> NodeCheck:
    expression, key = str(rule["expression"]), str(rule.get("key"))
    try:
        tree = parse(expression)
        general = Compiler(as_filters=True).expression(tree)
    except (InvalidContent, TooCostly) as problem:
        raise fault("profile-broken", url, f"rule {key}: {problem}") from problem
    said = str(rule.get("human") or expression)[:_LONGEST]
    finding = "constraint-warning" if rule.get("severity") == "warning" else "constraint"
    direct: dict[str, Test] = {}

    def check(node: Node, run: CheckRun) -> None:
        owner = owner_of(node if is_root or node.parent is None else node.parent)
        try:
            if isinstance(node.value, dict):
                test = direct.get(node.type)
                if test is None:
                    test = compile_test(tree, node.type, None, as_filters=True)
                    direct[node.type] = test
                scope = run.scope_of(owner)
                scope.context = (node.value, node.type)
                verdict = test(node.value, scope)
            else:
                verdict = _general_verdict(general, node, owner, run)
        except (InvalidContent, NotSupported):
            verdict = None
        except (TooCostly, RecursionError):
            run.add("constraint-costly", node, url, key)
            return
        if verdict is not True:
            run.add(finding, node, url, key, said, expression[:_LONGEST])

    return check


def _general_verdict(closure: Closure, node: Node, owner: Node, run: CheckRun) -> bool | None:
    inner = Run([node], resource=[owner], root=[run.root], ports=run.ports)
    return truth(closure(Frame(inner, [node])), "this rule")
