"""Names of OpenTelemetry metrics and attributes as Prometheus writes them.

Source: prometheus/otlptranslator, strategy UnderscoreEscapingWithSuffixes (Prometheus's default).
"""

import re

UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
PER = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}

_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]")


def metric_name(name: str, unit: str, *, monotonic_sum: bool = False, gauge: bool = False) -> str:
    """``http.server.duration`` in ``s`` as ``http_server_duration_seconds``."""
    words = [word for word in _NOT_IN_NAME.split(name) if word]
    main, _, per = unit.partition("/")
    main_suffix, per_suffix = _unit(main, UNITS), _unit(per, PER)
    if main_suffix and main_suffix not in words:
        words.append(main_suffix)
    if per_suffix and per_suffix not in words:
        words += ["per", per_suffix]
    if monotonic_sum:
        words = [word for word in words if word != "total"] + ["total"]
    if gauge and unit == "1":
        words = [word for word in words if word != "ratio"] + ["ratio"]
    joined = "_".join(words)
    return f"_{joined}" if joined[:1].isdigit() else joined


def label_name(name: str) -> str:
    """``gen_ai.request.model`` as ``gen_ai_request_model``."""
    label = _NOT_IN_LABEL.sub("_", name)
    if label[:1].isdigit():
        return f"key_{label}"
    return f"key{label}" if label.startswith("_") and not label.startswith("__") else label


def _unit(unit: str, names: dict[str, str]) -> str:
    unit = unit.strip()
    if not unit or "{" in unit or "}" in unit:
        return ""
    return names.get(unit, _NOT_IN_NAME.sub("_", unit).strip("_"))
