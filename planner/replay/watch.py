"""What the server says of itself while it is played against: its step counters, read from its own metrics page."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import aiohttp

from collector.model.exposition import ScrapeParser
from collector.model.labels import METRIC_NAME, get
from collector.signals import Dialect
from planner.replay.exchange import Clock
from planner.result import Observation

STEP_SIGNALS = {
    "prefill_tokens": "step_prefill_tokens",
    "prefill_attention": "step_prefill_attention",
    "decode_seqs": "step_decode_sequences",
    "decode_kv_tokens": "step_decode_kv_tokens",
}
HISTOGRAM_SIGNALS = {"step_time": ("wall_s", "steps"), "ttft": ("ttft_sum_s", "ttft_count")}


@dataclass(frozen=True, slots=True)
class Reading:
    """Totals since the server's start, by field of ``Observation``; ``at_s`` on the run's clock."""

    at_s: float
    totals: Mapping[str, float]


def read_page(body: bytes, content_type: str, dialects: Sequence[Dialect], at_s: float) -> Reading | None:
    """Step counters on one metrics page, whatever engine's names it uses; None where it has none."""
    scrape = ScrapeParser().parse(body, content_type)
    sums: dict[str, float] = defaultdict(float)
    for labels, value in zip(scrape.layout, scrape.values.tolist(), strict=True):
        sums[get(labels, METRIC_NAME)] += value
    for dialect in dialects:
        if any(mark in sums for mark in dialect.marks) and "step_time" in dialect.signals:
            return Reading(at_s, _totals(dialect, sums))
    return None


def _totals(dialect: Dialect, sums: Mapping[str, float]) -> dict[str, float]:
    totals = {}
    for field, signal in STEP_SIGNALS.items():
        totals[field] = sum(sums.get(candidate.metric, 0.0) for candidate in dialect.signals.get(signal, ()))
    for signal, (sum_field, count_field) in HISTOGRAM_SIGNALS.items():
        for candidate in dialect.signals.get(signal, ()):
            totals[sum_field] = sums.get(candidate.metric + "_sum", 0.0) * candidate.factor
            totals[count_field] = sums.get(candidate.metric + "_count", 0.0)
    return totals


def observations(readings: Sequence[Reading]) -> tuple[Observation, ...]:
    """Growth between successive readings that saw at least one step; a pair with a counter reset is left out."""
    found = []
    for before, after in pairwise(readings):
        growth = {field: after.totals[field] - before.totals.get(field, 0.0) for field in after.totals}
        if growth.get("steps", 0.0) > 0 and min(growth.values()) >= 0:
            found.append(Observation(start_s=before.at_s, end_s=after.at_s, **growth))
    return tuple(found)


async def watch(
    session: aiohttp.ClientSession, url: str, dialects: Sequence[Dialect], clock: Clock, every_s: float = 1.0
) -> list[Reading]:
    """Read ``url`` every ``every_s`` until cancelled; a page that cannot be had is a gap, not a failure."""
    readings: list[Reading] = []
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await _read_once(session, url, dialects, clock, readings)
            await asyncio.sleep(every_s - clock() % every_s)
    await _read_once(session, url, dialects, clock, readings)
    return readings


async def _read_once(
    session: aiohttp.ClientSession, url: str, dialects: Sequence[Dialect], clock: Clock, readings: list[Reading]
) -> None:
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(url) as response:
            if response.status == 200:
                body = await response.read()
                reading = read_page(body, response.headers.get("Content-Type", "text/plain"), dialects, clock())
                if reading is not None:
                    readings.append(reading)
