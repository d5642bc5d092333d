"""Azure LLM inference traces, 2023 and 2024: ``TIMESTAMP,ContextTokens,GeneratedTokens``.

Times keep their 100 ns; columns are found by name; the 2025 multimodal file's ``NumImages`` is understood. Any other
column is kept in ``extra``. Format: https://github.com/Azure/AzurePublicDataset.
"""

import csv
import json
import re
from datetime import date
from pathlib import Path

import numpy as np

from planner.errors import TraceError
from planner.readers.lines import BadRow, Ledger, physical_lines
from planner.trace import MAX_TOKENS, Column, Flag, Quality, Trace, TraceHeader, TraceRead, file_sha256

VERSION = 1
REQUIRED = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
IMAGES = "NumImages"

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?\s*", re.ASCII)
_COUNT = re.compile(r"\s*(-?\d+)(?:\.(\d*))?\s*", re.ASCII)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def sniff_azure(head: bytes) -> bool:
    """Whether a file that begins so has the Azure header."""
    first = head.lstrip().split(b"\n", 1)[0].replace(b'"', b"")
    return {name.encode() for name in REQUIRED} <= {name.strip() for name in first.split(b",")}


def parse_time_ns(text: str) -> tuple[int, str, int]:
    """Wall-clock text to (ns since the Unix epoch, zone text or "", digits of the fraction).

    A time without a zone is taken as it stands. Raises BadRow.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise BadRow("empty_timestamp" if not text.strip() else "bad_timestamp")
    day_text, hour, minute, second, fraction, zone = match.groups()
    try:
        day = date.fromisoformat(day_text).toordinal() - _EPOCH_DAY
    except ValueError:
        raise BadRow("bad_timestamp") from None
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59:
        raise BadRow("bad_timestamp")
    seconds = ((day * 24 + int(hour)) * 60 + int(minute)) * 60 + int(second)
    if zone and zone != "Z":
        shift = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        seconds += shift if zone[0] == "-" else -shift
    digits = fraction or ""
    return seconds * 1_000_000_000 + int(digits.ljust(9, "0") or 0), zone or "", len(digits)


def parse_tokens(text: str) -> int:
    """Token count; an integral float is an integer, anything else raises BadRow."""
    match = _COUNT.fullmatch(text)
    if match is None:
        raise BadRow("empty_tokens" if not text.strip() else "non_numeric_tokens")
    if match[2] and match[2].strip("0"):
        raise BadRow("fractional_tokens")
    value = int(match[1])
    if value < 0:
        raise BadRow("negative_tokens")
    if value > MAX_TOKENS:
        raise BadRow("too_many_tokens")
    return value


def split_row(raw: bytes, width: int) -> list[str]:
    """Fields of one physical line. Raises BadRow."""
    if b"\0" in raw:
        raise BadRow("nul_byte")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRow("invalid_utf8") from None
    if '"' in text:
        try:
            fields = next(csv.reader([text], strict=True))
        except (csv.Error, StopIteration):
            raise BadRow("bad_quoting") from None
    else:
        fields = text.split(",")
    if len(fields) < width:
        raise BadRow("missing_column")
    if len(fields) > width:
        raise BadRow("extra_column")
    return fields


class _Rows:
    """Accepted rows while they are gathered, in the order of the file."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.at = {name: names.index(name) for name in REQUIRED}
        self.images_at = names.index(IMAGES) if IMAGES in names else None
        self.extra_at = {i: name for i, name in enumerate(names) if name not in (*REQUIRED, IMAGES)}
        self.line: list[int] = []
        self.time_ns: list[int] = []
        self.input: list[int] = []
        self.output: list[int] = []
        self.flags: list[int] = []
        self.images: list[int] = []
        self.extra: list[str | None] = []
        self.zones: set[str] = set()
        self.digits = 0
        self._seen: set[tuple[int, int, int]] = set()
        self._latest_ns: int | None = None

    def add(self, line: int, raw: bytes) -> Flag:
        """Take one line in; gives its flags. Raises BadRow and takes nothing then."""
        fields = split_row(raw, len(self.names))
        if [name.strip() for name in fields] == self.names:
            raise BadRow("header_repeated")
        time_ns, zone, digits = parse_time_ns(fields[self.at["TIMESTAMP"]])
        tokens_in = parse_tokens(fields[self.at["ContextTokens"]])
        tokens_out = parse_tokens(fields[self.at["GeneratedTokens"]])
        if self.images_at is not None:
            self.images.append(parse_tokens(fields[self.images_at]))
        flags = self._doubts(time_ns, tokens_in, tokens_out)
        self.line.append(line)
        self.time_ns.append(time_ns)
        self.input.append(tokens_in)
        self.output.append(tokens_out)
        self.flags.append(int(flags))
        if self.extra_at:
            self.extra.append(json.dumps({name: fields[i] for i, name in self.extra_at.items()}))
        self.zones.add(zone)
        self.digits = max(self.digits, digits)
        return flags

    def _doubts(self, time_ns: int, tokens_in: int, tokens_out: int) -> Flag:
        flags = Flag.NONE
        if tokens_in == 0:
            flags |= Flag.ZERO_INPUT
        if tokens_out == 0:
            flags |= Flag.ZERO_OUTPUT
        key = (time_ns, tokens_in, tokens_out)
        if key in self._seen:
            flags |= Flag.DUPLICATE
        self._seen.add(key)
        if self._latest_ns is not None and time_ns < self._latest_ns:
            flags |= Flag.OUT_OF_ORDER
        self._latest_ns = time_ns if self._latest_ns is None else max(self._latest_ns, time_ns)
        return flags

    def trace(self, path: Path, ledger: Ledger) -> Trace:
        """All rows as a trace: sorted by arrival, origin at the earliest one."""
        time_ns = np.array(self.time_ns, dtype=np.int64)
        origin_ns = int(time_ns.min())
        order = np.argsort(time_ns, kind="stable")
        zone = "mixed" if len(self.zones) > 1 else (next(iter(self.zones)) or "unstated")
        columns: dict[str, Column] = {}
        if self.images_at is not None:
            columns["images"] = np.array(self.images, dtype=np.int64)[order]
        if self.extra_at:
            columns["extra"] = np.array(self.extra, dtype=object)[order]
        header = TraceHeader(
            source=path.name,
            source_sha256=file_sha256(path),
            reader="azure",
            reader_version=VERSION,
            origin_ns=origin_ns,
            zone=zone,
            resolution_ns=10 ** (9 - self.digits),
            counts=ledger.counts(),
        )
        return Trace(
            header=header,
            row_id=np.arange(len(order), dtype=np.int64)[order],
            src_line=np.array(self.line, dtype=np.int64)[order],
            arrival_ns=time_ns[order] - origin_ns,
            arrival_quality=np.full(len(order), Quality.EXACT, dtype=np.uint8),
            input_tokens=np.array(self.input, dtype=np.int64)[order],
            output_tokens=np.array(self.output, dtype=np.int64)[order],
            flags=np.array(self.flags, dtype=np.uint32)[order],
            columns=columns,
        )


