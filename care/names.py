"""Names of people, as the record writes them."""

from care.effects import Resource


def written(name: Resource) -> str:
    """Return a HumanName in one text: as it was given, or family name first without a blank."""
    return str(name.get("text") or str(name.get("family", "")) + "".join(name.get("given", ())))
