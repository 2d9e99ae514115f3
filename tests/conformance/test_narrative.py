"""Narratives: the quick look passes nothing that the whole reading refuses."""

from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import narrative

ROOT = '<div xmlns="http://www.w3.org/1999/xhtml">'
PARTS = st.sampled_from(
    ["<p>", "</p>", "<!-- c -->", "<?pi x?>", "<![CDATA[<script>]]>", "<script>", "</script>", "桥",
     "<br/>", "<!", "<?", ">", "<p ", ' class="a"', "&amp;", "</p <?pi ?>", "</a>",
     '<a href="javascript:1">', "<!-- <b> -->", "<p title='<'/>", " "])  # fmt: skip


def whole(value: str) -> str | None:
    try:
        return narrative._check(value)
    except expat.ExpatError:
        return "narrative-not-xml"


@given(st.lists(PARTS, max_size=5).map("".join))
def test_the_quick_look_agrees_with_the_whole_reading(inner: str) -> None:
    value = f"{ROOT}x{inner}</div>"
    assert narrative.check_narrative(value) == whole(value)


@pytest.mark.parametrize("inner", ["<?pi x?>", "<p><?pi x?></p>", "<script>1</script>"])
def test_what_acts_is_refused(inner: str) -> None:
    assert narrative.check_narrative(f"{ROOT}x{inner}</div>") is not None


def test_without_the_look_at_tags_an_instruction_would_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(narrative, "_is_plain_tag", lambda tag: True)
    assert narrative.check_narrative(f"{ROOT}x<?pi x?></div>") is None
