"""Live headroom against the telemetry of a fleet whose truth is known: the twin itself, scraped every five seconds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from collector.client import Client
from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher
from collector.model.series import Series, SeriesGroup
from collector.promql import Engine, Result
from collector.signals import detect
from planner.errors import ModelError
from planner.room.capacity import find_capacity
from planner.room.headroom import PoolHeadroom, live_headroom
from planner.sim import Twin
from planner.sim.clock import Clock
from planner.sim.pace import to_s
from planner.sim.replica import Replica
from planner.sim.router import least_load
from planner.slo import Slo
from planner.steps.calibrate import from_history
from planner.steps.latency import LinearModel
from planner.steps.telemetry import INFERRED_SD, KV_UNSEEN_SD, LeftOut, Seen, scrape_interval_s, steps_seen
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import Request, SchedulerConfig, StepStats

CONFIG = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=64)
TRUTH = LinearModel(30e-3, 4e-4, 0.0, 1e-3, 1e-6)
SLO = Slo(ttft_p95_s=4, itl_p95_s=0.35, e2e_p95_s=50)
START_S = 1_700_000_000.0
SCRAPE_S = 5.0
RATE = 9.0
BUSY_S = 600.0
BUCKETS = (16, 32, 64, 128, 256, 384, 512, 768)
Floats = npt.NDArray[np.float64]


class Watched(Replica):
    """A replica that notes when each of its steps ended and what it was."""

    def __init__(self, config: SchedulerConfig, model: LinearModel) -> None:
        super().__init__(config, model, skip=False)
        self.noted: list[tuple[float, float, StepStats]] = []
        self.started_s = 0.0

    def begin(self, now: int) -> int | None:
        self.started_s = to_s(now)
        return super().begin(now)

    def end(self, now: int) -> list[Request]:
        assert self.output is not None
        self.noted.append((to_s(now), to_s(now) - self.started_s, self.output.stats))
        return super().end(now)


def load(seconds: float, rate: float, seed: int = 0) -> Trace:
    draw = np.random.default_rng(seed)
    rows = int(seconds * rate)
    prompts = np.minimum(draw.lognormal(5, 0.8, rows).astype(int) + 1, 700)
    outputs = np.minimum(draw.lognormal(3.5, 0.6, rows).astype(int) + 1, 250)
    return from_lengths(np.sort(draw.uniform(0, seconds, rows)), prompts, outputs)


@dataclass(frozen=True)
class Scrapes:
    """Growing series of one fleet, labelled as an engine labels them."""

    moments: Floats
    series: list[Series]

    def add(self, name: str, instance: str, values: Floats, **labels: str) -> None:
        label_set = {"__name__": name, "instance": instance, "job": "engine", "model_name": "tiny", **labels}
        times_ms = np.rint((START_S + self.moments) * 1000).astype(np.int64)
        self.series.append(Series(from_mapping(label_set), times_ms, values))

    def counter(self, name: str, instance: str, at_s: Floats, amounts: Floats) -> None:
        total = np.concatenate([[0.0], np.cumsum(amounts)])
        self.add(name, instance, total[np.searchsorted(at_s, self.moments, side="right")])

    def histogram(self, name: str, instance: str, at_s: Floats, values: Floats, bounds: Sequence[float]) -> None:
        self.counter(f"{name}_count", instance, at_s, np.ones(len(at_s)))
        self.counter(f"{name}_sum", instance, at_s, values)
        for bound in (*bounds, float("inf")):
            le = "+Inf" if bound == float("inf") else repr(float(bound))
            below = np.concatenate([[0.0], np.cumsum(values <= bound)])
            self.add(f"{name}_bucket", instance, below[np.searchsorted(at_s, self.moments, side="right")], le=le)


def telemetry(trace: Trace, replicas: int, seconds: float) -> list[Series]:
    """What a collector would hold of the truth under ``trace``."""
    fleet = [Watched(CONFIG, TRUTH) for _ in range(replicas)]
    ended: list[tuple[float, Request]] = []
    arrivals: Iterator[tuple[int, Request]] = (
        (int(t) * 10**6, Request(str(i), int(p), int(o), float(t) / 1e9))
        for i, (t, p, o) in enumerate(zip(trace.arrival_ns, trace.input_tokens, trace.output_tokens, strict=True))
    )
    Clock(fleet, least_load, lambda r: ended.append((r.timeline.finished_s or 0, r)), lambda r, e: None).run(arrivals)
    scrapes = Scrapes(np.arange(0, seconds + 0.1, SCRAPE_S), [])
    for index, replica in enumerate(fleet):
        name = f"engine-{index}:8000"
        at_s = np.array([at for at, _, _ in replica.noted])
        scrapes.histogram("loadline_step_time_seconds", name, at_s, np.array([s for _, s, _ in replica.noted]), (0.01,))
        for metric, field in (
            ("prefill_tokens", "prefill_tokens"),
            ("prefill_attention", "prefill_attention"),
            ("decode_sequences", "decode_seqs"),
            ("decode_kv_tokens", "decode_kv_tokens"),
        ):
            amounts = np.array([float(getattr(stats, field)) for _, _, stats in replica.noted])
            scrapes.counter(f"loadline_step_{metric}_total", name, at_s, amounts)
        decodes = np.array([float(stats.decode_seqs) for _, _, stats in replica.noted])
        lengths = np.array([seconds for _, seconds, _ in replica.noted])
        scrapes.counter("loadline_inter_token_latency_seconds_count", name, at_s, decodes)
        scrapes.counter("loadline_inter_token_latency_seconds_sum", name, at_s, decodes * lengths)
        level = np.ones(len(scrapes.moments))
        scrapes.add("loadline_num_requests_running", name, level)
        scrapes.add("loadline_kv_cache_blocks", name, level * CONFIG.num_blocks)
        scrapes.add("loadline_kv_cache_block_size_tokens", name, level * CONFIG.block_size)
        limits = {n: str(getattr(CONFIG, n)) for n in ("max_num_batched_tokens", "max_num_seqs", "max_model_len")}
        scrapes.add("loadline_engine_info", name, level, prefix_cache="true", **limits)
    ended.sort(key=lambda pair: pair[0])
    at_s = np.array([at for at, _ in ended])
    for metric, values in (
        ("loadline_request_prompt_tokens", [r.prompt_tokens for _, r in ended]),
        ("loadline_request_generation_tokens", [r.output_tokens for _, r in ended]),
    ):
        scrapes.histogram(metric, "engine-0:8000", at_s, np.array(values, dtype=np.float64), BUCKETS)
    e2e = np.array([r.timeline.e2e_s or 0 for _, r in ended])
    scrapes.histogram("loadline_e2e_request_latency_seconds", "engine-0:8000", at_s, e2e, (1.0, 10.0))
    return scrapes.series


def as_vllm(series: Sequence[Series]) -> list[Series]:
    """The same telemetry as vLLM would expose it: no step times, but iterations, their tokens, and token gaps."""
    renamed = {
        "loadline_num_requests_running": "vllm:num_requests_running",
        "loadline_request_prompt_tokens": "vllm:request_prompt_tokens",
        "loadline_request_generation_tokens": "vllm:request_generation_tokens",
        "loadline_e2e_request_latency_seconds": "vllm:e2e_request_latency_seconds",
    }
    by_name: dict[tuple[str, str], Series] = {}
    found = []
    for one in series:
        labels = dict(one.labels)
        name = labels["__name__"]
        by_name[name, labels["instance"]] = one
        for own, other in renamed.items():
            if name.startswith(own):
                renamed_labels = {**labels, "__name__": other + name.removeprefix(own)}
                found.append(Series(from_mapping(renamed_labels), one.timestamps_ms, one.values))
    for instance in sorted({instance for _, instance in by_name}):
        decode = by_name["loadline_step_decode_sequences_total", instance]
        prefill = by_name["loadline_step_prefill_tokens_total", instance]
        steps = by_name["loadline_step_time_seconds_count", instance]
        gap_sum = by_name["loadline_inter_token_latency_seconds_sum", instance].values
        for name, values in (
            ("vllm:iteration_tokens_total_count", steps.values),
            ("vllm:iteration_tokens_total_sum", decode.values + prefill.values),
            ("vllm:iteration_tokens_total_bucket", steps.values),
            ("vllm:generation_tokens_total", decode.values),
            ("vllm:inter_token_latency_seconds_sum", gap_sum),
            ("vllm:inter_token_latency_seconds_count", decode.values),
            ("vllm:inter_token_latency_seconds_bucket", decode.values),
            ("vllm:num_requests_waiting", 0 * steps.values),
        ):
            labels = {"__name__": name, "instance": instance, "job": "vllm", "model_name": "tiny"}
            if name.endswith("_bucket"):
                labels["le"] = "+Inf"
            found.append(Series(from_mapping(labels), steps.timestamps_ms, values))
        info = {"__name__": "vllm:cache_config_info", "num_gpu_blocks": "4000", "block_size": "16"}
        info_labels = from_mapping({**info, "instance": instance, "job": "vllm"})
        found.append(Series(info_labels, steps.timestamps_ms, np.ones(len(steps.values))))
    return found


class Held:
    """An in-memory Querier: every series a group of its own."""

    def __init__(self, series: Sequence[Series]) -> None:
        self._groups = [SeriesGroup((s.labels,), s.timestamps_ms, s.values[:, None]) for s in series]

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[SeriesGroup]:
        found = []
        for group in self._groups:
            labels = dict(group.labels[0])
            if all(matcher.matches(labels.get(matcher.name, "")) for matcher in matchers):
                kept = (group.timestamps_ms >= start_ms) & (group.timestamps_ms <= end_ms)
                found.append(SeriesGroup(group.labels, group.timestamps_ms[kept], group.values[kept]))
        return found


def answer(querier: Held, engine: Engine, request: httpx.Request) -> httpx.Response:
    """Prometheus's HTTP API over the real evaluator, without a socket."""
    given = dict(request.url.params)
    if request.method == "POST":
        given |= dict(httpx.QueryParams(request.content.decode()))
    if request.url.path.endswith("/query_range"):
        start, end, step = (round(float(given[name]) * 1000) for name in ("start", "end", "step"))
        result = engine.range(querier, given["query"], start, end, step)
    else:
        result = engine.instant(querier, given["query"], round(float(given["time"]) * 1000))
    return httpx.Response(200, json={"status": "success", "data": shape(result)})


