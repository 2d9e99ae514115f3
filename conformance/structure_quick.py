"""The quick verdict: whether a value certainly has the form of its type.

Most resources are sound, and for those a yes is all that is asked. A quick check says yes only
where the exact one (`conformance.structure_compile`) finds nothing; where it says no the exact
one decides and explains. So rare lawful forms may be left to the exact check.

Much depends on the names of an object alone: unknown, missing and conflicting members. That is
judged once for each set of names, and a function is written that looks at the values only. A call
of an inner function costs as much as a whole check, so the common checks stand in its text. They
do not ask for the type of a value where another would stop them: a quick check may also raise
TypeError, AttributeError or KeyError, which `certainly` takes for a no.
"""

import functools
from collections.abc import Callable, Mapping, Sequence, Set
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from conformance import primitives
from conformance.findings import Check

# (value, local references seen so far) -> whether it is certainly sound
Fits = Callable[[Any, list[str]], bool]


def certainly(fits: Fits, value: Any, local: list[str]) -> bool:
    """Say whether a value is certainly sound."""
    try:
        return fits(value, local)
    except (TypeError, AttributeError, KeyError):
        return False


class Part(NamedTuple):
    """The two checks of one type: exact with findings, and quick."""

    check: Check
    quick: "Fits | QuickObject"

    @property
    def of_object(self) -> "QuickObject":
        """The quick check of what is known to be a type of objects."""
        assert isinstance(self.quick, QuickObject)
        return self.quick


TEXT, TOKEN, CODES, ID, BOOLEAN, COUNT, DECIMAL, TEST, TARGET = range(9)
OBJECT, ANY, TESTS, OBJECTS, ANIES = range(9, 14)
# What an object's check would take for a list, its inner checks stop.
_LISTS = frozenset({TESTS, ANIES})
# Functions we keep for one type and for all; objects with further sets of names are left to the
# exact check, so that nobody can fill the memory with combinations of names.
MOST_OF_TYPE = 256
_MOST = 10_000


class Member(NamedTuple):
    """How a JSON name is judged quickly.

    kind, argument: TEXT, TOKEN, DECIMAL, TEST and TESTS with a primitive's check; CODES with a
    set; ID, BOOLEAN and COUNT (from 1) without; TARGET with the types a reference may name and its
    check; OBJECT and OBJECTS with a QuickObject, ANY and ANIES with a quick check; lists have at
    most `most` items, None for any number.
    """

    kind: int
    argument: Any
    most: int | None = None


def primitive(test: primitives.Check, codes: Set[str] | None = None) -> Member:
    """Return how a single primitive is judged; `codes` are those of a required binding."""
    if codes is not None:
        return Member(CODES, codes)
    if test in (primitives.check_uri, primitives.check_code):
        return Member(TOKEN, test)
    kinds: dict[primitives.Check, int] = {
        primitives.check_string: TEXT,
        primitives.check_id: ID,
        primitives.check_boolean: BOOLEAN,
        primitives.check_positive_integer: COUNT,
        primitives.check_decimal: DECIMAL,
    }
    return Member(kinds.get(test, TEST), test)


def list_of_primitives(test: primitives.Check, maximum: int | None) -> Member:
    """Return how a list of primitives is judged; nulls are left to the exact check."""
    return Member(TESTS, test, maximum)


def one_of(fits: "Fits | QuickObject") -> Member:
    """Return how a single object is judged."""
    return Member(OBJECT if isinstance(fits, QuickObject) else ANY, fits)


def list_of(fits: "Fits | QuickObject", maximum: int | None) -> Member:
    """Return how a list of objects is judged."""
    kind = OBJECTS if isinstance(fits, QuickObject) else ANIES
    return Member(kind, fits, maximum)


class Facts:
    """What is said of the names of an object.

    `lists` are the primitives that repeat: their values and `_name` side by side are left to the
    exact check. `rule` is an addition of the type.
    """

    __slots__ = ("choices", "is_resource", "lists", "needed", "rule")

    def __init__(self) -> None:
        self.lists: Set[str] = frozenset()
        self.needed: Sequence[str] = ()
        self.choices: Sequence[tuple[frozenset[str], int]] = ()
        self.is_resource = False
        self.rule: Callable[[Sequence[str]], bool] | None = None

    def allow(self, names: Sequence[str]) -> bool:
        """Say whether an object may have these names, all of which its type knows."""
        if not names or (names == ("id",) and not self.is_resource):
            return False
        if any(name not in names for name in self.needed):
            return False
        if self.rule is not None and not self.rule(names):
            return False
        if any(name in names and "_" + name in names for name in self.lists):
            return False
        there = [(len(choice.intersection(names)), minimum) for choice, minimum in self.choices]
        return all(minimum <= count <= 1 for count, minimum in there)


class _OfNames(dict[tuple[str, ...], Fits]):
    """The checks of objects by their names; those not met before are learnt."""

    __slots__ = ("learn",)

    def __init__(self, learn: Fits) -> None:
        super().__init__()
        self.learn = learn

    def __missing__(self, names: tuple[str, ...]) -> Fits:
        return self.learn


