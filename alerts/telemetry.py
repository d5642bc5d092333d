"""The alerts process's own metrics, ``loadline_alerts_*``, in a registry of their own."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from alerts.responses.response import Response, State

_DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Telemetry:
    """Counters of evaluations, notifications and responses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._evaluations = Counter(
            "loadline_alerts_rule_evaluations", "Rules evaluated.", ["rule_group"], registry=self.registry
        )
        self._failures = Counter(
            "loadline_alerts_rule_evaluation_failures", "Rules that could not be evaluated.", ["rule_group"],
            registry=self.registry,
        )  # fmt: skip
        self._missed = Counter(
            "loadline_alerts_group_iterations_missed", "Evaluations skipped because the one before took too long.",
            ["rule_group"], registry=self.registry,
        )  # fmt: skip
        self._duration = Histogram(
            "loadline_alerts_group_evaluation_duration_seconds", "Time that the evaluation of a group took.",
            ["rule_group"], buckets=_DURATION_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self._sent = Counter(
            "loadline_alerts_notifications_sent", "Notifications delivered.", ["receiver"], registry=self.registry
        )
        self._failed = Counter(
            "loadline_alerts_notifications_failed", "Notifications that a receiver did not take at one try.",
            ["receiver"], registry=self.registry,
        )  # fmt: skip
        self._dropped = Counter(
            "loadline_alerts_notifications_dropped", "Notifications given up.", ["receiver"], registry=self.registry
        )
        self._waiting = Gauge(
            "loadline_alerts_notifications_waiting", "Notifications not delivered yet.", ["receiver"],
            registry=self.registry,
        )  # fmt: skip
        self._responses = Counter(
            "loadline_alerts_responses", "Responses by the alert that asked, and what came of them: states entered.",
            ["alertname", "response", "mode", "outcome"], registry=self.registry,
        )  # fmt: skip
        self._alerts = Gauge("loadline_alerts_alerts", "Alerts by state.", ["state"], registry=self.registry)
        self._writes_failed = Gauge(
            "loadline_alerts_write_failures", "Writes of results that the source did not take, since the start.",
            registry=self.registry,
        )  # fmt: skip

    def evaluated(self, group: str, took_s: float, rules: int, failures: int) -> None:
        """A group was evaluated."""
        self._evaluations.labels(group).inc(rules)
        self._failures.labels(group).inc(failures)
        self._duration.labels(group).observe(took_s)

    def missed(self, group: str, iterations: int) -> None:
        """Evaluations of a group were skipped."""
        self._missed.labels(group).inc(iterations)

    def sent(self, receiver: str, count: int) -> None:
        """Notifications were delivered."""
        self._sent.labels(receiver).inc(count)

    def failed(self, receiver: str, count: int) -> None:
        """A receiver did not take notifications."""
        self._failed.labels(receiver).inc(count)

    def dropped(self, receiver: str, count: int) -> None:
        """Notifications were given up."""
        self._dropped.labels(receiver).inc(count)

    def responded(self, response: Response, outcome: State) -> None:
        """A response came to a state."""
        self._responses.labels(response.alertname, response.name, response.mode, outcome).inc()

    def page(
        self, alerts: Mapping[str, int], waiting: Mapping[str, Callable[[], int] | int], writes_failed: int
    ) -> bytes:
        """The ``/metrics`` page, with the present number of alerts by state and waiting messages by receiver."""
        for state, count in alerts.items():
            self._alerts.labels(state).set(count)
        for receiver, value in waiting.items():
            self._waiting.labels(receiver).set(value() if callable(value) else value)
        self._writes_failed.set(writes_failed)
        return generate_latest(self.registry)
