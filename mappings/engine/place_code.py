"""Where rows write, as statements of Python: the same paths that `places` writes by closures."""

from collections.abc import Mapping
from typing import Any

from mappings.engine.code import Code
from mappings.engine.places import Place
from mappings.engine.targets import Step, compile_put, parse_target, text_of


class PlaceCode:
    """Writes the path of one row's target, and the statements that put a value there."""

    def __init__(self, code: Code, target: str, defaults: Mapping[str, Any]) -> None:
        self._code = code
        self._steps = parse_target(target)
        self._defaults = defaults
        self._star = next((at for at, step in enumerate(self._steps) if step.index == -1), None)
        self.place = Place(self._steps, defaults)

    @property
    def path(self) -> str:
        """The expression of the path of the next value."""
        if self._star is None:
            suffix = text_of(self._steps)
            return f"target + {suffix!r}" if suffix else "target"
        if self._star == 0:
            name, rest = self._steps[0].name, text_of(self._steps[1:])
            return f'f"{{target}}.{name}[{{len(out.get({name!r}, ()))}}]{_braced(rest)}"'
        return f"target + {self._code.name('place', self.place)}.path(out)"

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
            self._code.add(f"{self._code.name('place', self.place)}.put(out, {value})")

    def _put_new(self, value: str) -> None:
        """Add an element to a list of the resource."""
        code, step, rest = self._code, self._steps[0], self._steps[1:]
        if rest:
            code.add("new = {}" if step.url is None else f'new = {{"url": {step.url!r}}}')
            if _is_simple(rest):
                _put_at(code, "new", rest, value)
            else:
                code.add(f"{code.name('put', compile_put(rest))}(new, {value})")
            value = "new"
        for path, given in self._defaults.items():
            steps = parse_target(path)
            opening = f"if {steps[0].name!r} not in {value}:"
            if len(steps) > 1:
                name = code.name("steps", steps)
                opening = f"if {steps[0].name!r} not in {value} or not values_at({value}, {name}):"
            with code.inside(opening):
                code.add(f"{code.name('put', compile_put(steps))}({value}, {_given(code, given)})")
        code.add(f"out.setdefault({step.name!r}, []).append({value})")

    def if_empty(self) -> str:
        """Return the line in front of what is done where nothing stands at the path yet."""
        if self._star is not None or not self._steps:
            return "if True:"
        first = f"if {self._steps[0].name!r} not in out"
        if len(self._steps) == 1:
            return first + ":"
        return f"{first} or not values_at(out, {self._code.name('steps', self._steps)}):"


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
