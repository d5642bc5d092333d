"""The questions that pages ask, in signals; the vocabulary turns them into the PromQL of the engines at hand."""

from collections.abc import Callable, Mapping, Sequence

from collector.model.labels import get
from collector.signals import Present, SignalAbsent, SignalError, Vocabulary
from dashboard.source import Answer, Question
from dashboard.view import View, Window, promql_duration
from dashboard.words import said_error, said_reason
from planner.slo import Slo

QUANTILES = (0.5, 0.95, 0.99)
LATENCIES = ("ttft", "itl", "e2e_latency", "tpot")
PHASES = ("queue_time", "prefill_time", "decode_time")
LOAD_WINDOW_S = 120
"""As long as the planner's own, see ``planner.room.headroom``."""

Rows = dict[str, list[float | None]]
"""Values on a window's grid by name of pool."""


def question(build: Callable[[], str]) -> Question:
    """The PromQL that ``build`` writes, or why the source cannot be asked for it."""
    try:
        return Question(build())
    except SignalAbsent as absent:
        return Question(absent=said_reason(str(absent.status)), signal=absent.signal)
    except SignalError as error:
        return Question(absent=said_error(error))


def quantiles(vocabulary: Vocabulary, signal: str, window: Window, where: str = "") -> dict[str, Question]:
    """``ttft.p50``, ``ttft.p95``, ``ttft.p99`` by pool."""
    return {
        f"{signal}.p{q * 100:.0f}": question(
            lambda q=q: vocabulary.quantile(signal, q, window.rate_window, where=where)  # type: ignore[misc]
        )
        for q in QUANTILES
    }


def within(vocabulary: Vocabulary, slo: Slo, rate_window: str, where: str = "") -> dict[str, Question]:
    """Shares by pool of what met its threshold: ``within.ttft`` and so on, and ``within.success``."""
    limits = {"ttft": slo.ttft_p95_s, "itl": slo.itl_p95_s, "e2e_latency": slo.e2e_p95_s, "tpot": slo.itl_p95_s}
    shares = {
        f"within.{signal}": question(
            lambda signal=signal, limit=limit: vocabulary.fraction_below(  # type: ignore[misc]
                signal, limit, rate_window, where=where
            )
        )
        for signal, limit in limits.items()
    }
    return shares | {"within.success": question(lambda: success(vocabulary, rate_window, where))}


def success(vocabulary: Vocabulary, rate_window: str, where: str = "") -> str:
    """Share of requests that ended without an error, by pool."""
    return f"1 - {vocabulary.ratio('errors', 'requests', rate_window, where=where)}"


def load(vocabulary: Vocabulary, window: Window, where: str = "") -> str:
    """Requests per second by pool: those that ended, counted as the planner counts them for its load line, over the
    same two minutes, so that chart and verdict name one figure."""
    signal = "e2e_latency" if vocabulary.present("e2e_latency") else "requests"
    return vocabulary.rate(signal, promql_duration(max(LOAD_WINDOW_S, window.step_s)), where=where)


def causes(vocabulary: Vocabulary, window: Window, where: str = "") -> dict[str, Question]:
    """Why latency is what it is: what waits, how full the KV cache is, what was preempted; by pool."""
    return {
        "waiting": question(lambda: vocabulary.gauge("waiting_requests", where=where)),
        "kv": question(lambda: vocabulary.gauge("kv_usage", agg="max", where=where)),
        "preemptions": question(lambda: vocabulary.rate("preemptions", window.rate_window, where=where)),
    }


def events(vocabulary: Vocabulary, window: Window) -> dict[str, Question]:
    """From which changes are read: targets, replicas, versions, alerts, restarts.

    A step may hold many scrapes: what happened between two steps is told by the least ``up`` and by every alert of the
    step, not by its last sample. Restarts show in the process's start time, or else in counters that fell.
    """
    step = promql_duration(max(window.step_s, 1))
    return {
        "up": Question(f"min_over_time(up[{step}])"),
        "replicas": question(vocabulary.replicas),
        "info": question(lambda: vocabulary.info("engine_info")),
        "alerts": Question(f'max_over_time(ALERTS{{alertstate="firing"}}[{step}])'),
        "started": Question(f"max_over_time(process_start_time_seconds[{step}])"),
        "resets": question(lambda: resets(vocabulary, promql_duration(max(2 * window.step_s, 60)))),
    }


