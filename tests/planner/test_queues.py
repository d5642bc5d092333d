"""The simulator against closed forms, where they apply: a step that takes the same time whatever is in it."""

from math import factorial

import numpy as np
import pytest

from planner.sim import Twin, play
from planner.steps.latency import ConstantModel
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import SchedulerConfig

STEP_S = 0.001


def evenly(rows: int, draw: np.random.Generator) -> np.ndarray:
    """Uniform variates in random order whose own mean is exact: less noise for the same number of requests."""
    return draw.permutation((np.arange(rows) + 0.5) / rows)


def poisson(rows: int, rate_per_s: float, output_tokens: np.ndarray, draw: np.random.Generator) -> Trace:
    arrival_s = np.cumsum(-np.log(1 - evenly(rows, draw))) / rate_per_s
    return from_lengths(arrival_s, np.ones(rows, dtype=int), output_tokens)


def waits_s(trace: Trace, servers: int, step_s: float) -> np.ndarray:
    """How long each request waited before its first step; one request is one server's work of a step per token."""
    config = SchedulerConfig(
        num_blocks=100_000, max_num_seqs=servers, max_num_batched_tokens=4096, max_model_len=100_000
    )
    played = play(trace, Twin(config, ConstantModel(step_s)), seed=0)
    return played.first_token_s - played.due_s - step_s


def erlang_c(servers: int, offered: float) -> float:
    """Share of requests that wait in M/M/c (Erlang 1917)."""
    last = offered**servers / factorial(servers) * servers / (servers - offered)
    return last / (sum(offered**busy / factorial(busy) for busy in range(servers)) + last)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_an_md1_queue_waits_as_lindley_and_so_as_pollaczek_and_khinchine_say(load: float) -> None:
    def lindley_s(arrival_s: np.ndarray) -> np.ndarray:
        """Waits of a queue that serves each in STEP_S: the highest rise of work over time since any earlier moment."""
        risen = np.arange(len(arrival_s)) * STEP_S - arrival_s
        return risen - np.minimum.accumulate(risen)

    few, many = (
        poisson(rows, load / STEP_S, np.ones(rows, dtype=int), np.random.default_rng(1)) for rows in (10_000, 2_000_000)
    )
    assert waits_s(few, 1, STEP_S) == pytest.approx(lindley_s(few.arrival_ns / 1e9), abs=1e-9)
    expected = load * STEP_S / (2 * (1 - load))
    assert lindley_s(many.arrival_ns / 1e9).mean() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("servers", "load"), [(4, 0.5)])
def test_an_mmc_queue_waits_as_often_and_as_long_as_erlang_says(servers: int, load: float) -> None:
    draw, rows, steps = np.random.default_rng(0), 100_000, 300
    output = np.maximum(np.ceil(np.log(1 - evenly(rows, draw)) / np.log(1 - 1 / steps)), 1).astype(int)
    service_s = steps * STEP_S
    rate = load * servers / service_s
    waited = waits_s(poisson(rows, rate, output, draw), servers, STEP_S)
    share = erlang_c(servers, load * servers)
    assert (waited > STEP_S).mean() == pytest.approx(share, rel=0.02)
    assert waited.mean() == pytest.approx(share / (servers / service_s - rate), rel=0.02)
