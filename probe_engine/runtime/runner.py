"""Carry out what the scheduler decided: one step of the model over the chunks of a ``SchedulerOutput``.

The runner holds the cache, each request's token ids and its sampling; it knows nothing of queues, clocks or text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from probe_engine.errors import ModelError
from probe_engine.model.adjust import History, adjust
from probe_engine.model.attention import ChunkSpan, StepBatch
from probe_engine.model.loading import LoadedModel
from probe_engine.model.logprobs import TokenLogprobs, token_logprobs
from probe_engine.model.sampling import SamplingParams, sample
from probe_engine.runtime.crew import Crew
from probe_engine.runtime.decode_graph import Capture, DecodeGraphs, capture_cuda
from probe_engine.sched import Request, SchedulerConfig, SchedulerOutput

Int64Array = npt.NDArray[np.int64]

ROWS_PER_THREAD = 16  # fewer, and reading the weights once for each thread costs more than meeting at each operation
LARGEST_SHARE = 0.7  # of a step's rows in one part; beyond it, the other threads would mostly wait


@dataclass(slots=True)
class _Sequence:
    """One request as the runner sees it."""

    request_id: str
    ids: list[int]
    sampling: SamplingParams
    generator: torch.Generator | None
    history: History | None  # where its logits are adjusted
    row: int | None = None  # in the runner's matrix of block tables, while it holds blocks
    table: list[int] = field(default_factory=list)  # the scheduler's own list, of which ...
    blocks: int = 0  # ... so many are copied to that row


@dataclass(frozen=True, slots=True)
class _Part:
    """A step, or what one thread computes of it: ``singles`` chunks of one token by context length, then longer ones.

    ``starts`` and ``lengths`` (chunks,): the positions that each computes; ``samples`` (chunks,): who yields a token.
    """

    sequences: list[_Sequence]
    starts: Int64Array
    lengths: Int64Array
    samples: npt.NDArray[np.bool_]
    singles: int

    def some(self, places: Int64Array) -> "_Part":
        """The chunks at ``places``, in ascending order."""
        sequences = [self.sequences[place] for place in places.tolist()]
        singles = int(np.searchsorted(places, self.singles))
        return _Part(sequences, self.starts[places], self.lengths[places], self.samples[places], singles)

    @property
    def sampling(self) -> list[_Sequence]:
        """Those that yield a token."""
        if self.samples.all():
            return self.sequences
        return [sequence for sequence, samples in zip(self.sequences, self.samples, strict=True) if samples]


class Runner:
    """Executes steps; ``add`` and ``remove`` bracket each request's life.

    ``seed`` feeds the generator of all requests that bring no seed of their own. ``capture``: how steps that only
    decode become graphs; None is ``capture_cuda`` where the model runs on Triton's kernels on a GPU, else no graphs.
    """

    def __init__(
        self, loaded: LoadedModel, config: SchedulerConfig, seed: int = 0, *, capture: Capture | None = None
    ) -> None:
        model = loaded.model
        if config.max_model_len > loaded.config.max_tokens:
            raise ModelError(
                f"{loaded.name}: max_model_len is {config.max_model_len}; "
                f"the model allows at most {loaded.config.max_tokens}"
            )
        self._model = model
        threads = torch.get_num_threads()
        self._crew = Crew(threads) if threads > 1 and model.concurrent and capture is None else None
        self._sampling: list[_Sequence] = []  # those of the last step that yield a token, in the order of its logits
        self._decodes: tuple[Request, ...] = ()  # of the last step, and by context length with their origins:
        self._decoding: tuple[list[_Sequence], Int64Array] = ([], np.zeros(0, np.int64))
        self._vocab_size = loaded.config.vocab_size
        self._block_size = config.block_size
        blocks_per_sequence = -(-config.max_model_len // config.block_size)
        if capture is None and model.kernels == "triton" and model.device.type == "cuda":
            capture = capture_cuda
        self._cache = model.new_cache(config.num_blocks + (capture is not None), config.block_size)
        self._graphs = capture and DecodeGraphs(
            model,
            self._cache,
            most_rows=config.max_num_seqs,
            blocks=blocks_per_sequence,
            spare_block=config.num_blocks,
            capture=capture,
        )
        self._tables: Int64Array = np.zeros((config.max_num_seqs, blocks_per_sequence), np.int64)
        # Each row's last sampled token, where the model is: the next step finds it there before anybody has read it.
        self._last_ids = torch.zeros(config.max_num_seqs, dtype=torch.int64, device=model.device)
        self._free_rows = list(range(config.max_num_seqs - 1, -1, -1))
        self._sequences: dict[str, _Sequence] = {}
        self._generator = torch.Generator().manual_seed(seed)
        self._eos_ids = frozenset(loaded.tokenizer.eos_ids)
        self.logprobs: dict[str, TokenLogprobs] = {}  # of the last step's tokens, for requests that asked

    @property
    def kernels(self) -> str:
        """Whose operations the model runs on: ``native`` or ``torch``."""
        return self._model.kernels

    @property
    def requests(self) -> int:
        """How many requests the runner keeps."""
        return len(self._sequences)

    def add(self, request_id: str, prompt_ids: list[int], sampling: SamplingParams) -> None:
        """Take in a request before its first step.

        Raises ``ModelError`` for an id in use, an empty prompt or a token (also of ``logit_bias``) that the model
        doesn't have.
        """
        if request_id in self._sequences:
            raise ModelError(f"request {request_id}: the id is in use")
        if not prompt_ids:
            raise ModelError(f"request {request_id}: the prompt is empty; it needs at least one token")
        if min(prompt_ids) < 0 or max(prompt_ids) >= self._vocab_size:
            wrong = next(token for token in prompt_ids if not 0 <= token < self._vocab_size)
            raise ModelError(f"request {request_id}: token {wrong} is not in the vocabulary of {self._vocab_size}")
        biased = next((token for token, _ in sampling.logit_bias if not 0 <= token < self._vocab_size), None)
        if biased is not None:
            raise ModelError(
                f"request {request_id}: logit_bias has token {biased}; the vocabulary has {self._vocab_size}"
            )
        history = History(prompt_ids, self._vocab_size, self._model.device) if sampling.adjusts else None
        own = self._generator if sampling.seed is None else torch.Generator().manual_seed(sampling.seed)
        self._sequences[request_id] = _Sequence(
            request_id, list(prompt_ids), sampling, None if sampling.greedy else own, history
        )

    def remove(self, request_id: str) -> None:
        """Forget a request that finished or was aborted; unknown ids are a ``ModelError``."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            raise ModelError(f"request {request_id}: the runner doesn't know it")
        self._release(sequence)

    def execute(self, output: SchedulerOutput) -> dict[str, int]:
        """Compute one step; the sampled token of every chunk that yields one, by request id."""
        return self.launch(output)()

    def launch(self, output: SchedulerOutput) -> Callable[[], dict[str, int]]:
        """Start one step; the function waits for its tokens, by request id, and appends each to its request's ids.

        On a GPU the next step may be launched before: it reads the tokens of this one where the model left them.
        """
        return self._sampled(self.logits(output))

    def logits(self, output: SchedulerOutput) -> torch.Tensor:
        """Compute one step without sampling: logits (sampled, vocabulary), for ``record``, which knows their order.

        Where one thread computes it all, that is: single tokens by context length, then longer chunks as they come.
        """
        for request in output.preempted:
            self._release(self._sequences[request.request_id])
        parts = self._parts(self._step(output))
        self._sampling = [sequence for part in parts for sequence in part.sampling]
        if self._crew is None or len(parts) == 1:
            return self._compute(parts[0])
        return torch.cat(self._crew.each(self._compute, parts))

    def record(self, output: SchedulerOutput, logits: torch.Tensor) -> dict[str, int]:
        """Sample from what ``logits(output)`` gave and append each token to its request."""
        return self._sampled(logits)()

    def _sampled(self, logits: torch.Tensor) -> Callable[[], dict[str, int]]:
        sampling = self._sampling
        wanted = [sequence.sampling for sequence in sampling]
        generators = [sequence.generator for sequence in sampling]
        chosen = sample(self._adjusted(logits, sampling), wanted, generators, self._model.likeliest)
        self._last_ids[self._rows(sampling)] = chosen
        for place, sequence in enumerate(sampling):
            if sequence.history is not None:
                sequence.history.take(chosen[place : place + 1])
        asking = [place for place, one in enumerate(wanted) if one.logprobs is not None]
        # A copy of theirs: a graph's next step writes over its logits.
        told = logits[self._tensor(np.array(asking, np.int64))] if asking else logits
        arrived = _to_host(chosen)

        def tokens() -> dict[str, int]:
            found = arrived()
            self.logprobs = _logprobs(told, [sampling[place] for place in asking], [found[place] for place in asking])
            for sequence, token in zip(sampling, found, strict=True):
                sequence.ids.append(token)
            return {sequence.request_id: token for sequence, token in zip(sampling, found, strict=True)}

        return tokens

    def _compute(self, part: _Part) -> torch.Tensor:
        batch = self._batch(part)
        logits = None if self._graphs is None else self._graphs.forward(batch)
        return self._model.forward(batch, self._cache) if logits is None else logits

    def _adjusted(self, logits: torch.Tensor, sequences: Sequence[_Sequence]) -> torch.Tensor:
        """``logits`` with the rows of those that ask for it adjusted; the same tensor where none does."""
        rows = [row for row, sequence in enumerate(sequences) if sequence.history is not None]
        if not rows:
            return logits
        params = [sequences[row].sampling for row in rows]
        histories = [history for sequence in sequences if (history := sequence.history) is not None]
        index = torch.tensor(rows, device=logits.device)
        changed = adjust(logits[index], params, histories, self._eos_ids)
        return changed if len(rows) == len(sequences) else logits.float().index_copy(0, index, changed)

    def _step(self, output: SchedulerOutput) -> _Part:
        """The whole step, its block tables copied."""
        if output.decodes is not self._decodes:
            self._decodes, self._decoding = output.decodes, self._by_context(output.decodes)
        sequences, origins = self._decoding
        starts = origins + output.decode_step
        for place in np.flatnonzero(starts % self._block_size == 0):  # who begins a block
            self._follow_table(sequences[place], sequences[place].table)
        if not output.prefills:
            return _Part(sequences, starts, np.ones_like(starts), np.ones(len(starts), np.bool_), len(starts))
        prefills = [(self._sequences[chunk.request.request_id], chunk) for chunk in output.prefills]
        for sequence, chunk in prefills:
            self._follow_table(sequence, chunk.request.block_table)
        short = [(sequence, chunk) for sequence, chunk in prefills if chunk.tokens == 1]
        if short:  # these stand among the decodes
            ids = np.array([sequence.ids[chunk.start] for sequence, chunk in short], np.int64)
            self._last_ids[self._rows([sequence for sequence, _ in short])] = self._tensor(ids)
        starts = np.concatenate((starts, np.array([chunk.start for _, chunk in prefills], np.int64)))
        lengths = np.ones_like(starts)
        lengths[len(sequences) :] = [chunk.tokens for _, chunk in prefills]
        samples = np.ones(len(starts), np.bool_)
        samples[len(sequences) :] = [chunk.samples for _, chunk in prefills]
        everyone = [*sequences, *(sequence for sequence, _ in prefills)]
        order = np.lexsort((np.where(lengths == 1, starts, 0), lengths > 1))
        ordered = [everyone[place] for place in order.tolist()]
        return _Part(ordered, starts[order], lengths[order], samples[order], int(np.count_nonzero(lengths == 1)))

    def _by_context(self, decodes: tuple[Request, ...]) -> tuple[list[_Sequence], Int64Array]:
        """Those who decode, and where each began on the scheduler's clock, the shortest context first."""
        origins = np.array([request.decode_origin for request in decodes], np.int64)
        order = np.argsort(origins, kind="stable")
        known = self._sequences
        return [known[decodes[place].request_id] for place in order.tolist()], origins[order]

    def _parts(self, step: _Part) -> list[_Part]:
        """The step cut for the threads: one part where it is too small for several, or mostly one long chunk."""
        threads = 1 if self._crew is None else self._crew.threads
        rows, singles = int(step.lengths.sum()), step.singles
        if threads == 1 or rows < threads * ROWS_PER_THREAD:
            return [step]
        places = [list(range(at, singles, threads)) for at in range(threads)]
        sizes = [len(part) for part in places]
        for place in singles + np.argsort(-step.lengths[singles:], kind="stable"):
            least = sizes.index(min(sizes))
            places[least].append(int(place))
            sizes[least] += int(step.lengths[place])
        if max(sizes) > LARGEST_SHARE * rows:
            return [step]
        return [step.some(np.array(sorted(part), np.int64)) for part in places if part]

    def _release(self, sequence: _Sequence) -> None:
        if sequence.row is not None:
            self._free_rows.append(sequence.row)
            sequence.row = None

    def _follow_table(self, sequence: _Sequence, table: list[int]) -> None:
        """Copy what the scheduler has added to ``table``, the request's block table, since the last step."""
        if sequence.row is None:
            sequence.row, sequence.blocks = self._free_rows.pop(), 0
        if sequence.table is not table:  # the scheduler starts a new list at each admission
            sequence.table, sequence.blocks = table, 0
        if len(table) > sequence.blocks:
            self._tables[sequence.row, sequence.blocks : len(table)] = table[sequence.blocks :]
            sequence.blocks = len(table)

    def _batch(self, part: _Part) -> StepBatch:
        size, singles, starts, lengths = self._block_size, part.singles, part.starts, part.lengths
        table_rows = np.array([sequence.row for sequence in part.sequences], np.int64)
        ends = np.cumsum(lengths)
        positions = np.arange(ends[-1]) - np.repeat(ends - lengths - starts, lengths)
        slots = self._tables[np.repeat(table_rows, lengths), positions // size] * size + positions % size
        ids = [self._last_ids[self._tensor(table_rows[:singles])]]
        chunks = []
        for place in range(singles, len(starts)):
            start, tokens, end = int(starts[place]), int(lengths[place]), int(ends[place])
            ids.append(self._tensor(np.array(part.sequences[place].ids[start : start + tokens], np.int64)))
            table = self._tables[table_rows[place], : -(-(start + tokens) // size)]
            chunks.append(ChunkSpan(end - tokens, end, start, self._tensor(table)))
        width = int(starts[singles - 1]) // size + 1 if singles else 0  # of the longest: singles are sorted
        return StepBatch(
            token_ids=torch.cat(ids),
            positions=self._tensor(positions),
            slots=self._tensor(slots),
            contexts=self._tensor(starts[:singles] + 1),
            tables=self._tensor(self._tables[table_rows[:singles], :width]),
            chunks=tuple(chunks),
            sampled_rows=self._tensor(ends[part.samples] - 1),
        )

    def _rows(self, sequences: Sequence[_Sequence]) -> torch.Tensor:
        return self._tensor(np.array([sequence.row for sequence in sequences], np.int64))

    def _tensor(self, array: Int64Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._model.device)


def _logprobs(logits: torch.Tensor, asking: Sequence[_Sequence], tokens: Sequence[int]) -> dict[str, TokenLogprobs]:
    if not asking:
        return {}
    told = token_logprobs(logits, tokens, [one.sampling.logprobs or 0 for one in asking])
    return {one.request_id: found for one, found in zip(asking, told, strict=True)}


def _to_host(tokens: torch.Tensor) -> Callable[[], list[int]]:
    """Begin to copy ``tokens`` to the host; the function waits for the copy."""
    if tokens.device.type != "cuda":
        return tokens.tolist
    copied = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
    copied.copy_(tokens, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def wait() -> list[int]:
        arrived.synchronize()
        found: list[int] = copied.tolist()
        return found

    return wait


def fit_num_blocks(loaded: LoadedModel, block_size: int, memory_bytes: int) -> int:
    """How many cache blocks fit in ``memory_bytes``; ``ModelError`` where not even one does."""
    each = loaded.model.kv_bytes_per_token * block_size
    if memory_bytes < each:
        raise ModelError(f"{loaded.name}: {memory_bytes} KV bytes; a block of {block_size} tokens takes {each}")
    return memory_bytes // each
