"""Sources and peers that the tests of alerts share."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from collector.model.errors import SourceError
from collector.model.labels import from_mapping
from collector.model.matchers import Matcher, all_match
from collector.model.series import Sample, Series, SeriesGroup
from collector.promql import Engine, VectorSelector, parse


class ScriptedSource:
    """Answers each expression by a function of the moment; keeps what is written to it."""

    def __init__(self) -> None:
        self.script: dict[str, Callable[[float], Sequence[Sample]]] = {}
        self.asked: list[tuple[str, float]] = []
        self.written: list[Series] = []
        self.refuses_writes: SourceError | None = None

    def answer(self, expr: str, values: Callable[[float], dict[str, float] | None]) -> None:
        """``values(time_s)`` gives value by instance; None makes the query fail."""

        def samples(time_s: float) -> list[Sample]:
            found = values(time_s)
            if found is None:
                raise SourceError("http://source: 503: overloaded", "unavailable")
            return [
                Sample(from_mapping({"__name__": "m", "instance": name}), round(time_s * 1000), value)
                for name, value in found.items()
            ]

        self.script[expr] = samples

    def query(self, expr: str, time_s: float | None = None) -> Sequence[Sample]:
        assert time_s is not None
        self.asked.append((expr, time_s))
        return self.script[expr](time_s)

    def write(self, series: Iterable[Series]) -> None:
        if self.refuses_writes is not None:
            raise self.refuses_writes
        self.written.extend(series)


@pytest.fixture
def source() -> ScriptedSource:
    return ScriptedSource()


def _peer(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI must run the peers")
        pytest.skip(f"{name} is not installed")
    return Path(found)


@pytest.fixture(scope="session")
def promtool() -> Path:
    return _peer("promtool")


@pytest.fixture(scope="session")
def alertmanager_binary() -> Path:
    return _peer("prometheus-alertmanager")


class MemorySource:
    """A Prometheus in memory: series in promtool's ``a+b`` notation, one sample each ``step_s``, our own engine."""

    def __init__(self, series: Mapping[str, str], step_s: int, steps: int) -> None:
        self.series = [_series_of(text, rise, step_s, steps) for text, rise in series.items()]
        self._engine = Engine()

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[SeriesGroup]:
        found = []
        for series in self.series:
            if all_match(matchers, series.labels):
                inside = (series.timestamps_ms >= start_ms) & (series.timestamps_ms <= end_ms)
                values = series.values[inside][:, None]
                found.append(SeriesGroup((series.labels,), series.timestamps_ms[inside], values))
        return found

    def query(self, expr: str, time_s: float | None = None) -> Sequence[Sample]:
        assert time_s is not None
        result = self._engine.instant(self, expr, round(time_s * 1000))
        return [Sample(one.labels, int(one.timestamps_ms[-1]), float(one.values[-1])) for one in result.series]

    def write(self, series: Iterable[Series]) -> None:
        self.series.extend(series)


def _series_of(text: str, rise: str, step_s: int, steps: int) -> Series:
    selector = parse(text)
    assert isinstance(selector, VectorSelector)
    labels = from_mapping({matcher.name: matcher.value for matcher in selector.matchers})
    start, growth = map(float, rise.split("+"))
    numbers = np.arange(steps + 1)
    return Series(labels, (numbers * step_s * 1000).astype(np.int64), start + growth * numbers)


@pytest.fixture(scope="session")
def memory_source() -> type[MemorySource]:
    return MemorySource


@pytest.fixture(scope="session")
def prometheus_binary() -> Path:
    return _peer("prometheus")
