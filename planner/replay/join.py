"""A run's requests beside the server's own spans of them, joined by request id: where the time to first token went.

The client's TTFT, from due, is what it waited itself (sent - due), what lies between client and server (the wire and
both HTTP stacks), what the request queued in the server and what its prefill took.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Protocol

import numpy as np

from collector.model.spans import Span
from planner.errors import RunError
from planner.result import Distribution, FloatArray, Run

ID_ATTRIBUTES = ("loadline.request_id", "gen_ai.response.id", "gen_ai.request.id")
TTFT, QUEUE = "gen_ai.latency.time_to_first_token", "gen_ai.latency.time_in_queue"
BATCH = 10_000
CLOCK_SLACK_S = 60.0
DAY_S = 86_400.0
_PREFIX, _NUMBERED = re.compile("(?:chat)?cmpl-"), re.compile(r"\.\d+$")


class SpanSource(Protocol):
    """What spans are asked of: ``collector.client.Client``."""

    def spans(
        self,
        *,
        name: str | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        limit: int = 100,
    ) -> tuple[Span, ...]:
        """Spans that satisfy every filter, latest first."""
        ...


@dataclass(frozen=True, slots=True)
class Joined:
    """How much of a run joined, and the parts of the TTFT from due (seconds) over what did.

    ``split`` has ``client``, ``network``, ``queue``, ``prefill`` and their sum ``ttft``.
    """

    requests: int
    joined: int
    split: Mapping[str, Distribution]

    @property
    def share(self) -> float:
        """Joined requests among those that ended well."""
        return self.joined / self.requests if self.requests else 0.0


def spans_of(run: Run, source: SpanSource) -> Iterator[Span]:
    """The server's spans from about the time of the run, in batches. Raises SourceError as ``source`` does."""
    if run.header.started_at is None:
        raise RunError("the run does not say when it was played: nothing to join it with")
    began_s = datetime.fromisoformat(run.header.started_at).timestamp()
    ends = run.requests.end_s[~np.isnan(run.requests.end_s)]
    start_s = began_s - CLOCK_SLACK_S - (DAY_S if "resumed_after" in run.header.details else 0.0)
    last_s = began_s + float(ends.max(initial=0.0)) + CLOCK_SLACK_S
    for name in (f"text_completion {run.header.model}", f"chat {run.header.model}", "llm_request"):
        end_s, seen = last_s, set[str]()
        while True:
            found = source.spans(name=name, start_s=start_s, end_s=end_s, limit=BATCH)
            fresh = [span for span in found if span.span_id not in seen]
            yield from fresh
            seen.update(span.span_id for span in fresh)
            if len(found) < BATCH or not fresh:
                break
            end_s = min(span.start_ns for span in found) / 1e9


def join(run: Run, spans: Iterable[Span]) -> tuple[Run, Joined]:
    """The run with ``server_ttft_s`` and ``server_queue_s`` filled, and the parts of its TTFT.

    Raises RunError when the run does not name its requests.
    """
    prefix = run.header.details.get("request_ids")
    if not isinstance(prefix, str):
        raise RunError("the run does not name its requests: only a replay can be joined with spans")
    rows = {f"{prefix}-{row}": place for place, row in enumerate(run.requests.row_id.tolist())}
    ttft, queue = (np.full(len(run.requests), np.nan) for _ in range(2))
    latest: dict[int, int] = {}
    for span in spans:
        place = next((rows[name] for name in _names(span) if name in rows), None)
        if place is not None and span.start_ns >= latest.get(place, 0):
            latest[place] = span.start_ns
            ttft[place], queue[place] = _number(span, TTFT), _number(span, QUEUE)
    filled = replace(run, requests=replace(run.requests, server_ttft_s=ttft, server_queue_s=queue))
    told = split(filled)
    details = {**run.header.details, "join": {"requests": told.requests, "joined": told.joined}}
    return replace(filled, header=run.header.model_copy(update={"details": details})), told


def split(run: Run) -> Joined:
    """Where the TTFT of a joined run went, over its measured requests that ended well and have a span."""
    requests = run.measured().requests
    ok = requests.status == "ok"
    nothing = np.full(len(requests), np.nan)
    server = nothing if requests.server_ttft_s is None else requests.server_ttft_s
    queue = nothing if requests.server_queue_s is None else requests.server_queue_s
    both = ok & ~np.isnan(server)
    sent = requests.first_token_s - requests.sent_s
    parts: dict[str, FloatArray] = {
        "client": requests.sent_s - requests.due_s,
        "network": sent - server,
        "queue": queue,
        "prefill": server - queue,
        "ttft": requests.first_token_s - requests.due_s,
    }
    return Joined(int(ok.sum()), int(both.sum()), {name: Distribution.of(part[both]) for name, part in parts.items()})


def as_mapping(joined: Joined) -> dict[str, object]:
    """Ready for JSON."""
    return {**asdict(joined), "share": joined.share}


def _names(span: Span) -> Iterator[str]:
    """The ids that a span gives its request, without what servers put around the client's."""
    for attribute in ID_ATTRIBUTES:
        if isinstance(value := span.attributes.get(attribute), str):
            plain = _PREFIX.sub("", value, count=1)
            for name in (plain, _NUMBERED.sub("", plain)):
                yield name
                yield name.removesuffix("-0")


def _number(span: Span, attribute: str) -> float:
    value = span.attributes.get(attribute)
    return float(value) if isinstance(value, int | float) else np.nan