def shape(result: Result) -> dict[str, object]:
    def points(series: Series) -> list[list[object]]:
        pairs = zip(series.timestamps_ms.tolist(), series.values.tolist(), strict=True)
        return [[at_ms / 1000, repr(value)] for at_ms, value in pairs]

    if result.kind == "vector":
        entries = [{"metric": dict(s.labels), "value": points(s)[0]} for s in result.series]
    else:
        entries = [{"metric": dict(s.labels), "values": points(s)} for s in result.series]
    return {"resultType": result.kind, "result": entries}


def source(series: Sequence[Series]) -> Client:
    return Client("http://source", transport=httpx.MockTransport(partial(answer, Held(series), Engine())))


def names_of(series: Sequence[Series]) -> list[str]:
    def name(labels: Labels) -> str:
        return dict(labels)["__name__"]

    return sorted({name(s.labels) for s in series})


def headroom(series: Sequence[Series], now_s: float) -> PoolHeadroom:
    with source(series) as client:
        (found,) = live_headroom(client, detect(names_of(series)), SLO, START_S + now_s)
    return found


@pytest.fixture(scope="module")
def busy() -> list[Series]:
    """Ten minutes of four replicas at about a third of what they can take."""
    return telemetry(load(BUSY_S, RATE), replicas=4, seconds=BUSY_S)


