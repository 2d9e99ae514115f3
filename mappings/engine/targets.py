"""Paths into a FHIR resource, compiled to setters and getters.

gender                             one key
name[0].family                     the first element of a list, made where absent
participant[*].individual          one new element for each repetition of the source
multipleBirth:boolean              a choice, written multipleBirthBoolean
extension(patient-religion).valueCodeableConcept
extension(own:visit-protection).valueBoolean       an extension of the hub's own
extension(./action).valueCodeableConcept           a part of an extension
_birthDate.extension(patient-birthTime).valueDateTime
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Element = dict[str, Any]
_STEP = re.compile(
    r"(_?[A-Za-z][A-Za-z0-9]*)(?::([A-Za-z0-9]+))?(?:\(([^)]+)\))?(?:\[(\*|\d+)\])?\Z"
)
_CORE_EXTENSIONS = "http://hl7.org/fhir/StructureDefinition/"
OWN_EXTENSIONS = "https://fhir.qiao.example/cphc/StructureDefinition/"


class UnreadablePath(ValueError):
    """The text is no path; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One name; `index` None is no list, -1 a new element each time; `url` names an extension."""

    name: str
    index: int | None = None
    url: str | None = None

    @property
    def text(self) -> str:
        """The step as the trace writes it, without the index of a new element."""
        if self.url is not None:
            return f"{self.name}({self.url.removeprefix(_CORE_EXTENSIONS)})"
        return f"{self.name}[{self.index}]" if self.index is not None else self.name


def parse_target(path: str) -> tuple[Step, ...]:
    """Read a path; raises `UnreadablePath`."""
    if path == "$this":
        return ()
    steps: list[Step] = []
    for piece in _pieces(path):
        match = _STEP.match(piece)
        if match is None:
            raise UnreadablePath(f"cannot read the step {piece!r} of {path!r}")
        name, choice, url, index = match.groups()
        if choice:
            name += choice[0].upper() + choice[1:]
        if url is not None and url.startswith("./"):
            url = url.removeprefix("./")  # a part of the extension that the rows fill
        elif url is not None and url.startswith("own:"):
            url = OWN_EXTENSIONS + url.removeprefix("own:")
        elif url is not None and "://" not in url and not url.startswith("urn:"):
            # A nested extension has a bare name for its url.
            nested = bool(steps) and steps[-1].url is not None
            url = url if nested else _CORE_EXTENSIONS + url
        number = None if index is None else -1 if index == "*" else int(index)
        steps.append(Step(name=name, index=number, url=url))
    if sum(step.index == -1 for step in steps) > 1:
        raise UnreadablePath(f"{path!r} has more than one [*]")
    return tuple(steps)


def _pieces(path: str) -> list[str]:
    """Split at dots outside of brackets."""
    pieces, depth, start = [], 0, 0
    for position, letter in enumerate(path):
        if letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
        elif letter == "." and depth == 0:
            pieces.append(path[start:position])
            start = position + 1
    pieces.append(path[start:])
    return pieces


Put = Callable[[Element, Any], None]


def compile_put(steps: tuple[Step, ...]) -> Put:
    """Return the setter of a path without [*] (but for its last step)."""
    if not steps:
        return lambda element, value: element.update(value)
    step, rest = steps[0], steps[1:]
    if not rest:
        return _put_last(step)
    if step.url is not None and len(rest) == 1 and rest[0].url is None and rest[0].index is None:
        return _put_extension(step, rest[0].name)
    enter, put = compile_enter(step), compile_put(rest)

    def put_inside(element: Element, value: Any) -> None:
        put(enter(element), value)

    return put_inside


def _put_extension(step: Step, key: str) -> Put:
    """Return the setter of an extension with one value."""
    name, url, is_new = step.name, step.url, step.index == -1

    def put_extension(element: Element, value: Any) -> None:
        items: list[Element] = element.setdefault(name, [])
        if not is_new:
            for item in items:
                if item["url"] == url:
                    item[key] = value
                    return
        items.append({"url": url, key: value})

    return put_extension


def _put_last(step: Step) -> Put:
    name, index = step.name, step.index
    if step.url is not None:
        enter = compile_enter(step)
        return lambda element, value: enter(element).update(value)
    if index is None:

        def put_key(element: Element, value: Any) -> None:
            element[name] = value

        return put_key

    def put_item(element: Element, value: Any) -> None:
        items = element.setdefault(name, [])
        if index == -1 or index >= len(items):
            items.append(value)
        else:
            items[index] = value

    return put_item


def compile_enter(step: Step) -> Callable[[Element], Element]:
    """Return the function from an element to its child, which it makes where absent."""
    if step.url is not None:
        return _enter_extension(step.name, step.url, is_new=step.index == -1)
    if step.index is not None:
        return _enter_list(step.name, step.index)
    name = step.name

    def enter_key(element: Element) -> Element:
        child: Element | None = element.get(name)
        if child is None:
            child = element[name] = {}
        return child

    return enter_key


def _enter_extension(name: str, url: str, *, is_new: bool) -> Callable[[Element], Element]:
    def enter_extension(element: Element) -> Element:
        items: list[Element] = element.setdefault(name, [])
        if not is_new:
            for item in items:
                if item["url"] == url:
                    return item
        child: Element = {"url": url}
        items.append(child)
        return child

    return enter_extension


def _enter_list(name: str, index: int) -> Callable[[Element], Element]:
    def enter_item(element: Element) -> Element:
        items: list[Element] = element.setdefault(name, [])
        if index == -1:
            child: Element = {}
            items.append(child)
            return child
        while len(items) <= index:
            items.append({})
        return items[index]

    return enter_item


def compile_peek(steps: tuple[Step, ...]) -> Callable[[Element], int]:
    """Return the function that counts the elements already in the list that [*] extends."""
    *path, last = steps
    name = last.name
    if not path:
        return lambda element: len(element.get(name, ()))

    def count(element: Element) -> int:
        node: Any = element
        for step in path:
            node = _child(node, step)
            if node is None:
                return 0
        return len(node.get(name, ()))

    return count


def _child(element: Any, step: Step) -> Any:
    found = element.get(step.name)
    if found is None:
        return None
    if step.url is not None:
        return next((item for item in found if item.get("url") == step.url), None)
    if step.index is None:
        return found
    return found[step.index] if -1 < step.index < len(found) else None


def values_at(element: Any, steps: tuple[Step, ...]) -> list[Any]:
    """Return every value at the path, [*] meaning all elements of a list."""
    if steps and steps[0].name not in element:
        return []
    nodes = [element]
    for step in steps:
        reached: list[Any] = []
        for node in nodes:
            if type(node) is not dict and not isinstance(node, Mapping):
                continue
            found = node.get(step.name)
            if found is None:
                continue
            if step.url is not None:
                reached.extend(item for item in found if item.get("url") == step.url)
            elif step.index is None:
                reached.append(found)
            elif step.index == -1:
                reached.extend(found)
            elif step.index < len(found):
                reached.append(found[step.index])
        nodes = reached
    return nodes


def compile_values(steps: tuple[Step, ...]) -> Callable[[Element], Sequence[Any]]:
    """Return the function from an element to every value at the path, see `values_at`."""
    if any(step.url is not None for step in steps):
        return lambda element: values_at(element, steps)
    if len(steps) == 1 and steps[0].index == -1:
        name = steps[0].name
        return lambda element: element.get(name, ())
    if any(step.index == -1 for step in steps):
        return lambda element: values_at(element, steps)
    path = [(step.name, step.index) for step in steps]
    if len(path) == 1 and path[0][1] is None:
        return _compile_value(path[0][0])
    if len(path) == 2 and path[1][1] is None:
        return _compile_inner_value(path[0], path[1][0])

    def value(element: Element) -> Sequence[Any]:
        node: Any = element
        for name, index in path:
            if type(node) is not dict and not isinstance(node, Mapping):
                return ()
            node = node.get(name)
            if node is None or (index is not None and index >= len(node)):
                return ()
            if index is not None:
                node = node[index]
        return (node,)

    return value


def _compile_value(name: str) -> Callable[[Element], Sequence[Any]]:
    def value(element: Element) -> Sequence[Any]:
        found = element.get(name)
        return () if found is None else (found,)

    return value


def _compile_inner_value(
    outer: tuple[str, int | None], name: str
) -> Callable[[Element], Sequence[Any]]:
    first, index = outer

    def value(element: Element) -> Sequence[Any]:
        node = element.get(first)
        if node is None:
            return ()
        if index is not None:
            if index >= len(node):
                return ()
            node = node[index]
        if type(node) is not dict and not isinstance(node, Mapping):
            return ()
        found = node.get(name)
        return () if found is None else (found,)

    return value


def text_of(steps: tuple[Step, ...]) -> str:
    """Return the path as the trace writes it, beginning with a dot."""
    return "".join(f".{step.text}" for step in steps)