class QuickObject:
    """The quick check of a type of objects; members and facts are filled while it is read."""

    __slots__ = ("facts", "members", "of_names")
    kept = 0

    def __init__(self, members: dict[str, Member] | None = None, facts: Facts | None = None):
        self.members: dict[str, Member] = {} if members is None else members
        self.facts = facts or Facts()
        self.of_names = _OfNames(self.learn)

    def fits(self, value: Any, local: list[str]) -> bool:
        """Say whether a value is certainly sound."""
        return self.of_names[tuple(value)](value, local)

    def learn(self, value: Any, local: list[str]) -> bool:
        """Say whether an object with names not met before is certainly sound; remember them."""
        if type(value) is not dict:
            return False
        names = tuple(value)
        if any(name not in self.members for name in names) or not self.facts.allow(names):
            return False
        if len(self.of_names) >= MOST_OF_TYPE or QuickObject.kept >= _MOST:
            return False
        QuickObject.kept += 1
        fits = self.of_names[names] = _written({name: self.members[name] for name in names})
        return fits(value, local)

    def varied(self, **members: Member | None) -> "QuickObject":
        """Return the check of the same type with some members judged otherwise, or refused."""
        return QuickObject(_Overlay(self.members, members), self.facts)


class _Overlay(dict[str, Member]):
    """Members of a type that may still be read, with some replaced; None takes a member out."""

    def __init__(self, below: dict[str, Member], above: dict[str, Member | None]) -> None:
        super().__init__({name: member for name, member in above.items() if member is not None})
        self._below, self._gone = below, {name for name, one in above.items() if one is None}

    def __missing__(self, name: str) -> Member:
        return self._below[name]

    def __contains__(self, name: object) -> bool:
        return name not in self._gone and (super().__contains__(name) or name in self._below)


_LINES = {
    TEXT: """
    if not ({v} >= "!" and len({v}) < short and {v}.isprintable()):
        if {a}({v}) is not None: return False""",
    TOKEN: """
    if not ({v} and " " not in {v} and {v}.isprintable()):
        if {a}({v}) is not None: return False""",
    CODES: """
    if {v} not in {a}: return False""",
    ID: """
    if is_id({v}) is None: return False""",
    BOOLEAN: """
    if {v} is not True and {v} is not False: return False""",
    COUNT: """
    if type({v}) is not int or not 0 < {v} < 2147483648: return False""",
    DECIMAL: """
    if type({v}) is not int and {a}({v}) is not None: return False""",
    TEST: """
    if {a}({v}) is not None: return False""",
    TARGET: """
    head, _, rest = {v}.partition("/")
    if not (head in {a}[0] and is_id(rest)):
        if len({v}) > short or not {v}.isprintable(): return False
        if {a}[1]({v}, local) is not None: return False""",
    OBJECT: """
    if not {a}[tuple({v})]({v}, local): return False""",
    ANY: """
    if not {a}({v}, local): return False""",
    TESTS: """
    for part in {v}:
        if {a}(part) is not None: return False""",
    OBJECTS: """
    if not {v}: return False
    for part in {v}:
        if not {a}[tuple(part)](part, local): return False""",
    ANIES: """
    for part in {v}:
        if not {a}(part, local): return False""",
}
_LIST_LINE = """
    if type({v}) is not list or not {v}: return False"""
_MOST_LINE = """
    if len({v}) > {a}_most: return False"""


# What the written functions call; one for all, so that the look-ups Python remembers hold.
_CALLED: dict[str, Any] = {"short": primitives.SHORT, "is_id": primitives.is_id}


@functools.lru_cache(maxsize=_MOST)
def _code_of(kinds: tuple[tuple[int, bool], ...]) -> CodeType:
    """Return the check of members, compiled; names and arguments are defaults of its parameters.

    Each is given by its kind and whether the number of items in the list is limited.
    """
    count = range(len(kinds))
    texts = [
        (_LIST_LINE if kind in _LISTS else "") + (_MOST_LINE if is_limited else "") + _LINES[kind]
        for kind, is_limited in kinds
    ]
    lines = [text.format(v=f"v{index}", a=f"a{index}") for index, text in enumerate(texts)]
    if len(kinds) > 3:
        lines.insert(0, "    " + "".join(f"v{index}, " for index in count) + "= value.values()")
    else:  # values of given names are quicker found than a few are unpacked
        lines[:0] = [f"    v{index} = value[n{index}]\n" for index in count]
    given = "".join(f", n{index}, a{index}" for index in count)
    given += "".join(f", a{index}_most" for index in count if kinds[index][1])
    made: dict[str, Any] = {}
    text = "".join([f"def check(value, local{given}):\n", *lines, "\n    return True"])
    exec(text, made)  # noqa: S102 - our own words
    code: CodeType = made["check"].__code__
    return code


def _written(members: Mapping[str, Member]) -> Fits:
    """Return the check of an object with these members in this order."""
    given: list[Any] = []
    for name, (_, argument, _) in members.items():
        given += name, argument.of_names if isinstance(argument, QuickObject) else argument
    given += (member.most for member in members.values() if member.most is not None)
    code = _code_of(tuple((member.kind, member.most is not None) for member in members.values()))
    return FunctionType(code, _CALLED, "check", tuple(given))
