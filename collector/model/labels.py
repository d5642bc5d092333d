"""Label sets, as the whole collector passes them about.

A label set is a tuple of (name, value) pairs sorted by name, without empty values: hashable,
comparable and cheap. The metric name is the label ``__name__``, as in Prometheus.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

Labels = tuple[tuple[str, str], ...]

T = TypeVar("T")

METRIC_NAME = "__name__"
EMPTY: Labels = ()

_MOST_MADE = 16


def from_mapping(mapping: Mapping[str, str]) -> Labels:
    """Sort ``mapping`` into a label set; a label with an empty value is an absent label."""
    return tuple(sorted((name, value) for name, value in mapping.items() if value))


def get(labels: Labels, name: str) -> str:
    """Value of label ``name``, or the empty string where it is absent."""
    for key, value in labels:
        if key == name:
            return value
    return ""


def without(labels: Labels, names: Iterable[str]) -> Labels:
    """``labels`` less those named."""
    dropped = frozenset(names)
    return tuple(pair for pair in labels if pair[0] not in dropped)


def keep(labels: Labels, names: Iterable[str]) -> Labels:
    """Only those of ``labels`` that are named."""
    kept = frozenset(names)
    return tuple(pair for pair in labels if pair[0] in kept)


def render(labels: Labels) -> str:
    """``name{a="1", b="2"}``, as Prometheus writes a series in its messages."""
    name = get(labels, METRIC_NAME)
    pairs = ", ".join(f'{key}="{_escape(value)}"' for key, value in labels if key != METRIC_NAME)
    return f"{name}{{{pairs}}}" if pairs or not name else name


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class LabelSets(tuple[Labels, ...]):
    """Label sets of several series, which remember what was made of them: a store gives the same ones many times."""

    def derived(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make()`` made of these label sets the last time it was asked for under this ``key``."""
        made: dict[Hashable, T] = self.__dict__.setdefault("made", {})
        if key not in made:
            if len(made) >= _MOST_MADE:
                made.clear()
            made[key] = make()
        return made[key]


def derived(labels: tuple[Labels, ...], key: Hashable, make: Callable[[], T]) -> T:
    """``make()``, remembered where the label sets do so; it may depend on nothing but them and ``key``."""
    return labels.derived(key, make) if isinstance(labels, LabelSets) else make()
