"""From the syntax tree to Python closures."""

from collections.abc import Mapping
from typing import Any

from conformance.fhirpath import arithmetic, equality, model, types
from conformance.fhirpath import functions_collections as collections
from conformance.fhirpath.evaluation import (
    Closure,
    Collection,
    Frame,
    Step,
    single,
    single_integer,
    truth,
)
from conformance.fhirpath.faults import invalid_use, unknown_name
from conformance.fhirpath.functions import FUNCTIONS
from conformance.fhirpath.functions_fhir import reference_of, resolve, type_of_reference
from conformance.fhirpath.nodes import Node, TypeName, children, root_of
from conformance.fhirpath.quantity import UCUM
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
    Unary,
)

_CONSTANTS = {"ucum": UCUM, "sct": "http://snomed.info/sct", "loinc": "http://loinc.org"}
_VALUE_SETS = "http://hl7.org/fhir/ValueSet/"
_STRUCTURES = "http://hl7.org/fhir/StructureDefinition/"
_TYPE_FUNCTIONS = ("is", "as", "ofType")


class Compiler:
    """Turns trees into closures; `as_filters` lets `as()` filter a list, as R4's own rules do."""

    def __init__(self, *, as_filters: bool) -> None:
        self.as_filters = as_filters

    def expression(self, tree: Expression) -> Closure:
        """Return the closure of a whole expression; raises InvalidContent on unknown names."""
        match tree:
            case Literal(value):
                return _constant(value)
            case External(name):
                return _external(name)
            case Special(name):
                return _special(name)
            case Member(name):
                return _head_member(name)
            case Call():
                step = self.call(tree)
                return lambda frame: step(frame, frame.this)
            case Path(head, steps):
                return self.path(head, steps)
            case Unary(operator, operand):
                inside = self.expression(operand)
                return lambda frame: arithmetic.negate(inside(frame), operator)
            case TypeTest():
                return self.type_test(tree)
            case Several(operator, operands):
                return _several(operator, [self.expression(operand) for operand in operands])
            case Binary(operator, left, right):
                return _binary(operator, self.expression(left), self.expression(right))

    def path(self, head: Expression, steps: tuple[Any, ...]) -> Closure:
        """Return the closure of a head and its steps."""
        start = self.expression(head)
        rest = [self.step(step) for step in steps]
        if len(rest) == 1:
            only = rest[0]
            return lambda frame: only(frame, start(frame))

        def run(frame: Frame) -> Collection:
            focus = start(frame)
            for step in rest:
                focus = step(frame, focus)
            return focus

        return run

    def step(self, step: Member | Call | Indexer | Special) -> Step:
        """Return the closure of what stands behind a dot or in brackets."""
        match step:
            case Member(name):
                return _member(name)
            case Indexer(index):
                number = self.expression(index)
                return lambda frame, focus: _indexed(frame, focus, number(frame))
            case Special(name):
                special = _special(name)
                return lambda frame, _focus: special(frame)
            case Call():
                return self.call(step)

    def call(self, call: Call) -> Step:
        """Return the closure of a function call; raises on unknown functions and wrong arity."""
        name = call.name
        if name in _TYPE_FUNCTIONS and len(call.arguments) == 1:
            return self.type_function(call)
        function = FUNCTIONS.get(name)
        if function is None:
            raise unknown_name("function", name, candidates=FUNCTIONS)
        if not function.least <= len(call.arguments) <= function.most:
            raise _wrong_arity(name, function.least, function.most, len(call.arguments))
        run = function.run
        if name == "sort":
            keys = [self.sort_key(argument) for argument in call.arguments]
            return lambda frame, focus: run(frame, focus, *keys)
        arguments = [self.expression(argument) for argument in call.arguments]
        if function.is_lazy:
            return lambda frame, focus: run(frame, focus, *arguments)
        return _with_values(run, arguments)

    def sort_key(self, argument: Expression) -> tuple[Closure, bool]:
        """Return a sort key and whether its leading `-` turns the order."""
        if isinstance(argument, Unary) and argument.operator == "-":
            return self.expression(argument.operand), True
        return self.expression(argument), False

    def type_function(self, call: Call) -> Step:
        """Return `is(T)`, `as(T)` or `ofType(T)`."""
        written = types.name_in(call.arguments[0])
        if written is None:
            raise invalid_use(
                f"{call.name}() needs the name of a type", f"{call.name}() 需要类型名"
            )
        wanted = types.specifier_of(written)
        if call.name == "is":
            return lambda _frame, focus: types.test(focus, wanted)
        if call.name == "as" and not self.as_filters:
            return lambda _frame, focus: types.cast(focus, wanted)
        return lambda _frame, focus: types.of_type(focus, wanted)

    def type_test(self, tree: TypeTest) -> Closure:
        """Return `is` or `as` between an expression and a type."""
        wanted = types.specifier_of(tree.type_name)
        operand = tree.operand
        if tree.operator == "is" and wanted.fhir is not None:
            if isinstance(operand, Call) and operand.name == "resolve":
                return _reference_test(lambda frame: frame.this, wanted)
            if isinstance(operand, Path) and _is_resolve(operand.steps[-1]):
                return _reference_test(self.path(operand.head, operand.steps[:-1]), wanted)
        inside = self.expression(operand)
        if tree.operator == "is":
            return lambda frame: types.test(inside(frame), wanted)
        # The operator `as` filters: R4's search parameters apply it to lists
        # (`Group.characteristic.value as CodeableConcept`).
        return lambda frame: types.of_type(inside(frame), wanted)


