"""What a narrative may contain (https://hl7.org/fhir/R4/narrative.html, rules txt-1 and txt-2)."""

import functools

from lxml import etree

_XHTML = "{http://www.w3.org/1999/xhtml}"
_ELEMENT_NAMES = (
    "p br div h1 h2 h3 h4 h5 h6 a span b em i strong small big tt dfn q var abbr acronym cite "
    "blockquote hr address bdo kbd sub sup ul ol li dl dt dd pre table caption colgroup col thead "
    "tr tfoot tbody th td code samp img map area ins del u s strike font center"
)
_ATTRIBUTE_NAMES = (
    "title style class id lang dir accesskey tabindex span width align valign char charoff abbr "
    "axis headers scope rowspan colspan href name src border cite charset type hreflang rel rev "
    "shape coords alt longdesc height usemap ismap nohref summary frame rules cellspacing "
    "cellpadding space nowrap target start value compact color size face bgcolor clear datetime "
    "{http://www.w3.org/XML/1998/namespace}lang {http://www.w3.org/XML/1998/namespace}space "
    "{http://www.w3.org/XML/1998/namespace}id {http://www.w3.org/XML/1998/namespace}base"
)
_ELEMENTS = frozenset(_ELEMENT_NAMES.split())
_ATTRIBUTES = frozenset(_ATTRIBUTE_NAMES.split())


@functools.lru_cache(maxsize=256)
def is_narrative(div: str) -> bool:
    """Say whether an XHTML `div` has only the permitted markup and says something."""
    if "<!" in div.replace("<!--", "") or len(div) > 4_000_000:
        return False
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(div.encode(), parser)
    except (etree.XMLSyntaxError, ValueError):
        return False
    if root.tag != f"{_XHTML}div":
        return False
    has_content = False
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        name = element.tag.removeprefix(_XHTML)
        if name not in _ELEMENTS or not _ATTRIBUTES.issuperset(map(str, element.attrib)):
            return False
        if any(str(value).strip().lower().startswith("javascript:")
               for value in element.attrib.values()):  # fmt: skip
            return False
        texts = (element.text, element.tail if element is not root else None)
        has_content = has_content or name == "img" or any(text and text.strip() for text in texts)
    return has_content