@pytest.fixture(scope="module")
def found(busy: list[Series]) -> PoolHeadroom:
    """The headroom of the busy fleet at the end of its ten minutes."""
    return headroom(busy, BUSY_S)


def test_the_load_line_is_that_of_the_truth(found: PoolHeadroom) -> None:
    twin = Twin(CONFIG, TRUTH, replicas=4)
    truth = find_capacity(load(300, RATE, seed=8), twin, SLO, seeds=1, tolerance=0.03)
    assert (found.pool, found.replicas, found.reason) == ("tiny", 4, None)
    assert found.load_req_per_s == pytest.approx(RATE, rel=0.1)
    assert found.load_line_req_per_s == pytest.approx(truth.requests_per_s, rel=0.1)
    assert found.headroom_ratio == pytest.approx(1 - found.load_req_per_s / (found.load_line_req_per_s or 1))
    assert found.bound_by == truth.bound_by
    assert found.model_error_ratio is not None
    assert found.model_error_ratio < 0.02


def test_the_n2_line_is_that_of_two_replicas_fewer(found: PoolHeadroom) -> None:
    assert found.n2_line_req_per_s is not None
    assert found.load_line_req_per_s is not None
    assert found.n2_line_req_per_s == pytest.approx(found.load_line_req_per_s / 2, rel=0.1)


def test_the_forecast_continues_the_load() -> None:
    ahead = headroom(telemetry(load(2400, 1), replicas=1, seconds=2400), 2400).forecast
    assert ahead is not None
    assert np.all(np.abs(ahead.median - 1) < 0.3)


