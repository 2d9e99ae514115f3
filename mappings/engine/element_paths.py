"""Whether a row's path leads to an element that R4 has, so that a wrong one is refused at load."""

from collections.abc import Sequence

from conformance.fhirpath.model import is_known, slots_of
from conformance.near_names import nearest
from mappings.engine.targets import Step


def type_made_by(to: str, name: str) -> str:
    """Return the R4 type that a map fills; "" where it is none, and its paths cannot be judged.

    A map says it (`to: Patient`, `to: Patient.extension`); a data type's name ends in it
    (`XPN-HumanName`).
    """
    made, *names = (to or name.rpartition("-")[2]).split(".")
    for one in names:
        child = slots_of(made).get(one)
        made = child[1].type if child else ""
    return made if is_known(made.partition(".")[0]) else ""


def fault_of(type_: str, steps: Sequence[Step]) -> tuple[str, str] | None:
    """Return what is wrong with a path into a type, and how to mend it; None where nothing is."""
    at = type_
    for step in steps:
        key = step.name.removeprefix("_")
        known = slots_of(at)
        if key not in known:
            close = nearest(key, known)
            return (
                f"writes {step.name!r}, which {at} does not have in R4",
                f"Write {close!r}." if close else f"Take an element of {at}.",
            )
        child, slot = known[key]
        if step.url is None and child.is_list != (step.index is not None):
            return (
                f"writes {key!r} of {at} as {'one' if child.is_list else 'a list'}",
                f"Write {key}[0] or {key}[*]." if child.is_list else f"Write {key} alone.",
            )
        at = "Element" if step.name.startswith("_") else slot.type
    return None
