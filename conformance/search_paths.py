"""The FHIRPath subset of search parameters, parsed to steps and resolved against the R4 tables.

Covers all expressions of R4's own search parameters (http://hl7.org/fhir/R4/searchparameter.html)
and the usual custom ones: paths, unions, `ofType`, `as`, `where(x='y')`, `where(resolve() is T)`,
`extension('url')`, `[n]`, `first()`. Anything else is `NotSimple`, and goes to the FHIRPath engine.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from conformance.r4 import tables


class NotSimple(ValueError):
    """The expression needs the full FHIRPath engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One move: `kind` is child, type, where, resolves or index; `name` and `value` its words."""

    kind: str
    name: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A JSON place and its datatype: the keys and filters to follow from the resource."""

    steps: tuple[Step, ...]  # kinds: child (JSON key), where, resolves, index
    datatype: str
    element: str  # path in the R4 tables, to find bindings and targets


_TOKEN = re.compile(r"\s*(?:(%?[A-Za-z_]\w*)|'((?:[^'\\]|\\.)*)'|(\d+)|(!=|[().|\[\]=]))")
_PRIMITIVES = {"String": "string", "DateTime": "dateTime", "Boolean": "boolean", "Date": "date"}


def parse(expression: str) -> list[tuple[Step, ...]]:
    """Return one tuple of steps for each branch of the union; raise `NotSimple`."""
    return _Reader(expression).whole()


class _Reader:
    """A reader of the subset's tokens, one expression long."""

    def __init__(self, expression: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        text = expression.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise NotSimple(expression)
            word, quoted, number, sign = match.groups()
            self.tokens.append(
                ("word", word)
                if word
                else ("number", number)
                if number
                else ("sign", sign)
                if sign
                else ("quoted", quoted)
            )
            position = match.end()
        self.at = 0

    def whole(self) -> list[tuple[Step, ...]]:
        branches = self.union()
        if self.at != len(self.tokens):
            raise NotSimple(self.tokens[self.at][1])
        return branches

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, kind: str, text: str | None = None) -> str:
        found = self.peek()
        if found[0] != kind or (text is not None and found[1] != text):
            raise NotSimple(f"{text or kind} expected, found {found[1]!r}")
        self.at += 1
        return found[1]

    def union(self) -> list[tuple[Step, ...]]:
        branches = self.path()
        while self.peek() == ("sign", "|"):
            self.at += 1
            branches += self.path()
        return branches

    def path(self) -> list[tuple[Step, ...]]:
        if self.peek() == ("sign", "("):
            self.at += 1
            branches = self.union()
            self.take("sign", ")")
        else:
            branches = [(Step(kind="child", name=self.take("word")),)]
        while True:
            kind, text = self.peek()
            if (kind, text) == ("sign", "."):
                self.at += 1
                steps = self.step()
            elif (kind, text) == ("sign", "["):
                self.at += 1
                steps = (Step(kind="index", value=self.take("number")),)
                self.take("sign", "]")
            elif (kind, text) in (("word", "as"), ("word", "is")):
                self.take("word", "as")
                steps = (Step(kind="type", name=self.type_name()),)
            else:
                return branches
            branches = [branch + steps for branch in branches]

    def type_name(self) -> str:
        name = self.take("word")
        if self.peek() == ("sign", ".") and name in ("FHIR", "System"):
            self.at += 1
            name = self.take("word")
        return _PRIMITIVES.get(name, name)

    def step(self) -> tuple[Step, ...]:
        name = self.take("word")
        if self.peek() != ("sign", "("):
            return (Step(kind="child", name=name),)
        self.at += 1
        steps: tuple[Step, ...]
        if name in ("ofType", "as"):
            steps = (Step(kind="type", name=self.type_name()),)
        elif name == "first":
            steps = (Step(kind="index", value="0"),)
        elif name == "extension":
            url = self.take("quoted")
            steps = (
                Step(kind="child", name="extension"),
                Step(kind="where", name="url", value=url),
            )
        elif name == "where":
            steps = (self.condition(),)
        else:
            raise NotSimple(name)
        self.take("sign", ")")
        return steps

    def condition(self) -> Step:
        name = self.take("word")
        if name == "resolve":
            self.take("sign", "(")
            self.take("sign", ")")
            self.take("word", "is")
            return Step(kind="resolves", name=self.type_name())
        self.take("sign", "=")
        return Step(kind="where", name=name, value=self.take("quoted"))


def places_of(expression: str, type_: str) -> tuple[Place, ...]:
    """Return the JSON places the expression means in a resource of `type_`.

    Branches that start at another type are left out. Raises `NotSimple`.
    """
    places: list[Place] = []
    for steps in parse(expression):
        root = steps[0].name
        if root == type_ or root in _bases_of(type_):
            steps = steps[1:]
        elif root in tables.load().types:
            continue  # another type's branch
        places.extend(_resolve(steps, Place(steps=(), datatype=type_, element=type_)))
    return tuple(dict.fromkeys(places))


def places_below(expression: str, base: Place) -> tuple[Place, ...]:
    """Return the JSON places of a composite's component expression, seen from `base`."""
    places: list[Place] = []
    start = Place(steps=(), datatype=base.datatype, element=base.element)
    for steps in parse(expression):
        places.extend(_resolve(steps, start))
    return tuple(dict.fromkeys(places))


def _bases_of(type_: str) -> Iterator[str]:
    types = tables.load().types
    base = types[type_].base if type_ in types else None
    while base:
        yield base
        base = types[base].base if base in types else None


def _resolve(steps: tuple[Step, ...], place: Place) -> Iterator[Place]:
    if not steps:
        yield place
        return
    step, rest = steps[0], steps[1:]
    if step.kind == "child":
        for choice in _children(place, step.name):
            if rest and rest[0].kind == "type" and rest[0].name != choice.datatype:
                continue
            yield from _resolve(rest, choice)
    elif step.kind == "type":
        if step.name == place.datatype:
            yield from _resolve(rest, place)
    else:
        deeper = Place(steps=(*place.steps, step), datatype=place.datatype, element=place.element)
        yield from _resolve(rest, deeper)


def _children(place: Place, name: str) -> Iterator[Place]:
    elements = _elements()
    path = place.element if place.datatype in ("BackboneElement", "Element") else place.datatype
    single = f"{path}.{name}"
    if single in elements:
        types, content = elements[single]
        if content:
            types, single = (elements[content][0] or ("BackboneElement",)), content
        for datatype in types:
            below = (*place.steps, Step(kind="child", name=name))
            yield Place(steps=below, datatype=datatype, element=single)
        return
    choice = f"{single}[x]"
    if choice not in elements:
        raise NotSimple(f"{single} is not an element")
    for datatype in elements[choice][0]:
        key = name + datatype[0].upper() + datatype[1:]
        below = (*place.steps, Step(kind="child", name=key))
        yield Place(steps=below, datatype=datatype, element=choice)


@cache
def _elements() -> dict[str, tuple[tuple[str, ...], str | None]]:
    """Return element path → its datatypes, and the path it repeats the content of."""
    return {
        element.path: (tuple(of.code for of in element.types), element.content)
        for type_ in tables.load().types.values()
        for element in type_.elements.values()
    }