def read_azure(path: Path, *, strict: bool = False) -> TraceRead:
    """Read an Azure trace; a row that cannot be used is set aside, or raises TraceError under ``strict``.

    Raises TraceError when the header is absent or no row can be used.
    """
    ledger = Ledger(path, strict)
    rows: _Rows | None = None
    for line, offset, raw in physical_lines(path):
        ledger.lines += 1
        if not raw.strip():
            ledger.blank += 1
        elif rows is None:
            rows = _Rows(_header_names(path, line, raw))
            ledger.header += 1
        else:
            try:
                ledger.accept(rows.add(line, raw))
            except BadRow as bad:
                ledger.set_aside(line, offset, str(bad), raw)
    if rows is None or not rows.line:
        raise TraceError(f"{path}: holds no usable row ({ledger.lines} lines, {len(ledger.quarantine)} set aside)")
    trace = rows.trace(path, ledger)
    return TraceRead(trace, tuple(ledger.quarantine), trace.header.counts)


def _header_names(path: Path, line: int, raw: bytes) -> list[str]:
    names = [name.strip().strip('"') for name in raw.decode("utf-8", "replace").split(",")]
    absent = [name for name in REQUIRED if name not in names]
    if absent:
        raise TraceError(f"{path}:{line}: header {','.join(names)[:80]!r} lacks {', '.join(absent)}")
    return names
