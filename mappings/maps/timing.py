"""Functions that rows call for times: in the units R4 counts in, and of a birth."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mappings.engine.codecs import CODECS
from mappings.engine.context import Context, UnreadableValue
from mappings.engine.forward import PythonCall
from mappings.engine.sinks import Sink

# Minutes of one unit, by the names that senders use for it.
_MINUTES = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), Fraction(1, 60)),
    **dict.fromkeys(("", "min", "minute", "minutes"), Fraction(1)),
    **dict.fromkeys(("h", "hr", "hour", "hours"), Fraction(60)),
    **dict.fromkeys(("d", "day", "days"), Fraction(1440)),
    **dict.fromkeys(("wk", "w", "week", "weeks"), Fraction(10080)),
}


def event_offset(call: PythonCall) -> None:
    """Write RPT-9 in minutes, the unit of R4's `Timing.repeat.offset`, from its unit in RPT-10."""
    amount, unit = call.text(9), call.text(10)
    if not amount:
        return
    source = f"{call.source}.9"
    length = _MINUTES.get(unit.strip().lower())
    try:
        minutes = None if length is None else Fraction(amount.strip()) * length
    except (ValueError, ZeroDivisionError):
        minutes = None
    if minutes is None or minutes < 0 or minutes.denominator != 1:
        call.context.note(call.row.id, source, "is no whole number of minutes")
        return
    call.out.setdefault("repeat", {})["offset"] = int(minutes)
    call.trace(f"{call.target}.repeat.offset", source)


def event_offset_back(element: Mapping[str, Any], sink: Sink, _context: Context) -> None:
    """Write the minutes of an offset with their unit."""
    offset = element.get("repeat", {}).get("offset")
    if offset is not None:
        sink.put("9", str(offset))
        sink.put("10", "min")


_BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"


def birth_time(call: PythonCall) -> None:
    """Write PID-7 with its time of day beside the day of birth."""
    fields = call.parts[0][call.parts[1].index(call.source)]
    source, separators = f"{call.source}-7[1]", call.context.separators
    text = fields[7].split(separators.component, 1)[0].strip()
    try:
        moment = CODECS["dtm.dateTime"].forward(text, call.context)
    except UnreadableValue as error:
        call.context.note(call.row.id, source, str(error))
        return
    if moment is not None:
        call.out["_birthDate"] = {"extension": [{"url": _BIRTH_TIME, "valueDateTime": moment}]}
        call.trace(f"{call.target}._birthDate.extension(patient-birthTime).valueDateTime", source)


def birth_time_back(element: Mapping[str, Any], sink: Sink, context: Context) -> None:
    """Write the time of birth, where nobody has corrected the day it is of."""
    day = element.get("birthDate")
    for extension in element.get("_birthDate", {}).get("extension", ()):
        moment = extension.get("valueDateTime", "")
        if extension.get("url") == _BIRTH_TIME and moment.startswith(str(day or moment)):
            sink.put("PID-7", CODECS["dtm.dateTime"].backward(moment, context))
