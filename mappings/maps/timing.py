"""Functions that rows call for times that R4 counts in fixed units."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mappings.engine.context import Context
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
