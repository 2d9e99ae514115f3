"""XML Patch, the subset of RFC 5261 that FHIR resources need; http.html#patch.

Selectors are steps by name (`f:` is FHIR, `h:` XHTML where the document does not declare them)
with predicates `[n]`, `[@a='v']`, `[name='v']`, `[.='v']`, ending in an element, `@attribute`,
`text()` or `comment()`. They are read by hand, so no XPath engine sees foreign text.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Never

from lxml import etree

from conformance.patch.refusal import inapplicable, unreadable

FHIR = "http://hl7.org/fhir"
XHTML = "http://www.w3.org/1999/xhtml"
MAX_OPERATIONS = 1_000

_NAME = r"(?:[A-Za-z_][\w.\-]*:)?(?:[A-Za-z_][\w.\-]*|\*)"
_STEP = re.compile(
    rf"(?P<name>@{_NAME}|text\(\)|comment\(\)|\.|{_NAME})(?P<rest>(?:\[[^\[\]]*\])*)"
)
_PREDICATE = re.compile(
    rf"\[\s*(?:(?P<index>[1-9][0-9]{{0,8}})"
    rf"|(?P<left>@?{_NAME}|\.)\s*=\s*(?P<quote>['\"])(?P<value>.*?)(?P=quote))\s*\]"
)
_NODE_TESTS = frozenset({"text()", "comment()"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _TextNode:
    """A piece of text: the `text` of its element, or the `tail` of a child."""

    holder: Any
    is_tail: bool

    @property
    def parent(self) -> Any:
        return self.holder.getparent() if self.is_tail else self.holder

    def write(self, text: str | None) -> None:
        if self.is_tail:
            self.holder.tail = text
        else:
            self.holder.text = text

    def read(self) -> str:
        return (self.holder.tail if self.is_tail else self.holder.text) or ""


@dataclass(frozen=True, slots=True)
class _Attribute:
    element: Any
    name: str


def apply_xml_patch(document: Any, patch: Any) -> Any:
    """Return a new root element: `document` after the operations below the `patch` element.

    Both are lxml elements; raises InvalidContent or BusinessRule.
    """
    operations = [child for child in patch if isinstance(child.tag, str)]
    if not operations:
        raise unreadable(None, "there are no operations in it", "其中没有操作")
    if len(operations) > MAX_OPERATIONS:
        raise unreadable(
            None, f"it has more than {MAX_OPERATIONS} operations", f"操作数超过 {MAX_OPERATIONS}"
        )
    if document is None:
        raise unreadable(None, "there is no target document", "没有目标文档")
    holder = etree.Element("holder")
    holder.append(copy.deepcopy(document))
    for number, operation in enumerate(operations):
        _perform(number, operation, holder)
    roots = [child for child in holder if isinstance(child.tag, str)]
    if len(roots) != 1:
        raise inapplicable(len(operations) - 1, "the root element is gone", "根元素已不存在")
    return roots[0]


def parse_xml(data: bytes) -> Any:
    """Return the root element of XML bytes, without entities, network or document type."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        root: Any = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise unreadable(None, "it is not well-formed XML", "不是格式正确的 XML") from error
    if root.getroottree().docinfo.doctype:
        raise unreadable(None, "it has a document type", "含有 DOCTYPE 声明")
    return root


def _perform(number: int, operation: Any, holder: Any) -> None:
    name = etree.QName(operation).localname
    selector = operation.get("sel")
    if name not in {"add", "replace", "remove"}:
        raise unreadable(number, "only add, replace, remove exist", "仅支持 add、replace、remove")
    if not selector:
        raise unreadable(number, "'sel' is missing", "缺少 sel")
    target = _select_one(number, selector, holder, operation.nsmap)
    if name == "add":
        _add(number, operation, target)
    elif name == "replace":
        _replace(number, operation, target)
    else:
        _remove(operation, target)


def _add(number: int, operation: Any, target: Any) -> None:
    """Add as RFC 5261 section 4.3."""
    kind, position = operation.get("type"), operation.get("pos")
    if not _is_element(target) and not (position in {"before", "after"} and _is_comment(target)):
        _refuse(number, "add needs an element", "add 的目标应为元素")
    if kind and kind.startswith("@"):
        name = _qualified(number, kind[1:], operation.nsmap, is_attribute=True)
        if name in target.attrib:
            _refuse(number, "the attribute exists already", "该属性已存在")
        target.set(name, operation.text or "")
    elif kind and kind.startswith("namespace::"):
        _declare(target, kind.removeprefix("namespace::"), operation.text or "")
    elif kind:
        raise unreadable(number, "this 'type' does not exist", "type 的取值不存在")
    elif position in {None, "prepend"}:
        _insert(target, len(target) if position is None else 0, operation)
    elif position in {"before", "after"}:
        parent = target.getparent()
        if parent.tag == "holder":
            _refuse(number, "nothing can stand beside the root", "根元素旁不能有其他内容")
        _insert(parent, parent.index(target) + (position == "after"), operation)
    else:
        raise unreadable(number, "this 'pos' does not exist", "pos 的取值不存在")


def _replace(number: int, operation: Any, target: Any) -> None:
    """Replace as RFC 5261 section 4.4: one node by one node of the same kind."""
    if isinstance(target, _Attribute):
        target.element.set(target.name, operation.text or "")
        return
    if isinstance(target, _TextNode):
        target.write(operation.text)
        return
    children = list(operation)
    if len(children) != 1 or _is_comment(children[0]) != _is_comment(target):
        _refuse(number, "replace needs one node of the same kind", "replace 需要一个同类节点")
    child = copy.deepcopy(children[0])
    child.tail = target.tail
    target.getparent().replace(target, child)


