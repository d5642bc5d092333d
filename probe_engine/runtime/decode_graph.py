"""Decode steps as CUDA graphs: recorded once per batch size, then started by one call instead of some hundred.

A graph reads and writes fixed memory, so each size has tensors of its own, into which a step is copied. Sizes are
powers of two; a smaller step begins with rows that read and write one block which belongs to no request.
"""

from collections.abc import Callable

import torch

from probe_engine.model.attention import StepBatch
from probe_engine.model.decoder import Model
from probe_engine.runtime.kv_cache import KVCache

Run = Callable[[], torch.Tensor]
Capture = Callable[[Run], tuple[Callable[[], None], torch.Tensor]]  # how to run it again, and where its answer lies

WARM_UPS = 2  # runs before a capture: kernels are compiled and libraries choose their ways


class DecodeGraphs:
    """Graphs of ``model`` over ``cache``, for up to ``most_rows`` rows whose tables have ``blocks`` blocks.

    spare_block: the cache's block that no request is given. capture: ``capture_cuda``, or ``run_eagerly`` in tests.
    """

    def __init__(
        self, model: Model, cache: KVCache, *, most_rows: int, blocks: int, spare_block: int, capture: Capture
    ) -> None:
        self._model = model
        self._cache = cache
        self._most_rows = most_rows
        self._blocks = blocks
        self._spare_block = spare_block
        self._capture = capture
        self._graphs: dict[int, tuple[StepBatch, Callable[[], None], torch.Tensor]] = {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes recorded so far."""
        return tuple(sorted(self._graphs))

    def forward(self, batch: StepBatch) -> torch.Tensor | None:
        """Logits of a step of single rows, valid until the next step; None for any other step."""
        rows = len(batch.contexts)
        if batch.chunks or not rows or len(batch.sampled_rows) != rows:
            return None
        size = min(1 << (rows - 1).bit_length(), self._most_rows)
        if size not in self._graphs:
            fixed = self._padding(size)
            self._graphs[size] = (fixed, *self._capture(lambda: self._model.forward(fixed, self._cache)))
        fixed, replay, logits = self._graphs[size]
        padding = self._padding(size)
        for name in ("token_ids", "positions", "slots", "contexts", "tables"):
            getattr(fixed, name).copy_(getattr(padding, name))
        for name in ("token_ids", "positions", "slots", "contexts"):
            getattr(fixed, name)[size - rows :] = getattr(batch, name)
        fixed.tables[size - rows :, : batch.tables.shape[1]] = batch.tables
        replay()
        return logits[size - rows :]

    def _padding(self, size: int) -> StepBatch:
        """``size`` rows at position 0 of the spare block."""
        zeros = torch.zeros(size, dtype=torch.int64, device=self._model.device)
        return StepBatch(
            token_ids=zeros.clone(),
            positions=zeros.clone(),
            slots=zeros + self._spare_block * self._cache.block_size,
            contexts=zeros + 1,
            tables=torch.full((size, self._blocks), self._spare_block, dtype=torch.int64, device=self._model.device),
            chunks=(),
            sampled_rows=torch.arange(size, device=self._model.device),
        )


def capture_cuda(run: Run) -> tuple[Callable[[], None], torch.Tensor]:
    """Record what ``run`` starts on the GPU."""
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = run()
    return graph.replay, answer


def run_eagerly(run: Run) -> tuple[Callable[[], None], torch.Tensor]:
    """The same promise kept without a GPU: ``run`` again each time, its answer written where the first one lies."""
    answer = run().clone()

    def replay() -> None:
        answer.copy_(run())

    return replay, answer
