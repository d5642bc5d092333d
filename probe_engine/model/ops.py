"""The decoder's operations between its matrix products, as a promise, and the choice of who keeps it."""

import logging
from typing import Protocol

import torch

from probe_engine.errors import ModelError
from probe_engine.model.attention import StepBatch
from probe_engine.model.config import ModelConfig
from probe_engine.model.kernels import KernelsUnavailable, load_kernels
from probe_engine.model.native_ops import NativeOps
from probe_engine.model.torch_ops import TorchOps
from probe_engine.model.triton_ops import TritonOps
from probe_engine.runtime.kv_cache import KVCache

KERNELS = ("auto", "native", "torch", "triton")

logger = logging.getLogger(__name__)


class Attention(Protocol):
    """Attention of one step."""

    def __call__(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Store the keys and values of ``qkv`` (rows, (heads + 2 kv_heads) * head_dim) and attend.

        Returns (rows, heads * head_dim).
        """


class Ops(Protocol):
    """What a decoder needs besides linear layers; ``hidden`` may be changed in place."""

    @property
    def name(self) -> str:
        """``native``, ``torch`` or ``triton``."""

    def new_cache(self, num_blocks: int, block_size: int) -> KVCache:
        """An empty cache that these operations can read."""

    def attention(self, batch: StepBatch, cache: KVCache) -> Attention:
        """Attention for every layer of one step."""

    def norm_heads(self, qkv: torch.Tensor, norms: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """``qkv`` (rows, (heads + 2 kv_heads) * head_dim) with each query and key head normed; may be in place."""

    def norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMS norm over the last dimension."""

    def add_norm(
        self, hidden: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``hidden + delta``, and the norm of that."""

    def gated(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up`` of (rows, 2 * intermediate)."""

    def likeliest(self, logits: torch.Tensor) -> torch.Tensor:
        """The first (int64) of the likeliest tokens of each row of (rows, vocabulary)."""


def pick_ops(wanted: str, config: ModelConfig, like: torch.Tensor) -> Ops:
    """Operations for ``config`` in the dtype and on the device of ``like``.

    ``wanted``: ``native`` (C++, or a ``ModelError`` that says why not), ``torch``, ``triton`` (GPUs, and
    its interpreter), or ``auto``: triton on CUDA, native on the CPU, where the model and the machine allow it, with one
    warning where only the machine stands in the way.
    """
    if wanted not in KERNELS:
        raise ModelError(f"kernels is {wanted!r}; allowed: {', '.join(KERNELS)}")
    if wanted == "triton" or (wanted == "auto" and like.device.type == "cuda"):
        if TritonOps.supports(config):
            return TritonOps(config, like)
        message = f"Triton is not installed, or head_dim ({config.head_dim}) is no power of 2 from 16 up"
        if wanted == "triton":
            raise ModelError(f"kernels is 'triton', but {message}")
        logger.warning("attention runs on torch alone: %s", message)
        return TorchOps(config, like)
    supported = NativeOps.supports(config, like)
    if wanted == "torch" or (wanted == "auto" and not supported):
        return TorchOps(config, like)
    if not supported:
        raise ModelError(
            f"kernels is 'native', which computes float32 and bfloat16 on the CPU with sizes in multiples of 16; "
            f"this model is {like.dtype} on {like.device}, hidden_size {config.hidden_size}, "
            f"intermediate_size {config.intermediate_size}, head_dim {config.head_dim}"
        )
    try:
        return NativeOps(config, like, load_kernels(like.dtype))
    except KernelsUnavailable as error:
        if wanted == "native":
            raise ModelError(f"kernels is 'native', but {error}") from error
        logger.warning("attention runs on torch alone, at about half the speed: %s", error)
        return TorchOps(config, like)
