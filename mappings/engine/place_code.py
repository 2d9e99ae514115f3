"""Where rows write, as statements of Python: the same paths that `places` writes by closures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mappings.engine.code import Code
from mappings.engine.places import Place
from mappings.engine.targets import (
    Element,
    Step,
    compile_peek,
    compile_put,
    compile_values,
    parse_target,
    text_of,
    values_at,
)

Default = tuple[tuple[Step, ...], Any]  # a constant and where it goes


class PlaceCode:
    """Writes the path of one row's target, and the statements that put a value there.

    `root` is the path of the element that all rows fill, where it is known beforehand. `note`
    writes the trace of a constant put beside the value; it gets the expression of its path.
    """

    def __init__(
        self,
        code: Code,
        target: str,
        defaults: Mapping[str, Any],
        root: str = "",
        note: Callable[[str], None] | None = None,
    ) -> None:
        self._code = code
        self._root = root
        self._note = note
        self._steps = parse_target(target)
        self._defaults = defaults
        self._star = next((at for at, step in enumerate(self._steps) if step.index == -1), None)
        self.place = Place(self._steps, defaults)

    @property
    def path(self) -> str:
        """The expression of the path of the next value."""
        last = self._steps[-1].index if self._steps and self._star is None else None
        if last:
            # Where the list is shorter the value is added to its end.
            *path, step = self._steps
            count = self._code.name("count", compile_peek(self._steps))
            suffix = f"{_braced(text_of(tuple(path)))}.{step.name}[{{min({last}, {count}(out))}}]"
            return f'f"{self._root or "{target}"}{suffix}"'
        if self._star is None:
            suffix = text_of(self._steps)
            if self._root:
                return repr(self._root + suffix)
            return f"target + {suffix!r}" if suffix else "target"
        if self._star == 0:
            return self._new(text_of(self._steps[1:]))
        return f"target + {self._code.name('place', self.place)}.path(out)"

    def _new(self, rest: str) -> str:
        """Return the expression of a path in the element that is added next."""
        name, root = self._steps[0].name, self._root or "{target}"
        return f'f"{root}.{name}[{{len(out.get({name!r}, ()))}}]{_braced(rest)}"'

    @property
    def is_fixed(self) -> bool:
        """Whether every value goes to one path inside the element."""
        return self._star is None and bool(self._steps)

    def put(self, value: str) -> None:
        """Write the statements that put what `value` names."""
        if self._star == 0:
            self._put_new(value)
        elif self._star is None and not self._defaults and _is_simple(self._steps):
            _put_at(self._code, "out", self._steps, value)
        else:
            put = f"{self._code.name('place', self.place)}.put(out, {value})"
            if self._note is None or not self._defaults:
                self._code.add(put)
                return
            with self._code.inside(f"for beside in {put}:"):
                self._note("target + beside")

    def _put_new(self, value: str) -> None:
        """Add an element to a list of the resource."""
        code, step, rest = self._code, self._steps[0], self._steps[1:]
        defaults = [(parse_target(path), given) for path, given in self._defaults.items()]
        if rest:
            # What the row reads may be an element and have the constant already.
            inside = [one for one in defaults if one[0][: len(rest)] == rest]
            known = [one for one in defaults if one not in inside]
            element = written(code, _element(step, rest, known), value)
            for name in dict.fromkeys(steps[0].name for steps, _ in known):
                self._constant(f".{name}")
            value = "new" if inside else element
            if inside:
                code.add(f"new = {element}")
            defaults = inside
        self._defaults_in(value, defaults)
        code.add(f"out.setdefault({step.name!r}, []).append({value})")

    def _defaults_in(self, holder: str, defaults: Sequence[Default]) -> None:
        """Put constants into a value that came without them."""
        code = self._code
        for name in dict.fromkeys(steps[0].name for steps, _ in defaults):
            same = [one for one in defaults if one[0][0].name == name]
            alone: Element = {}
            _fill(alone, same)
            element = written(code, alone[name])
            with code.inside(f"if {name!r} not in {holder}:"):
                self._constant(f".{name}")
                code.add(f"{holder}[{name!r}] = {element}")
            deep = [(steps, given) for steps, given in same if len(steps) > 1]
            if deep:
                with code.inside("else:"):
                    for steps, given in deep:
                        put = code.name("put", compile_put(steps))
                        values = code.name("values", compile_values(steps))
                        with code.inside(f"if not {values}({holder}):"):
                            self._constant(text_of(steps))
                            code.add(f"{put}({holder}, {_given(code, given)})")

    def _constant(self, rest: str) -> None:
        # The name of an extension's step says its url.
        if self._note is not None and rest != ".url":
            self._note(self._new(rest))

    def if_empty(self) -> str:
        """Return the line in front of what is done where nothing stands at the path yet."""
        if self._star is not None or not self._steps:
            return "if True:"
        first = f"if {self._steps[0].name!r} not in out"
        if len(self._steps) == 1:
            return first + ":"
        return f"{first} or not {self._code.name('values', compile_values(self._steps))}(out):"


class _Value:
    """Stands for what the row reads in an element whose other words are known beforehand."""


_VALUE = _Value()


def _fill(element: Element, defaults: Sequence[Default]) -> None:
    for steps, given in defaults:
        if not values_at(element, steps):
            compile_put(steps)(element, given)


def _element(step: Step, rest: tuple[Step, ...], defaults: Sequence[Default]) -> Element:
    """Return a new element of a list, its constants in it and `_VALUE` for what is read."""
    element: Element = {} if step.url is None else {"url": step.url}
    compile_put(rest)(element, _VALUE)
    _fill(element, defaults)
    return element


def written(code: Code, value: Any, read: str = "") -> str:
    """Return the expression of a new element, `read` being that of what the row reads."""
    if isinstance(value, _Value):
        return read
    if isinstance(value, dict):
        items = (f"{name!r}: {written(code, one, read)}" for name, one in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(code, one, read) for one in value) + "]"
    return _given(code, value)


def _given(code: Code, value: Any) -> str:
    return repr(value) if isinstance(value, (str, bool, int)) else code.name("given", value)


def _braced(text: str) -> str:
    """Return the text as a part of an f-string in double quotes."""
    return repr(text)[1:-1].replace('"', '\\"').replace("{", "{{").replace("}", "}}")


def _is_simple(steps: tuple[Step, ...]) -> bool:
    return bool(steps) and steps[-1].url is None and all(step.index != -1 for step in steps)


def _put_at(code: Code, holder: str, steps: tuple[Step, ...], value: str) -> None:
    """Write the statements that enter all steps but the last, and set that one."""
    *path, last = steps
    for number, step in enumerate(path, 1):
        inner = f"inner_{number}"
        if step.url is not None:
            code.add(f"items = {holder}.setdefault({step.name!r}, [])")
            with code.inside(f"for {inner} in items:"):
                code.add(f"if {inner}['url'] == {step.url!r}: break")
            code.add(f"else: items.append({inner} := {{'url': {step.url!r}}})")
        elif step.index is None:
            code.add(f"{inner} = {holder}.get({step.name!r})")
            code.add(f"if {inner} is None: {inner} = {holder}[{step.name!r}] = {{}}")
        elif step.index == 0:
            code.add(f"items = {holder}.get({step.name!r})")
            code.add(f"if not items: items = {holder}[{step.name!r}] = [{{}}]")
            code.add(f"{inner} = items[0]")
        else:
            code.add(f"items = {holder}.setdefault({step.name!r}, [])")
            code.add(f"while len(items) <= {step.index}: items.append({{}})")
            code.add(f"{inner} = items[{step.index}]")
        holder = inner
    if last.index is None:
        code.add(f"{holder}[{last.name!r}] = {value}")
        return
    code.add(f"items = {holder}.setdefault({last.name!r}, [])")
    code.add(f"if {last.index} >= len(items): items.append({value})")
    code.add(f"else: items[{last.index}] = {value}")
