"""The gateway's numbers, and how they are exposed."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from probe_engine.gateway.cache import AnswerCache
from probe_engine.gateway.catalog import METRICS, OUTCOMES
from probe_engine.gateway.replica import Fleet

STATES = {"closed": 0, "half_open": 1, "open": 2}
DECLARED = {metric.name: metric for metric in METRICS}


class GatewayMetrics:
    """Counters that the proxy adds to; gauges are read from the fleet at each scrape."""

    def __init__(self, fleet: Fleet, cache: AnswerCache, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.in_flight = 0
        self.requests = self._counter("loadline_gateway_requests_total")
        self.refused = self._counter("loadline_gateway_refused_total")
        self.retries = self._counter("loadline_gateway_retries_total")
        self.tokens = self._counter("loadline_gateway_tokens_total")
        self.replica_requests = self._counter("loadline_gateway_replica_requests_total")
        self.replica_failures = self._counter("loadline_gateway_replica_failures_total")
        first_byte = DECLARED["loadline_gateway_first_byte_seconds"]
        self.first_byte = Histogram(
            first_byte.name, first_byte.help, first_byte.labels, buckets=first_byte.buckets, registry=self.registry
        )
        for outcome in OUTCOMES:
            self.requests.labels(outcome)
        for replica in fleet.replicas:
            self.replica_requests.labels(replica.name)
            self.replica_failures.labels(replica.name)
        self.registry.register(_Live(self, fleet, cache, clock))

    def collect(self) -> Iterable[Family]:
        """Every family, without the times of creation that the library adds: what an exposition is made of."""
        for family in self.registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family

    def _counter(self, name: str) -> Counter:
        metric = DECLARED[name]
        return Counter(name, metric.help, metric.labels, registry=self.registry)


class _Live(Collector):
    """What is read at the moment of a scrape."""

    def __init__(self, metrics: GatewayMetrics, fleet: Fleet, cache: AnswerCache, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._fleet = fleet
        self._cache = cache
        self._clock = clock

    def collect(self) -> Iterable[Family]:
        yield _gauge("loadline_gateway_in_flight_requests", [((), self._metrics.in_flight)])
        yield _gauge("loadline_gateway_cached_answers", [((), len(self._cache))])
        yield from self._of_replicas()

    def _of_replicas(self) -> Iterator[Family]:
        replicas, now_s = self._fleet.replicas, self._clock()
        prefix = "loadline_gateway_replica_"
        yield _gauge(f"{prefix}in_flight_requests", [((one.name,), one.in_flight) for one in replicas])
        waiting = [((one.name,), one.waiting) for one in replicas if one.waiting is not None]
        yield _gauge(f"{prefix}waiting_requests", waiting)
        yield _gauge(f"{prefix}healthy", [((one.name,), int(one.healthy)) for one in replicas])
        states = [((one.name,), STATES[one.breaker.state(now_s)]) for one in replicas]
        yield _gauge("loadline_gateway_breaker_state", states)
        opened = DECLARED["loadline_gateway_breaker_opened_total"]
        family = CounterMetricFamily(opened.name, opened.help, labels=opened.labels)
        for one in replicas:
            for trigger, times in one.breaker.times_opened.items():
                family.add_metric([one.name, trigger], times)
        yield family


def _gauge(name: str, values: Iterable[tuple[tuple[str, ...], Any]]) -> Family:
    metric = DECLARED[name]
    family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family