def _remove(operation: Any, target: Any) -> None:
    """Remove as RFC 5261 section 4.5; the text after an element stays, unless `ws` says no."""
    if isinstance(target, _Attribute):
        del target.element.attrib[target.name]
    elif isinstance(target, _TextNode):
        target.write(None)
    else:
        whitespace = operation.get("ws")
        tail = "" if whitespace in {"after", "both"} else target.tail or ""
        parent, before = target.getparent(), target.getprevious()
        if before is not None:
            kept = "" if whitespace in {"before", "both"} else before.tail or ""
            before.tail = kept + tail
        else:
            kept = "" if whitespace in {"before", "both"} else parent.text or ""
            parent.text = kept + tail
        parent.remove(target)


def _insert(parent: Any, index: int, operation: Any) -> None:
    """Put the operation's text and children into `parent` at `index`."""
    text = operation.text or ""
    if index == 0:
        parent.text = (parent.text or "") + text
    else:
        parent[index - 1].tail = (parent[index - 1].tail or "") + text
    for offset, child in enumerate(list(operation)):
        parent.insert(index + offset, copy.deepcopy(child))


def _declare(target: Any, prefix: str, uri: str) -> None:
    """Replace the element by one that declares the prefix as well; lxml cannot add one in place."""
    renewed = etree.Element(target.tag, target.attrib, nsmap={**target.nsmap, prefix: uri})
    renewed.text, renewed.tail = target.text, target.tail
    renewed.extend(list(target))
    target.getparent().replace(target, renewed)


def _select_one(number: int, selector: str, holder: Any, nsmap: Mapping[Any, str]) -> Any:
    found: list[Any] = [holder]
    for step in _steps(number, selector):
        found = [node for place in found for node in _follow(number, step, place, nsmap)]
    if not found:
        _refuse(number, "nothing stands at 'sel'", "sel 处没有内容")
    if len(found) > 1:
        _refuse(number, "'sel' means more than one node", "sel 指向多个节点")
    return found[0]


def _steps(number: int, selector: str) -> list[tuple[str, str]]:
    steps, place = [], 1 if selector.startswith("/") else 0
    while True:
        match = _STEP.match(selector, place)
        if not match:
            raise unreadable(number, "'sel' cannot be read", "sel 无法解析")
        steps.append((match["name"], match["rest"]))
        place = match.end()
        if place == len(selector):
            return steps
        if selector[place] != "/" or match["name"][0] == "@" or match["name"] in _NODE_TESTS:
            raise unreadable(number, "'sel' cannot be read", "sel 无法解析")
        place += 1


def _follow(number: int, step: tuple[str, str], place: Any, nsmap: Mapping[Any, str]) -> list[Any]:
    name, predicates = step
    if not _is_element(place):
        return []
    if name.startswith("@"):
        attribute = _qualified(number, name[1:], nsmap, is_attribute=True)
        return [_Attribute(place, attribute)] if attribute in place.attrib else []
    found: list[Any]
    if name == "text()":
        found = [node for node in _texts(place) if node.read()]
    elif name == "comment()":
        found = [child for child in place if _is_comment(child)]
    elif name == ".":
        found = [place]
    else:
        wanted = _qualified(number, name, nsmap)
        found = [child for child in place if _is_element(child) and _is_named(child, wanted)]
    for predicate in _predicates(number, predicates):
        if predicate["index"]:
            index = int(predicate["index"]) - 1
            found = found[index : index + 1]
        else:
            found = [node for node in found if _holds(number, predicate, node, nsmap)]
    return found


def _predicates(number: int, text: str) -> Iterator[re.Match[str]]:
    place = 0
    while place < len(text):
        match = _PREDICATE.match(text, place)
        if not match:
            raise unreadable(number, "a predicate in 'sel' cannot be read", "sel 中的谓词无法解析")
        yield match
        place = match.end()


def _holds(number: int, predicate: re.Match[str], node: Any, nsmap: Mapping[Any, str]) -> bool:
    left, value = predicate["left"], predicate["value"]
    if isinstance(node, _TextNode):
        return left == "." and node.read() == value
    if not _is_element(node):
        return False
    if left == ".":
        return "".join(node.itertext()) == value
    if left.startswith("@"):
        found = node.get(_qualified(number, left[1:], nsmap, is_attribute=True))
        return bool(found == value)
    wanted = _qualified(number, left, nsmap)
    return any(
        "".join(child.itertext()) == value
        for child in node
        if _is_element(child) and _is_named(child, wanted)
    )


def _texts(element: Any) -> list[_TextNode]:
    tails = [_TextNode(holder=child, is_tail=True) for child in element]
    return [_TextNode(holder=element, is_tail=False), *tails]


def _qualified(
    number: int, name: str, nsmap: Mapping[Any, str], *, is_attribute: bool = False
) -> str:
    """Return `{namespace}local`; an unprefixed element has the patch's default namespace."""
    prefix, _, local = name.rpartition(":")
    declared = {"f": FHIR, "h": XHTML, **nsmap}
    if not prefix:
        default = None if is_attribute else declared.get(None)
        return f"{{{default}}}{local}" if default else local
    if prefix not in declared:
        raise unreadable(number, "a prefix in 'sel' is not declared", "sel 中的前缀未声明")
    return f"{{{declared[prefix]}}}{local}"


def _is_named(element: Any, wanted: str) -> bool:
    if wanted.endswith("*"):
        return bool(wanted == "*" or element.tag.startswith(wanted[:-1]))
    return bool(element.tag == wanted)


def _is_element(node: Any) -> bool:
    return isinstance(node, etree._Element) and isinstance(node.tag, str)


def _is_comment(node: Any) -> bool:
    return isinstance(node, etree._Comment)


def _refuse(number: int, what_en: str, what_zh: str) -> Never:
    raise inapplicable(number, what_en, what_zh)
