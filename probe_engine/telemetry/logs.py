"""Log lines: one per event, with the time in UTC; as text for people or as JSON for collectors."""

import logging
import sys
from datetime import UTC, datetime

import orjson

FORMATS = ("text", "json")


class TextLines(logging.Formatter):
    """``2026-11-24T12:00:00.000Z INFO probe_engine.runtime.build: message``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's name)
        """The record's time in UTC, to the millisecond."""
        return utc(record.created)


class JsonLines(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message`` and, where there is one, ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        """``record`` as a JSON object."""
        fields = {
            "time": utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return orjson.dumps(fields).decode()


def utc(created_s: float) -> str:
    """Unix seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(created_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_logs(form: str, level: int = logging.INFO) -> None:
    """Send every log line of this process to stderr in ``form``, one of ``FORMATS``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=level, handlers=[handler])
