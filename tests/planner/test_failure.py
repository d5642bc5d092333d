import numpy as np
import pytest

from planner.errors import CapacityError
from planner.room.failure import fail
from planner.sim import Twin, play
from planner.sim.outage import Outage, strike
from planner.slo import Slo
from planner.steps.latency import LinearModel
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=32)
MODEL = LinearModel(20e-3, 2e-4, 0.0, 1e-3, 1e-6)
SLO = Slo(ttft_p95_s=1.0, itl_p95_s=0.2, e2e_p95_s=20, goodput_ratio=0.95)


def load(seconds: float, rate: float, seed: int = 0) -> Trace:
    draw = np.random.default_rng(seed)
    rows = int(seconds * rate)
    prompts = np.minimum(draw.lognormal(5, 0.8, rows).astype(int) + 1, 700)
    outputs = np.minimum(draw.lognormal(3.5, 0.6, rows).astype(int) + 1, 250)
    return from_lengths(np.sort(draw.uniform(0, seconds, rows)), prompts, outputs)


def test_every_request_is_served_though_replicas_are_lost() -> None:
    trace = load(60, 12)
    played = play(trace, Twin(CONFIG, MODEL, replicas=3), script=strike([Outage(20, 2, cold_start_s=10)]))
    assert not np.isnan(played.last_token_s).any()
    assert (played.attempts > 1).sum() > 0
    assert len(played.logs) == 5
    assert played.alive_s[:2] == pytest.approx([20, 20])
    assert played.alive_s[3:] == pytest.approx(played.end_s - 30)


def test_a_lost_request_computes_its_prompt_again() -> None:
    trace = from_lengths([0.0], [400], [200])
    whole = play(trace, Twin(CONFIG, MODEL, replicas=2))
    struck = play(trace, Twin(CONFIG, MODEL, replicas=2), script=strike([Outage(1.0, 1)]))
    assert struck.first_token_s[0] == pytest.approx(1.5 + whole.first_token_s[0])
    assert struck.attempts.tolist() == [2]


def test_a_client_gives_up_after_its_attempts() -> None:
    trace = from_lengths([0.0], [400], [200])
    outages = [Outage(1.0, 1, attempts=2), Outage(2.0, 2, cold_start_s=5, attempts=2)]
    played = play(trace, Twin(CONFIG, MODEL, replicas=3), script=strike(outages))
    assert np.isnan(played.last_token_s[0])
    assert "its replica was lost" in played.refusals[0]


def test_requests_wait_while_nobody_serves() -> None:
    trace = from_lengths([5.0], [100], [1])
    played = play(trace, Twin(CONFIG, MODEL), script=strike([Outage(1.0, 1, cold_start_s=30)]))
    assert played.first_token_s[0] > 31


def test_skipping_is_exact_through_an_outage() -> None:
    trace, twin = load(60, 12), Twin(CONFIG, MODEL, replicas=3, noise=(0.9, 1.1))
    script = strike([Outage(20, 1, cold_start_s=10)])
    fast, slow = (play(trace, twin, script=script, skip=skip) for skip in (True, False))
    assert np.array_equal(fast.last_token_s, slow.last_token_s)
    assert np.array_equal(fast.attempts, slow.attempts)


def test_spare_replicas_absorb_the_loss_and_too_few_never_recover() -> None:
    trace = load(300, 18)
    spared = fail(trace, Twin(CONFIG, MODEL, replicas=5), SLO, 2)
    assert spared.survived
    assert (spared.after_ratio or 0) >= 0.95
    assert spared.lost > 0
    scarce = fail(trace, Twin(CONFIG, MODEL, replicas=3), SLO, 2)
    assert not scarce.survived
    assert (scarce.during_ratio or 0) < 0.5


def test_replacements_end_the_outage() -> None:
    trace = load(600, 12)
    found = fail(trace, Twin(CONFIG, MODEL, replicas=3), SLO, 2, cold_start_s=60)
    assert found.recovery_s is not None
    assert 30 < found.recovery_s < 300


def test_losing_all_for_good_is_no_question() -> None:
    with pytest.raises(CapacityError, match="leaves nobody"):
        fail(load(10, 5), Twin(CONFIG, MODEL, replicas=2), SLO, 2)
