"""By what an item is put into a slice (https://hl7.org/fhir/R4/profiling.html#discriminator)."""

from collections.abc import Callable, Mapping
from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.evaluation import Frame, Run
from conformance.fhirpath.nodes import Node, children
from conformance.fhirpath.parser import parse
from conformance.fhirpath.syntax import Call, Expression, Literal, Member, Path, Special
from conformance.profiles.run import CheckRun
from conformance.profiles.shapes import RootOf, Shape, expand, is_core, name_of
from conformance.profiles.texts import fault
from conformance.profiles.values import has_pattern, is_fixed, valued

Sort = Callable[[Node, CheckRun], bool | None]
"""Says whether an item belongs to a slice; None where nobody can tell."""

NodeTest = Callable[[Node, CheckRun], bool | None]

Step = tuple[str, str]
"""One step of a discriminator's path: (child | extension | ofType | resolve, name)."""


def steps_of(path: str, url: str) -> list[Step]:
    """Read a discriminator's path, the restricted FHIRPath of profiling.html#discriminator."""
    tree = parse(path)
    parts: list[Expression | Any] = [tree.head, *tree.steps] if isinstance(tree, Path) else [tree]
    found: list[Step] = []
    for part in parts:
        match part:
            case Special("$this"):
                continue
            case Member(name):
                found.append(("child", name))
            case Call("resolve", ()):
                found.append(("resolve", ""))
            case Call("extension", (Literal(value),)) if isinstance(value, str):
                found.append(("extension", value))
            case Call("ofType" | "as", (Member(name),)):
                found.append(("ofType", name))
            case _:
                raise fault("profile-broken", url, f"discriminator path {path}")
    return found


def instance_reader(path: str, steps: list[Step]) -> Callable[[Node, CheckRun], list[Node]]:
    """Return what finds a discriminator's elements in an item."""
    if not steps:
        return lambda node, _run: [node]
    if all(kind == "child" for kind, _ in steps):
        names = [name for _, name in steps]

        def read(node: Node, _run: CheckRun) -> list[Node]:
            level = [node]
            for name in names:
                level = [child for one in level for child in children(one, name)]
            return level

        return read
    closure = Compiler(as_filters=True).expression(parse(path))

    def evaluate(node: Node, run: CheckRun) -> list[Node]:
        inner = Run([node], resource=[node], root=[run.root], ports=run.ports)
        return [one for one in closure(Frame(inner, [node])) if isinstance(one, Node)]

    return evaluate


def shapes_at(shape: Shape, steps: list[Step], root_of: RootOf) -> tuple[list[Shape], list[str]]:
    """Return the profile's elements at a discriminator's path, or the targets it ends with."""
    level = [shape]
    targets: list[str] = []
    for kind, name in steps:
        following: list[Shape] = []
        targets = []
        for one in level:
            if kind == "child":
                following += _named(one, name, root_of)
            elif kind == "extension":
                following += _extension(one, name, root_of)
            elif kind == "ofType":
                following += [one] if name in one.codes() else []
            else:
                targets += [t for type_ in one.types() for t in type_.get("targetProfile", ())]
                roots = [root_of(target) for target in targets if not is_core(target)]
                following += [root for root in roots if root is not None]
        level = following
    return level, targets


def _named(shape: Shape, name: str, root_of: RootOf) -> list[Shape]:
    known = expand(shape, root_of)
    child = known.get(name) or known.get(f"{name}[x]")
    if child is None:
        return []
    return [child, *child.slices.values()] if child.name.endswith("[x]") else [child]


def _extension(shape: Shape, url: str, root_of: RootOf) -> list[Shape]:
    child = expand(shape, root_of).get("extension")
    return [one for one in (child.slices.values() if child else ()) if url in urls_of(one, root_of)]


def urls_of(shape: Shape, root_of: RootOf) -> set[str]:
    """Return the urls that an extension slice means: its profile's, or the one it fixes."""
    found = {
        profile.partition("|")[0] for type_ in shape.types() for profile in type_.get("profile", ())
    }
    if not found:
        child = expand(shape, root_of).get("url")
        fixed = valued(child.facts, "fixed") if child is not None else None
        found = {str(fixed[1])} if fixed else set()
    return found