def test_a_fleet_of_vllm_gets_a_rougher_line_and_says_why(busy: list[Series], found: PoolHeadroom) -> None:
    rough = headroom(as_vllm(busy), BUSY_S)
    assert rough.reason is None
    assert rough.load_line_req_per_s == pytest.approx(found.load_line_req_per_s, rel=0.35)
    assert "does not time its steps: they are worked out from token gaps: the interval is" in rough.notes[0]


def test_two_replicas_have_no_n2_line() -> None:
    found = headroom(telemetry(load(600, 3), replicas=2, seconds=600), 600)
    assert found.n2_line_req_per_s is None
    assert found.load_line_req_per_s is not None


def test_a_minute_of_load_gives_a_reason_instead_of_a_line() -> None:
    found = headroom(telemetry(load(60, 3), replicas=1, seconds=60), 60)
    assert found.load_line_req_per_s is None
    assert found.headroom_ratio is None
    assert "a line needs 10, which is 1.7 minutes of load" in (found.reason or "")


def test_two_minutes_of_load_give_a_line_and_its_doubt() -> None:
    found = headroom(telemetry(load(120, 3), replicas=1, seconds=120), 120)
    assert found.load_line_req_per_s is not None
    assert any("calibrated on 1" in note and "moves by up to" in note for note in found.notes)


def test_intervals_are_twice_as_long_as_the_sources_own() -> None:
    every_15_s = [Series(s.labels, s.timestamps_ms[::3], s.values[::3]) for s in telemetry(load(420, 3), 1, 420)]
    with source(every_15_s) as client:
        assert scrape_interval_s(client, detect(names_of(every_15_s)), START_S + 420) == 15
    assert headroom(every_15_s, 420).load_line_req_per_s is not None


def test_a_large_pool_is_told_by_a_few_replicas() -> None:
    series = telemetry(load(180, 18), replicas=8, seconds=180)
    found = headroom(series, 180)
    assert found.load_line_req_per_s is not None and found.n2_line_req_per_s is not None
    assert found.n2_line_req_per_s == pytest.approx(found.load_line_req_per_s * 6 / 8)
    assert any("4 of 8 replicas are simulated" in note for note in found.notes)


def test_an_idle_pool_says_that_nothing_finished() -> None:
    series = telemetry(load(60, 3), replicas=1, seconds=1800)
    found = headroom(series, 1800)
    assert found.load_req_per_s == 0
    assert found.reason == "no request finished in the last 900s: the mix of lengths is not known"


def test_history_recovers_the_costs_of_the_truth(busy: list[Series]) -> None:
    with source(busy) as client:
        evidence = from_history(client, detect(names_of(busy)), START_S, START_S + BUSY_S, 15, "tiny")
    model = evidence.fit()
    assert model.costs_s["steps"] == pytest.approx(TRUTH.step_s, rel=0.1)
    assert model.scheduler == {
        "num_blocks": 4000,
        "block_size": 16,
        "max_num_batched_tokens": 512,
        "max_num_seqs": 64,
        "max_model_len": 4096,
        "prefix_cache": True,
    }


def test_an_engine_without_step_counters_is_named(busy: list[Series]) -> None:
    names = [name for name in names_of(busy) if "step" not in name]
    with source(busy) as client, pytest.raises(ModelError, match="step_time is not exposed"):
        from_history(client, detect(names), START_S, START_S + BUSY_S, 15, "tiny")


@pytest.fixture(scope="module")
def pair() -> list[Series]:
    """Five minutes of two replicas."""
    return telemetry(load(300, 5), replicas=2, seconds=300)


def seen(series: Sequence[Series], now_s: float = 300.0) -> Seen:
    with source(series) as client:
        return steps_seen(client, detect(names_of(series)), "tiny", START_S + now_s, 900.0)


def width(one: PoolHeadroom) -> float:
    assert one.line_low_req_per_s is not None and one.line_high_req_per_s is not None
    assert one.load_line_req_per_s is not None
    assert one.line_low_req_per_s <= one.load_line_req_per_s <= one.line_high_req_per_s
    return one.line_high_req_per_s - one.line_low_req_per_s


def widening(left_out: Sequence[LeftOut], words: str) -> float:
    """By what factor the interval is wider for what ``words`` say."""
    (found,) = [left.widens for left in left_out if words in left.what]
    return found


def changed(series: Sequence[Series], change: Callable[[dict[str, str], Series], Series | None]) -> list[Series]:
    return [new for one in series if (new := change(dict(one.labels), one)) is not None]


def named(one: Series, labels: dict[str, str], **others: str) -> Series:
    return Series(from_mapping({**labels, **others}), one.timestamps_ms, one.values)


