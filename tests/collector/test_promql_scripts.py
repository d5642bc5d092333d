import importlib.util
import sys
from pathlib import Path

import pytest

from collector.model.errors import QueryError
from collector.model.labels import Labels
from collector.promql import Engine, Result

SPEC = importlib.util.spec_from_file_location("promql_cases", Path(__file__).with_name("promql_cases.py"))
assert SPEC and SPEC.loader
cases = importlib.util.module_from_spec(SPEC)
sys.modules["promql_cases"] = cases
SPEC.loader.exec_module(cases)

# Float-only cases of each script that agree: all of them. 2.42's scripts run with left_open=False.
PASSING = {
    "given/aggregators.test": 125,
    "given/functions.test": 320,
    "given/literals.test": 25,
    "given/native_histograms.test": 3,
    "given/operators.test": 142,
    "given/selectors.test": 31,
    "given/type_and_unit.test": 58,
    "given-v2.42/aggregators.test": 83,
    "given-v2.42/functions.test": 207,
    "given-v2.42/literals.test": 20,
    "given-v2.42/operators.test": 94,
    "given-v2.42/selectors.test": 31,
}
OTHER_TIMES_MS = (-60_000, 0, 3_600_000)


def engine_for(name: str) -> Engine:
    """As Prometheus runs its scripts: 3.x drops metric names at the end of a query."""
    return Engine(left_open="v2" not in name, delayed_name_removal="v2" not in name)


def failures(script: Path, engine: Engine) -> tuple[int, list[str]]:
    """Float-only cases that agree, and a line for each that does not."""
    agreeing = 0
    wrong = []
    for case in cases.read_cases(script.read_text()):
        if not case.floats_only:
            continue
        querier = cases.MemoryQuerier(case.loaded)
        times = (case.times_ms,) if isinstance(case.times_ms, int) else case.times_ms
        try:
            result = (engine.instant if len(times) == 1 else engine.range)(querier, case.text, *times)
        except QueryError as error:
            why = cases.wrong_message(case, {"fail": [str(error)]}) if case.fails else str(error)
        else:
            why = "should fail" if case.fails else cases.difference(case, result.kind, result.series, result.text)
            why = why or cases.wrong_message(case, {"warn": result.warnings, "info": result.infos})
            told = {"warn": bool(result.warnings), "info": bool(result.infos)}
            for remark in case.remarks if not why else ():
                if told[remark.removeprefix("no_")] == remark.startswith("no_"):
                    why = f"expected {remark}, got {result.warnings + result.infos}"
        agreeing += why is None
        if why:
            wrong.append(f"{script.parent.name}/{script.name}:{case.line}  {case.text}\n      {why}")
    return agreeing, wrong


def values(result: Result) -> dict[Labels, float]:
    """One value per series."""
    return {one.labels: float(one.values[0]) for one in result.series}


def same(left: dict[Labels, float], right: dict[Labels, float]) -> bool:
    return set(left) == set(right) and all(cases.is_close(left[labels], right[labels]) for labels in left)


@pytest.mark.parametrize("name", PASSING)
def test_prometheus_own_scripts_get_the_answers_that_they_expect(name: str, shared_data: Path) -> None:
    agreeing, wrong = failures(shared_data / "promqltest" / name, engine_for(name))
    assert agreeing >= PASSING[name], "\n".join(wrong)


@pytest.mark.parametrize("name", PASSING)
def test_an_instant_case_is_the_middle_of_a_range_query_and_the_same_from_elsewhere(
    name: str, shared_data: Path
) -> None:
    engine = engine_for(name)
    for case in cases.read_cases((shared_data / "promqltest" / name).read_text()):
        if not case.floats_only or case.fails or case.reads_bounds or not isinstance(case.times_ms, int):
            continue
        querier, time_ms = cases.MemoryQuerier(case.loaded), case.times_ms
        now = engine.instant(querier, case.text, time_ms)
        if now.kind not in ("scalar", "vector"):
            continue
        around = engine.range(querier, case.text, time_ms - 60_000, time_ms + 60_000, 60_000)
        middle = {
            one.labels: dict(zip(one.timestamps_ms.tolist(), one.values.tolist(), strict=True)).get(time_ms)
            for one in around.series
        }
        assert same(values(now), {labels: value for labels, value in middle.items() if value is not None}), case.text
        pinned = cases.pinned(case.text, time_ms)
        for other_ms in OTHER_TIMES_MS if pinned else ():
            elsewhere = engine.instant(querier, pinned, time_ms + other_ms)
            assert same(values(now), values(elsewhere)), pinned
