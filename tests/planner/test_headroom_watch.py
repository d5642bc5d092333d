"""Headroom written back: what is known is written, what is not any more is ended, what fails is told once."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from collector.model.errors import SourceError
from collector.model.series import Series, is_stale
from planner.answers.headroom import headroom_report, headroom_series
from planner.cli import app
from planner.room.headroom import LeftOut, PoolHeadroom
from planner.room.headroom_watch import Watch, run
from planner.slo import Slo

NOW_S = 1_800_000_000.0
KNOWN = PoolHeadroom(
    "tiny",
    5,
    8.0,
    load_line_req_per_s=20.0,
    line_low_req_per_s=17.0,
    line_high_req_per_s=23.0,
    n2_line_req_per_s=12.0,
    headroom_ratio=0.6,
    bound_by="TTFT p95",
    crosses_at_s=NOW_S + 600,
    crosses_low_s=NOW_S + 300,
    model_error_ratio=0.04,
    left_out=(LeftOut("3 of 90 intervals have no samples", 1.3),),
    notes=("3 of 90 intervals have no samples: the interval is 1.30 times as wide for it",),
)
UNKNOWN = PoolHeadroom("tiny", 5, 8.0, reason="not enough telemetry yet: 5")


def values(series: Sequence[Series]) -> dict[tuple[str, str], float]:
    return {
        (dict(one.labels)["__name__"].removeprefix("loadline_"), dict(one.labels).get("failures", "")): one.values[0]
        for one in series
    }


class Told:
    """A source that answers in turn, and what was written and said."""

    def __init__(self, *answers: Sequence[PoolHeadroom] | SourceError) -> None:
        self.answers = list(answers)
        self.written: list[list[Series]] = []
        self.said: list[str] = []

    def ask(self, now_s: float) -> Sequence[PoolHeadroom]:
        answer = self.answers.pop(0)
        if isinstance(answer, SourceError):
            raise answer
        return answer

    def watch(self) -> Watch:
        return Watch(self.ask, lambda series: self.written.append(list(series)), self.said.append)


def test_every_known_figure_is_one_sample_by_pool_and_failures() -> None:
    found = list(headroom_series([KNOWN], NOW_S))
    assert all(dict(one.labels)["pool"] == "tiny" and one.timestamps_ms.tolist() == [NOW_S * 1000] for one in found)
    assert values(found) == {
        ("load_requests_per_second", ""): 8.0,
        ("load_line_requests_per_second", "0"): 20.0,
        ("load_line_requests_per_second", "2"): 12.0,
        ("headroom_ratio", "0"): 0.6,
        ("headroom_ratio", "2"): pytest.approx(1 / 3),
        ("load_line_low_requests_per_second", ""): 17.0,
        ("load_line_high_requests_per_second", ""): 23.0,
        ("load_line_crosses_timestamp_seconds", ""): NOW_S + 600,
        ("load_line_crosses_earliest_timestamp_seconds", ""): NOW_S + 300,
        ("load_line_model_error_ratio", ""): 0.04,
    }


def test_a_pool_without_a_line_writes_nothing_that_could_be_taken_for_one() -> None:
    assert list(headroom_series([UNKNOWN], NOW_S)) == []


def test_a_line_that_is_lost_is_ended_and_its_reason_told_once() -> None:
    told = Told([KNOWN], [UNKNOWN], [replace(UNKNOWN, reason="not enough telemetry yet: 7")], [KNOWN])
    watch = told.watch()
    for minute in range(4):
        assert watch.once(NOW_S + 60 * minute)
    first, second, third, fourth = told.written
    assert {one.labels for one in second} == {one.labels for one in first}
    assert all(is_stale(one.values).all() for one in second)
    assert third == []
    assert len(fourth) == len(first)
    assert told.said == ["tiny: not enough telemetry yet: 5", "tiny: answers again"]


def test_a_source_that_fails_is_told_once_and_asked_again() -> None:
    away = SourceError("http://source: connection refused", "unreachable")
    told = Told(away, away, [KNOWN])
    watch = told.watch()
    assert [watch.once(NOW_S + minute) for minute in range(3)] == [False, False, True]
    assert told.said == ["http://source: connection refused", "the source answers again"]


def test_rounds_fall_on_whole_intervals_and_a_late_one_is_not_made_up() -> None:
    class Enough(Exception):
        """The test has seen enough."""

    now_s, rounds, slept = [100.0], [0], []

    def ask(at_s: float) -> Sequence[PoolHeadroom]:
        rounds[0] += 1
        now_s[0] += 75.0 if rounds[0] == 2 else 5.0
        return []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now_s[0] += seconds
        if len(slept) == 3:
            raise Enough

    with pytest.raises(Enough):
        run(Watch(ask, lambda series: None, lambda line: None), lambda: now_s[0], sleep, 60.0)
    assert slept == [15.0, 45.0, 55.0]


def test_the_report_tells_the_line_with_its_interval_and_what_was_left_out() -> None:
    report = headroom_report([KNOWN, UNKNOWN], "http://source", Slo(), NOW_S)
    assert report.findings[0] == (
        "tiny: 8 requests/s, 60% (90%: 53% to 65%) below the load line of 20 (90%: 17 to 23); TTFT p95 breaks first; "
        "with 2 replicas gone 33% is left"
    )
    assert report.findings[1] == "tiny: no load line: not enough telemetry yet: 5"
    assert report.notes[0].endswith("the interval is 1.30 times as wide for it")
    figures = json.loads(report.to_json())["result"]["pools"][0]
    assert figures["left_out"] == [{"what": "3 of 90 intervals have no samples", "widens": 1.3}]
    assert figures["n2_headroom_ratio"] == pytest.approx(1 / 3)


def test_a_source_that_is_away_is_one_line_and_exit_code_2() -> None:
    done = CliRunner().invoke(app, ["headroom", "--source", "http://127.0.0.1:9"])
    assert done.exit_code == 2
    (line,) = done.stderr.strip().splitlines()
    assert "127.0.0.1:9" in line


@pytest.mark.parametrize(("option", "value"), [("--interval", "soon"), ("--look-back", "0s")])
def test_a_duration_that_is_none_is_named(option: str, value: str) -> None:
    done = CliRunner().invoke(app, ["headroom", option, value])
    assert done.exit_code == 2
    assert f"{option} is '{value}'" in done.stderr
