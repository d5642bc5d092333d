"""What each scraped target exposes, by signal; targets that expose the same are taken together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.client import Client, Target
from collector.model.labels import get
from collector.signals import SIGNALS, Present, Status, SwitchedOff, detect, load_dialects
from dashboard.source import Source
from dashboard.view import matcher
from dashboard.words import said_error

MAX_TARGETS = 24
"""Each costs the source a query."""
TTL_S = 60.0
SCRAPER = frozenset({"scrape", "alerts"})
"""Dialects whose series the scraper writes about a target, which say nothing of what it exposes."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Targets that speak the same ``dialects`` and expose the same: ``statuses`` by signal."""

    dialects: tuple[str, ...]
    instances: tuple[str, ...]
    statuses: Mapping[str, Status]


def exposures(source: Source, targets: Sequence[Target]) -> tuple[tuple[Exposure, ...], str]:
    """What the first 24 targets expose, and what could not be found out."""
    asked = {key_of(one): one for one in targets[:MAX_TARGETS]}
    loads = {f"names {key}": (lambda one=one: names_of(source.client, one)) for key, one in asked.items()}
    held = source.kept_all(loads, TTL_S)
    failed = next((said_error(one.error) for one in held.values() if one.value is None and one.error), "")
    names = {get(one.labels, "instance"): held[f"names {key}"].value or frozenset() for key, one in asked.items()}
    return grouped(names), failed


def key_of(target: Target) -> str:
    """Job and instance."""
    return f"{get(target.labels, 'job')} {get(target.labels, 'instance')}"


def names_of(client: Client, target: Target) -> frozenset[str]:
    """Metric names that the target's last scrape gave. Raises SourceError."""
    where = ",".join(matcher(name, [get(target.labels, name)]) for name in ("job", "instance"))
    return frozenset(get(sample.labels, "__name__") for sample in client.query(f"count by (__name__) ({{{where}}})"))


def grouped(names: Mapping[str, frozenset[str]]) -> tuple[Exposure, ...]:
    """Instances by what their metric names say; those that expose no signal are left out."""
    dialects = [one for one in load_dialects() if one.engine not in SCRAPER]
    found: dict[tuple[object, ...], Exposure] = {}
    for instance, held in sorted(names.items()):
        vocabulary = detect(held, dialects)
        if not vocabulary.dialects:
            continue
        spoken = {name for one in vocabulary.dialects for name in (*one.signals, *one.not_exposed)}
        statuses = {name: vocabulary.status(name) for name in SIGNALS if name in spoken}
        if not statuses:
            continue
        titles = tuple(one.title for one in vocabulary.dialects)
        key = (titles, tuple((name, str(status)) for name, status in statuses.items()))
        before = found.get(key)
        instances = (*before.instances, instance) if before is not None else (instance,)
        found[key] = Exposure(titles, instances, statuses)
    return tuple(found.values())


def counted(exposure: Exposure) -> tuple[int, int, int]:
    """How many signals are present, switched off, not exposed."""
    present = sum(isinstance(one, Present) for one in exposure.statuses.values())
    off = sum(isinstance(one, SwitchedOff) for one in exposure.statuses.values())
    return present, off, len(exposure.statuses) - present - off
