"""How numbers are written: one place for tiles, tables, legends, axis ticks and sentences.

Three significant digits, two below one; a thin rule per unit. Absent values are an en dash.
"""

import math
from collections.abc import Callable

from dashboard.words import say

ABSENT = "–"

Formatter = Callable[[float | None], str]

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400


def duration(seconds: float | None) -> str:
    """``820 ms``, ``1.42 s``, ``2 m 10 s``, ``3 h 05 m``, ``2 d 4 h``."""
    value, unit = duration_parts(seconds)
    return f"{value} {unit}" if unit else value


def duration_parts(seconds: float | None) -> tuple[str, str]:
    """Number and unit of ``duration`` apart, for tiles; the unit of a compound (``2 m 10 s``) is empty."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT, ""
    size = abs(seconds)
    if size == 0:
        return "0", "s"
    if size < 0.9995e-3:
        return f"{seconds * 1e6:.0f}", "µs"
    if size < 0.9995:
        return significant(seconds * 1e3), "ms"
    if size < 99.95:
        return significant(seconds), "s"
    return "-" + _compound(round(size)) if seconds < 0 else _compound(round(size)), ""


def _compound(seconds: int) -> str:
    if seconds < _HOUR_S:
        return say("{minutes} m {seconds} s", minutes=seconds // _MINUTE_S, seconds=f"{seconds % _MINUTE_S:02d}")
    if seconds < _DAY_S:
        return say("{hours} h {minutes} m", hours=seconds // _HOUR_S, minutes=f"{seconds % _HOUR_S // _MINUTE_S:02d}")
    return say("{days} d {hours} h", days=seconds // _DAY_S, hours=seconds % _DAY_S // _HOUR_S)


def span(seconds: float | None) -> str:
    """A stretch of time as people say it, coarse: ``45 s``, ``8 m 30 s``, ``18 m``, ``2 h``."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    whole = round(abs(seconds))
    if whole < _MINUTE_S:
        return say("{n} s", n=whole)
    if whole < 10 * _MINUTE_S and whole % _MINUTE_S:
        return say("{minutes} m {seconds} s", minutes=whole // _MINUTE_S, seconds=whole % _MINUTE_S)
    if whole < _HOUR_S:
        return say("{n} m", n=round(whole / _MINUTE_S))
    if whole < _DAY_S:
        hours, minutes = divmod(round(whole / _MINUTE_S), 60)
        return say("{hours} h {minutes} m", hours=hours, minutes=minutes) if minutes else say("{n} h", n=hours)
    days, hours = divmod(round(whole / _HOUR_S), 24)
    return say("{days} d {hours} h", days=days, hours=hours) if hours else say("{n} d", n=days)


def significant(value: float) -> str:
    """Three significant digits from one upwards, two below; never an exponent."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.995:
        return f"{value:.2f}"
    if size < 5e-5:
        return "0"
    return f"{value:.{1 - math.floor(math.log10(size))}f}"


def count(value: float | None, unit: str = "") -> str:
    """A quantity with a decimal prefix: ``43``, ``0.036``, ``12.4k tok/s``."""
    if value is None or not math.isfinite(value):
        return ABSENT
    tail = f" {unit}" if unit else ""
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.9995:
            return f"{significant(value / scale)}{prefix}{tail}"
    if value == round(value):
        return f"{value:.0f}{tail}"
    return f"{significant(value)}{tail}"


def money(usd: float | None) -> str:
    """Dollars: ``$0.42``, ``$2.50``, ``$1,234``, ``$12.4k``; two digits after the point below a hundred."""
    if usd is None or not math.isfinite(usd):
        return ABSENT
    sign, size = ("-" if usd < 0 else ""), abs(usd)
    if size >= 99_995:
        return f"{sign}${count(size)}"
    if size >= 99.995:
        return f"{sign}${size:,.0f}"
    return f"{sign}${size:.2f}" if size >= 0.0995 or size == 0 else f"{sign}${significant(size)}"


def per_second(value: float | None) -> str:
    """A request rate in a sentence: ``126 req/s``."""
    return count(value, "req/s")


def percent(ratio: float | None, digits: int = 0) -> str:
    """``62 %``; ``digits`` after the point."""
    if ratio is None or not math.isfinite(ratio):
        return ABSENT
    return f"{ratio * 100:.{digits}f} %"


def share_parts(ratio: float | None) -> tuple[str, str]:
    """Number and unit of a share whose misses matter: ``99.94``, ``%``; never rounded up to 100."""
    if ratio is None or not math.isfinite(ratio):
        return ABSENT, ""
    if ratio >= 1:
        return "100", "%"
    digits = 1 if ratio < 0.99 else 2
    floored = math.floor(ratio * 100 * 10**digits) / 10**digits
    return f"{floored:.{digits}f}", "%"


def threshold(ratio: float) -> str:
    """A target as it was written: ``99.9 %``, ``95 %``."""
    return f"{ratio * 100:.10g} %"


def threshold_s(seconds: float) -> str:
    """A latency target as it was written: ``800 ms``, ``12 s``, ``1.25 s``."""
    return f"{seconds * 1e3:.10g} ms" if seconds < 1 else f"{seconds:.10g} s"
