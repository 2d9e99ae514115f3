"""Where a row writes: a fixed path, or a new element of a list for each repetition."""

from collections.abc import Callable, Mapping, Sequence
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

# Puts a value; returns the paths of the constants that it put beside it, beginning with a dot.
PutBeside = Callable[[Element, Any], Sequence[str]]


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
            self.put: PutBeside = self._fixed(steps)
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

    def _fixed(self, steps: tuple[Step, ...]) -> PutBeside:
        put = compile_put(steps)
        defaults = self._defaults
        enters = [compile_enter(step) for step in steps[:-1]]
        around = text_of(steps[:-1])

        def put_with(out: Element, value: Any) -> Sequence[str]:
            put(out, value)
            if not defaults:
                return ()
            holder = out
            for enter in enters:
                holder = enter(holder)
            return [around + text for text, default in defaults if default(holder)]

        return put_with

    def _repeated(self, steps: tuple[Step, ...], star: int) -> PutBeside:
        enters = [compile_enter(step) for step in steps[:star]]
        step, rest = steps[star], steps[star + 1 :]
        name, url = step.name, step.url
        inside = compile_put(rest) if rest else None
        defaults, head = self._defaults, self._head

        def put_new(out: Element, value: Any) -> Sequence[str]:
            for enter in enters:
                out = enter(out)
            element: Any = value
            if inside is not None:
                element = {} if url is None else {"url": url}
                inside(element, value)
            beside = [text for text, default in defaults if default(element)]
            items = out.setdefault(name, [])
            items.append(element)
            return [f"{head}[{len(items) - 1}]{text}" for text in beside] if beside else beside

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

    def put(self, resource: Element, element: Element, reference: Element | None) -> list[str]:
        """Write the element with the reference in it.

        Returns the paths of the reference and of the constants beside it, beginning with a dot.
        """
        if reference is not None and self._single is not None:
            return [f"{text_of(self.steps)}.reference", *self._single.put(resource, reference)]
        written = []
        if reference is not None:
            around = "." + self.path(resource)
            written.append(f"{around}{text_of(self._rest)}.reference")
            if self._at is not None:
                self._at(element, reference)
            else:
                element = {**reference, **element}
        return written if self._whole is None else [*written, *self._whole.put(resource, element)]


# A constant beside a value: its path, and the function that puts it where the value has none.
_Default = tuple[str, Callable[[Element], bool]]


def _default_puts(defaults: Mapping[str, Any]) -> list[_Default]:
    puts = []
    for path, value in defaults.items():
        steps = parse_target(path)
        puts.append((text_of(steps), _default_put(steps, compile_put(steps), value)))
    return puts


def _default_put(steps: tuple[Step, ...], put: Put, value: Any) -> Callable[[Element], bool]:
    first = steps[0].name

    def put_default(element: Element) -> bool:
        if first in element and values_at(element, steps):
            return False
        put(element, value)
        return True

    return put_default
