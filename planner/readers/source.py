"""A file while it is read: its account, and what the reader noticed on the way."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from planner.errors import TraceError
from planner.readers.lines import Ledger, blocks, lines_of, open_plain, typed_faults
from planner.traces.trace import TraceHeader

_PIECE = 2**20
_SPACE = " \t\r\n"


@dataclass(slots=True)
class Source:
    """What every reader gets: the file, its ledger, and a place for zones, digits of a second and remarks.

    ``origin`` is the header of a canonical
    trace. ``document`` is whether the file is one JSON value rather than one a line; ``seed`` is for formats that
    describe a distribution; ``tokenizer`` names a tokenizer.json for those that hold texts.
    """

    path: Path
    ledger: Ledger
    document: bool = False
    seed: int = 0
    tokenizer: Path | None = None
    zones: set[str] = field(default_factory=set)
    digits: int = 0
    remarks: dict[str, int] = field(default_factory=dict)
    origin: TraceHeader | None = None

    def saw_time(self, zone: str, digits: int) -> None:
        """Note the zone that a time names and how finely it is told."""
        self.zones.add(zone)
        self.digits = max(self.digits, digits)

    def remark(self, text: str, count: int = 1) -> None:
        """Note something that a person should know of the file; told once, with how often."""
        self.remarks[text] = self.remarks.get(text, 0) + count

    def records(self) -> Iterator[tuple[int, int, bytes]]:
        """(1-based line, byte offset, bytes) of each line or, in a document, (1-based number, offset, object).

        Blank lines are entered in the ledger and left out.
        """
        for line, offset, raw in self._objects() if self.document else self._lines():
            self.ledger.lines += 1
            if raw.strip():
                yield line, offset, raw
            else:
                self.ledger.blank += 1

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        for block in blocks(self.path):
            yield from lines_of(block)

    def _objects(self) -> Iterator[tuple[int, int, bytes]]:
        """The elements of an array, or values one after another; only what is not yet decoded is held in memory.

        What cannot be decoded is one last object.
        """
        decode = json.JSONDecoder().raw_decode
        with open_plain(self.path) as file, typed_faults(self.path):
            stream = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
            text, number, offset, array = stream.read(_PIECE), 0, 0, None
            while True:
                text = text.lstrip(_SPACE if array is None else _SPACE + ",")
                if array is None or (array and text.startswith("]")):
                    array = array is None and text.startswith("[")
                    text = text[array or text.startswith("]") :]
                    continue
                try:
                    end = decode(text)[1]
                except (ValueError, RecursionError):
                    more = stream.read(max(_PIECE, len(text)))
                    text += more
                    if more:
                        continue
                    break
                raw, text = text[:end].encode(), text[end:]
                number += 1
                yield number, offset, raw
                offset += len(raw)
            if text.strip():
                yield number + 1, offset, text.encode()


def check_usable(source: Source) -> None:
    """Raise TraceError when a file that was read to its end gave no request, saying what became of its lines."""
    ledger = source.ledger
    if not ledger.requests:
        reasons = ", ".join(f"{count} {reason}" for reason, count in ledger.reasons.most_common(3))
        raise TraceError(
            f"{source.path}: no row can be used; {ledger.quarantined} were set aside"
            + (f" ({reasons})" if reasons else "")
        )
