"""Logs as JSON lines: names, numbers and trace ids, never a value of a patient.

A line costs a few microseconds, so each message has its lines also under load.
"""

import contextlib
import datetime
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, BinaryIO, cast

import orjson
import structlog

log: Any = structlog.get_logger("qiao")
"""The hub's logger: `log.info("message kept", trace_id=…, entry=…)`."""


class _Sink:
    """Where lines go: the loggers of all modules keep this, and it keeps the stream.

    A line that cannot be written, on a full disk or to a reader that went away, is counted and
    told later: the hub does not end for it.
    """

    def __init__(self) -> None:
        self.stream: BinaryIO = sys.stderr.buffer
        self._lost = 0

    def write(self, line: bytes) -> None:
        try:
            if self._lost:
                # In front the end of a line of which a part was written.
                told = {"event": "log lines were lost", "level": "error", "lines": self._lost}
                self._write_whole(b"\n" + orjson.dumps(told) + b"\n")
                self._lost = 0
            self._write_whole(line)
        except OSError:
            self._lost += 1

    def _write_whole(self, line: bytes) -> None:
        if self.stream.write(line) < len(line):
            raise OSError

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.flush()


_sink = _Sink()


def configure_logs(stream: BinaryIO, level: int = logging.INFO) -> None:
    """Write the hub's and its libraries' log lines to `stream`, one JSON object each.

    `level` is that of the first call of a process.
    """
    _sink.stream = stream
    structlog.configure(
        processors=[_to_line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(cast(BinaryIO, _sink)),
        cache_logger_on_first_use=True,
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


def _to_line(logger: Any, name: str, event: MutableMapping[str, Any]) -> bytes:
    if "exc_info" in event:
        structlog.processors.format_exc_info(logger, name, event)
    event["level"] = name
    event["at"] = datetime.datetime.now(datetime.UTC)
    return orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z)
