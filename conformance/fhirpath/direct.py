"""The short way: expressions whose types are known become closures over plain JSON.

Covers paths, the common filters and tests. What it does not cover raises `NotDirect`, and that
part (or the whole) goes to the general engine, whose results these closures must equal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance.fhirpath import direct_steps as steps
from conformance.fhirpath import direct_tests as tests
from conformance.fhirpath import model, patterns, types
from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.direct_steps import Test, Values
from conformance.fhirpath.evaluation import truth
from conformance.fhirpath.quantity import UCUM
from conformance.fhirpath.scope import Scope
from conformance.fhirpath.syntax import (
    Binary,
    Call,
    Expression,
    External,
    Indexer,
    Literal,
    Member,
    Path,
    Several,
    Special,
    TypeTest,
)
from conformance.fhirpath.trees import asks_position, is_count, starts_elsewhere

_NOT_BOOLEAN = frozenset({"+", "-", "*", "/", "div", "mod", "&"})


class NotDirect(Exception):
    """This part of the expression needs the general engine; stays inside this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectCompiler:
    """Compiles for a context of one known type.

    `type` is the type of `$this`, None for a resource of any type; `resource_type` that of
    `%resource` where it is known. `ignores_trace` leaves `trace()` out, for rules that nobody
    traces.
    """

    type: str | None
    resource_type: str | None
    as_filters: bool = False
    ignores_trace: bool = False

    def inside(self, type_name: str | None) -> "DirectCompiler":
        """Return the compiler for the criterion of a filter over such items."""
        return DirectCompiler(
            type=type_name,
            resource_type=self.resource_type,
            as_filters=self.as_filters,
            ignores_trace=self.ignores_trace,
        )

    # Values: lists of plain JSON whose type is known.

    def values(self, tree: Expression) -> Values:
        """Compile to a list of plain values; raises NotDirect."""
        match tree:
            case Literal(value):
                return _constant(value)
            case External("ucum"):
                return _constant(UCUM)
            case External("resource") if self.resource_type is not None:
                return Values(lambda _value, scope: [scope.resource], (self.resource_type,))
            case Special("$this"):
                return self.this()
            case Member(name):
                return self.head(name)
            case Call():
                return self.call(self.values(Special("$this", tree.at)), tree)
            case Path(head, rest):
                found = self.values(head)
                for step in rest:
                    found = self.step(found, step)
                return found
            case TypeTest("as", operand, name):
                return self.narrowed(self.values(operand), name)
            case Binary("&" | "+" as operator, left, right):
                return self.added(operator, left, right)
            case Several("|", operands):
                return self.union(operands)
            case _:
                return self.from_test(tree)

    def this(self) -> Values:
        """Return `$this`."""
        return Values(lambda value, _scope: [value], (self.type,), walked=())

    def from_test(self, tree: Expression) -> Values:
        """Return what is always a boolean as a list of one, or none; raises NotDirect."""
        is_boolean = (
            (isinstance(tree, Several) and tree.operator != "|")
            or (isinstance(tree, Binary) and tree.operator not in _NOT_BOOLEAN)
            or (isinstance(tree, TypeTest) and tree.operator == "is")
        )
        if not is_boolean:
            raise NotDirect
        return Values(steps.as_list(self.test(tree)), ("System.Boolean",))

    def added(self, operator: str, left: Expression, right: Expression) -> Values:
        """Return two strings joined, or two numbers of items added."""
        if operator == "&":
            return steps.concatenated(self.text(left), self.text(right))
        if is_count(left) and is_count(right):
            return steps.summed(self.values(left), self.values(right))
        raise NotDirect

    def union(self, operands: tuple[Expression, ...]) -> Values:
        """Return alternatives joined, those of other types left out at once."""
        parts = []
        for operand in operands:
            if self.type is not None and starts_elsewhere(operand, self.type):
                continue
            parts.append(self.values(operand))
        if not parts:
            return _constant(None)
        if any(len(part.types) > 1 for part in parts) and not all(map(steps.is_plain, parts)):
            raise NotDirect  # whether two dates are equal needs the type of each item
        found_types = tuple(dict.fromkeys(name for part in parts for name in part.types))
        return Values(steps.joined(parts), found_types)

    def text(self, tree: Expression) -> Values:
        """Compile what must be strings."""
        found = self.values(tree)
        if not found.types or not all(map(steps.is_text, found.types)):
            raise NotDirect
        return found

    def head(self, name: str) -> Values:
        """Return the first name of a path: the context's type or one of its elements."""
        this = self.this()
        if name[:1].isupper():
            if self.type is not None and model.is_kind_of(self.type, name):
                return this
            if self.type is None or not model.is_known(name):
                raise NotDirect
            return _constant(None)
        return self.child(this, name)

    def child(self, found: Values, name: str) -> Values:
        """Return the step to a child element."""
        if len(found.types) != 1:
            if not found.types:
                return found
            raise NotDirect
        owner = found.types[0]
        child = model.children_of(owner if owner is not None else "DomainResource").get(name)
        if child is None or (
            owner is not None and (model.is_primitive(owner) or owner.startswith("System."))
        ):
            raise NotDirect
        return steps.slots(found, list(child.slots), (found, child))

    def narrowed(self, found: Values, name: str) -> Values:
        """Return the items of one type: one slot of a choice, or resources of a type."""
        wanted = types.specifier_of(name)
        if wanted.fhir is None:
            raise NotDirect
        if found.parent is not None and len(found.types) > 1:
            before, child = found.parent
            slots = [slot for slot in child.slots if _is_exactly(slot.type, wanted.fhir)]
            if not slots:
                return _constant(None)
            return steps.slots(before, slots, None)
        if found.types == (None,):
            return Values(steps.resources(found.run, wanted.fhir), (wanted.fhir,))
        if found.types == (wanted.fhir,):
            return found
        raise NotDirect

    def step(self, found: Values, step: Member | Call | Indexer | Special) -> Values:
        """Return the next step of a path."""
        match step:
            case Member(name):
                return self.child(found, name)
            case Indexer(Literal(index)) if isinstance(index, int):
                return Values(steps.item(found.run, index), found.types)
            case Call():
                return self.call(found, step)
        raise NotDirect

    def call(self, found: Values, call: Call) -> Values:
        """Return a function over a list."""
        match call:
            case Call("first", ()):
                return Values(steps.item(found.run, 0), found.types)
            case Call("tail", ()):
                return Values(lambda value, scope: found.run(value, scope)[1:], found.types)
            case Call("count", ()):
                return Values(
                    lambda value, scope: [len(found.run(value, scope))], ("System.Integer",)
                )
            case Call("where", (criterion,)):
                test = self.criterion(found, criterion)
                return Values(steps.filtered(found.run, test), found.types)
            case Call("select", (projection,)) if len(found.types) == 1:
                inner = self.inside(found.types[0]).values(projection)
                return Values(steps.projected(found.run, inner.run), inner.types)
            case Call("ofType", (argument,)):
                return self.narrowed(found, types.name_in(argument) or "")
            case Call("as", (argument,)) if self.as_filters or _is_single(found):
                return self.narrowed(found, types.name_in(argument) or "")
            case Call("trace", _) if self.ignores_trace:
                return found
        test = self.function_test(found, call)
        return Values(steps.as_list(test), ("System.Boolean",))

    def criterion(self, found: Values, tree: Expression) -> Test:
        """Return the criterion of a filter; primitives keep their extensions elsewhere."""
        if len(found.types) != 1:
            raise NotDirect
        return self.inside(found.types[0]).test(tree)

    # Tests: true, false, or None where the collection would be empty.

    def test(self, tree: Expression) -> Test:
        """Compile to a test; a part that is not direct is left to the general engine."""
        try:
            return self.direct_test(tree)
        except NotDirect:
            return self.general_test(tree)

    def direct_test(self, tree: Expression) -> Test:
        """Compile to a test; raises NotDirect."""
        match tree:
            case Several("and" | "or" as operator, operands):
                return tests.logic([self.test(one) for one in operands], decisive=operator == "or")
            case Binary():
                return self.binary_test(tree)
            case TypeTest("is", Call("resolve", ()), name) if self.type == "Reference":
                return self.reference_test(tree, name)
            case TypeTest("is", operand, name):
                return self.type_test(self.values(operand), name)
            case Path(head, rest) if isinstance(rest[-1], Call):
                before = Path(head, rest[:-1], tree.at) if rest[:-1] else head
                return self.function_test(self.values(before), rest[-1])
            case Call():
                return self.function_test(self.values(Special("$this", tree.at)), tree)
            case Member() | Path():
                found = self.values(tree)
                if found.types in (("boolean",), ("System.Boolean",)):
                    return tests.boolean(found.run)
            case Literal(bool(value)):
                return lambda _value, _scope: value
        raise NotDirect

    def binary_test(self, tree: Binary) -> Test:
        """Compile an operator between two expressions that answers with a boolean."""
        match tree:
            case Binary("implies", left, right):
                return tests.implication(self.test(left), self.test(right))
            case Binary("xor", left, right):
                return tests.exclusive(self.test(left), self.test(right))
            case Binary("=" | "!=" as operator, left, right):
                one, other = self.values(left), self.values(right)
                if tests.comparable_pair(one, other):
                    if isinstance(right, Literal) and right.value is not None:
                        return tests.constant_test(one, right.value, is_negated=operator == "!=")
                    return tests.equal_test(one, other, is_negated=operator == "!=")
            case Binary("in", left, Several("|", operands)):
                return tests.membership(self.text(left), [_literal_text(one) for one in operands])
            case Binary("<" | "<=" | ">" | ">=" as operator, left, right):
                one, other = self.values(left), self.values(right)
                if tests.is_moment_or_number(one) and tests.is_moment_or_number(other):
                    return tests.ordered_test(one, other, operator)
        raise NotDirect

    def general_test(self, tree: Expression) -> Test:
        """Leave a part to the general engine; a primitive's extensions would not go with it."""
        if self.type is not None and (
            model.is_primitive(self.type) or self.type.startswith("System.")
        ):
            raise NotDirect
        return self.whole_test(tree)

    def whole_test(self, tree: Expression) -> Test:
        """Leave a test to the general engine."""
        closure = Compiler(as_filters=self.as_filters).expression(tree)
        type_name = self.type

        def run(value: Any, scope: Scope) -> bool | None:
            return truth(scope.evaluate(closure, value, type_name), "this rule")

        return run

    def function_test(self, found: Values, call: Call) -> Test:
        """Return a function that answers with a boolean."""
        run = found.run
        match call:
            case Call("exists", ()):
                return lambda value, scope: bool(run(value, scope))
            case Call("empty", ()):
                return lambda value, scope: not run(value, scope)
            case Call("exists", (criterion,)):
                return tests.any_of(run, self.criterion(found, criterion))
            case Call("all", (criterion,)):
                return tests.all_of(run, self.criterion(found, criterion))
            case Call("isDistinct", ()) if all(map(steps.is_text, found.types)):
                return tests.is_distinct(run)
            case Call("hasValue", ()) if found.parent is not None and all(
                model.is_primitive(name or "") for name in found.types
            ):
                return tests.has_value(run)
            case Call("is", (argument,)):
                return self.type_test(found, types.name_in(argument) or "")
            case Call("not", ()) if found.types in (("boolean",), ("System.Boolean",)):
                return tests.negation(tests.boolean(run))
            case Call("startsWith" | "endsWith" | "contains" | "matches" as name, (argument,)):
                if found.types and all(map(steps.is_text, found.types)):
                    return tests.text_test(run, _text_verdict(name, _literal_text(argument)))
        raise NotDirect

    def type_test(self, found: Values, name: str) -> Test:
        """Return `is` for resources and for elements whose type the definitions fix."""
        wanted = types.specifier_of(name)
        if found.types == (None,) and wanted.fhir is not None and wanted.system is None:
            return tests.is_resource(found.run, wanted.fhir)
        raise NotDirect

    def reference_test(self, tree: Expression, name: str) -> Test:
        """Return `resolve() is T`, by the reference's text where nobody could resolve more."""
        wanted = types.specifier_of(name)
        if wanted.fhir is None:
            raise NotDirect
        return tests.reference_is(wanted.fhir, self.general_test(tree))


