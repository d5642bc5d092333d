"""Sources and peers that the tests of alerts share."""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from collector.model.answered import Answered, each_alone
from collector.model.errors import SourceError
from collector.model.labels import from_mapping
from collector.model.series import Sample, Series


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

    def query_all(self, exprs: Sequence[str], time_s: float) -> Sequence[Answered]:
        return each_alone(self.query, exprs, time_s, timer=lambda: 0.0)

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


@pytest.fixture(scope="session")
def amtool() -> Path:
    return _peer("amtool")


@pytest.fixture(scope="session")
def prometheus_binary() -> Path:
    return _peer("prometheus")
