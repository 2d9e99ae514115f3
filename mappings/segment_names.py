"""Segments that no map can read because their name is not written as the standard writes it."""

from conformance.problem import Issue
from mappings.hl7.message import Message


def notes_of_names(message: Message) -> list[Issue]:
    """Return a note for each segment whose name is not in capital letters (chapter 2.5.2).

    Such a segment is kept as it came and becomes nothing, as an unknown one does.
    """
    return [
        Issue(
            severity="warning",
            code="structure",
            key="hl7-segment-name",
            text_en=f"{segment.place} is read by nothing; did you mean {segment.name.upper()!a}?",
            text_zh=f"段 {segment.place} 未被读取；是否应为 {segment.name.upper()!a}？",
            fix_en="Ask the sender to write the names of segments in capital letters.",
            fix_zh="请发送方用大写字母书写段名。",
            expression=segment.place,
        )
        for segment in message.segments
        if not segment.name.isupper()
    ]
