"""What people and judges said of answers, as the collector counts it: PromQL by model, or why there is none to ask."""

import re

from collector.signals import SignalError
from dashboard.board import Ask
from dashboard.view import promql_duration
from dashboard.words import say

RATED, SCORE = "loadline_feedback_total", "loadline_feedback_hallucination_score"
RETRIED, TRUNCATED = "loadline_feedback_retried_total", "loadline_feedback_truncated_total"
GOOD = 'rating=~"up|4|5"'
WINDOW_S = 900
"""Opinions are far between: shares of a minute would be of one or none."""

OWN_LABELS = {"pool": "model_name", "tenant": "tenant"}
"""The filters that feedback can be told apart by; it knows no replica."""

_MATCHER = re.compile(r'(\w+)(=~?)("(?:[^"\\]|\\.)*")')


def good(ask: Ask) -> str:
    """Share of ratings that are a thumb up, or four stars and more. Raises SignalError without feedback."""
    whole = _seen(ask, RATED)
    return f"({_seen(ask, RATED, GOOD)} or {whole} * 0) / {whole}"


def made_up(ask: Ask) -> str:
    """Mean hallucination score, 0 (grounded) to 1 (made up). Raises SignalError without feedback."""
    return f"{_seen(ask, f'{SCORE}_sum')} / {_seen(ask, f'{SCORE}_count')}"


def retried(ask: Ask) -> str:
    """Answers whose user asked again, by the hour. Raises SignalError without feedback."""
    return f"{_seen(ask, RETRIED)} * {3600 / _window_s(ask):.10g}"


def truncated(ask: Ask) -> str:
    """Answers said to have ended before they were complete, by the hour. Raises SignalError without feedback."""
    return f"{_seen(ask, TRUNCATED)} * {3600 / _window_s(ask):.10g}"


def _seen(ask: Ask, metric: str, *more: str) -> str:
    """How many were told in the window, by pool."""
    if metric not in ask.site.source.names():
        raise SignalError(say("nobody has rated an answer yet: {metric} is not there", metric=metric))
    where = [
        f"{OWN_LABELS[name]}{how}{value}" for name, how, value in _MATCHER.findall(ask.where) if name in OWN_LABELS
    ]
    told = f"increase({metric}{{{','.join((*where, *more))}}}[{promql_duration(_window_s(ask))}])"
    return f'sum by (pool) (label_replace({told}, "pool", "$1", "model_name", "(.*)"))'


def _window_s(ask: Ask) -> int:
    return max(WINDOW_S, ask.window.step_s)