def test_whole_telemetry_leaves_nothing_out(found: PoolHeadroom) -> None:
    assert found.left_out == ()
    assert 0.05 < width(found) / (found.load_line_req_per_s or 0) < 0.4


def test_a_gap_in_the_samples_is_told_with_what_it_does_to_the_interval(pair: list[Series]) -> None:
    times_s = pair[0].timestamps_ms / 1000 - START_S
    kept = (times_s < 100) | (times_s > 200)
    torn = seen([Series(one.labels, one.timestamps_ms[kept], one.values[kept]) for one in pair])
    assert widening(torn.left_out, "22 of 60 intervals have no samples") > 1
    assert torn.spread_ratio >= seen(pair).spread_ratio


def test_intervals_with_a_restart_are_left_out(pair: list[Series]) -> None:
    def restarted(labels: dict[str, str], one: Series) -> Series:
        counts = labels["__name__"].endswith(("_total", "_sum", "_count", "_bucket"))
        if labels["instance"] != "engine-1:8000" or not counts:
            return one
        later = one.timestamps_ms / 1000 - START_S > 206
        return Series(one.labels, one.timestamps_ms, one.values - later * one.values[~later][-1])

    whole, again = seen(pair), seen(changed(pair, restarted))
    assert widening(again.left_out, "2 intervals in which a counter was reset are left out") > 1
    assert len(again.evidence.observations) == len(whole.evidence.observations) - 2


def test_replicas_of_another_engine_are_told_and_widen_the_interval(pair: list[Series]) -> None:
    def other(labels: dict[str, str], one: Series) -> Series | None:
        if labels["instance"] != "engine-1:8000":
            return one
        running = labels["__name__"] == "loadline_num_requests_running"
        return named(one, labels, __name__="sglang:num_running_reqs") if running else None

    mixed = seen(changed(pair, other))
    assert widening(mixed.left_out, "50% of the replicas run other engines than Loadline engine") > 2
    assert mixed.spread_ratio > 2 * seen(pair).spread_ratio


def test_a_model_of_what_was_not_measured_says_so_and_its_draws_lie_further_apart(pair: list[Series]) -> None:
    def far_apart(one: Seen) -> float:
        model = one.doubted(one.evidence.fit())
        assert list(map(str, one.left_out)) == list(model.notes[len(model.notes) - len(one.left_out) :])
        per_step = np.array(model.costs_drawn) @ [1, 0, 0, 20, 4000]
        return float(np.std(np.log(per_step)))

    rough, whole = seen(as_vllm(pair)), seen(pair)
    assert widening(rough.left_out, "the use of the KV cache is not exposed") > 1
    assert rough.granted_ratio == pytest.approx(np.hypot(INFERRED_SD, KV_UNSEEN_SD))
    assert far_apart(rough) == pytest.approx(rough.granted_ratio, rel=0.3)
    assert (whole.granted_ratio, whole.left_out) == (0, ())
    assert far_apart(whole) < 0.05
    blind = seen(changed(pair, lambda labels, one: None if "kv_cache" in labels["__name__"] else one))
    assert "a simulation takes it from --num-blocks" in blind.doubted(blind.evidence.fit()).notes[-1]


def test_an_unknown_kv_cache_lowers_the_interval_to_what_was_seen_to_be_held(pair: list[Series]) -> None:
    def without(labels: dict[str, str], one: Series) -> Series | None:
        return None if "kv_cache" in labels["__name__"] else one

    blind = headroom(changed(pair, without), 300)
    wider = widening(blind.left_out, "the KV cache's size is not exposed")
    assert wider > 1.2
    assert any(f"{wider:.2f} times as wide for it" in note for note in blind.notes)
    assert width(blind) / (blind.load_line_req_per_s or 0) > 0.2


def test_an_unknown_load_is_not_taken_for_none(pair: list[Series]) -> None:
    dumb = headroom(changed(pair, lambda labels, one: None if "e2e" in labels["__name__"] else one), 300)
    assert dumb.headroom_ratio is None
    assert "signal requests: not exposed" in (dumb.reason or "")


def test_two_engines_in_one_source_each_get_their_line(pair: list[Series]) -> None:
    others = [named(one, dict(one.labels), model_name="other") for one in as_vllm(pair)]
    with source([*pair, *others]) as client:
        pools = live_headroom(client, detect(names_of([*pair, *others])), SLO, START_S + 300)
    assert [(pool.pool, pool.reason) for pool in pools] == [("other", None), ("tiny", None)]
