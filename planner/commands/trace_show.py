"""An inspected trace for the terminal: sentences, figures, and lines of small bars."""

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report import shown as figure
from planner.traces.inspection import Inspected, findings
from planner.traces.profile import FloatArray, LengthStats

_BARS = " ▁▂▃▄▅▆▇█"


def shown(one: Inspected) -> RenderableType:
    """Everything that fits a terminal."""
    stats = one.stats
    parts: list[RenderableType] = [Text(one.header.source, style="bold")]
    parts += [Text(f"  {sentence}") for sentence in findings(one)]
    if len(one.course.per_s):
        most = float(one.course.per_s.max())
        parts.append(Text(f"\nrequests/s in bins of {one.course.bin_s} s, up to {most:.3g}"))
        parts.append(Text(sparkline(one.course.per_s), style="cyan"))
    for title, (edges, counts) in (("prompt tokens", one.inputs), ("answer tokens", one.outputs)):
        if len(counts):
            parts.append(Text(f"\n{title} from {edges[0]:.0f} to {edges[-1] - 1:,.0f}, classes of equal ratio"))
            parts.append(Text(sparkline(counts), style="cyan"))
    lengths = _table("tokens", "mean", "p50", "p90", "p99", "min", "max", "of zero", "in all")
    lengths.add_row("prompt", *_cells(stats.input_tokens))
    lengths.add_row("answer", *_cells(stats.output_tokens))
    lines = _table("file", "lines", "header", "blank", "accepted", "set aside", "requests")
    for name, counts_of in one.accounts:
        numbers = (counts_of.lines, counts_of.header, counts_of.blank, counts_of.accepted, counts_of.quarantined)
        lines.add_row(name, *(f"{number:,}" for number in numbers), f"{counts_of.requests or 0:,}")
    return Group(*parts, Text(), lengths, Text(), _pairs(one), Text(), lines)


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def sparkline(values: FloatArray | Sequence[float]) -> str:
    """One character per value, from nothing to the highest."""
    every = np.asarray(values, dtype=np.float64)
    top = every.max(initial=0.0)
    if top <= 0:
        return _BARS[0] * len(every)
    levels = np.ceil(every / top * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[level] for level in levels)


def _cells(one: LengthStats) -> list[str]:
    if not one.told:
        return ["not told"] + [""] * 7
    mean = f"{one.mean:,.1f}"
    return [mean, *(figure(value) for value in (one.p50, one.p90, one.p99, one.min, one.max, one.zero, one.sum))]


def _pairs(one: Inspected) -> RenderableType:
    stats = one.stats
    rows: list[tuple[str, str]] = []
    if stats.gaps is not None:
        rows.append(("gaps, s", f"p50 {stats.gaps.p50_s:.4g}  p99 {stats.gaps.p99_s:.4g}  max {stats.gaps.max_s:.4g}"))
    if stats.dispersion:
        windows = "  ".join(f"{name} {value:.3g}" for name, value in stats.dispersion.items())
        rows.append(("variance / mean of counts", windows))
    rows.append(("ties", f"{stats.tie_ratio:.1%}"))
    if stats.prefix is not None:
        prefix = stats.prefix
        rows.append(("blocks", f"{prefix.blocks:,}, {prefix.unique:,} different"))
        rows.append(
            ("prefix hits", f"{prefix.token_hit_ratio:.1%} of tokens, {prefix.requests_with_hit:.1%} of requests")
        )
    named = (("models", stats.models), ("tenants", stats.tenants), ("status", stats.statuses))
    for name, counts in (*named, ("arrivals", stats.qualities), ("flags", stats.flagged), ("missing", stats.missing)):
        if counts:
            rows.append((name, "  ".join(f"{key} {count:,}" for key, count in counts.items())))
    table = Table("figure", "value", box=None, pad_edge=False, header_style="dim")
    for row in rows:
        table.add_row(*row)
    return table
