"""What forwarding says of itself on ``/metrics``."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collector.forward.sender import Sender

REASONS = ("refused", "size", "age", "disk")
"""Why items were dropped: by the receiver, by the queue's limits, because the disk did not take them."""

_PREFIX = "loadline_collector_forward"


class ForwardMetrics(Collector):
    """Items are samples, spans, data points or log records; without destinations every figure is 0."""

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._senders = senders

    def describe(self) -> Iterator[Metric]:
        """Nothing: families are made when collected."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Every family now."""
        by = ["destination"]
        sent = CounterMetricFamily(f"{_PREFIX}_sent", "Items that the destination has taken.", labels=by)
        retries = CounterMetricFamily(f"{_PREFIX}_retries", "Requests that were to be sent again.", labels=by)
        dropped = CounterMetricFamily(f"{_PREFIX}_dropped", "Items given up, by reason.", labels=[*by, "reason"])
        items = GaugeMetricFamily(f"{_PREFIX}_queue_items", "Items that wait.", labels=by)
        size = GaugeMetricFamily(f"{_PREFIX}_queue_bytes", "Bytes that wait.", labels=by)
        age = GaugeMetricFamily(f"{_PREFIX}_queue_age_seconds", "Age of the oldest that waits.", labels=by)
        for sender in self._senders:
            stats = sender.queue.stats()
            sent.add_metric([sender.name], sender.sent)
            retries.add_metric([sender.name], sender.retries)
            items.add_metric([sender.name], stats.items)
            size.add_metric([sender.name], stats.bytes)
            age.add_metric([sender.name], stats.oldest_s)
            for reason in REASONS:
                count = sender.refused if reason == "refused" else sender.queue.dropped[reason]
                dropped.add_metric([sender.name, reason], count)
        if not self._senders:
            for counter in (sent, retries):
                counter.add_metric([""], 0)
            for gauge in (items, size, age):
                gauge.add_metric([""], 0)
            dropped.add_metric(["", "refused"], 0)
        yield from (sent, retries, dropped, items, size, age)
