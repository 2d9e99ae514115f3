"""What the way back writes into: segments of an HL7 v2 message, parts of a field, or a tree."""

from dataclasses import dataclass, field

from mappings.engine.scopes import parse_source
from mappings.engine.tree import Node, ensure, parse_tree_path, select
from mappings.hl7.escape import Separators, escape


@dataclass(slots=True, eq=False)
class PartsSink:
    """One data type value: components (or subcomponents) by number, each a text or parts."""

    parts: dict[int, "str | PartsSink"] = field(default_factory=dict)

    def put(self, path: str, text: str, repetition: int = 0) -> None:
        """Write the text at a component path such as `4` or `1.2`."""
        source = parse_source(path, is_type=True)
        if source.component:
            inner = self.enter(str(source.field))
            inner.parts.setdefault(source.component, text)
            return
        held = self.parts.get(source.field)
        if isinstance(held, PartsSink):
            held.parts.setdefault(1, text)
        elif held is None:
            self.parts[source.field] = text

    def put_parts(self, path: str, texts: list[str], repetition: int = 0) -> None:
        """Write the parts of a composite value."""
        inner = self.enter(path)
        for number, text in enumerate(texts, 1):
            if text:
                inner.parts.setdefault(number, text)

    def enter(self, path: str, repetition: int = 0) -> "PartsSink":
        """Return the parts at a component."""
        number = parse_source(path, is_type=True).field
        held = self.parts.get(number)
        if isinstance(held, PartsSink):
            return held
        inner = PartsSink({1: held} if held else {})
        self.parts[number] = inner
        return inner

    def encode(self, separators: Separators, level: int = 0) -> str:
        """Return the raw text, without trailing empty parts."""
        mark = (separators.component, separators.subcomponent, "")[level]
        out = []
        for number in range(1, max(self.parts, default=0) + 1):
            held = self.parts.get(number, "")
            if isinstance(held, PartsSink):
                out.append(held.encode(separators, min(level + 1, 2)))
            else:
                out.append(escape(held, separators))
        return mark.join(out).rstrip(mark) if mark else (out[0] if out else "")


@dataclass(slots=True, eq=False)
class SegmentSink:
    """The fields of some segments: (segment, field) -> repetitions."""

    fields: dict[tuple[str, int], list[PartsSink]] = field(default_factory=dict)

    def _repetition(self, path: str, repetition: int) -> tuple[PartsSink, int, int]:
        source = parse_source(path, is_type=False)
        reps = self.fields.setdefault((source.segment, source.field), [])
        wanted = repetition if source.repetition == 0 else source.repetition - 1
        while len(reps) <= wanted:
            reps.append(PartsSink())
        return reps[wanted], source.component, source.subcomponent

    def count(self, path: str) -> int:
        """Return how many repetitions the field has."""
        source = parse_source(path, is_type=False)
        return len(self.fields.get((source.segment, source.field), ()))

    def put(self, path: str, text: str, repetition: int = 0) -> None:
        """Write the text at a field path such as `PID-8` or `PID-5[*].1`."""
        parts, component, subcomponent = self._repetition(path, repetition)
        inner = f"{component or 1}" + (f".{subcomponent}" if subcomponent else "")
        parts.put(inner, text)

    def put_parts(self, path: str, texts: list[str], repetition: int = 0) -> None:
        """Write the parts of a composite value."""
        parts, component, _ = self._repetition(path, repetition)
        inner = parts.enter(str(component)) if component else parts
        for number, text in enumerate(texts, 1):
            if text:
                inner.parts.setdefault(number, text)

    def enter(self, path: str, repetition: int = 0) -> PartsSink:
        """Return the parts of one repetition of a field."""
        parts, component, _ = self._repetition(path, repetition)
        return parts.enter(str(component)) if component else parts

    def encode(self, separators: Separators) -> dict[tuple[str, int], str]:
        """Return the raw text of each field."""
        found = {}
        for place, reps in self.fields.items():
            texts = [rep.encode(separators) for rep in reps]
            while texts and not texts[-1]:
                texts.pop()
            if texts:
                found[place] = separators.repetition.join(texts)
        return found


@dataclass(slots=True, eq=False)
class NodeSink:
    """A node of an XML, JSON or flat document."""

    node: Node

    def count(self, path: str) -> int:
        """Return how many nodes stand where a [*] of the path repeats."""
        steps = parse_tree_path(path)
        place = next((at for at, step in enumerate(steps) if step.index == -1), None)
        if place is None:
            return 0
        return len(ensure(self.node, steps[:place]).all(steps[place].name))

    def has(self, path: str) -> bool:
        """Return whether something stands at the path."""
        return any(
            bool(found if isinstance(found, str) else found.text or found.children)
            for found, _ in select(self.node, parse_tree_path(path))
        )

    def leave(self, path: str) -> None:
        """Take back the last node of a path."""
        steps = parse_tree_path(path)
        holder = ensure(self.node, steps[:-1])
        same = holder.all(steps[-1].name)
        if same:
            holder.children = [child for child in holder.children if child is not same[-1]]

    def put(self, path: str, text: str, repetition: int = 0) -> None:
        """Write the text of an element or attribute; the first value stays."""
        steps = parse_tree_path(path)
        if steps and steps[-1].name.startswith("@"):
            holder = ensure(self.node, steps[:-1], repetition=repetition)
            holder.attributes.setdefault(steps[-1].name[1:], text)
            return
        node = ensure(self.node, steps, repetition=repetition)
        node.text = node.text or text

    def put_parts(self, path: str, texts: list[str], repetition: int = 0) -> None:
        """Write the first part: trees have no components."""
        self.put(path, next((text for text in texts if text), ""), repetition)

    def enter(self, path: str, repetition: int = 0) -> "NodeSink":
        """Return the node at a path."""
        return NodeSink(ensure(self.node, parse_tree_path(path), repetition=repetition))


Sink = PartsSink | SegmentSink | NodeSink
