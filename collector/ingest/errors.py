"""How a push is refused.

IngestError             collector.model.errors: the body cannot be read; nothing of it was stored
├── UnsupportedMedia    it is of a kind or encoding that is not read at all (HTTP 415)
└── PartialWrite        a part of it was refused, the rest was stored (HTTP 400)
"""

from dataclasses import dataclass

from collector.model.errors import IngestError


@dataclass(frozen=True, slots=True)
class Written:
    """What was stored of one write request."""

    samples: int
    exemplars: int = 0
    histograms: int = 0


class UnsupportedMedia(IngestError):
    """A content type or encoding that is not read; the message says which are."""


class PartialWrite(IngestError):
    """A part was refused, the message says which; ``written`` is what was stored all the same."""

    def __init__(self, message: str, written: Written) -> None:
        super().__init__(message)
        self.written = written
