"""The gateway before simulated replicas: what it lets in, and where it sends it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.errors import ModelError
from planner.sim import Played, Twin, play
from planner.sim.gateway import read_gateway
from planner.sim.outage import Outage, strike
from planner.steps.latency import LinearModel
from planner.traces.trace import Ragged, Trace, from_lengths
from probe_engine.gateway.settings import UpGatewaySettings
from probe_engine.sched import SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=4096, max_num_batched_tokens=512, max_num_seqs=64)
MODEL = LinearModel(4e-3, 2e-5, 1e-9, 1e-4, 1e-7)


def load(rows: int, per_s: float, prompt: int = 64, output: int = 20) -> Trace:
    at_s = np.cumsum(np.random.default_rng(3).exponential(1 / per_s, rows))
    return from_lengths(at_s, np.full(rows, prompt), np.full(rows, output))


def fleet(replicas: int, router: str = "least_load", **gateway: object) -> Twin:
    settings = UpGatewaySettings.model_validate(gateway) if gateway else None
    return Twin(CONFIG, MODEL, replicas=replicas, router=router, gateway=settings)


def tokens_of(played: Played) -> list[int]:
    """Prompt tokens that each replica computed."""
    return [log.prefill_tokens for log in played.logs]


def test_weights_share_requests_out_as_they_say() -> None:
    upstream = ("http://a.example,weight=3", "http://b.example")
    big, small = tokens_of(play(load(400, 20), fleet(2, upstream=upstream, routing="round_robin")))
    assert big == 3 * small


def test_equal_weights_in_turn_are_the_simple_round_robin() -> None:
    trace = load(300, 40)
    plain, weighted = (play(trace, fleet(3, router)) for router in ("round_robin", "weighted_round_robin"))
    assert tokens_of(plain) == tokens_of(weighted)
    assert np.array_equal(plain.last_token_s, weighted.last_token_s)


def test_equal_prefixes_meet_where_they_are_cached() -> None:
    rows, groups = 600, 24
    group = np.random.default_rng(5).integers(0, groups, rows)
    hashes = [[int(one) * 10 + block for block in range(8)] for one in group]
    trace = load(rows, 30, prompt=160)
    trace = replace(
        trace,
        columns={
            **trace.columns,
            "prefix_hashes": Ragged.of(hashes),
            "block_tokens": np.full(rows, 16, dtype=np.int64),
        },
    )
    small = replace(CONFIG, num_blocks=120)
    least, prefix = (
        play(trace, replace(fleet(4, router), scheduler=small)).cached_tokens.sum()
        for router in ("least_load", "prefix")
    )
    assert prefix > 1.3 * least


def test_more_at_once_than_the_gateway_allows_are_turned_away() -> None:
    played = play(load(200, 200), fleet(1, max_in_flight=8))
    assert 0 < len(played.refusals) < 200
    assert all("8 requests are being served" in reason for reason in played.refusals.values())
    assert np.isnan(played.last_token_s).sum() == len(played.refusals)


def test_tokens_above_the_limit_are_turned_away_until_the_bucket_has_run_out() -> None:
    trace = load(400, 20)  # 84 tokens each: 1,680 a second
    played = play(trace, fleet(1, tokens_per_s=840.0, burst_s=2.0))
    most = (2.0 * 840 + 840 * trace.duration_s) / 84
    assert most - 8 <= 400 - len(played.refusals) <= most + 1
    assert all("tokens_per_s" in reason for reason in played.refusals.values())


def test_a_long_queue_opens_the_breaker_and_requests_are_turned_away_until_it_half_opens() -> None:
    trace = load(1200, 400)
    slow = replace(
        fleet(1, breaker_queue=20, breaker_open_s=1.0, probe_interval_s=0.1), model=LinearModel(0.05, 0, 0, 0, 0)
    )
    played = play(trace, slow)
    assert played.breakers_opened["queue"] >= 1
    assert any("no replica" in reason for reason in played.refusals.values())
    assert (~np.isnan(played.last_token_s)).sum() == 1200 - len(played.refusals)


def test_what_a_lost_replica_held_is_sent_again_through_the_gateway() -> None:
    trace = load(300, 30)
    played = play(trace, fleet(2, routing="prefix"), script=strike([Outage(at_s=3.0, replicas=1)]))
    assert played.attempts.max() == 2
    assert not np.isnan(played.last_token_s).any()


def test_a_gateway_that_knows_another_number_of_replicas_is_an_error() -> None:
    with pytest.raises(ModelError, match="1 upstreams, the twin 2 replicas"):
        fleet(2, upstream=("http://a.example",))


def test_a_settings_file_that_cannot_be_used_says_which_field(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[gateway]\nrouting = "prefix"\nload_bound = 1.5\n')
    assert read_gateway(path).load_bound == 1.5
    path.write_text('routing = "shortest"\n')
    with pytest.raises(ModelError, match="routing"):
        read_gateway(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_gateway(tmp_path / "missing.toml")
