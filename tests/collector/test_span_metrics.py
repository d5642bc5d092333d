"""Rate, errors and duration by hop, counted from spans."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.ingest.span_metrics import BOUNDS_S, MORE, SpanMetrics
from collector.model.exemplars import Exemplar
from collector.model.labels import METRIC_NAME, Labels, get
from collector.model.series import Float64Array
from collector.model.spans import Span
from collector.signals import load_dialects, names_known


class Sink:
    """Keeps what was written last."""

    def __init__(self) -> None:
        self.layouts: list[Sequence[Labels]] = []
        self.figures: dict[Labels, float] = {}
        self.metadata: dict[str, str] = {}
        self.exemplars: list[Exemplar] = []

    def append_scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        self.layouts.append(layout)
        self.figures = dict(zip(layout, values.tolist(), strict=True))

    def set_metadata(self, metric: str, type: str, help: str, unit: str) -> None:
        self.metadata[metric] = type

    def append_exemplars(self, exemplars: Sequence[Exemplar]) -> int:
        self.exemplars += exemplars
        return len(exemplars)

    def value(self, name: str, **labels: str) -> float:
        (found,) = [
            value
            for series, value in self.figures.items()
            if get(series, METRIC_NAME) == name and all(get(series, key) == text for key, text in labels.items())
        ]
        return found


def span(name: str = "prefill", duration_s: float = 0.03, status: str = "ok", trace: int = 1) -> Span:
    start_ns = 1_700_000_000_000_000_000
    end_ns = start_ns + round(duration_s * 1e9)
    return Span(f"{trace:032x}", "0" * 15 + "2", None, name, "engine", "server", start_ns, end_ns, status)  # type: ignore[arg-type]


def test_spans_are_counted_by_service_name_kind_and_status() -> None:
    sink = Sink()
    counted = SpanMetrics(sink)
    counted.observe([span(), span(duration_s=0.3), span(status="error")])
    counted.write(1)
    assert sink.value("loadline_span_calls_total", span="prefill", status="ok", service="engine", kind="server") == 2.0
    assert sink.value("loadline_span_calls_total", status="error") == 1.0
    assert sink.value("loadline_span_duration_seconds_bucket", status="ok", le="0.05") == 1.0
    assert sink.value("loadline_span_duration_seconds_bucket", status="ok", le="+Inf") == 2.0
    np.testing.assert_allclose(sink.value("loadline_span_duration_seconds_sum", status="ok"), 0.33)


@given(st.lists(st.floats(0, 100), max_size=30))
def test_buckets_count_what_is_at_most_their_bound(durations: list[float]) -> None:
    sink = Sink()
    counted = SpanMetrics(sink)
    counted.observe([span(duration_s=0.03), *(span(duration_s=one) for one in durations)])
    counted.write(1)
    lengths = [0.03, *(round(one * 1e9) / 1e9 for one in durations)]
    for bound in BOUNDS_S:
        (value,) = [
            value
            for series, value in sink.figures.items()
            if get(series, "le") not in ("", "+Inf") and float(get(series, "le")) == bound
        ]
        assert value == sum(length <= bound for length in lengths)
    assert sink.value("loadline_span_duration_seconds_count") == len(lengths)


def test_nothing_is_written_before_the_first_span_and_the_layout_stays_while_no_hop_is_new() -> None:
    sink = Sink()
    counted = SpanMetrics(sink)
    counted.write(1)
    assert sink.layouts == []
    counted.observe([span()])
    counted.write(2)
    counted.observe([span()])
    counted.write(3)
    counted.observe([span("decode")])
    counted.write(4)
    first, second, third = sink.layouts
    assert first is second
    assert len(third) == 2 * (len(first) - 1) + 1


def test_hops_beyond_the_limit_are_counted_together_and_told() -> None:
    sink = Sink()
    counted = SpanMetrics(sink, max_hops=2)
    counted.observe([span(str(number)) for number in range(10)] + [span("0")])
    counted.write(1)
    assert sink.value("loadline_span_calls_total", span="0") == 2.0
    assert sink.value("loadline_span_calls_total", span=MORE, service=MORE) == 8.0
    assert sink.value("loadline_span_hops_limited_total") == 8.0
    assert counted.limited == 8


def test_the_latest_span_of_a_bucket_is_its_exemplar() -> None:
    sink = Sink()
    counted = SpanMetrics(sink)
    counted.observe([span(trace=1), span(trace=2), span(duration_s=99.0, trace=3)])
    counted.write(1)
    assert [(get(one.series, "le"), get(one.labels, "trace_id")[-1]) for one in sink.exemplars] == [
        ("0.05", "2"),
        ("+Inf", "3"),
    ]
    assert sink.exemplars[0].value == 0.03
    counted.write(2)
    assert len(sink.exemplars) == 2


def test_every_metric_is_known_to_its_dialect() -> None:
    sink = Sink()
    counted = SpanMetrics(sink)
    counted.observe([span()])
    counted.write(1)
    (dialect,) = [one for one in load_dialects() if one.engine == "spans"]
    assert {get(series, METRIC_NAME) for series in sink.figures} == set(dialect.names())
    assert {name for name in sink.metadata if name in names_known()} == set(sink.metadata)
