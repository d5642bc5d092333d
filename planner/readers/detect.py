"""Which format a file has, told by its content, and what is said of one that is none."""

from pathlib import Path

from planner.errors import TraceError
from planner.readers import azure, mooncake, vidur
from planner.readers.head import Head, head_of
from planner.readers.stream import Format

FORMATS: dict[str, Format] = {
    kind.name: kind
    for kind in (
        azure.FORMAT,
        mooncake.FORMAT,
        vidur.FORMAT,
        vidur.LENGTHS,
    )
}


def detect(path: Path, forced: str | None = None) -> tuple[Format, Head]:
    """The format of a file, or the one that is ``forced``, and how the file begins. Raises TraceError."""
    head = head_of(path)
    if forced is not None:
        if forced not in FORMATS:
            raise TraceError(f"format {forced!r} is not one of {', '.join(FORMATS)}")
        return FORMATS[forced], head
    for kind in FORMATS.values():
        if kind.sniff(head):
            return kind, head
    raise TraceError(f"{path}: {_told(head)}")


def _told(head: Head) -> str:
    if not head.lines:
        return "is empty"
    known = "; ".join(kind.what for kind in FORMATS.values())
    shown = head.lines[0][:60].decode("utf-8", "replace")
    has = f", with the fields {', '.join(sorted(head.keys)[:12])}" if head.keys else ""
    has = f", with the columns {', '.join(head.columns[:12])}" if len(head.columns) > 1 else has
    return f"not a trace in a format that is known here; it begins {shown!r}{has}; known: {known}"
