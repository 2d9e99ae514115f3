"""The constraints that a profile adds to its base."""

from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.direct import compile_test
from conformance.fhirpath.direct_steps import Test
from conformance.fhirpath.evaluation import Closure, Frame, Run, truth
from conformance.fhirpath.nodes import Node
from conformance.fhirpath.parser import parse
from conformance.problem import InvalidContent, NotSupported
from conformance.profiles.run import CheckRun, owner_of
from conformance.profiles.shapes import Shape
from conformance.profiles.slicing import NodeCheck
from conformance.profiles.texts import fault


def rule_checks(shape: Shape, url: str) -> list[NodeCheck]:
    """Compile the rules of an element that its base does not bring."""
    known = {rule.get("key") for rule in shape.base.get("constraint", ())}
    return [
        _rule_check(rule, url)
        for rule in shape.facts.get("constraint", ())
        if rule.get("key") not in known and rule.get("expression")
    ]


def _rule_check(rule: dict[str, Any], url: str) -> NodeCheck:
    expression, key = str(rule["expression"]), str(rule.get("key"))
    try:
        tree = parse(expression)
        general = Compiler(as_filters=True).expression(tree)
    except InvalidContent as problem:
        raise fault("profile-broken", url, f"rule {key}: {problem}") from problem
    finding = "constraint-warning" if rule.get("severity") == "warning" else "constraint"
    direct: dict[str, Test] = {}

    def check(node: Node, run: CheckRun) -> None:
        try:
            if isinstance(node.value, dict):
                test = direct.get(node.type)
                if test is None:
                    owner = node.type.partition(".")[0]
                    owner_type = owner if model.is_resource(owner) else None
                    test = compile_test(tree, node.type, owner_type, as_filters=True)
                    direct[node.type] = test
                scope = run.scope_of(node)
                scope.context = (node.value, node.type)
                verdict = test(node.value, scope)
            else:
                verdict = _general_verdict(general, node, run)
        except (InvalidContent, NotSupported):
            verdict = None
        if verdict is not True:
            run.add(finding, node, url, key, expression)

    return check


def _general_verdict(closure: Closure, node: Node, run: CheckRun) -> bool | None:
    inner = Run([node], resource=[owner_of(node)], root=[run.root], ports=run.ports)
    return truth(closure(Frame(inner, [node])), "this rule")
