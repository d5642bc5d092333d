"""What can go wrong in the store.

StoreError                collector.model.errors: the data directory cannot be opened, read or written
├── OutOfOrder            a scrape is not after the last one of its group
├── CodecError            the bytes of a tile, a timestamp vector or a write-ahead row cannot be decoded
└── DirectoryInUse        another process (or another Store) is writing to the data directory
"""

from pathlib import Path

from collector.model.errors import StoreError


class OutOfOrder(StoreError):
    """A scrape's timestamp is not after the last one of its group; nothing of it was stored."""

    def __init__(self, group_key: str, timestamp_ms: int, last_ms: int) -> None:
        super().__init__(f"group {group_key!r}: scrape at {timestamp_ms} ms is not after the last one, {last_ms} ms")
        self.group_key = group_key
        self.timestamp_ms = timestamp_ms
        self.last_ms = last_ms


class CodecError(StoreError):
    """Stored bytes are damaged or of a newer format; the message says of what and how."""


class DirectoryInUse(StoreError):
    """A second writer was refused."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"{directory} is being written by {holder or 'another process'}; "
            "stop that one, choose another data directory, or open it with read_only=True"
        )
        self.directory = directory
