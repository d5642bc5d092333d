"""What the server says of itself while it is played against: the counters of its metrics page and, where it lists them,
its single steps.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import aiohttp
import orjson

from collector.model.exposition import ScrapeParser
from collector.model.labels import METRIC_NAME, get
from collector.signals import Dialect
from planner.replay.exchange import Clock
from planner.result import STEP_SIGNALS, Observation

STEP_FIELDS = ("wall_s", *STEP_SIGNALS)
MAX_STEPS = 20_000
STRETCH = 500
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


def with_steps(summed: Sequence[Observation], steps: Sequence[Observation]) -> tuple[Observation, ...]:
    """Single steps instead of sums over intervals, where the server lists them: a fit tells more from them.

    Of more than ``MAX_STEPS``, every k-th stretch of ``STRETCH`` steps is kept, so that what follows what stays known.
    The engine's own TTFT over all intervals stands in the last one.
    """
    if not steps:
        return tuple(summed)
    every = -(-len(steps) // MAX_STEPS)
    kept = [step for number, step in enumerate(steps) if number // STRETCH % every == 0]
    counted = [one for one in summed if one.ttft_count]
    if counted:
        total = {
            "ttft_sum_s": sum(one.ttft_sum_s or 0.0 for one in counted),
            "ttft_count": sum(one.ttft_count or 0.0 for one in counted),
        }
        kept[-1] = kept[-1].model_copy(update=total)
    return tuple(kept)


class Watch:
    """Reads a server's metrics page, and its ``/steps`` where it has one, every second until stopped.

    What cannot be had is a gap, not a failure.
    """

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, dialects: Sequence[Dialect], clock: Clock
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._dialects = dialects
        self._clock = clock
        self._readings: list[Reading] = []
        self._steps: list[Observation] = []
        self._next_step: int | None = None
        self._absent: set[str] = set()  # what the server does not have is asked for once
        self._ahead_s = float("inf")  # the run's clock less the engine's: at most this, and so much when it is busy

    async def run(self, every_s: float = 1.0) -> tuple[Observation, ...]:
        """Watch until cancelled; then look once more and answer with what was seen."""
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await self._look()
                await asyncio.sleep(every_s - self._clock() % every_s)
        await self._look()
        return self.observations()

    def observations(self) -> tuple[Observation, ...]:
        """What has been seen so far, on the run's clock."""
        return with_steps(observations(self._readings), [_shifted(step, self._ahead_s) for step in self._steps])

    async def _look(self) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            if "/metrics" not in self._absent:
                await self._read_page()
            if "/steps" not in self._absent:
                await self._read_steps()

    async def _read_page(self) -> None:
        async with self._session.get(f"{self._base_url}/metrics") as response:
            if response.status == 404:
                self._absent.add("/metrics")
            if response.status == 200:
                body, kind = await response.read(), response.headers.get("Content-Type", "text/plain")
                reading = read_page(body, kind, self._dialects, self._clock())
                if reading is not None:
                    self._readings.append(reading)

    async def _read_steps(self) -> None:
        """Steps since the last look; those before the first look belong to nobody here."""
        async with self._session.get(f"{self._base_url}/steps", params={"since": self._next_step or 0}) as response:
            if response.status == 404:
                self._absent.add("/steps")
            if response.status != 200:
                return
            document = orjson.loads(await response.read())
        found = [_step(entry) for entry in document.get("steps", ())]
        if found and found[-1].end_s is not None:
            self._ahead_s = min(self._ahead_s, self._clock() - found[-1].end_s)
        if self._next_step is not None:
            self._steps += found
        self._next_step = document.get("next", self._next_step)


def _step(entry: Mapping[str, float]) -> Observation:
    """One listed step, on the engine's clock where it tells when it was."""
    start_s = entry.get("start_s")
    times = {} if start_s is None else {"start_s": start_s, "end_s": start_s + entry["wall_s"]}
    return Observation(**{field: entry[field] for field in STEP_FIELDS}, **times)


def _shifted(step: Observation, by_s: float) -> Observation:
    if step.start_s is None or step.end_s is None:
        return step
    return step.model_copy(update={"start_s": step.start_s + by_s, "end_s": step.end_s + by_s})
