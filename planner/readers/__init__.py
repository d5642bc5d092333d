"""Read trace files of any known format into the canonical trace."""

from pathlib import Path

from planner.errors import TraceError
from planner.readers.azure import read_azure, sniff_azure
from planner.readers.lines import first_bytes, problems, write_quarantine
from planner.readers.mooncake import read_mooncake, sniff_mooncake
from planner.trace import TraceRead

FORMATS = {
    "azure": (sniff_azure, read_azure, "Azure 2023/2024 CSV (TIMESTAMP,ContextTokens,GeneratedTokens)"),
    "mooncake": (sniff_mooncake, read_mooncake, "Mooncake JSONL (timestamp, input_length, output_length, hash_ids)"),
}

__all__ = ["FORMATS", "problems", "read_azure", "read_mooncake", "read_trace", "write_quarantine"]


def read_trace(path: Path, *, strict: bool = False) -> TraceRead:
    """Read a trace, its format told by its content; plain, gzip or zstd.

    Raises TraceError when the file cannot be opened, no reader knows it, it holds no usable row, or, with ``strict``,
    at the first row that cannot be used.
    """
    head = first_bytes(path)
    for sniff, read, _ in FORMATS.values():
        if sniff(head):
            return read(path, strict=strict)
    known = "; ".join(what for _, _, what in FORMATS.values())
    shown = head.splitlines()[0][:60].decode("utf-8", "replace") if head.strip() else "(empty)"
    raise TraceError(f"{path}: not a trace in a format that is known here; it begins {shown!r}; known: {known}")
