"""Logs as JSON lines: names, numbers and trace ids, never a value of a patient.

A line costs a few microseconds, so each message has its lines also under load.
"""

import logging
from typing import Any, BinaryIO

import orjson
import structlog

log: Any = structlog.get_logger("qiao")
"""The hub's logger: `log.info("message kept", trace_id=…, entry=…)`."""


def configure_logs(stream: BinaryIO, level: int = logging.INFO) -> None:
    """Write the hub's and its libraries' log lines to `stream`, one JSON object each."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_bytes),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(max(level, logging.INFO))
    # zeep writes whole envelopes, with their patients, at DEBUG; httpx writes addresses at INFO.
    logging.getLogger("zeep").setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)


class _ToStructlog(logging.Handler):
    """Passes the lines of libraries on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; its traceback is reduced to the kind of the exception."""
        kind = record.exc_info[0] if record.exc_info else None
        extra = {"exception": kind.__name__} if kind else {}
        log.log(record.levelno, record.getMessage(), logger=record.name, **extra)


def _to_bytes(event: Any, **_: Any) -> bytes:
    return orjson.dumps(event, default=repr)
