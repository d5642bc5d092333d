"""What each function of PromQL takes and gives.

Source: prometheus/promql/parser/functions.go.
"""

from dataclasses import dataclass

from collector.promql.kinds import Kind

_LETTERS: dict[str, Kind] = {"s": "scalar", "v": "vector", "m": "matrix", "t": "string"}

UNBOUNDED = -1


@dataclass(frozen=True, slots=True)
class Signature:
    """``optional``: how many arguments may follow the last but one; 0: none may be left out; UNBOUNDED: any number."""

    args: tuple[Kind, ...]
    optional: int = 0
    result: Kind = "vector"


def _of(args: str, optional: int = 0, result: Kind = "vector") -> Signature:
    return Signature(tuple(_LETTERS[letter] for letter in args), optional, result)


def _all(names: str, signature: Signature) -> dict[str, Signature]:
    return dict.fromkeys(names.split(), signature)


FUNCTIONS: dict[str, Signature] = {
    **_all(
        "abs absent acos acosh asin asinh atan atanh ceil cos cosh deg exp floor histogram_avg histogram_count "
        "histogram_stddev histogram_stdvar histogram_sum ln log10 log2 rad sgn sin sinh sort sort_desc sqrt tan tanh "
        "timestamp",
        _of("v"),
    ),
    **_all(
        "absent_over_time avg_over_time changes count_over_time delta deriv first_over_time idelta increase irate "
        "last_over_time mad_over_time max_over_time min_over_time present_over_time rate resets stddev_over_time "
        "stdvar_over_time sum_over_time ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time "
        "ts_of_min_over_time",
        _of("m"),
    ),
    **_all("day_of_month day_of_week day_of_year days_in_month hour minute month year", _of("v", 1)),
    **_all("end pi range start step time", _of("", result="scalar")),
    **_all("max_of min_of", _of("ss", result="scalar")),
    **_all("sort_by_label sort_by_label_desc", _of("vt", UNBOUNDED)),
    "clamp": _of("vss"),
    "clamp_max": _of("vs"),
    "clamp_min": _of("vs"),
    "double_exponential_smoothing": _of("mss"),
    "histogram_fraction": _of("ssv"),
    "histogram_quantile": _of("sv"),
    "histogram_quantiles": _of("vts", 10),
    "info": _of("vv", 1),
    "label_join": _of("vttt", UNBOUNDED),
    "label_replace": _of("vtttt"),
    "predict_linear": _of("ms"),
    "quantile_over_time": _of("sm"),
    "round": _of("vs", 1),
    "scalar": _of("v", result="scalar"),
    "vector": _of("s"),
}
"""Every function by name."""

ALIASES = {"holt_winters": "double_exponential_smoothing"}
"""Names of Prometheus 2 that Prometheus 3 renamed."""
