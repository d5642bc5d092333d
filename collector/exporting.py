"""Write the samples of a store or a server as OpenMetrics text, one metric family at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from collector.client import Client
from collector.model import openmetrics
from collector.model.errors import QueryError, SourceError
from collector.model.labels import METRIC_NAME, Labels, get
from collector.model.matchers import Matcher
from collector.model.series import Series, is_stale
from collector.promql import VectorSelector, parse
from collector.store import Metadata, Store

EVERYTHING = ('{__name__=~".+"}',)

WINDOW_MS = 86_400_000
"""What a server is asked for at once."""

Source = Client | Store
Matchers = tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how many stale markers could not be."""

    series: int
    samples: int
    stale_markers: int


def export(
    source: Source,
    selectors: Sequence[str],
    start_ms: int,
    end_ms: int,
    out: BinaryIO,
    tell: Callable[[str], None] = lambda metric: None,
) -> Exported:
    """Write every sample of the series that any selector names, ``start_ms <= t <= end_ms``, to ``out``.

    ``tell`` is told each metric before it is read. Raises QueryError for what is no selector, and what the source
    raises. What is in memory at once are the samples of one family.
    """
    several = [_matchers(text) for text in selectors or EVERYTHING]
    read, metadata = (_stored, _kept) if isinstance(source, Store) else (_served, _told)
    names = _names(source, several, start_ms, end_ms)
    known = metadata(source)
    series, samples, stale_markers = 0, 0, 0
    for (family, kind), metrics in openmetrics.families(names, {name: one.type for name, one in known.items()}).items():
        out.write(openmetrics.describe(family, kind, _help(family, known)))
        alive: list[Series] = []
        for metric in metrics:
            tell(metric)
            for one in read(source, metric, several, start_ms, end_ms):
                kept = ~is_stale(one.values)
                count = int(kept.sum())
                if count == len(kept):
                    alive.append(one)
                elif count:
                    alive.append(Series(one.labels, one.timestamps_ms[kept], one.values[kept]))
                stale_markers, samples = stale_markers + len(kept) - count, samples + count
        series += len(alive)
        for lines in openmetrics.family_lines(kind, alive):
            out.write(lines)
    out.write(openmetrics.END)
    return Exported(series, samples, stale_markers)


def _matchers(text: str) -> Matchers:
    selector = parse(text)
    if not isinstance(selector, VectorSelector) or selector.offset_ms or selector.at is not None or selector.extension:
        raise QueryError(f'"{text}" is not a series selector; one looks like up{{job="engine"}}')
    return selector.matchers


def _names(source: Source, several: Sequence[Matchers], start_ms: int, end_ms: int) -> set[str]:
    if isinstance(source, Store):
        found = [labels for matchers in several for labels in source.series(matchers, start_ms, end_ms)]
    else:
        found = list(source.series([_selector(one) for one in several], start_ms / 1000, end_ms / 1000))
    return {get(labels, METRIC_NAME) for labels in found} - {""}


def _help(family: str, known: Mapping[str, Metadata]) -> str:
    """Pages of the text format tell it of a counter's whole name."""
    told = known.get(family) or known.get(f"{family}_total")
    return told.help if told else ""


def _stored(source: Source, metric: str, several: Sequence[Matchers], start_ms: int, end_ms: int) -> Iterator[Series]:
    """The series of one metric, each once, from a store."""
    assert isinstance(source, Store)
    seen = set[Labels]()
    for matchers in several:
        for group in source.select((Matcher(METRIC_NAME, "=", metric), *matchers), start_ms, end_ms):
            for column, labels in enumerate(group.labels):
                if labels not in seen:
                    seen.add(labels)
                    yield Series(labels, group.timestamps_ms, group.values[:, column])


def _served(source: Source, metric: str, several: Sequence[Matchers], start_ms: int, end_ms: int) -> Iterator[Series]:
    """The same from a server, asked for a day at a time."""
    assert isinstance(source, Client)
    parts: dict[Labels, list[Series]] = {}
    for matchers in several:
        selector = _selector((Matcher(METRIC_NAME, "=", metric), *matchers))
        found: dict[Labels, list[Series]] = {}
        for first_ms in range(start_ms, end_ms + 1, WINDOW_MS):
            last_ms = min(first_ms + WINDOW_MS - 1, end_ms)
            for one in source.samples(selector, first_ms / 1000, last_ms / 1000):
                found.setdefault(one.labels, []).append(one)
        parts = found | parts
    for labels, pieces in parts.items():
        times = np.concatenate([piece.timestamps_ms for piece in pieces])
        yield Series(labels, times, np.concatenate([piece.values for piece in pieces]))


def _kept(source: Source) -> Mapping[str, Metadata]:
    assert isinstance(source, Store)
    return source.metadata()


def _told(source: Source) -> Mapping[str, Metadata]:
    """What the server says of its metrics; nothing where it does not (VictoriaMetrics)."""
    assert isinstance(source, Client)
    try:
        return {name: Metadata(*told) for name, told in source.metadata().items()}
    except SourceError as error:
        if error.kind in ("unreachable", "timeout"):
            raise
        return {}


def _selector(matchers: Matchers) -> str:
    return "{" + ",".join(map(str, matchers)) + "}"