def _is_exactly(type_name: str, wanted: str) -> bool:
    if model.is_primitive(type_name):
        return type_name == wanted
    return model.is_kind_of(type_name, wanted)


def _is_single(found: Values) -> bool:
    """Say whether a list never has more than one item."""
    return found.parent is not None and found.parent[0].walked == () and not found.parent[1].is_list


def _constant(value: Any) -> Values:
    fixed = [] if value is None else [value]
    if value is None:
        return Values(lambda _value, _scope: fixed, ())
    name = {bool: "System.Boolean", int: "System.Integer", str: "System.String"}.get(type(value))
    if name is None:
        raise NotDirect
    return Values(lambda _value, _scope: fixed, (name,))


def _literal_text(tree: Expression) -> str:
    if isinstance(tree, Literal) and isinstance(tree.value, str):
        return tree.value
    raise NotDirect


def _text_verdict(name: str, argument: str) -> Callable[[str], bool]:
    match name:
        case "startsWith":
            return lambda text: text.startswith(argument)
        case "endsWith":
            return lambda text: text.endswith(argument)
        case "contains":
            return lambda text: argument in text
    search = patterns.finder(argument)
    return lambda text: search(text) is not None


def compile_values(tree: Expression, type_name: str, *, as_filters: bool) -> Values | None:
    """Compile a whole expression over resources of a type; None if it needs the engine."""
    compiler = DirectCompiler(type=type_name, resource_type=type_name, as_filters=as_filters)
    try:
        return None if asks_position(tree) else compiler.values(tree)
    except NotDirect:
        return None


def compile_test(
    tree: Expression, type_name: str, resource_type: str | None, *, as_filters: bool
) -> Test:
    """Compile a rule over elements of a type, parts of it by the general engine if need be."""
    compiler = DirectCompiler(
        type=type_name, resource_type=resource_type, as_filters=as_filters, ignores_trace=True
    )
    if asks_position(tree):
        return compiler.whole_test(tree)
    try:
        return compiler.test(tree)
    except NotDirect:
        return compiler.whole_test(tree)
