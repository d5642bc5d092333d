"""What a metrics page speaks: engines and exporters, their versions, and which signals it holds, lacks or could show.

It judges a parsed page and asks nobody.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from collector.model.labels import METRIC_NAME, Labels, get
from collector.signals import (
    SIGNALS,
    Dialect,
    NotExposed,
    SwitchedOff,
    Vocabulary,
    detect,
    load_dialects,
    names_known,
)

GENERAL = re.compile(r"(process|python|go|promhttp|scrape|http_request|http_response)s?_|.*_created$|target_info$")
"""Names that client libraries add to any page."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One engine or exporter on a page.

    ``version`` is told by the page (``1.16.0``), or bounded by which metrics there are (``0.32.0 or later``), or None.
    ``present`` are the metrics by signal; ``mean_only`` the signals among them without quantiles; ``awaited`` those
    whose series come with their first event; ``absent`` the metrics that the engine may show, but not on this page;
    ``switched_off`` the flag by signal; ``not_exposed`` the reason by signal.
    """

    engine: str
    title: str
    version: str | None
    present: dict[str, tuple[str, ...]]
    mean_only: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)
    switched_off: dict[str, str] = field(default_factory=dict)
    not_exposed: dict[str, str] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Speech:
    """A page's engines and exporters, and the metric families on it that none of them is known to have."""

    spoken: tuple[Spoken, ...]
    unknown: tuple[str, ...]


def listen(layout: Sequence[Labels]) -> Speech:
    """What a page with these series speaks."""
    names = frozenset(get(labels, METRIC_NAME) for labels in layout)
    known = names_known()
    source = detect(names)
    families = {_family(name, names) for name in names if name not in known and not GENERAL.match(name)}
    return Speech(
        spoken=tuple(_spoken(dialect, source, names, layout) for dialect in source.dialects),
        unknown=tuple(sorted(families - known)),
    )


def without_page(engine: str, version: str | None) -> Spoken:
    """An engine that has no metrics page, as its dialect says."""
    dialect = next(one for one in load_dialects() if one.engine == engine)
    return Spoken(dialect.engine, dialect.title, version, {}, note=dialect.note)


def _spoken(dialect: Dialect, source: Vocabulary, names: frozenset[str], layout: Sequence[Labels]) -> Spoken:
    own = source.only(dialect.engine)
    present: dict[str, tuple[str, ...]] = {}
    absent: dict[str, str] = {}
    switched_off: dict[str, str] = {}
    not_exposed: dict[str, str] = {}
    mean_only, awaited = [], []
    for signal in SIGNALS:
        candidates = dialect.signals.get(signal, ())
        if not candidates and signal not in dialect.not_exposed:
            continue
        status = own.status(signal)
        if isinstance(status, SwitchedOff):
            switched_off[signal] = status.flag
        elif isinstance(status, NotExposed) and candidates:
            absent[signal] = candidates[0].metric
        elif isinstance(status, NotExposed):
            not_exposed[signal] = status.reason
        elif not any(one.shown_as(metric) in names for one in candidates for metric in status.metrics):
            awaited.append(signal)
        else:
            present[signal] = status.metrics
            mean_only += [signal] if status.mean_only else []
    return Spoken(
        engine=dialect.engine,
        title=dialect.title,
        version=_told_version(dialect, layout) or _bounded_version(dialect, names),
        present=present,
        mean_only=tuple(mean_only),
        awaited=tuple(awaited),
        absent=absent,
        switched_off=switched_off,
        not_exposed=not_exposed,
        note=dialect.note,
    )


def _told_version(dialect: Dialect, layout: Sequence[Labels]) -> str | None:
    if dialect.version is None:
        return None
    metric, label = dialect.version
    told = sorted({get(labels, label) for labels in layout if get(labels, METRIC_NAME) == metric} - {""})
    return ", ".join(told) or None


def _bounded_version(dialect: Dialect, names: frozenset[str]) -> str | None:
    """What the metrics that are there say of the version."""
    every = (one for found in dialect.signals.values() for one in found)
    candidates = [one for one in every if one.shown_as(one.metric) in names]
    since = max((one.since for one in candidates if one.since), key=_order, default=None)
    until = min((one.until for one in candidates if one.until), key=_order, default=None)
    if since and until:
        return f"{since} or later, and {until} or earlier"
    if since or until:
        return f"{since} or later" if since else f"{until} or earlier"
    return None


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _family(name: str, names: frozenset[str]) -> str:
    """A histogram's or summary's name without its suffix."""
    for suffix in ("_bucket", "_count", "_sum"):
        stem = name.removesuffix(suffix)
        if stem != name and f"{stem}_count" in names and f"{stem}_sum" in names:
            return stem
    return name
