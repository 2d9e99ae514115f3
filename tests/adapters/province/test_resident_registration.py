"""The registration document's schema and its sample agree."""

import importlib.resources

import lxml.etree
import pytest

FOLDER = importlib.resources.files("adapters.province")


def schema() -> lxml.etree.XMLSchema:
    text = FOLDER.joinpath("resident_registration.xsd").read_bytes()
    return lxml.etree.XMLSchema(lxml.etree.fromstring(text))


def sample() -> lxml.etree._Element:
    return lxml.etree.fromstring(FOLDER.joinpath("resident_registration.xml").read_bytes())


def test_the_sample_is_valid() -> None:
    assert schema().validate(sample())


@pytest.mark.parametrize("name", ["Name", "SexCode", "BirthDate"])
def test_a_required_element_is_required(name: str) -> None:
    document = sample()
    [element] = document.findall(f".//{{*}}Resident/{{*}}{name}")
    element.getparent().remove(element)
    assert not schema().validate(document)
