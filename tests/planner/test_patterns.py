"""Patterns of use, what stands beside the engines, events, and the edge."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from planner.catalog import load_catalog
from planner.cli import app
from planner.errors import CapacityError, CatalogError
from planner.money.beside import Rules, beside
from planner.money.hardware import Fit, Layout
from planner.money.patterns import trace_of
from planner.money.placement import Side, best, splits
from planner.money.rent import Offer
from planner.room.growth import Demand, parse_event
from planner.sim import Twin
from planner.slo import Slo
from planner.steps.latency import LinearModel
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import SchedulerConfig

BOOK = load_catalog()
SLO = Slo(ttft_p95_s=1.0, itl_p95_s=0.2, e2e_p95_s=30)


def test_the_cache_holds_a_third_more_than_the_answers_of_its_time() -> None:
    found = beside(10.0, 100.0, 50.0, Rules(text_bytes_per_token=4, request_bytes=0, cache_ttl_s=60))
    assert found.cache_bytes == pytest.approx(10 * 60 * 150 * 4 * 1.3)


def test_bandwidth_counts_the_frames_of_a_stream() -> None:
    found = beside(10.0, 100.0, 50.0, Rules(request_bytes=0, stream_bytes_per_token=200))
    assert (found.in_bits_per_s, found.out_bits_per_s) == (8 * 10 * 400, 8 * 10 * 10_000)


def test_vector_replicas_serve_the_peak_with_two_gone_and_none_without_retrieval() -> None:
    assert beside(500.0, 1, 1, Rules(retrieval_ratio=0.5, vector_per_s=100)).vector_replicas == 3 + 2
    assert beside(500.0, 1, 1, Rules(retrieval_ratio=0)).vector_replicas == 0


def test_an_event_multiplies_its_month_alone() -> None:
    demand = Demand(2.0, 3.0, 0.5, 2, ((1, 2.5),))
    assert [demand.peak_per_s(month) for month in range(3)] == pytest.approx([6.0, 6 * 1.5 * 2.5, 6 * 2.25])


@pytest.mark.parametrize(("text", "message"), [("x", "MONTH:FACTOR"), ("1", "MONTH:FACTOR"), ("9:2", "0 to 6")])
def test_an_event_that_is_none_is_named(text: str, message: str) -> None:
    with pytest.raises(CapacityError, match=message):
        Demand(1.0, 3.0, 0.2, 6, (parse_event(text),))


def test_a_patterns_trace_has_its_mean_lengths_and_rate() -> None:
    pattern = BOOK.pattern("Growth")
    trace = trace_of(pattern, seed=3)
    assert trace.input_tokens.mean() == pytest.approx(pattern.prompt_tokens, rel=0.05)
    assert trace.output_tokens.mean() == pytest.approx(pattern.output_tokens, rel=0.05)
    assert len(trace) / trace.duration_s == pytest.approx(pattern.requests_per_day / 86_400, rel=0.1)


def test_the_start_up_is_priced_both_ways() -> None:
    asked = ["patterns", "start-up", "--gpu", "L40S", "--ttft-p95", "2", "--itl-p95", "0.1", "--e2e-p95", "60"]
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["result"]["patterns"]
    one, api = BOOK.pattern("start-up"), BOOK.api("gpt-4o-mini")
    requests = one.requests_per_day * 1.3**6 * 30
    tokens = (one.prompt_tokens * 0.7 * api.input + one.prompt_tokens * 0.3 * api.cached_input + 250 * api.output) / 1e6
    assert found["api_usd_per_month"] == pytest.approx(requests * tokens)
    assert found["usd_per_month"] == pytest.approx(sum(found["items"].values()))
    assert found["items"]["people"] == 3000


def test_every_pattern_names_a_model_and_an_api_of_the_catalogue() -> None:
    assert [one.name for one in BOOK.patterns] == ["start-up", "growth", "enterprise"]
    for one in BOOK.patterns:
        assert BOOK.model(one.model) and BOOK.api(one.api)
    with pytest.raises(CatalogError, match="pattern 'x': must be one of start-up, growth, enterprise"):
        BOOK.pattern("x")


def load() -> Trace:
    draw = np.random.default_rng(0)
    prompts = np.minimum(draw.lognormal(5, 0.8, 800).astype(int) + 1, 700)
    return from_lengths(np.sort(draw.uniform(0, 80, 800)), prompts, np.full(800, 40))


def side(name: str, usd_per_hour: float, round_trip_s: float, **more: float) -> Side:
    config = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=32)
    fit = Fit(name, "m", Layout(), 1.0, 1.0, 1.0, 1.0, 64_000)
    offer = Offer(fit, Twin(config, LinearModel(20e-3, 2e-4, 0.0, 1e-3, 1e-6)), usd_per_hour)
    return Side(name, offer, round_trip_s, **more)  # type: ignore[arg-type]


def test_a_cheap_edge_takes_everything_and_a_dear_one_nothing() -> None:
    cloud = side("cloud", 2.0, 0.1, spare=0)
    for usd, share in ((0.2, 1.0), (20.0, 0.0)):
        chosen = best(splits(load(), side("edge", usd, 0.01, spare=0), cloud, SLO, 20.0, 10.0, (0.0, 0.5, 1.0)))
        assert chosen is not None and chosen.edge is not None
        assert chosen.edge.ratio == pytest.approx(share, abs=0.01)


def test_every_site_has_its_spare_and_the_round_trip_is_in_the_first_token() -> None:
    edge = side("edge", 1.0, 0.3, sites=3, spare=1)
    _, all_edge = splits(load(), edge, side("cloud", 1.0, 0.1), SLO, 20.0, 10.0, (0.0, 1.0))
    assert all_edge.edge is not None and all_edge.cloud is not None
    assert all_edge.edge.replicas % 3 == 0 and all_edge.edge.replicas >= 6
    assert 0.3 < (all_edge.edge.ttft_p95_s or 0) <= 1.0
    assert all_edge.cloud.replicas == 0
    assert all_edge.usd_per_month == pytest.approx(all_edge.edge.replicas * 720)


def test_traffic_to_the_cloud_is_paid_for() -> None:
    free, paid = (
        splits(load(), side("edge", 1.0, 0.0), side("cloud", 1.0, 0.0, usd_per_gb=usd), SLO, 20.0, 10.0, (0.0,))[
            0
        ].cloud
        for usd in (0.0, 0.5)
    )
    assert free is not None and paid is not None
    assert paid.usd_per_month - free.usd_per_month == pytest.approx(0.5 * paid.gigabytes_per_month)


def test_a_network_that_uses_up_the_promise_is_a_reason() -> None:
    (one,) = splits(load(), side("edge", 1.0, 0.0), side("cloud", 1.0, 1.5), SLO, 20.0, 10.0, (0.0,))
    assert "round trip of 1.5 s uses up the first token's 1 s" in (one.reason or "")
    assert best([one]) is None


def test_placement_says_no_by_its_exit_code() -> None:
    sample = Path(__file__).parents[2] / "samples" / "traces" / "azure_conv_10min.csv"
    asked = ["placement", str(sample), "--model-name", "Llama-3.1-8B", "--max-requests", "300", "--ttft-p95", "0.05",
             "--cloud-rtt", "0.2", "--edge-rtt", "0.2"]  # fmt: skip
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1, done.output
    assert "no split keeps the promise" in done.stdout
