"""What can be refused without data: names that a type does not have, an order nobody promised.

https://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation
"""

from dataclasses import dataclass

from conformance.fhirpath import model, types
from conformance.fhirpath.chinese import in_chinese
from conformance.fhirpath.faults import in_place, invalid_use, unknown_name
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
from conformance.problem import InvalidContent

_NEEDS_ORDER = frozenset({"first", "last", "tail", "skip", "take"})
_KEEPS_TYPE = frozenset(
    {"where", "single", "distinct", "trace", "exclude", "intersect", "sort", *_NEEDS_ORDER}
)
_LAMBDAS = frozenset({"where", "select", "repeat", "all", "exists", "sort", "iif", "aggregate"})
_BOOLEAN_FUNCTIONS = (
    "empty exists all allTrue anyTrue allFalse anyFalse subsetOf supersetOf isDistinct not is "
    "startsWith endsWith contains matches matchesFull hasValue memberOf conformsTo htmlChecks "
    "comparable subsumes subsumedBy"
)
_STRING_FUNCTIONS = (
    "substring upper lower replace replaceMatches trim toString join encode decode escape unescape"
)
_BOOLEAN = frozenset(_BOOLEAN_FUNCTIONS.split())
_STRING = frozenset(_STRING_FUNCTIONS.split())
_ANY_TYPE = frozenset({"Resource", "DomainResource", "Element", "BackboneElement"})


@dataclass(frozen=True, slots=True)
class Shape:
    """What a collection may hold: FHIR or `System.` type names, None for anything."""

    types: frozenset[str] | None
    is_ordered: bool = True


_UNKNOWN = Shape(None)


def require_well_typed(tree: Expression, type_name: str | None, source: str) -> None:
    """Raise InvalidContent, with the place, if the expression cannot be right for this type."""
    context = Shape(frozenset({type_name})) if type_name is not None else _UNKNOWN
    _Checker(context, source).shape(tree, context)


def _system(name: str) -> Shape:
    return Shape(frozenset({f"System.{name}"}))


def _joined(shapes: list[Shape]) -> Shape:
    found: set[str] = set()
    for shape in shapes:
        if shape.types is None:
            return Shape(None, all(one.is_ordered for one in shapes))
        found |= shape.types
    return Shape(frozenset(found), all(one.is_ordered for one in shapes))


class _Checker:
    def __init__(self, context: Shape, source: str) -> None:
        self.context = context
        self.source = source

    def shape(self, tree: Expression, this: Shape) -> Shape:
        try:
            return self.shape_of(tree, this)
        except InvalidContent as failure:
            raise in_place(failure, self.source, tree.at) from failure

    def shape_of(self, tree: Expression, this: Shape) -> Shape:
        match tree:
            case Literal(value):
                return _UNKNOWN if value is not None else Shape(frozenset())
            case External(name):
                return self.context if name == "context" else _UNKNOWN
            case Special(name):
                return this if name == "$this" else _UNKNOWN
            case Member(name):
                return self.head(name, this)
            case Call():
                return self.call(tree, this, this)
            case Path(head, steps):
                shape = self.shape(head, this)
                for step in steps:
                    shape = self.step(step, shape, this)
                return shape
            case Unary(_, operand):
                return self.shape(operand, this)
            case Binary(operator, left, right):
                self.shape(left, this)
                self.shape(right, this)
                is_calculation = operator in ("+", "-", "*", "/", "div", "mod")
                return _UNKNOWN if is_calculation else _system("Boolean")
            case Several(operator, operands):
                shapes = [self.shape(operand, this) for operand in operands]
                return _joined(shapes) if operator == "|" else _system("Boolean")
            case TypeTest(operator, operand, name):
                self.shape(operand, this)
                return _system("Boolean") if operator == "is" else _named(name)

    def head(self, name: str, this: Shape) -> Shape:
        if name[:1].isupper() and model.is_known(name):
            if this.types is not None and not any(
                model.is_kind_of(one, name) or one in _ANY_TYPE for one in this.types
            ):
                raise invalid_use(
                    f"The expression starts at {name}, and it is applied to "
                    f"{', '.join(sorted(this.types))}",
                    f"表达式从 {name} 开始，却作用于 {'、'.join(sorted(this.types))}",
                )
            return this if this.types is not None else Shape(frozenset({name}))
        return self.member(name, this)

    def member(self, name: str, focus: Shape) -> Shape:
        if focus.types is None or any(one in _ANY_TYPE for one in focus.types):
            return Shape(None, focus.is_ordered)
        found: set[str] = set()
        is_known = not focus.types
        for one in focus.types:
            child = model.children_of(one).get(name)
            if child is not None:
                is_known = True
                found.update(slot.type for slot in child.slots)
        if not is_known:
            names = [known for one in focus.types for known in model.children_of(one)]
            what = f"element of {', '.join(sorted(focus.types))}"
            raise unknown_name(what, name, candidates=names)
        return Shape(frozenset(found), focus.is_ordered)

    def step(self, step: Member | Call | Indexer | Special, focus: Shape, this: Shape) -> Shape:
        try:
            return self.shape_after(step, focus, this)
        except InvalidContent as failure:
            raise in_place(failure, self.source, step.at) from failure

    def shape_after(
        self, step: Member | Call | Indexer | Special, focus: Shape, this: Shape
    ) -> Shape:
        match step:
            case Member(name):
                return self.member(name, focus)
            case Indexer(index):
                self.shape(index, this)
                self.need_order(focus, "an index")
                return focus
            case Special(name):
                return self.shape(step, this)
            case Call():
                return self.call(step, focus, this)

    def need_order(self, focus: Shape, what: str) -> None:
        if not focus.is_ordered:
            raise invalid_use(
                f"{what} needs an ordered collection, and children() and descendants() have none",
                f"{in_chinese(what)} 需要有序集合，而 children() 与 descendants() 的结果无序",
                fix_en="Name the elements, or use where().",
                fix_zh="请写出元素名，或使用 where()。",
            )

    def call(self, call: Call, focus: Shape, this: Shape) -> Shape:
        name = call.name
        if name in ("is", "as", "ofType"):
            written = types.name_in(call.arguments[0]) if call.arguments else None
            is_test = name == "is" or written is None
            return _system("Boolean") if is_test else _named(written or "")
        if name in _NEEDS_ORDER:
            self.need_order(focus, f"{name}()")
        inside = focus if name in _LAMBDAS or name == "trace" else this
        shapes = [self.shape(argument, inside) for argument in call.arguments]
        return self.result(name, focus, shapes)

    def result(self, name: str, focus: Shape, shapes: list[Shape]) -> Shape:
        if name in _KEEPS_TYPE:
            return focus
        if name in ("children", "descendants"):
            return Shape(None, is_ordered=False)
        if name == "select" and shapes:
            return Shape(shapes[0].types, focus.is_ordered and shapes[0].is_ordered)
        if name == "iif":
            return _joined(shapes[1:])
        if name in ("union", "combine"):
            return _joined([focus, *shapes])
        if name == "extension":
            return Shape(frozenset({"Extension"}))
        if name in _BOOLEAN:
            return _system("Boolean")
        return _system("String") if name in _STRING else _UNKNOWN


def _named(name: str) -> Shape:
    wanted = types.specifier_of(name)
    return Shape(frozenset({wanted.fhir})) if wanted.fhir else _UNKNOWN