def sort_of(
    kind: str, path: str, shape: Shape, root_of: RootOf, conforms: Callable[..., Any], url: str
) -> Sort | None:
    """Return the test of one discriminator for one slice; None if the slice says nothing there."""
    steps = steps_of(path, url)
    read = instance_reader(path, steps)
    found, targets = shapes_at(shape, steps, root_of)
    ends_resolved = bool(steps) and steps[-1][0] == "resolve"
    if kind == "exists":
        return _exists_sort(read, found)
    if kind == "type":
        return _type_sort(read, _types_of(found, targets, root_of, ends_resolved=ends_resolved))
    if kind == "profile":
        wanted = targets if ends_resolved else _profiles_of(found)
        return _profile_sort(read, wanted, conforms) if wanted else None
    tests = [test for test in (_value_test(one, root_of, conforms) for one in found) if test]
    if not tests:
        return None

    def sort(node: Node, run: CheckRun) -> bool | None:
        return any(test(one, run) for one in read(node, run) for test in tests)

    return sort


def _exists_sort(read: Callable[[Node, CheckRun], list[Node]], shapes: list[Shape]) -> Sort | None:
    if any(str(shape.facts.get("max")) == "0" for shape in shapes):
        return lambda node, run: not read(node, run)
    if any(int(shape.facts.get("min", 0)) > 0 for shape in shapes):
        return lambda node, run: bool(read(node, run))
    return None


def _types_of(
    shapes: list[Shape], targets: list[str], root_of: RootOf, *, ends_resolved: bool
) -> set[str]:
    if not ends_resolved:
        return {code for shape in shapes for code in shape.codes()}
    found = set()
    for target in targets:
        root = None if is_core(target) else root_of(target)
        found.add(root.name if root is not None else name_of(target))
    return found


def _type_sort(read: Callable[[Node, CheckRun], list[Node]], types: set[str]) -> Sort | None:
    if not types:
        return None

    def sort(node: Node, run: CheckRun) -> bool | None:
        found = read(node, run)
        return any(model.is_kind_of(one.type, name) for one in found for name in types)

    return sort


def _profiles_of(shapes: list[Shape]) -> list[str]:
    return [p for shape in shapes for type_ in shape.types() for p in type_.get("profile", ())]


def _profile_sort(
    read: Callable[[Node, CheckRun], list[Node]], wanted: list[str], conforms: Callable[..., Any]
) -> Sort:
    def sort(node: Node, run: CheckRun) -> bool | None:
        found = read(node, run)
        verdicts = [conforms(one, profile, run) for one in found for profile in wanted]
        if any(verdicts):
            return True
        return None if None in verdicts or not found else False

    return sort


def _value_test(shape: Shape, root_of: RootOf, conforms: Callable[..., Any]) -> NodeTest | None:
    """Return what the profile asks of the value at a discriminator's path."""
    fixed = valued(shape.facts, "fixed")
    if fixed is not None:
        return lambda node, _run: is_fixed(node.value, fixed[1])
    pattern = valued(shape.facts, "pattern")
    if pattern is not None:
        return lambda node, _run: has_pattern(node.value, pattern[1])
    binding = shape.facts.get("binding", {})
    is_own = binding != shape.base.get("binding")
    inner = _inner_test(shape, root_of, conforms)
    if inner is not None:
        return inner
    if binding.get("strength") == "required" and is_own:
        return _member_test(str(binding.get("valueSet")))
    profiles = [p for p in _profiles_of([shape]) if not is_core(p)]
    if profiles:
        return lambda node, run: any(conforms(node, profile, run) for profile in profiles)
    return None


def _inner_test(shape: Shape, root_of: RootOf, conforms: Callable[..., Any]) -> NodeTest | None:
    """Return a test from values fixed below the element, `coding.code` below a CodeableConcept."""
    tests: list[tuple[str, list[NodeTest]]] = []
    for name, child in (shape.children or {}).items():
        found = [
            test
            for one in (child, *child.slices.values())
            if (test := _value_test(one, root_of, conforms)) is not None
        ]
        if found:
            tests.append((name.removesuffix("[x]"), found))
    if not tests:
        return None

    def verdict(node: Node, run: CheckRun) -> bool:
        return all(
            any(test(child, run) for child in children(node, name) for test in found)
            for name, found in tests
        )

    return verdict


def _member_test(value_set: str) -> NodeTest:
    def verdict(node: Node, run: CheckRun) -> bool | None:
        terminology = run.ports.terminology
        return None if terminology is None else terminology.member_of(node.value, value_set)

    return verdict


def discriminators_of(slicing: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (type, path) of each discriminator."""
    return [
        (str(one.get("type")), str(one.get("path"))) for one in slicing.get("discriminator", ())
    ]
