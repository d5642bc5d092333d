"""One request as a waterfall: its phases on a common scale, and the token strip.

The strip is one tick per output token at the moment it came, as high as the gap before it was long: a stall or a
preemption is a hole with a tall tick at its end.
"""

from base64 import b64encode
from collections.abc import Sequence

from dash import html

from dashboard import quantity
from dashboard.parts.icon import Node, hyphened
from dashboard.served import Served
from dashboard.words import joined, say

STRIP_WIDTH, STRIP_HEIGHT = 1000, 34
TYPICAL_HEIGHT = 14
"""Height of a tick of the median gap."""


def waterfall(one: Served, gaps_s: Sequence[float]) -> Node:
    """Rows of bars from arrival to the last token."""
    whole = max(one.e2e_s, 1e-9)
    queue, prefill, decode = one.queue_s or 0.0, one.prefill_s or 0.0, one.decode_s or 0.0
    first = one.ttft_s if one.ttft_s is not None else queue + prefill
    rows = [_row("request", quantity.duration(one.e2e_s), "request", 0, whole, whole)]
    if one.queue_s is not None:
        rows.append(_row("queue", quantity.duration(queue), "queue", 0, queue, whole))
    if one.prefill_s is not None:
        rows.append(_row("prefill", _prefill(one), "prefill", queue, prefill, whole))
    if one.decode_s is not None:
        rows.append(_row("decode", _decode(one), "decode", queue + prefill, decode, whole))
    if gaps_s:
        rows.append(_strip(gaps_s, first, whole))
    rows.append(_axis(first, whole))
    return html.Div(rows, className="wf", role="img", **hyphened(aria_label=_spoken(one)))


def _row(name: str, text: str, kind: str, start: float, length: float, whole: float) -> Node:
    bar = html.Div(className=f"w-b w-{kind}", style={"left": _share(start, whole), "width": _share(length, whole)})
    return html.Div([_label(name, text), html.Div(bar, className="w-k")], className="w-r")


def _label(name: str, text: str) -> Node:
    return html.Div([html.Span(name, className="w-n"), html.Span(text, className="w-t")], className="w-l")


def _strip(gaps_s: Sequence[float], first_s: float, whole: float) -> Node:
    length = sum(gaps_s)
    style = {"left": _share(first_s, whole), "width": _share(length, whole), "--ic": strip_mask(gaps_s)}
    longest = say("longest gap {span}", span=quantity.duration(max(gaps_s)))
    ticks = html.Div(html.Div(className="w-s", style=style), className="w-k w-tall")
    return html.Div([_label("tokens", longest), ticks], className="w-r")


def strip_mask(gaps_s: Sequence[float]) -> str:
    """CSS mask of the ticks, as a data address."""
    typical = sorted(gaps_s)[len(gaps_s) // 2] or 1e-9
    total = sum(gaps_s) or 1e-9
    at, ticks = 0.0, []
    for gap in gaps_s:
        at += gap
        high = min(STRIP_HEIGHT, max(2.0, TYPICAL_HEIGHT * gap / typical))
        ticks.append(f"M{at / total * STRIP_WIDTH:.1f} {STRIP_HEIGHT}V{STRIP_HEIGHT - high:.1f}")
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {STRIP_WIDTH} {STRIP_HEIGHT}" '
        f'preserveAspectRatio="none"><path d="{"".join(ticks)}" stroke="black" stroke-width="1.2" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )
    return f"url(data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"


def _axis(first_s: float, whole: float) -> Node:
    marks = [
        html.Div(className="w-m", style={"left": _share(first_s, whole)}),
        html.Span(
            say("first token {span}", span=quantity.duration(first_s)),
            className="w-f" if first_s < 0.7 * whole else "w-f w-f-left",
            style={"left": _share(first_s, whole)},
        ),
    ]
    if first_s < 0.6 * whole:
        marks.append(html.Span(quantity.duration(whole), className="w-e"))
    return html.Div([html.Div(className="w-l"), html.Div(marks, className="w-k w-ax")], className="w-r")


def _prefill(one: Served) -> str:
    tokens = [say("{n} tokens", n=one.input_tokens)] if one.input_tokens is not None else []
    cached = [say("{n} cached", n=one.cached_tokens)] if one.cached_tokens else []
    return joined([quantity.duration(one.prefill_s), *tokens, *cached])


def _decode(one: Served) -> str:
    tokens = [say("{n} tokens", n=one.output_tokens)] if one.output_tokens is not None else []
    told = joined([quantity.duration(one.decode_s), *tokens])
    return told if one.pace_s is None else say("{told} at {pace}", told=told, pace=quantity.duration(one.pace_s))


def _share(part: float, whole: float) -> str:
    return f"{part / whole * 100:.2f}%"


def _spoken(one: Served) -> str:
    parts = (("queue", one.queue_s), ("prefill", one.prefill_s), ("decode", one.decode_s))
    phases = [
        say("{phase} {span}", phase=name, span=quantity.duration(value)) for name, value in parts if value is not None
    ]
    return say("Trace {id}: {phases}", id=one.trace_id, phases=joined(phases))


def phase_bar(one: Served, longest_s: float) -> Node:
    """The phases of one request in a table's cell, on the scale of the longest."""
    parts = (("queue", one.queue_s), ("prefill", one.prefill_s), ("decode", one.decode_s))
    bars = [
        html.I(className=f"w-{name}", style={"width": _share(value, max(longest_s, 1e-9))})
        for name, value in parts
        if value is not None
    ]
    return html.Div(bars, className="ph", **hyphened(aria_hidden="true"))
