"""A runner without a model: real KV memory of token ids, and a next token that depends on all of the context."""

from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b

import pytest

from probe_engine.model.logprobs import TokenLogprobs
from probe_engine.model.sampling import SamplingParams
from probe_engine.model.tokenizer import byte_tokenizer
from probe_engine.runtime.engine import Engine
from probe_engine.sched import SchedulerConfig, SchedulerOutput
from probe_engine.telemetry.metrics import EngineMetrics


class RecallingRunner:
    """Implements ``ModelRunner``: what it samples is a hash of the context that it reads back through the block table.

    So a wrong block table, a block shared wrongly or a token not computed gives another token, and it says so at once.
    ``text`` scripts the output of a prompt, one byte a token; ``failing`` holds ids whose step raises.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.slots: dict[int, int] = {}
        self.ids: dict[str, list[int]] = {}
        self.prompts: dict[str, int] = {}
        self.scripts: dict[tuple[int, ...], bytes] = {}
        self.failing: set[str] = set()
        self.logprobs: dict[str, TokenLogprobs] = {}
        self.computed: list[tuple[str, int]] = []
        self.before_step: Callable[[], None] = lambda: None

    def add(self, request_id: str, prompt_ids: list[int], sampling: SamplingParams) -> None:
        assert request_id not in self.ids
        self.ids[request_id] = list(prompt_ids)
        self.prompts[request_id] = len(prompt_ids)

    def remove(self, request_id: str) -> None:
        del self.ids[request_id]
        del self.prompts[request_id]

    def execute(self, output: SchedulerOutput) -> dict[str, int]:
        self.before_step()
        return self.compute(self.work(output))

    def work(self, output: SchedulerOutput) -> list[tuple]:
        """A step's chunks with what they need, so that they can be computed when the scheduler has gone on."""
        work = []
        for chunk in output.chunks:
            request = chunk.request
            work.append(
                (chunk, self.ids[request.request_id], list(request.block_table), self.prompts[request.request_id])
            )
        return work

    def compute(self, work: Sequence[tuple]) -> dict[str, int]:
        sampled: dict[str, int] = {}
        for chunk, ids, table, _ in work:
            request_id = chunk.request.request_id
            if request_id in self.failing:
                raise RuntimeError("out of memory")
            for position in range(chunk.start, chunk.start + chunk.tokens):
                self.slots[self._slot(table, position)] = ids[position]
                self.computed.append((request_id, position))
        for chunk, ids, table, prompt in work:
            if chunk.samples:
                sampled[chunk.request.request_id] = self._sample(chunk, ids, table, prompt)
        return sampled

    def _sample(self, chunk, ids: list[int], table: list[int], prompt: int) -> int:
        context = [self.slots[self._slot(table, position)] for position in range(chunk.start + chunk.tokens)]
        assert context == ids, f"{chunk.request.request_id}: the cache holds {context}, not {ids}"
        script = self.scripts.get(tuple(ids[:prompt]))
        digest = blake2b(repr(context).encode(), digest_size=1).digest()[0]
        token = 97 + digest % 26 if script is None else script[len(ids) - prompt]
        ids.append(token)
        return token

    def _slot(self, table: list[int], position: int) -> int:
        return table[position // self.block_size] * self.block_size + position % self.block_size


class QueueingRunner(RecallingRunner):
    """A device beside the host: ``launch`` queues a step, which is computed when somebody waits for it or a later one.

    ``order`` tells what happened. A step may read tokens that the step queued before it has yet to sample, in decodes
    alone: what a chunk of a prompt computes must be known on the host when it is launched.
    """

    def __init__(self, block_size: int) -> None:
        super().__init__(block_size)
        self.order: list[str] = []
        self.after_step: Callable[[], None] = lambda: None
        self._queue: deque[tuple[int, list[tuple]]] = deque()
        self._results: dict[int, dict[str, int] | Exception] = {}

    def launch(self, output: SchedulerOutput) -> Callable[[], dict[str, int]]:
        self.before_step()
        self.order.append(f"launched {output.step}")
        work = self.work(output)
        for chunk, ids, _, _ in work:
            unknown = chunk.start + chunk.tokens - len(ids)
            assert unknown <= (chunk.request in output.decodes), f"{chunk}: {unknown} ids are not known yet"
        self._queue.append((output.step, work))
        return lambda: self._wait(output.step)

    def _wait(self, wanted: int) -> dict[str, int]:
        while wanted not in self._results:
            step, work = self._queue.popleft()
            try:
                self._results[step] = self.compute(work)
            except Exception as error:  # for whoever waits for this step, if anybody still does
                self._results[step] = error
            self.order.append(f"done {step}")
            self.after_step()
        found = self._results.pop(wanted)
        if isinstance(found, Exception):
            raise found
        return found


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make_engine(config: SchedulerConfig, **options) -> tuple[Engine, RecallingRunner]:
    runner = RecallingRunner(config.block_size)
    return Engine(runner, byte_tokenizer(), config, EngineMetrics("tiny"), **options), runner


def make_overlapping_engine(config: SchedulerConfig, **options) -> tuple[Engine, QueueingRunner]:
    runner = QueueingRunner(config.block_size)
    engine = Engine(runner, byte_tokenizer(), config, EngineMetrics("tiny"), launch=runner.launch, **options)
    return engine, runner


@pytest.fixture(scope="session")
def overlapping_engine_of() -> Callable[..., tuple[Engine, QueueingRunner]]:
    """Makes an engine that schedules each step while a ``QueueingRunner`` computes the one before."""
    return make_overlapping_engine


@pytest.fixture(scope="session")
def engine_of() -> Callable[..., tuple[Engine, RecallingRunner]]:
    """Makes an engine on a ``RecallingRunner``."""
    return make_engine


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()