def resets(vocabulary: Vocabulary, over: str) -> str:
    """How often the counters of generated tokens fell within ``over``, by scraped instance. Raises SignalAbsent."""
    status = vocabulary.status("generated_tokens")
    if not isinstance(status, Present):
        raise SignalAbsent("generated_tokens", status)
    return " or ".join(f"max by (job, instance) (resets({metric}[{over}]))" for metric in status.metrics)


def overview(vocabulary: Vocabulary, slo: Slo, window: Window, where: str = "") -> dict[str, Question]:
    """All range questions of the Overview."""
    headline = {
        f"{signal}.p95": question(
            lambda signal=signal: vocabulary.quantile(signal, 0.95, window.rate_window, where=where)  # type: ignore[misc]
        )
        for signal in ("itl", "e2e_latency")
    }
    return {
        **quantiles(vocabulary, "ttft", window, where),
        **headline,
        **within(vocabulary, slo, window.rate_window, where),
        "load": question(lambda: load(vocabulary, window, where)),
        **causes(vocabulary, window, where),
        **events(vocabulary, window),
    }


def budgets(vocabulary: Vocabulary, slo: Slo, window: Window, where: str = "") -> dict[str, Question]:
    """Shares within their thresholds over the whole window, as instant questions; from them, what budget is left."""
    return within(vocabulary, slo, promql_duration(max(60, window.span_s)), where)


def latency(vocabulary: Vocabulary, window: Window, where: str = "") -> dict[str, Question]:
    """All range questions of the Latency page but the heat map's."""
    asked: dict[str, Question] = {}
    for signal in LATENCIES:
        asked |= quantiles(vocabulary, signal, window, where)
    for signal in (*PHASES, "e2e_latency"):
        asked[f"{signal}.mean"] = question(
            lambda signal=signal: vocabulary.mean(signal, window.rate_window, where=where)  # type: ignore[misc]
        )
    return asked


def heat(vocabulary: Vocabulary, signal: str, window: Window, where: str) -> Question:
    """Cumulative bucket rates of ``signal`` by ``le`` in what ``where`` chooses."""
    return question(lambda: vocabulary.buckets(signal, window.rate_window, where=where))


def by_pool(answer: Answer, view: View) -> Rows:
    """Lines of an answer by the pool they belong to, those that the view shows, by name; a source without pools has
    one, named ``all``."""
    rows = {get(line.labels, "pool") or "all": line.values for line in answer.lines}
    return {pool: rows[pool] for pool in sorted(rows) if view.wants(pool)}


def by_labels(answer: Answer, labels: Sequence[str]) -> Rows:
    """Lines of an answer by the values of ``labels``, by name; those that have none of them are named ``all``."""
    rows = {
        " ".join(filter(None, (get(line.labels, label) for label in labels))) or "all": line.values
        for line in answer.lines
    }
    return {name: rows[name] for name in sorted(rows)}


def total(answer: Answer) -> list[float | None]:
    """The sum of all lines by step; None where none has a value."""
    steps = zip(*(line.values for line in answer.lines), strict=True)
    return [sum(known) if (known := [value for value in step if value is not None]) else None for step in steps]


def pools(answers: Mapping[str, Answer]) -> tuple[str, ...]:
    """Every pool that any answer speaks of."""
    return tuple(sorted({get(line.labels, "pool") for one in answers.values() for line in one.lines} - {""}))


def last(values: list[float | None], patience: int = 3) -> float | None:
    """The newest value, if it is at most ``patience`` steps old."""
    for value in reversed(values[-patience:]):
        if value is not None:
            return value
    return None
