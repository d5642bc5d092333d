"""Which format a file has, told by its content, and what is said of one that is none."""

import re
from collections.abc import Callable
from pathlib import Path

from planner.errors import TraceError
from planner.readers import (
    access_log,
    azure,
    bailian,
    bench,
    burstgpt,
    canonical,
    litellm,
    mooncake,
    otlp,
    servegen,
    servingsim,
    sharegpt,
    tracelab,
    vidur,
)
from planner.readers.head import Head, head_of
from planner.readers.stream import Format

FORMATS: dict[str, Format] = {
    kind.name: kind
    for kind in (
        canonical.FORMAT,
        azure.FORMAT,
        burstgpt.FORMAT,
        mooncake.FORMAT,
        bailian.FORMAT,
        vidur.FORMAT,
        vidur.LENGTHS,
        servegen.FORMAT,
        servingsim.FORMAT,
        servingsim.MEASURED,
        tracelab.FORMAT,
        otlp.FORMAT,
        litellm.FORMAT,
        sharegpt.FORMAT,
        bench.GUIDELLM,
        bench.AIBRIX,
        bench.DETAIL_LOG,
        access_log.JSON,
        access_log.VLLM,
        access_log.TEXT,
    )
}


def detect(path: Path, forced: str | None = None) -> tuple[Format, Head]:
    """The format of a file, or the one that is ``forced``, and how the file begins. Raises TraceError."""
    head = head_of(path)
    if forced is not None:
        if forced not in FORMATS:
            raise TraceError(f"format {forced!r} is not one of {', '.join(FORMATS)}")
        return FORMATS[forced], head
    for kind in FORMATS.values():
        if kind.sniff(head):
            return kind, head
    raise TraceError(f"{path}: {_told(head)}")


_NO_TRACES: tuple[tuple[Callable[[Head], bool], str], ...] = (
    (
        lambda head: any("throughput" in c for c in head.columns) and any("running" in c for c in head.columns),
        "is telemetry of an engine by time: it has no single requests",
    ),
    (
        lambda head: b"vllm" in head.text and b" INFO " in head.text,
        "is a vLLM log without request lines: start the server with --enable-log-requests, or take its access log",
    ),
    (
        lambda head: head.has("input_tokens", "output_tokens") and re.match(rb'\{\s*"\d+": \{', head.text) is not None,
        "holds the lengths of a ServeGen client: name the -trace.csv beside it",
    ),
)


def _told(head: Head) -> str:
    if not head.lines:
        return "is empty"
    for known_as, what in _NO_TRACES:
        if known_as(head):
            return what
    shown = head.lines[0][:60].decode("utf-8", "replace")
    has = f", with the fields {', '.join(sorted(head.keys)[:12])}" if head.keys else ""
    has = f", with the columns {', '.join(head.columns[:12])}" if len(head.columns) > 1 else has
    known = ", ".join(FORMATS)
    return (
        f"not a trace in a format that is known here; it begins {shown!r}{has}{_nearest(head)}; "
        f"known: {known} (--format names one)"
    )


def _nearest(head: Head) -> str:
    """The format that the file has most fields of, and those that it lacks."""
    there = {name.lower() for name in (*head.columns, *head.keys)}
    shares = {kind.name: [need for need in kind.needs if need.lower() in there] for kind in FORMATS.values()}
    best = max(FORMATS.values(), key=lambda kind: len(shares[kind.name]) / max(len(kind.needs), 1))
    if not shares[best.name]:
        return ""
    lacks = [need for need in best.needs if need not in shares[best.name]]
    return (
        f"; nearest is {best.what}, for which it lacks {', '.join(lacks) or 'the spelling of ' + ', '.join(best.needs)}"
    )
