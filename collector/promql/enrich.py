"""``info``: add the labels of info series, such as ``target_info``, to the series that they describe.

Source: prometheus/promql/info.go.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from collector.model.errors import QueryError
from collector.model.labels import METRIC_NAME, Labels, from_mapping, get, keep, render
from collector.model.matchers import Matcher
from collector.model.series import BoolArray, Int64Array
from collector.promql.frame import Frame, compact, merged, stack, take

IDENTIFYING = ("instance", "job")
"""The labels by which an info series and the series that it describes find each other."""

_TARGET_INFO = Matcher(METRIC_NAME, "=", "target_info")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which info metrics to read, and which of their labels to add: all where there are no ``data`` matchers."""

    names: tuple[Matcher, ...]
    data: tuple[Matcher, ...]

    @classmethod
    def of(cls, matchers: Sequence[Matcher] | None) -> "Wanted":
        """What the second argument asks for; None where there is none."""
        names = tuple(matcher for matcher in matchers or () if matcher.name == METRIC_NAME)
        data = tuple(matcher for matcher in matchers or () if matcher.name != METRIC_NAME)
        return cls(names or ((_TARGET_INFO,) if matchers is None else ()), data)

    @property
    def needed(self) -> bool:
        """Whether a series without info series is left out."""
        return any(not matcher.matches("") for matcher in self.data)

    def is_info(self, labels: Labels) -> bool:
        """Whether a series is itself an info series, which is left as it is."""
        return bool(self.names) and all(matcher.matches(get(labels, METRIC_NAME)) for matcher in self.names)

    def selector(self, base: Frame) -> tuple[Matcher, ...] | None:
        """Matchers of the info series of ``base``; None where it has none."""
        described = [labels for labels in base.labels if not self.is_info(labels)]
        found: list[Matcher] = []
        for name in IDENTIFYING:
            values = sorted({get(labels, name) for labels in described} - {""})
            if values:
                found.append(Matcher(name, "=~", "|".join(map(_quoted, values))))
        return (*(self.names or (_TARGET_INFO,)), *found, *self.data) if found else None


def _quoted(value: str) -> str:
    return "".join("\\" + char if char in "\\.+*?()|[]{}^$" else char for char in value)


def enrich(base: Frame, infos: Frame, wanted: Wanted) -> Frame:
    """``base`` with the labels of the ``infos``, whose values are the times of their samples in seconds."""
    chosen = _chosen(infos)
    names = sorted({name for name, _ in chosen})
    left = [row for row, labels in enumerate(base.labels) if wanted.is_info(labels)]
    frames = [take(base, left)]
    for row in sorted(set(range(len(base.labels))) - set(left)):
        frames += _described(base, row, infos, [chosen.get((name, _key(base.labels[row]))) for name in names], wanted)
    return merged(compact(stack([frame for frame in frames if frame.labels], base.steps)))


def _key(labels: Labels) -> Labels:
    return keep(labels, IDENTIFYING)


def _chosen(infos: Frame) -> dict[tuple[str, Labels], Int64Array]:
    """For each metric and identity, the row of the newest info series at every step, or -1."""
    members: dict[tuple[str, Labels], list[int]] = {}
    for row, labels in enumerate(infos.labels):
        members.setdefault((get(labels, METRIC_NAME), _key(labels)), []).append(row)
    chosen = {}
    for key, rows in members.items():
        index = np.array(rows)
        times = np.where(infos.present[index], infos.values[index], -np.inf)
        best = times.argmax(axis=0)
        newest = times.max(axis=0)
        tied = (times == newest).sum(axis=0) > 1
        clash = np.flatnonzero(tied & np.isfinite(newest))
        if len(clash):
            one, other = index[times[:, clash[0]] == newest[clash[0]]][:2]
            at = f"@ {round(newest[clash[0]] * 1000)}"
            raise QueryError(
                f"found duplicate series for info metric: existing {render(infos.labels[one])} {at}, "
                f"new {render(infos.labels[other])} {at}",
                kind="execution",
            )
        chosen[key] = np.where(np.isfinite(newest), index[best], -1)
    return chosen


def _described(
    base: Frame, row: int, infos: Frame, choices: Sequence[Int64Array | None], wanted: Wanted
) -> Iterator[Frame]:
    """One series of ``base``, once for each way in which it is described."""
    found = [choice for choice in choices if choice is not None]
    ways = np.array(found) if found else np.full((1, base.steps), -1)
    for way in np.unique(ways.T, axis=0):
        here: BoolArray = (way == ways.T).all(axis=1) & base.present[row]
        rows = [number for number in way if number >= 0]
        if not here.any() or (not rows and wanted.needed):
            continue
        labels = _joined(base.labels[row], [infos.labels[number] for number in rows], wanted)
        yield Frame((labels,), base.values[row : row + 1], here[None, :], base.dropped([row]))


def _joined(labels: Labels, infos: Sequence[Labels], wanted: Wanted) -> Labels:
    own, added = dict(labels), dict[str, str]()
    names = {matcher.name for matcher in wanted.data}
    for info in infos:
        for name, value in info:
            if name == METRIC_NAME or (names and name not in names):
                continue
            if added.get(name, value) != value:
                raise QueryError(f"conflicting label: {name}", kind="execution")
            if name not in own:
                added[name] = value
    return from_mapping(own | added)
