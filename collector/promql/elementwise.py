"""Functions of one value at a time: arithmetic, trigonometry, the calendar."""

from collections.abc import Callable

import numpy as np

from collector.model.series import Float64Array

Elementwise = Callable[[Float64Array], Float64Array]


def _sgn(values: Float64Array) -> Float64Array:
    return np.sign(values)


def _in_units(unit: str) -> Elementwise:
    """Whole ``unit``s since 1970."""

    def count(values: Float64Array) -> Float64Array:
        counted: Float64Array = _moments(values).astype(f"datetime64[{unit}]").astype(np.float64)
        return counted

    return count


def _moments(values: Float64Array) -> np.ndarray[tuple[int, ...], np.dtype[np.datetime64]]:
    whole = np.trunc(np.where(np.isfinite(values), values, 0.0))
    return np.clip(whole, -1e17, 1e17).astype(np.int64).astype("datetime64[s]")


def _calendar(function: Elementwise) -> Elementwise:
    return lambda values: np.where(np.isfinite(values), function(values), np.nan)


def _day_of_month(values: Float64Array) -> Float64Array:
    return _in_units("D")(values) - _start_of(values, "M") + 1


def _start_of(values: Float64Array, unit: str, ahead: int = 0) -> Float64Array:
    """Day on which the month or year of each value begins, or the one ``ahead`` of it."""
    begin = _moments(values).astype(f"datetime64[{unit}]") + np.timedelta64(ahead)
    days: Float64Array = begin.astype("datetime64[D]").astype(np.float64)
    return days


MATH: dict[str, Elementwise] = {
    "abs": np.abs, "ceil": np.ceil, "floor": np.floor, "exp": np.exp, "ln": np.log, "log2": np.log2,
    "log10": np.log10, "sqrt": np.sqrt, "sgn": _sgn, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "deg": np.degrees, "rad": np.radians,
}  # fmt: skip

CALENDAR: dict[str, Elementwise] = {
    "minute": _calendar(lambda values: np.mod(_in_units("m")(values), 60)),
    "hour": _calendar(lambda values: np.mod(_in_units("h")(values), 24)),
    "day_of_week": _calendar(lambda values: np.mod(_in_units("D")(values) + 4, 7)),
    "day_of_month": _calendar(_day_of_month),
    "day_of_year": _calendar(lambda values: _in_units("D")(values) - _start_of(values, "Y") + 1),
    "days_in_month": _calendar(lambda values: _start_of(values, "M", 1) - _start_of(values, "M")),
    "month": _calendar(lambda values: np.mod(_in_units("M")(values), 12) + 1),
    "year": _calendar(lambda values: _in_units("Y")(values) + 1970),
}
"""Functions of a Unix time in seconds, in UTC; without an argument they read the evaluation time."""


def round_to(values: Float64Array, nearest: Float64Array) -> Float64Array:
    """Round half up to multiples of ``nearest``."""
    inverse = 1.0 / nearest
    rounded: Float64Array = np.floor(values * inverse + 0.5) / inverse
    return rounded
