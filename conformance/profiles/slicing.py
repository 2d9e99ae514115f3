"""Slices: putting items into them and counting (https://hl7.org/fhir/R4/profiling.html#slicing)."""

from collections.abc import Callable
from dataclasses import dataclass

from conformance.fhirpath.nodes import Node
from conformance.profiles.discriminators import Sort, discriminators_of, sort_of, urls_of
from conformance.profiles.run import CheckRun
from conformance.profiles.shapes import RootOf, Shape

_UNDECIDED = -1
NodeCheck = Callable[[Node, CheckRun], None]
ListCheck = Callable[[Node, list[Node], CheckRun], None]
"""Checks the items of one list below an element: (element, items, run)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One slice compiled: what belongs to it, how many, what is asked of each, its own slices."""

    name: str
    sorts: tuple[Sort, ...]
    least: int
    most: int | None
    check: NodeCheck | None
    inner: ListCheck | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where a slicing stands, for messages: the profile and the element's name."""

    url: str
    name: str


def limit_of(shape: Shape) -> int | None:
    """Return the greatest number allowed, None for `*`."""
    most = str(shape.facts.get("max", "*"))
    return None if most == "*" else int(most)


def compile_slicing(
    shape: Shape,
    context: Context,
    root_of: RootOf,
    conforms: Callable[..., object],
    compile_item: Callable[[Shape], NodeCheck | None],
) -> ListCheck | None:
    """Compile the slices of an element; None where it has none."""
    if not shape.slices:
        return None
    slicing = shape.facts.get("slicing", {})
    rules = str(slicing.get("rules", "open"))
    is_ordered = bool(slicing.get("ordered", False))
    slices = []
    for name, one in shape.slices.items():
        inner_context = Context(url=context.url, name=f"{context.name}:{name}")
        slices.append(
            Slice(
                name=name,
                sorts=_sorts(shape, one, root_of, conforms, context.url),
                least=int(one.facts.get("min", 0)),
                most=limit_of(one),
                check=compile_item(one),
                inner=compile_slicing(one, inner_context, root_of, conforms, compile_item),
            )
        )
    return _check(slices, rules, context, is_ordered=is_ordered)


def _sorts(
    shape: Shape, one: Shape, root_of: RootOf, conforms: Callable[..., object], url: str
) -> tuple[Sort, ...]:
    is_extension = shape.name in ("extension", "modifierExtension")
    discriminators = discriminators_of(shape.facts.get("slicing", {}))
    if is_extension and discriminators in ([("value", "url")], []):
        urls = urls_of(one, root_of)
        return (_url_sort(urls),) if urls else ()
    found = [
        sort
        for kind, path in discriminators
        if (sort := sort_of(kind, path, one, root_of, conforms, url)) is not None
    ]
    return tuple(found)


def sorts_of(
    shape: Shape | None,
    name: str,
    root_of: RootOf,
    conforms: Callable[..., object],
    url: str,
) -> tuple[Sort, ...] | None:
    """Return the tests of an element's slice, a slice of a slice as `outer/inner`; None if none."""
    found: tuple[Sort, ...] = ()
    for part in name.split("/"):
        inner = shape.slices.get(part) if shape is not None else None
        if shape is None or inner is None:
            return None
        found += _sorts(shape, inner, root_of, conforms, url)
        shape = inner
    return found or None


def _url_sort(urls: set[str]) -> Sort:
    return lambda node, _run: isinstance(node.value, dict) and node.value.get("url") in urls


def _check(slices: list[Slice], rules: str, context: Context, *, is_ordered: bool) -> ListCheck:
    names = ", ".join(one.name for one in slices)

    def check(element: Node, items: list[Node], run: CheckRun) -> None:
        filled: list[list[Node]] = [[] for _ in slices]
        last = -1
        has_rest = has_undecided = False
        for item in items:
            at = _place_of(item, slices, run)
            if at == _UNDECIDED:
                run.add("slice-undecided", item, context.url, context.name)
                has_undecided = True
                continue
            if at is None:
                has_rest = True
                if rules == "closed":
                    run.add("slice-closed", item, context.url, context.name, names)
                continue
            if is_ordered and at < last:
                run.add("slice-order", item, context.url, context.name)
            if rules == "openAtEnd" and has_rest:
                run.add("slice-end", item, context.url, context.name)
            last = max(last, at)
            filled[at].append(item)
        for one, found in zip(slices, filled, strict=True):
            _check_slice(element, one, found, context, run, is_sure=not has_undecided)

    return check


def _place_of(item: Node, slices: list[Slice], run: CheckRun) -> int | None:
    """Return the first slice an item belongs to, None for none, _UNDECIDED if unclear."""
    is_undecided = False
    for at, one in enumerate(slices):
        verdicts = [sort(item, run) for sort in one.sorts]
        if verdicts and all(verdicts):
            return at
        is_undecided = is_undecided or (None in verdicts and False not in verdicts)
        if not verdicts and one.check is not None:
            with run.trial() as trial:
                one.check(item, run)
            if not trial.failed:
                return at
    return _UNDECIDED if is_undecided else None


def _check_slice(
    element: Node,
    one: Slice,
    found: list[Node],
    context: Context,
    run: CheckRun,
    *,
    is_sure: bool,
) -> None:
    name = f"{context.name}:{one.name}"
    if len(found) < one.least and is_sure:
        run.add("min", element, one.least, name, len(found), context.url)
    if one.most is not None and len(found) > one.most:
        run.add("max", found[one.most], one.most, name, len(found), context.url)
    for item in found:
        if one.check is not None:
            one.check(item, run)
    if one.inner is not None:
        one.inner(element, found, run)
