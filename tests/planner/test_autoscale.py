import numpy as np
import pytest

from planner.errors import CapacityError
from planner.room.autoscale import Question, compare
from planner.sim import Twin, play
from planner.sim.scaling import Delays, Record, View, proportional, scaler
from planner.slo import Slo
from planner.steps.latency import LinearModel
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=32)
TWIN = Twin(CONFIG, LinearModel(20e-3, 2e-4, 0.0, 1e-3, 1e-6))
SLO = Slo(ttft_p95_s=1.0, itl_p95_s=0.2, e2e_p95_s=20, goodput_ratio=0.95)
DELAYS = Delays(interval_s=15, lag_s=15, cold_start_s=60, cool_down_s=120, most=12)


def wave(seconds: float = 1800, mean_per_s: float = 8.0, seed: int = 0) -> Trace:
    """A load that swings from a fifth of its mean to nearly twice it."""
    draw = np.random.default_rng(seed)
    clock = np.linspace(0, seconds, 361)
    level = np.cumsum(1 - 0.8 * np.cos(2 * np.pi * clock / seconds))
    rows = int(seconds * mean_per_s)
    at = np.sort(np.interp(draw.random(rows), level / level[-1], clock))
    outputs = np.minimum(draw.lognormal(3.5, 0.6, rows).astype(int) + 1, 250)
    return from_lengths(at, np.minimum(draw.lognormal(5, 0.8, rows).astype(int) + 1, 700), outputs)


def test_ten_policies_are_compared_and_the_oracle_is_cheap_and_good() -> None:
    small = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=8)
    slow = Twin(small, LinearModel(60e-3, 2e-4, 0.0, 1e-3, 1e-6))
    question = Question(wave(900, 4.0), slow, SLO, per_replica_per_s=2.0, delays=DELAYS, usd_per_replica_hour=2.0)
    found = {one.policy: one for one in compare(question)}
    assert len(found) == 10
    peak, oracle, mean = found["static for the peak"], found["oracle"], found["static for the mean"]
    assert oracle.replica_hours < 0.75 * peak.replica_hours
    assert oracle.goodput_ratio > 0.95
    assert peak.violation_s <= mean.violation_s
    assert mean.goodput_ratio < peak.goodput_ratio
    assert oracle.cost_usd == pytest.approx(2.0 * oracle.replica_hours)


def test_the_same_question_has_the_same_answer() -> None:
    question = Question(wave(60, 4.0), TWIN, SLO, per_replica_per_s=2.0, delays=DELAYS)
    assert compare(question) == compare(question)


def test_a_fleet_grows_a_cold_start_after_it_is_asked_to() -> None:
    record = Record()
    played = play(wave(600), TWIN, script=scaler(lambda view: 3, DELAYS, 600, record))
    assert record.wanted == [(0.0, 1), (30.0, 3)]
    assert played.alive_s == pytest.approx([played.end_s, *[played.end_s - 90] * 2])


def test_a_fleet_shrinks_after_its_cool_down_and_ends_what_it_began() -> None:
    record = Record()
    script = scaler(lambda view: 2 if view.at_s > 100 else 3, DELAYS, 600, record)
    played = play(wave(600), Twin(CONFIG, TWIN.model, replicas=3), script=script)
    assert record.wanted == [(0.0, 3), (240.0, 2)]
    assert not np.isnan(played.last_token_s).any()
    assert played.alive_s.min() < 300


def test_a_policy_that_swings_is_seen_to_flap() -> None:
    record = Record()
    quick = Delays(interval_s=15, lag_s=0, cold_start_s=0, cool_down_s=0, most=4)
    play(wave(300), TWIN, script=scaler(lambda view: 1 + int(view.at_s // 15) % 2, quick, 300, record))
    assert record.flaps > 15


def test_what_a_policy_sees_does_not_depend_on_passing_over_steps() -> None:
    def views(skip: bool) -> list[View]:
        seen: list[View] = []

        def watch(view: View) -> int:
            seen.append(view)
            return 2 if view.busy_ratio > 0.8 else 1

        play(wave(600, mean_per_s=2), TWIN, skip=skip, script=scaler(watch, DELAYS, 600, Record()))
        return seen

    assert views(True) == views(False)


def test_kubernetes_rule_leaves_a_tenth_alone() -> None:
    assert [proportional(ratio, 4) for ratio in (1.05, 1.5, 0.5, 0.0)] == [4, 6, 2, 1]


def test_a_fleet_without_room_is_refused() -> None:
    with pytest.raises(CapacityError, match="a fleet of 4 to 2 replicas"):
        Delays(least=4, most=2)
