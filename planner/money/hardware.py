"""What fits on which GPUs, and how fast it would run: from data sheets, for where nothing has been measured.

Memory: weights, KV cache, activations and a fixed runtime share. Time: a roofline of a step, weights and KV read once
at a share of the bandwidth, arithmetic at a share of the peak. Sheets are right to about a half; a measured model
(``plan calibrate``) replaces them.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from planner.catalog import Gpu, ModelSheet
from planner.errors import CapacityError
from planner.steps.latency import LinearModel
from probe_engine.sched import SchedulerConfig

Precision = Literal["fp16", "fp8", "int8", "int4"]

BYTES: dict[str, float] = {"fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5625}
MEMORY_RATIO = 0.9
RUNTIME_BYTES = 0.8e9
BANDWIDTH_RATIO = 0.7
COMPUTE_RATIO = 0.5
STEP_OVERHEAD_S = 1e-3
BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class Layout:
    """How a replica is laid out: GPUs by tensor and pipeline, numbers of weights and of the KV cache.

    ``data`` ranks hold the whole model each and share the requests: as much KV again, the same room on each GPU.
    """

    tensor: int = 1
    pipeline: int = 1
    weights: Precision = "fp16"
    kv: Precision = "fp16"
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256
    data: int = 1

    @property
    def gpus(self) -> int:
        """GPUs that hold the model once: one failure domain."""
        return self.tensor * self.pipeline


@dataclass(frozen=True, slots=True)
class Fit:
    """Bytes on each GPU of a replica, and the KV tokens that are left for the replica; 0 when it does not fit."""

    gpu: str
    model: str
    layout: Layout
    usable_bytes: float
    weights_bytes: float
    activation_bytes: float
    kv_token_bytes: float
    kv_tokens: int

    @property
    def fits(self) -> bool:
        """Whether there is room for at least one block."""
        return self.kv_tokens >= BLOCK_SIZE

    @property
    def all_kv_tokens(self) -> int:
        """KV tokens of all data-parallel ranks."""
        return self.kv_tokens * self.layout.data


def precision(name: str) -> Precision:
    """A precision by name. Raises CapacityError."""
    for known in get_args(Precision):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise CapacityError(f"precision {name!r}: must be one of {', '.join(get_args(Precision))}")


def fit_memory(gpu: Gpu, sheet: ModelSheet, layout: Layout) -> Fit:
    """How the memory of each GPU divides. Raises CapacityError for a layout that cannot be.

    KV heads are split over tensor ranks and copied where there are more ranks than heads.
    """
    if min(layout.tensor, layout.pipeline, layout.data) < 1:
        raise CapacityError(
            f"tensor {layout.tensor}, pipeline {layout.pipeline} and data {layout.data}: must be at least 1"
        )
    if layout.pipeline > sheet.layers:
        raise CapacityError(f"pipeline {layout.pipeline}: {sheet.name} has {sheet.layers} layers")
    usable = gpu.memory_gb * 1e9 * MEMORY_RATIO
    weights = sheet.params_b * 1e9 * BYTES[layout.weights] / layout.gpus
    width = 4 * sheet.hidden + 2 * sheet.intermediate
    activations = layout.max_num_batched_tokens * width * 2.0 / layout.tensor
    logits = layout.max_num_seqs * sheet.vocab * 4.0 * 2 / layout.tensor
    heads = max(sheet.kv_heads / layout.tensor, 1.0)
    kv_token = 2 * sheet.layers / layout.pipeline * heads * sheet.head_dim * BYTES[layout.kv]
    left = usable - weights - activations - logits - RUNTIME_BYTES
    tokens = max(int(left / kv_token), 0) // BLOCK_SIZE * BLOCK_SIZE
    return Fit(gpu.name, sheet.name, layout, usable, weights, activations + logits, kv_token, tokens)


def smallest_tensor(gpu: Gpu, sheet: ModelSheet, layout: Layout, kv_tokens: int) -> Fit | None:
    """The fewest tensor ranks (1, 2, 4, 8) that leave at least ``kv_tokens``; None when eight do not."""
    for tensor in (1, 2, 4, 8):
        found = fit_memory(gpu, sheet, replace(layout, tensor=tensor))
        if found.kv_tokens >= max(kv_tokens, BLOCK_SIZE):
            return found
    return None


def roofline(gpu: Gpu, sheet: ModelSheet, layout: Layout) -> LinearModel:
    """Step time from sheets; every weight is read in each step (few of a mixture's experts stay untouched)."""
    bandwidth = gpu.bandwidth_gb_s * 1e9 * BANDWIDTH_RATIO * layout.tensor
    compute = gpu.tflops * 1e12 * COMPUTE_RATIO * layout.tensor
    token_s = 2 * (sheet.active_b or sheet.params_b) * 1e9 / compute
    kv_bytes = 2 * sheet.layers * sheet.kv_heads * sheet.head_dim * BYTES[layout.kv]
    return LinearModel(
        step_s=sheet.params_b * 1e9 * BYTES[layout.weights] / bandwidth + STEP_OVERHEAD_S,
        prefill_token_s=token_s,
        prefill_attention_s=4.0 * sheet.layers * sheet.hidden / compute,
        decode_seq_s=token_s,
        decode_kv_token_s=kv_bytes / bandwidth,
    )


def scheduler_of(fit: Fit, max_model_len: int = 32_768) -> SchedulerConfig:
    """Limits of a replica with this memory."""
    return SchedulerConfig(
        num_blocks=fit.kv_tokens // BLOCK_SIZE,
        block_size=BLOCK_SIZE,
        max_num_batched_tokens=fit.layout.max_num_batched_tokens,
        max_num_seqs=fit.layout.max_num_seqs,
        max_model_len=max_model_len,
    )
