"""A file with a line of JSON for each change of a response: what was done, by whom, when."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from collector.model.errors import ConfigError

_log = logging.getLogger(__name__)


class Journal:
    """Appends to an open file, one whole line at a time; safe for many threads."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line; a full disk is said in the log and stops nothing."""
        try:
            with self._lock:
                self._file.write(orjson.dumps(dict(entry)) + b"\n")
                self._file.flush()
        except OSError as error:
            _log.error("%s: cannot be written: %s", self._file.name, error)


@contextmanager
def open_journal(path: Path | None) -> Iterator[Journal | None]:
    """The journal at ``path``, which is appended to; None without a path. Raises ConfigError."""
    if path is None:
        yield None
        return
    try:
        file = path.open("ab")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    with file:
        yield Journal(file)
