"""The dialects that come with Loadline, read from their files once."""

from functools import lru_cache
from pathlib import Path

from collector.signals.dialect import Dialect
from collector.signals.reading import read_dialect

DIALECTS_DIR = Path(__file__).parent / "dialects"


@lru_cache(maxsize=8)
def load_dialects(directory: Path = DIALECTS_DIR) -> tuple[Dialect, ...]:
    """Read every dialect in ``directory``, by file name; each directory is read once.

    Raises DocumentError with file, line and column.
    """
    return tuple(_read(path) for path in sorted(directory.glob("*.yaml")))


def names_known(dialects: tuple[Dialect, ...] | None = None) -> frozenset[str]:
    """Every metric name in any of ``dialects`` (default: all that come with Loadline).

    Histograms appear by family name and with ``_bucket``, ``_sum``, ``_count``.
    """
    known = load_dialects() if dialects is None else dialects
    series = series_known(known)
    ends = len("_bucket")
    return series.union(name[:-ends] for name in series if name.endswith("_bucket"))


def series_known(dialects: tuple[Dialect, ...] | None = None) -> frozenset[str]:
    """Every series name in any of ``dialects``: what a PromQL selector may ask for."""
    known = load_dialects() if dialects is None else dialects
    return frozenset[str]().union(*(dialect.names() for dialect in known))


@lru_cache(maxsize=256)
def _read(path: Path) -> Dialect:
    """One file; the dialect that it is ``like`` lies beside it."""
    return read_dialect(path.read_text(encoding="utf-8"), str(path), lambda name: _read(path.with_name(f"{name}.yaml")))
