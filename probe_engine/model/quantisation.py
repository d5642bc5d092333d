"""Weights in 8 or 4 bits, brought back to the model's dtype just before each product ("weight-only").

Symmetric: a weight is a whole number times the scale of its group. 8 bits: one scale per row, -127 to 127. 4 bits: one
scale per 32 weights of a row, -7 to 7; of 32 weights, byte i holds weight i in its low half and weight i + 16 in its
high half, both plus 8. Embeddings, norms and biases stay exact, and so does a head that is tied to the embedding.

Own arithmetic: torchao 0.18 has no 4-bit weights on the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import linear

from probe_engine.errors import ModelError
from probe_engine.model.kernels import KernelsUnavailable, load_kernels

BITS = {"int8": 8, "int4": 4}
QUANTIZATIONS = ("none", *BITS)
GROUP = 32  # weights that share a scale in 4 bits; also the multiple that every row must be

Unpack = Callable[["PackedWeight", torch.Tensor], None]  # writes the weight to a tensor (rows, columns)


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A matrix (rows, columns) in few bits."""

    packed: torch.Tensor  # (rows, columns * bits / 8) uint8
    scales: torch.Tensor  # (rows, groups) float32
    bits: int
    columns: int

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.packed.nbytes + self.scales.nbytes


def quantise(weight: torch.Tensor, bits: int) -> PackedWeight:
    """Round ``weight`` (rows, columns) to ``bits`` (8 or 4) bits; ``ModelError`` for columns that cannot be grouped."""
    rows, columns = weight.shape
    if columns % GROUP:
        raise ModelError(f"quantization: a weight has {columns} columns; they must be a multiple of {GROUP}")
    highest = 2 ** (bits - 1) - 1
    grouped = weight.float().view(rows, -1, columns if bits == 8 else GROUP)
    scales = grouped.abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny) / highest
    whole = (grouped / scales.unsqueeze(-1)).round().clamp(-highest, highest).to(torch.int8).view(rows, columns)
    if bits == 8:
        return PackedWeight(whole.view(torch.uint8), scales, bits, columns)
    halves = (whole + 8).view(torch.uint8).view(rows, columns // GROUP, 2, GROUP // 2)
    packed = halves[:, :, 0] | (halves[:, :, 1] << 4)
    return PackedWeight(packed.reshape(rows, columns // 2), scales, bits, columns)


def unpack(weight: PackedWeight, out: torch.Tensor) -> None:
    """Write ``weight`` to ``out`` (rows, columns), on any device."""
    if weight.bits == 8:
        torch.mul(weight.packed.view(torch.int8), weight.scales, out=out)
        return
    halves = weight.packed.view(len(weight.packed), -1, 1, GROUP // 2)
    whole = torch.cat((halves & 15, halves >> 4), dim=2).to(torch.int8).flatten(2) - 8
    torch.mul(whole, weight.scales.unsqueeze(-1), out=out.view(whole.shape))


class Quantiser:
    """Prepares linears in ``bits`` bits, in the dtype and on the device of ``like``.

    All of them bring their weights back in one scratch tensor, so that only one matrix at a time is there in full.
    ``kernels``: ``auto``, ``native`` or ``torch``, as for ``pick_ops``.
    """

    def __init__(self, bits: int, like: torch.Tensor, kernels: str = "auto") -> None:
        self._bits = bits
        self._scratch = like.new_empty(0)
        self._unpack = _pick_unpack(like, kernels)

    def __call__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> "QuantisedLinear":
        """The product with ``weight`` rounded; ``weight`` itself is not kept."""
        if weight.numel() > self._scratch.numel():
            self._scratch = weight.new_empty(weight.numel())
        return QuantisedLinear(quantise(weight, self._bits), bias, self)

    def restored(self, weight: PackedWeight) -> torch.Tensor:
        """``weight`` in the model's dtype, valid until the next call."""
        rows = len(weight.packed)
        whole = self._scratch[: rows * weight.columns].view(rows, weight.columns)
        self._unpack(weight, whole)
        return whole


class QuantisedLinear:
    """The product with a weight that is kept in few bits."""

    __slots__ = ("_bias", "_quantiser", "_weight")

    def __init__(self, weight: PackedWeight, bias: torch.Tensor | None, quantiser: Quantiser) -> None:
        self._weight, self._bias, self._quantiser = weight, bias, quantiser

    @property
    def weight_bytes(self) -> int:
        """Memory of the packed weight."""
        return self._weight.nbytes

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, in) to (rows, out)."""
        return linear(rows, self._quantiser.restored(self._weight), self._bias)


def _pick_unpack(like: torch.Tensor, kernels: str) -> Unpack:
    if kernels == "torch" or like.device.type != "cpu" or like.dtype not in {torch.float32, torch.bfloat16}:
        return unpack
    try:
        native = load_kernels(like.dtype)
    except KernelsUnavailable:
        return unpack  # pick_ops has warned already

    def run(weight: PackedWeight, out: torch.Tensor) -> None:
        native.unpack(weight.packed, weight.scales, out, weight.bits)

    return run
