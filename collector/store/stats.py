"""What the store tells about itself: results of appends, figures, what recovery found, metric metadata."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metadata:
    """TYPE, HELP and UNIT of a metric family, as its target declared them; empty where it did not."""

    type: str
    help: str
    unit: str


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of the samples of one append: the four add up to the samples given.

    ``accepted``       stored, in order or late
    ``duplicate``      time and value are stored already
    ``out_of_order``   older than the series' latest by more than the out-of-order window
    ``conflict``       a sample of the same time and another value is stored already, and stays
    """

    accepted: int
    duplicate: int
    out_of_order: int
    conflict: int = 0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found damaged, at open or while reading; every field is empty in a healthy store.

    ``wal_rows``      write-ahead rows that were brought back into the head
    ``torn_frames``   frames cut off the end of SQLite's own log: a transaction that never finished, or torn bytes
    ``problems``      one line for each damaged row or tile that was skipped (at most 100; ``damaged`` counts all)
    """

    wal_rows: int
    torn_frames: int
    damaged: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Figures of one moment.

    ``bytes_on_disk`` is the database and its log as files; ``bytes_per_sample`` counts tiles and their timestamps
    only and is None before the first cut. ``head_bytes`` is what samples outside tiles take in memory,
    ``cached_bytes`` what decoded tiles take. ``late``, ``out_of_order``, ``duplicate`` and ``conflict`` count since
    the store was opened; ``late`` are those accepted behind later ones.
    """

    series: int
    groups: int
    head_samples: int
    head_bytes: int
    chunks: int
    tiles: int
    tile_samples: int
    bytes_on_disk: int
    bytes_per_sample: float | None
    oldest_ms: int | None
    newest_ms: int | None
    wal_rows: int
    late: int
    out_of_order: int
    duplicate: int
    conflict: int
    exemplars_refused: int
    cached_bytes: int
    recovered: Recovery
