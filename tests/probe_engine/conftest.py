"""A runner without a model: real KV memory of token ids, and a next token that depends on all of the context."""

from collections.abc import Callable
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
        sampled: dict[str, int] = {}
        for chunk in output.chunks:
            request_id = chunk.request.request_id
            if request_id in self.failing:
                raise RuntimeError("out of memory")
            ids, table = self.ids[request_id], chunk.request.block_table
            for position in range(chunk.start, chunk.start + chunk.tokens):
                self.slots[self._slot(table, position)] = ids[position]
                self.computed.append((request_id, position))
        for chunk in output.chunks:
            if chunk.samples:
                sampled[chunk.request.request_id] = self._sample(chunk)
        return sampled

    def _sample(self, chunk) -> int:
        request_id, table = chunk.request.request_id, chunk.request.block_table
        ids = self.ids[request_id]
        context = [self.slots[self._slot(table, position)] for position in range(chunk.start + chunk.tokens)]
        assert context == ids, f"{request_id}: the cache holds {context}, not {ids}"
        prompt = self.prompts[request_id]
        script = self.scripts.get(tuple(ids[:prompt]))
        digest = blake2b(repr(context).encode(), digest_size=1).digest()[0]
        token = 97 + digest % 26 if script is None else script[len(ids) - prompt]
        ids.append(token)
        return token

    def _slot(self, table: list[int], position: int) -> int:
        return table[position // self.block_size] * self.block_size + position % self.block_size


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make_engine(config: SchedulerConfig, **options) -> tuple[Engine, RecallingRunner]:
    runner = RecallingRunner(config.block_size)
    return Engine(runner, byte_tokenizer(), config, EngineMetrics("tiny"), **options), runner


@pytest.fixture(scope="session")
def engine_of() -> Callable[..., tuple[Engine, RecallingRunner]]:
    """Makes an engine on a ``RecallingRunner``."""
    return make_engine


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()
