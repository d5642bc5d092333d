"""A run beside the server's spans: joined by request id, the TTFT in its parts; prefix hits as the hashes say."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from collector.model.spans import Span
from planner.errors import RunError
from planner.readers import read_trace
from planner.replay.join import join, spans_of
from planner.replay.local_engine import local_engine
from planner.replay.playing import Playing
from planner.replay.session import replay
from planner.result import Requests, Run, RunHeader, read_run
from planner.traces.trace import Ragged, Trace

START_NS = 1_800_000_000_000_000_000


def run_of(rows: int, prefix: str | None = "r") -> Run:
    due = np.arange(rows, dtype=np.float64)
    header = RunHeader(
        kind="replay", target="http://x", model="tiny", trace="t", trace_sha256="t",
        started_at="2027-01-15T08:00:00+00:00", details={"request_ids": prefix} if prefix else {},
    )  # fmt: skip
    return Run(
        header,
        Requests(
            row_id=np.arange(rows),
            due_s=due,
            sent_s=due + 0.001,
            first_token_s=due + 0.101,
            last_token_s=due + 0.2,
            end_s=due + 0.2,
            input_tokens=np.full(rows, 5),
            output_tokens=np.full(rows, 3),
            cached_tokens=np.full(rows, np.nan),
            status=np.full(rows, "ok"),
            error=(None,) * rows,
        ),
    )


def span(number: int, request_id: str, ttft_s: float = 0.08, attribute: str = "loadline.request_id") -> Span:
    start_ns = START_NS + number * 1_000_000
    told = {attribute: request_id, "gen_ai.latency.time_to_first_token": ttft_s, "gen_ai.latency.time_in_queue": 0.03}
    return Span(
        f"{number:032x}", f"{number:016x}", None, "text_completion tiny", "engine", "server", start_ns, start_ns + 1,
        attributes=told,
    )  # fmt: skip


def test_the_ttft_is_split_into_client_network_queue_and_prefill():
    run, told = join(run_of(20), [span(row, f"cmpl-r-{row}") for row in range(20)])
    assert (told.joined, told.share) == (20, 1.0)
    parts = {name: found.p50 for name, found in told.split.items()}
    assert parts == {
        "client": pytest.approx(0.001), "network": pytest.approx(0.02), "queue": pytest.approx(0.03),
        "prefill": pytest.approx(0.05), "ttft": pytest.approx(0.101),
    }  # fmt: skip
    assert run.requests.server_ttft_s is not None
    assert run.header.details["join"] == {"requests": 20, "joined": 20}


@pytest.mark.parametrize(
    ("pattern", "attribute"),
    [
        ("cmpl-r-{}", "loadline.request_id"),
        ("chatcmpl-r-{}", "gen_ai.response.id"),
        ("cmpl-r-{}-0", "gen_ai.request.id"),
        ("cmpl-r-{}.17", "loadline.request_id"),
    ],
)
def test_an_id_is_known_whatever_a_server_puts_around_it(pattern: str, attribute: str):
    spans = [span(row, pattern.format(row), attribute=attribute) for row in range(12)]
    assert join(run_of(12), spans)[1].joined == 12


def test_spans_of_others_join_nothing_and_the_latest_of_one_id_counts():
    spans = [span(2, "cmpl-r-0", ttft_s=0.07), span(1, "cmpl-r-0", ttft_s=0.01), span(3, "cmpl-other-1")]
    run, told = join(run_of(2), spans)
    assert told.joined == 1
    assert run.requests.server_ttft_s is not None
    assert run.requests.server_ttft_s[0] == 0.07


def test_a_twins_run_has_no_ids_to_join_by():
    with pytest.raises(RunError, match="only a replay can be joined"):
        join(run_of(2, prefix=None), [])


def test_what_the_server_said_is_kept_in_the_file(tmp_path: Path):
    run, _ = join(run_of(3), [span(row, f"cmpl-r-{row}") for row in range(2)])
    run.write(tmp_path / "run.json")
    again = read_run(tmp_path / "run.json").requests
    assert again.server_queue_s is not None
    assert np.array_equal(again.server_queue_s, [0.03, 0.03, np.nan], equal_nan=True)


class Kept:
    """A span store in memory that answers as the collector does: latest first, so many at most."""

    def __init__(self, spans: list[Span]) -> None:
        self._spans = sorted(spans, key=lambda one: -one.start_ns)
        self.asked = 0

    def spans(self, *, name=None, start_s=None, end_s=None, limit=100) -> tuple[Span, ...]:
        self.asked += 1
        found = (s for s in self._spans if s.name == name and start_s * 1e9 <= s.start_ns <= end_s * 1e9)
        return tuple(s for _, s in zip(range(limit), found, strict=False))


def test_more_spans_than_one_answer_holds_are_asked_for_in_turn():
    run = run_of(25)
    begin_s = 1_800_000_000 - 0.5
    source = Kept([span(number, f"cmpl-r-{number}") for number in range(25_000)])
    assert begin_s < START_NS / 1e9
    found = list(spans_of(run, source))
    assert len({one.span_id for one in found}) == len(found) == 25_000
    assert source.asked == 5


def slice_of(path: Path, to: Path, longest: int, rows: int) -> Trace:
    """The first rows of a Mooncake trace that are no longer than so, with answers of two tokens, a tick of 0.2 s."""
    lines = path.read_text().splitlines()[:2000]
    kept = (row for row in map(json.loads, lines) if row["input_length"] <= longest)
    with to.open("w") as file:
        for number, row in zip(range(rows), kept, strict=False):
            file.write(json.dumps(row | {"output_length": 2, "timestamp": number * 200}) + "\n")
    return read_trace(to).trace


def hits(trace: Trace, engine_block: int = 16) -> Iterator[int]:
    """Tokens of each prompt that a cache without bounds has, in whole blocks of the engine, its last token left."""
    hashes = trace.column("prefix_hashes")
    assert isinstance(hashes, Ragged)
    seen: set[int] = set()
    for row, length in enumerate(trace.input_tokens.tolist()):
        blocks = hashes.row(row).tolist()
        known = next((place for place, block in enumerate(blocks) if block not in seen), len(blocks))
        seen.update(blocks)
        yield min(known * 512, length - 1) // engine_block * engine_block


class Silent:
    def started(self, target: object, outline: object) -> None: ...
    def sent(self, count: int = 1) -> None: ...
    def ended(self, exchange: object) -> None: ...


def test_the_engine_reports_the_prefix_hits_that_the_hashes_say(shared_data: Path, tmp_path: Path):
    source = shared_data / "traces" / "mooncake" / "conversation_trace.jsonl"
    trace = slice_of(source, tmp_path / "slice.jsonl", longest=1600, rows=24)
    expected = list(hits(trace))
    with local_engine("tiny") as url:
        run = asyncio.run(replay(trace, Playing(url, watch_server=False), Silent(), asyncio.Event()))
    assert run.summary().by_status == {"ok": len(trace)}
    assert run.header.details["prompt_token_error"] == 0
    assert sum(expected) > 0
    assert np.nansum(run.requests.cached_tokens) == pytest.approx(sum(expected), rel=0.01)
