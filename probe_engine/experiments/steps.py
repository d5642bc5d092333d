"""How long a step takes: the engine's own, or a linear cost that was measured on it or is read off a data sheet."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from probe_engine.sched import Request, SchedulerOutput, StepStats


class Steps(Protocol):
    """Carries out what the scheduler decided, or pretends to."""

    def begin(self, request: Request) -> None:
        """``request`` arrived."""

    def execute(self, output: SchedulerOutput) -> float:
        """Carry out one step; how long it took (s)."""

    def end(self, request: Request) -> None:
        """``request`` ended."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds of a step, linear in its size (``StepStats``); as ``Steps`` it computes nothing.

    source: where the numbers are from. error_ratio: mean absolute error against what was measured, of its mean.
    """

    base_s: float
    prefill_token_s: float = 0.0
    prefill_pair_s: float = 0.0
    decode_seq_s: float = 0.0
    decode_key_s: float = 0.0
    source: str = ""
    error_ratio: float | None = None

    def seconds(self, stats: StepStats) -> float:
        """Of one step."""
        return (
            self.base_s
            + self.prefill_token_s * stats.prefill_tokens
            + self.prefill_pair_s * stats.prefill_attention
            + self.decode_seq_s * stats.decode_seqs
            + self.decode_key_s * stats.decode_kv_tokens
        )

    def alone_s(self, prompt_tokens: int, output_tokens: int) -> float:
        """Work that one request is, without the ``base_s`` of steps that it shares: its prefill and its decodes."""
        pairs = prompt_tokens * (prompt_tokens + 1) / 2
        decodes = output_tokens - 1
        keys = decodes * (prompt_tokens + output_tokens / 2)
        prefill_s = self.prefill_token_s * prompt_tokens + self.prefill_pair_s * pairs
        return prefill_s + self.decode_seq_s * decodes + self.decode_key_s * keys

    def begin(self, request: Request) -> None:
        """Nothing to keep."""

    def execute(self, output: SchedulerOutput) -> float:
        """``seconds`` of it."""
        return self.seconds(output.stats)

    def end(self, request: Request) -> None:
        """Nothing to forget."""

    def to_json(self) -> dict[str, object]:
        """The cost as a JSON object."""
        return asdict(self)


# Llama-3-8B in bf16 on an H100 SXM, from data sheets: 16.1 GB of weights and 131 kB of KV a token over 3.35 TB/s, and
# 16 GFLOP a prompt token at half of 989 TFLOP/s; attention pairs cost 4 x 32 layers x 4,096 FLOP. Nothing of it was
# measured.
DATA_SHEET_GPU = StepCost(
    base_s=16.1e9 / 3.35e12,
    prefill_token_s=16.1e9 / (0.5 * 989e12),
    prefill_pair_s=4 * 32 * 4096 / (0.5 * 989e12),
    decode_seq_s=16.1e9 / (0.5 * 989e12),
    decode_key_s=131072 / 3.35e12,
    source="roofline of Llama-3-8B bf16 on one H100 (data sheets, not measured)",
)


def fit(observed: Sequence[tuple[StepStats, float]], source: str) -> StepCost:
    """The cost whose seconds come closest to ``observed`` (size and s), none of its terms below 0."""
    import numpy as np
    from scipy.optimize import nnls

    sizes = np.array(
        [[1, s.prefill_tokens, s.prefill_attention, s.decode_seqs, s.decode_kv_tokens] for s, _ in observed], float
    )
    seconds = np.array([took_s for _, took_s in observed])
    weights = 1 / np.maximum(seconds, 1e-9)  # relative errors: a small step counts as much as a large one
    scale = np.maximum(np.abs(sizes).max(axis=0), 1.0)
    found = nnls(sizes / scale * weights[:, None], seconds * weights)[0] / scale
    error = float(np.mean(np.abs(sizes @ found - seconds)) / np.mean(seconds))
    base_s, token_s, pair_s, seq_s, key_s = map(float, found)
    return StepCost(base_s, token_s, pair_s, seq_s, key_s, source, error)
