"""Where a row writes: a fixed path, or a new element of a list for each repetition."""

from collections.abc import Callable, Mapping
from typing import Any

from mappings.engine.rows import Into
from mappings.engine.targets import (
    Element,
    Put,
    Step,
    compile_enter,
    compile_peek,
    compile_put,
    parse_target,
    text_of,
    values_at,
)


class Place:
    """Where a row writes: a fixed path, or a new element of a list for each repetition."""

    __slots__ = ("_count", "_defaults", "_head", "_rest", "_steps", "put", "suffix")

    def __init__(self, steps: tuple[Step, ...], defaults: Mapping[str, Any]) -> None:
        star = next((number for number, step in enumerate(steps) if step.index == -1), None)
        self._steps = steps
        self._defaults = _default_puts(defaults)
        self._count: Callable[[Element], int] | None = None
        if star is None:
            self.suffix = text_of(steps)
            self.put = self._fixed(steps)
            return
        self._count = compile_peek(steps[: star + 1])
        self._head = text_of(steps[:star]) + "." + steps[star].name
        self._rest = text_of(steps[star + 1 :])
        self.suffix = ""
        self.put = self._repeated(steps, star)

    def path(self, out: Element) -> str:
        """Return the path of the next value, beginning with a dot."""
        if self._count is None:
            return self.suffix
        return f"{self._head}[{self._count(out)}]{self._rest}"

    def is_empty(self, out: Element) -> bool:
        """Whether nothing stands at the fixed path yet."""
        if self._count is not None or not self._steps or self._steps[0].name not in out:
            return True
        return not values_at(out, self._steps)

    def _fixed(self, steps: tuple[Step, ...]) -> Put:
        put = compile_put(steps)
        defaults = self._defaults
        if not defaults:
            return put
        enters = [compile_enter(step) for step in steps[:-1]]

        def put_with(out: Element, value: Any) -> None:
            put(out, value)
            holder = out
            for enter in enters:
                holder = enter(holder)
            for default in defaults:
                default(holder)

        return put_with

    def _repeated(self, steps: tuple[Step, ...], star: int) -> Put:
        enters = [compile_enter(step) for step in steps[:star]]
        step, rest = steps[star], steps[star + 1 :]
        name, url = step.name, step.url
        inside = compile_put(rest) if rest else None
        defaults = self._defaults

        def put_new(out: Element, value: Any) -> None:
            for enter in enters:
                out = enter(out)
            element: Any = value
            if inside is not None:
                element = {} if url is None else {"url": url}
                inside(element, value)
            for default in defaults:
                default(element)
            out.setdefault(name, []).append(element)

        return put_new


class IntoPlace:
    """Where a line of a message map puts what it made: a reference, an element, or both in one."""

    def __init__(self, into: Into, *, is_element: bool) -> None:
        self.steps = parse_target(into.path)
        star = next((at for at, step in enumerate(self.steps) if step.index == -1), None)
        self.is_deep = star != 0 and len(self.steps) != 1
        end = len(self.steps) - (0 if is_element else 1) if star is None else star + 1
        self._outer, self._rest = self.steps[:end], self.steps[end:]
        self._whole = Place(self._outer, into.defaults) if self._outer else None
        self._at = compile_put(self._rest) if self._rest else None
        self._single = None if star is not None else Place(self.steps, into.defaults)

    def path(self, resource: Element) -> str:
        """Return the path of the element that is written next, without a leading dot."""
        if self._whole is None:
            return ""
        return self._whole.path(resource).removeprefix(".")

    def put(self, resource: Element, element: Element, reference: Element | None) -> None:
        """Write the element with the reference in it."""
        if reference is not None and self._at is not None and self._single is None:
            self._at(element, reference)
        elif reference is not None and self._single is not None:
            self._single.put(resource, reference)
            return
        elif reference is not None:
            element = {**reference, **element}
        if self._whole is not None:
            self._whole.put(resource, element)


def _default_puts(defaults: Mapping[str, Any]) -> list[Callable[[Element], None]]:
    puts = []
    for path, value in defaults.items():
        steps = parse_target(path)
        puts.append(_default_put(steps, compile_put(steps), value))
    return puts


def _default_put(steps: tuple[Step, ...], put: Put, value: Any) -> Callable[[Element], None]:
    first = steps[0].name

    def put_default(element: Element) -> None:
        if first not in element or not values_at(element, steps):
            put(element, value)

    return put_default