def _is_resolve(step: Any) -> bool:
    return isinstance(step, Call) and step.name == "resolve"


def _constant(value: Any) -> Closure:
    fixed: Collection = [] if value is None else [value]
    return lambda _frame: fixed


def _special(name: str) -> Closure:
    if name == "$this":
        return lambda frame: frame.this
    if name == "$index":
        return lambda frame: [] if frame.index is None else [frame.index]
    return lambda frame: frame.total or []


def _external(name: str) -> Closure:
    if name in _CONSTANTS:
        fixed: Collection = [_CONSTANTS[name]]
    elif name.startswith("vs-"):
        fixed = [_VALUE_SETS + name[3:]]
    elif name.startswith("ext-"):
        fixed = [_STRUCTURES + name[4:]]
    elif name == "context":
        return lambda frame: frame.run.context
    elif name == "resource":
        return lambda frame: frame.run.resource
    elif name == "rootResource":
        return lambda frame: frame.run.root
    else:
        return lambda frame: _variable(frame, name)
    return lambda frame: fixed if name not in frame.run.variables else _variable(frame, name)


def _variable(frame: Frame, name: str) -> Collection:
    if name not in frame.run.variables:
        raise unknown_name("variable", f"%{name}")
    return to_collection(frame.run.variables[name])


