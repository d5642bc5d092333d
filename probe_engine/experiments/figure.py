"""Charts as SVG text: bars and lines, enough for a report that opens anywhere, with nothing to load.

Text is the page's own font, colours follow the page's dark or light scheme through CSS classes of the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

WIDTH, LEFT, RIGHT, TOP = 760, 190, 90, 26
BAR, GAP = 18, 6
PLOT_HEIGHT = 260


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars: one group per label, one bar per series. ``unit`` stands behind each value."""

    title: str
    labels: tuple[str, ...]
    series: tuple[tuple[str, tuple[float, ...]], ...]
    unit: str = ""

    def svg(self) -> str:
        """The chart."""
        values = [value for _, row in self.series for value in row if isfinite(value)]
        most = max(values, default=0.0) or 1.0
        scale = (WIDTH - LEFT - RIGHT) / most
        parts, y = [], TOP + 8
        for at, label in enumerate(self.labels):
            middle = y + len(self.series) * BAR / 2 + 4
            parts.append(
                f'<text class="label" x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>'
            )
            for which, (_, row) in enumerate(self.series):
                value = row[at]
                width = max(1.0, value * scale) if isfinite(value) else 0.0
                parts.append(
                    f'<rect class="s{which}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 3}" rx="2"/>'
                )
                shown = f"{short(value)}{_spaced(self.unit)}" if isfinite(value) else "none"
                parts.append(f'<text class="value" x="{LEFT + width + 6:.1f}" y="{y + BAR - 6}">{escape(shown)}</text>')
                y += BAR
            y += GAP
        names = [name for name, _ in self.series if name]
        return _frame(self.title, names, parts, y + (22 if names else 4))


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over a common kind of x. ``series``: name, xs, ys."""

    title: str
    x_name: str
    y_name: str
    series: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]

    def svg(self) -> str:
        """The chart; axes begin at 0."""
        right = max((x for _, xs, _ in self.series for x in xs), default=0.0) or 1.0
        top = max((y for _, _, ys in self.series for y in ys), default=0.0) or 1.0
        left, bottom, wide = 70, TOP + PLOT_HEIGHT, WIDTH - 70 - 20
        parts = []
        for tick in ticks(top):
            y = bottom - tick / top * PLOT_HEIGHT
            parts.append(f'<line class="grid" x1="{left}" x2="{left + wide}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="value" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
        for tick in ticks(right):
            x = left + tick / right * wide
            parts.append(f'<text class="value" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{short(tick)}</text>')
        for which, (_, xs, ys) in enumerate(self.series):
            points = [
                f"{left + x / right * wide:.1f},{bottom - y / top * PLOT_HEIGHT:.1f}"
                for x, y in zip(xs, ys, strict=True)
            ]
            parts.append(f'<polyline class="l{which}" points="{" ".join(points)}"/>')
        axes = f"{self.x_name} (across), {self.y_name} (up)"
        parts.append(f'<text class="label" x="{left}" y="{bottom + 34}">{escape(axes)}</text>')
        return _frame(self.title, [name for name, _, _ in self.series], parts, bottom + 60)


Figure = Bars | Lines


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to ``most``, about five."""
    step = 10 ** floor(log10(most / 4))
    step *= next(by for by in (1, 2, 2.5, 5, 10) if most / (step * by) <= 6)
    return [at * step for at in range(int(most / step + 1e-9) + 1)]


def short(value: float) -> str:
    """Three digits of ``value``, without an exponent where one can read it."""
    if not isfinite(value):
        return "none"
    if value and not 0.001 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 4
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _spaced(unit: str) -> str:
    return unit if unit in ("", "%", "×") else f" {unit}"


def _frame(title: str, names: Sequence[str], parts: Sequence[str], height: float) -> str:
    legend, x = [], LEFT
    for which, name in enumerate(names):
        legend.append(f'<rect class="s{which}" x="{x}" y="{height - 16:.0f}" width="10" height="10" rx="2"/>')
        legend.append(f'<text class="label" x="{x + 15}" y="{height - 7:.0f}">{escape(name)}</text>')
        x += 30 + 7 * len(name)
    head = f'<text class="title" x="0" y="14">{escape(title)}</text>'
    body = "".join([head, *parts, *legend])
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">{body}</svg>'
