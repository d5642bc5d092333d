"""State as people read it: always icon, word and colour together."""

from dash import html

from dashboard.judge import State
from dashboard.parts.icon import Node, icon

ICONS = {"ok": "circle-check", "warn": "alert-triangle", "breach": "alert-octagon", "none": "circle-dashed"}
WORDS = {"ok": "OK", "warn": "At risk", "breach": "Breach", "none": "No data"}


def tag(state: State, word: str | None = None) -> Node:
    """``state`` with its word, or another."""
    return html.Span([icon(ICONS[state], 15), word or WORDS[state]], className=f"st st-{state}")