def to_collection(value: Any) -> Collection:
    """Return plain JSON as a collection: resources as nodes, lists as many items."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [item for one in value for item in to_collection(one)]
    return [root_of(value)] if isinstance(value, Mapping) else [value]


def _member(name: str) -> Step:
    def step(frame: Frame, focus: Collection) -> Collection:
        found: Collection = []
        for item in focus:
            if type(item) is Node:
                found += children(item, name)
            elif isinstance(item, TypeName) and name in ("name", "namespace"):
                found.append(getattr(item, name))
        run = frame.run
        run.steps -= len(focus) + len(found)
        if run.steps < 0 or len(found) > run.limits.items:
            run.check_size(found)
        return found

    return step


def _head_member(name: str) -> Closure:
    step = _member(name)
    if not name[:1].isupper():
        return lambda frame: step(frame, frame.this)

    def head(frame: Frame) -> Collection:
        found: Collection = []
        for item in frame.this:
            if type(item) is Node and model.is_kind_of(item.type, name):
                found.append(item)
            else:
                found += step(frame, [item])
        return found

    return head


def _indexed(frame: Frame, focus: Collection, index: Collection) -> Collection:
    number = single_integer(index, "an index")
    return [] if number is None else collections.of_index(frame, focus, number)


def _with_values(run: Any, arguments: list[Closure]) -> Step:
    if not arguments:
        return run  # type: ignore[no-any-return]
    if len(arguments) == 1:
        only = arguments[0]
        return lambda frame, focus: run(frame, focus, only(frame))
    return lambda frame, focus: run(frame, focus, *[argument(frame) for argument in arguments])


def _wrong_arity(name: str, least: int, most: int, found: int) -> Exception:
    expected = str(least) if least == most else f"{least} to {most}"
    return invalid_use(
        f"{name}() takes {expected} arguments, and {found} are given",
        f"{name}() 需要 {expected} 个参数，实际给出 {found} 个",
    )


def _reference_test(references: Closure, wanted: types.TypeSpecifier) -> Closure:
    """Return `resolve() is T`; a reference nobody can resolve is judged by its text."""

    def run(frame: Frame) -> Collection:
        focus = references(frame)
        found = resolve(frame, focus)
        if found:
            return types.test(found, wanted)
        names = [type_of_reference(reference_of(item) or "") for item in focus]
        named = [name for name in names if name is not None]
        return [model.is_kind_of(named[0], wanted.fhir or "")] if len(named) == 1 else []

    return run


def _several(operator: str, operands: list[Closure]) -> Closure:
    if operator == "|":

        def union(frame: Frame) -> Collection:
            found = [item for operand in operands for item in operand(frame)]
            frame.run.check_size(found)
            return equality.distinct(found, frame.run)

        return union
    # `and` and `or` stop as soon as the verdict is known
    # (http://hl7.org/fhirpath/N1/#boolean-logic); the rest could only turn it into an error.
    decisive = operator == "or"

    def logic(frame: Frame) -> Collection:
        is_unknown = False
        for operand in operands:
            value = truth(operand(frame), f"`{operator}`")
            if value is decisive:
                return [decisive]
            is_unknown = is_unknown or value is None
        return [] if is_unknown else [not decisive]

    return logic


def _binary(operator: str, left: Closure, right: Closure) -> Closure:
    match operator:
        case "=" | "!=":
            return _equality(left, right, is_negated=operator == "!=")
        case "~":
            return lambda frame: [equality.equivalent(left(frame), right(frame), frame.run)]
        case "!~":
            return lambda frame: [not equality.equivalent(left(frame), right(frame), frame.run)]
        case "<" | "<=" | ">" | ">=":
            return lambda frame: arithmetic.compare(left(frame), right(frame), operator)
        case "in":
            return lambda frame: _membership(frame, left(frame), right(frame), operator)
        case "contains":
            return lambda frame: _membership(frame, right(frame), left(frame), operator)
        case "xor":
            return lambda frame: _xor(left(frame), right(frame))
        case "implies":
            return _implication(left, right)
        case "&":
            return lambda frame: arithmetic.concatenate(left(frame), right(frame), frame.run)
    return _arithmetic(operator, left, right)


def _arithmetic(operator: str, left: Closure, right: Closure) -> Closure:
    quick = arithmetic.OF_INTEGERS.get(operator)

    def run(frame: Frame) -> Collection:
        one, other = left(frame), right(frame)
        if quick is not None and len(one) == len(other) == 1:
            a, b = one[0], other[0]
            if type(a) is int and type(b) is int:
                return arithmetic.bounded(quick(a, b))
        return arithmetic.calculate(one, other, operator, frame.run)

    return run


def _equality(left: Closure, right: Closure, *, is_negated: bool) -> Closure:
    def run(frame: Frame) -> Collection:
        frame.run.charge(1)
        verdict = equality.equal(left(frame), right(frame))
        return [] if verdict is None else [verdict is not is_negated]

    return run


def _membership(frame: Frame, item: Collection, many: Collection, operator: str) -> Collection:
    if not item:
        return []
    wanted = single(item, f"`{operator}`")
    frame.run.charge(len(many))
    return [any(equality.equal_items(wanted, other) for other in many)]


def _xor(left: Collection, right: Collection) -> Collection:
    one, other = truth(left, "`xor`"), truth(right, "`xor`")
    return [] if one is None or other is None else [one is not other]


def _implication(left: Closure, right: Closure) -> Closure:
    def run(frame: Frame) -> Collection:
        one = truth(left(frame), "`implies`")
        if one is False:
            return [True]
        other = truth(right(frame), "`implies`")
        if other is True:
            return [True]
        return [other] if one and other is not None else []

    return run
