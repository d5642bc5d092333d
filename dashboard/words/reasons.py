"""What other parts of the project say in English (why a signal or a load line cannot be had, what failed), taken apart
so that it can be translated.

A sentence that a dialect writes about its own engine stays whole, and is looked up as such. What no template fits stays
English.
"""

import re
from functools import cache

from dashboard.words.said import Said, say

SIGNALS = (
    "not exposed: {reason}",
    "switched off: {reason}",
    "nothing in the source ({engines}) exposes {what}",
    "{engine} exposes {metric} only with {flag}",
    "{engine} exposes {metric} since {version}; this source holds no such series",
    "{engine} exposes {metric}; this source holds no such series",
)
"""``collector.signals``."""

SOURCES = (
    "{url}: no answer within {seconds} s",
    "no answer within {seconds} s",
    "{url}: cannot be reached: {reason}",
    "{url}: keeps no {what}; only a Loadline collector does",
    "{url}: {signal} is {reason}",
    "{url}: {status}: {answer}",
    "[Errno {errno}] {reason}",
)
"""``collector.client`` and the operating system."""

PLANNER = (
    "not enough telemetry yet: {n} intervals of {step} s with work in the last {window} min; a line needs {least}, "
    "which is {minutes} minutes of load",
    "not enough telemetry yet: {n} intervals of {step} s with work in the last {window} min; a line needs {least}, "
    "which is {minutes} minutes of load ({torn} more, in which a counter was reset, are left out)",
    "no request finished in the last {window}: the mix of lengths is not known",
    "pool {pool} shows no replica; there is {pools}",
    "pool {pool} ended no request in the last {window}: there is no load to change",
    "the promise holds even at {rate} requests/s: the step-time model shows no cost of more load",
    "the promise breaks at any rate: {slo} is {found}, its limit {limit}",
    "calibrated on {n} intervals of {step} s only: with a fifth of them left out, a busy step's time moves by up to "
    "{share}",
    "{what}: the interval is {times} times as wide for it",
    "{what}: no wider for it",
    "{n} intervals in which a counter was reset are left out",
    "{n} of {all} intervals have no samples",
    "the engine does not time its steps: they are worked out from token gaps",
    "{share} of the replicas run other engines than {engine}; they are taken to be as fast",
    "{n} of {all} replicas are simulated and scaled up",
    "the line lies beyond the loads seen in the window: step times there are extrapolated",
    "the size of the KV cache is not exposed: it is taken as unlimited",
    "reading telemetry",
    "searching for the load line",
    "playing {rate} requests/s",
    "requests that never end",
)
"""Headroom and what-ifs."""

TRACES = (
    "{n} requests read",
    "{n} requests, read as {what}",
    "there are no arrival times",
    "all requests arrive at once",
    "{rate} requests/s over {seconds} s, at most {most} in 1 s and {minute}/s over 60 s",
    "the first request arrives {seconds} s after the trace's zero",
    "gaps vary by {times} times their mean: {kind} Poisson arrivals (1)",
    "burstier than",
    "more even than",
    "much like",
    "{share} of requests arrive together with the one before: {n} ticks about {seconds} s apart, as the source's clock "
    "is coarse; --dequantise spreads them",
    "{lengths} are missing for {n} of {all} requests",
    "prompt lengths",
    "answer lengths",
    "{share} of prompt tokens repeat the beginning of an earlier prompt (blocks of {tokens}, a cache without bounds)",
    "{n} sessions of {turns} turns, at most {most}",
    "Requests per second, bins of {seconds} s",
    "s from the first",
    "{n} requests were not sent: the run was stopped",
    "no request was written to the server",
    "stopped after {n} requests that failed (--max-errors)",
    "p99 schedule lag {lag} ms is over {limit} ms (5% of the median TTFT, between 3.5 and 10 ms): the client was too "
    "slow for this machine",
)
"""What a trace and a run of it are."""

TEMPLATES = (*SIGNALS, *SOURCES, *PLANNER, *TRACES)

NUMBER = r"[-+\d.,]+%?"
NUMBERS = frozenset(
    [
        "n",
        "all",
        "step",
        "least",
        "minutes",
        "torn",
        "seconds",
        "status",
        "errno",
        "times",
        "rate",
        "most",
        "minute",
        "share",
        "turns",
        "tokens",
        "lag",
    ]
)
PARTS = {"url": r"https?://[^\s:]+(?::\d+)?[^\s:]*", "window": r"\S+", "limit": r"\S+"}
"""What a part looks like where it could be mistaken."""


def said_reason(reason: str) -> str:
    """``reason`` as a text that another language can say."""
    if isinstance(reason, Said):
        return reason
    for template in TEMPLATES:
        if (found := _pattern(template).fullmatch(reason)) is not None:
            return say(template, **{name: said_reason(part) for name, part in found.groupdict().items()})
    return reason


def said_error(error: BaseException | str) -> str:
    """What an error says, as ``said_reason`` does; an error that was raised with a composed text keeps it."""
    text = error.args[0] if isinstance(error, BaseException) and error.args else error
    return said_reason(text if isinstance(text, str) else str(error))


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", _part, re.escape(template)))


def _part(found: re.Match[str]) -> str:
    name = found[1]
    return f"(?P<{name}>{PARTS.get(name) or (NUMBER if name in NUMBERS else '.+?')})"
