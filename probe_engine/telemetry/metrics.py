"""The engine's metrics: counted per step in plain numbers, turned into exposition only when scraped.

``prometheus_client`` costs about a microsecond per observation; tokens of one step share their gap, so one call here
counts them all.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from probe_engine.sched import FinishReason, Request, StepStats
from probe_engine.telemetry.catalog import METRICS, Metric

MOST_TENANTS = 20  # tenants with series of their own
NO_TENANT = "none"
OTHER_TENANTS = "other"

Labelled = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is read at the moment of a scrape."""

    running: int
    waiting: int
    kv_usage: float
    batch_limit: int = 0


class Histogram:
    """Counts per bucket (the last is +Inf), the sum of observations, and one of them by name for some buckets."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value`` ``times`` times; a bound belongs to its own bucket (``le``)."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def exemplify(self, value: float, trace_id: str, timestamp_s: float) -> None:
        """``value``, which was observed at ``timestamp_s`` (Unix), belongs to this trace: the newest of its bucket."""
        self.exemplars[bisect_left(self.bounds, value)] = Exemplar({"trace_id": trace_id}, value, timestamp_s)

    def buckets(self) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        """Upper bound, observations up to it, and exemplar of each bucket, as ``HistogramMetricFamily`` takes them."""
        bounds = [*map(floatToGoString, self.bounds), "+Inf"]
        found: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for at, (bound, count) in enumerate(zip(bounds, accumulate(self.counts), strict=True)):
            exemplar = self.exemplars.get(at)
            found.append((bound, float(count)) if exemplar is None else (bound, float(count), exemplar))
        return found


class EngineMetrics:
    """All numbers of the catalogue.

    ``model_name`` is the label of every series. ``gauges`` is asked at each scrape. The engine's thread holds ``lock``
    while it records a step, so that a scrape sees whole steps; ``rejected`` belongs to the server's thread alone.
    """

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        self.gauges: Callable[[], Gauges] = lambda: Gauges(0, 0, 0.0)
        self.constants: dict[str, dict[tuple[str, ...], float]] = {}
        self.lock = Lock()
        self._histograms = {metric.name: Histogram(metric.buckets) for metric in METRICS if metric.kind == "histogram"}
        self._counters: dict[str, dict[tuple[str, ...], float]] = {
            metric.name: _zeros(metric) for metric in METRICS if metric.kind == "counter"
        }
        self._tenants: set[str] = set()
        self._step_time = self._histograms["loadline_step_time_seconds"]
        self._iteration_tokens = self._histograms["loadline_iteration_tokens"]
        self._gap = self._histograms["loadline_inter_token_latency_seconds"]

    def step(self, stats: StepStats, wall_s: float, preempted: int) -> None:
        """One step ran, in ``wall_s`` from end to end."""
        self._step_time.observe(wall_s)
        self._iteration_tokens.observe(stats.prefill_tokens + stats.decode_seqs)
        self._add("loadline_step_prefill_tokens_total", stats.prefill_tokens)
        self._add("loadline_step_prefill_attention_total", stats.prefill_attention)
        self._add("loadline_step_decode_sequences_total", stats.decode_seqs)
        self._add("loadline_step_decode_kv_tokens_total", stats.decode_kv_tokens)
        self._add("loadline_preemptions_total", preempted)

    def tokens(self, count: int) -> None:
        """``count`` tokens were sampled in a step."""
        self._add("loadline_generation_tokens_total", count)

    def gap(self, gap_s: float, times: int) -> None:
        """``times`` tokens came ``gap_s`` after the one before them."""
        self._gap.observe(gap_s, times)

    def first_token(self, request: Request) -> None:
        """``request`` has its first token: the latencies known by now, and its prompt."""
        timeline = request.timeline
        self._observe("loadline_time_to_first_token_seconds", timeline.ttft_s)
        self._observe("loadline_request_queue_time_seconds", timeline.queue_s)
        self._observe("loadline_request_prefill_time_seconds", timeline.prefill_s)
        self._observe("loadline_request_prompt_tokens", request.prompt_tokens)
        self._add("loadline_prompt_tokens_total", request.prompt_tokens)
        self._add("loadline_prompt_tokens_cached_total", request.cached_tokens)
        label = (str(request.priority),)
        self._add_labelled("loadline_priority_requests_total", label, 1)
        self._add_labelled("loadline_priority_queue_seconds_total", label, timeline.queue_s or 0.0)

    def prefix_cache(self, queries_tokens: int, hits_tokens: int) -> None:
        """Prompt tokens looked up and found in the prefix cache so far, in all."""
        self._counters["loadline_prefix_cache_queries_total"][()] = queries_tokens
        self._counters["loadline_prefix_cache_hits_total"][()] = hits_tokens

    def finished(self, request: Request) -> None:
        """``request`` ended; latencies are those of requests that were served to their end."""
        self.ended(request)
        reason = request.finish_reason or FinishReason.ABORT
        self._counters["loadline_request_success_total"][(reason.value,)] += 1
        if reason is FinishReason.ABORT:
            return
        timeline = request.timeline
        self._observe("loadline_e2e_request_latency_seconds", timeline.e2e_s)
        self._observe("loadline_request_decode_time_seconds", timeline.decode_s)
        self._observe("loadline_time_per_output_token_seconds", timeline.tpot_s)
        self._observe("loadline_request_generation_tokens", request.output_tokens)

    def ended(self, request: Request) -> None:
        """Count ``request`` for its tenant, however it ended."""
        label = (self._tenant_label(request.tenant),)
        for name, amount in (
            ("loadline_tenant_requests_total", 1),
            ("loadline_tenant_prompt_tokens_total", request.prompt_tokens),
            ("loadline_tenant_generation_tokens_total", request.output_tokens),
        ):
            self._add_labelled(name, label, amount)

    def traced(self, request: Request, trace_id: str, timestamp_s: float) -> None:
        """``request``, which has ended, can be looked up as ``trace_id``: its latencies' exemplars (OpenMetrics)."""
        aborted = request.finish_reason is FinishReason.ABORT
        with self.lock:
            for name, value in (
                ("loadline_time_to_first_token_seconds", request.timeline.ttft_s),
                ("loadline_e2e_request_latency_seconds", None if aborted else request.timeline.e2e_s),
            ):
                if value is not None:
                    self._histograms[name].exemplify(value, trace_id, timestamp_s)

    def failed(self, reason: str, count: int = 1) -> None:
        """``count`` accepted requests failed; ``reason`` is one of the catalogue's."""
        self._counters["loadline_request_errors_total"][(reason,)] += count

    def rejected(self, reason: str) -> None:
        """A request was not accepted; ``reason`` is one of the catalogue's."""
        self._counters["loadline_requests_rejected_total"][(reason,)] += 1

    def registry(self) -> CollectorRegistry:
        """A fresh prometheus_client registry that exposes this."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Exposition(self))
        return registry

    def families(self) -> Iterator[Family]:
        """Every family that has a value, in the catalogue's order."""
        with self.lock:
            yield from [family for metric in METRICS if (family := self._family(metric)) is not None]

    def _family(self, metric: Metric) -> Family | None:
        labels = ("model_name", *metric.labels)
        if metric.kind == "histogram":
            histogram = self._histograms[metric.name]
            family = HistogramMetricFamily(metric.name, metric.help, labels=labels)
            family.add_metric([self.model_name], histogram.buckets(), histogram.total)
            return family
        values = self._counters[metric.name] if metric.kind == "counter" else self._gauge(metric.name)
        if not values:
            return None
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        simple = kind(metric.name, metric.help, labels=labels)
        for values_of_labels, value in values.items():
            simple.add_metric([self.model_name, *values_of_labels], value)
        return simple

    def _gauge(self, name: str) -> Labelled:
        now = self.gauges()
        live = {
            "loadline_num_requests_running": now.running,
            "loadline_num_requests_waiting": now.waiting,
            "loadline_batch_limit_requests": now.batch_limit,
            "loadline_kv_cache_usage_ratio": now.kv_usage,
        }
        return {(): live[name]} if name in live else self.constants.get(name, {})

    def _add(self, name: str, amount: float) -> None:
        self._counters[name][()] += amount

    def _add_labelled(self, name: str, label: tuple[str, ...], amount: float) -> None:
        series = self._counters[name]
        series[label] = series.get(label, 0.0) + amount

    def _tenant_label(self, tenant: str | None) -> str:
        """The tenant's own name for the first ``MOST_TENANTS`` of them; their names come from callers."""
        if tenant is None:
            return NO_TENANT
        if tenant not in self._tenants and len(self._tenants) < MOST_TENANTS:
            self._tenants.add(tenant)
        return tenant if tenant in self._tenants else OTHER_TENANTS

    def _observe(self, name: str, value: float | None) -> None:
        if value is not None:
            self._histograms[name].observe(value)


def _zeros(metric: Metric) -> dict[tuple[str, ...], float]:
    """The series that a counter has from the start."""
    if not metric.values:
        return {} if metric.labels else {(): 0.0}
    return {(value,): 0.0 for value in metric.values}


class _Exposition(Collector):
    def __init__(self, metrics: EngineMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Family]:
        return self._metrics.families()
