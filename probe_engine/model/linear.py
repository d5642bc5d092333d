"""Matrix products with weights prepared once.

On the CPU, oneDNN keeps a weight in the order in which its kernels read it; torch's own ``linear`` reorders at each
call. The operations for it are private to torch, so they are tried before they are trusted. Where the processor
multiplies bfloat16, a kernel of our own is faster for the few rows of a decode step.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.functional import linear

from probe_engine.model.kernels import PANEL, Kernels, pack_gated, pack_panels

TYPICAL_ROWS = 64  # oneDNN chooses the order for about so many rows; it stays good from 1 to 2,048
PACKED_DTYPES = (torch.float32, torch.bfloat16)

logger = logging.getLogger(__name__)


class Linear(Protocol):
    """A matrix product with one weight, and the bias after it."""

    @property
    def weight_bytes(self) -> int:
        """Memory that the weight takes; 0 where it is somebody else's tensor as well."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, in) to (rows, out)."""


Prepare = Callable[[torch.Tensor, torch.Tensor | None], Linear]  # weight (out, in), bias (out,)


@dataclass(frozen=True, slots=True)
class Linears:
    """How a decoder's matrices are prepared.

    column: queries, keys and values; gate and up. row: attention's output; down. head: the vocabulary. They differ
    where several ranks share a model (each rank's ``column`` feeds its own ``row``), or where a head stays exact.
    gated: gate and up with ``silu(gate) * up`` after them, where that is one operation; None where it is ``column``'s.
    """

    column: Prepare
    row: Prepare
    head: Prepare
    gated: Prepare | None = None

    @classmethod
    def all(cls, prepare: Prepare) -> "Linears":
        """Every matrix alike."""
        return cls(prepare, prepare, prepare)


class PlainLinear:
    """The product with ``weight`` as it is."""

    __slots__ = ("_bias", "_weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._weight, self._bias = weight, bias

    @property
    def weight_bytes(self) -> int:
        """Memory of the weight."""
        return self._weight.nbytes

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, in) to (rows, out)."""
        return linear(rows, self._weight, self._bias)


class PackedLinear:
    """The product with a reordered copy of ``weight``; float32 and bfloat16 on the CPU."""

    __slots__ = ("_bias", "_product", "_reordered", "weight_bytes")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._reordered = torch.ops.mkldnn._reorder_linear_weight.default(weight, TYPICAL_ROWS)
        self._product = torch.ops.mkldnn._linear_pointwise.default
        self._bias = bias
        self.weight_bytes = weight.nbytes

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, in) to (rows, out)."""
        answer: torch.Tensor = self._product(rows, self._reordered, self._bias, "none", [], "")
        return answer


class PanelLinear:
    """The product with a copy of ``weight`` in panels, by our own kernel: bfloat16 on the CPU.

    ``gated``: ``weight`` is gate and up, and ``silu(gate) * up`` is what comes of it.
    """

    __slots__ = ("_bias", "_columns", "_gated", "_kernels", "_packed")

    def __init__(
        self, kernels: Kernels, weight: torch.Tensor, bias: torch.Tensor | None = None, *, gated: bool = False
    ) -> None:
        self._kernels, self._bias, self._gated = kernels, bias, gated
        self._packed = pack_gated(weight) if gated else pack_panels(weight)
        self._columns = len(weight) // 2 if gated else len(weight)

    @property
    def weight_bytes(self) -> int:
        """Memory of the copy."""
        return self._packed.nbytes

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, in) to (rows, out)."""
        out = rows.new_empty(len(rows), self._columns)
        self._kernels.multiply(rows, self._packed, self._bias, out, gated=self._gated)
        return out


def panel_linears(kernels: Kernels, other: Prepare) -> Linears:
    """Every matrix in panels; ``other`` prepares those whose sizes are no multiples of one."""

    def prepare(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        whole = len(weight) % PANEL == 0 and weight.shape[1] % 2 == 0
        return PanelLinear(kernels, weight, bias) if whole else other(weight, bias)

    def gated(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        return PanelLinear(kernels, weight, bias, gated=True)

    return Linears(prepare, prepare, prepare, gated)


def pick_linear(like: torch.Tensor) -> Prepare:
    """``PackedLinear`` where it works for the dtype and device of ``like``, else ``PlainLinear``."""
    if like.device.type != "cpu" or like.dtype not in PACKED_DTYPES:
        return PlainLinear
    weight, rows = torch.eye(32, dtype=like.dtype), torch.arange(64, dtype=like.dtype).view(2, 32)
    try:
        right = torch.equal(PackedLinear(weight)(rows), rows)
    except (AttributeError, RuntimeError) as error:
        logger.info("weights stay unpacked: %s", error)
        return PlainLinear
    return PackedLinear if right else PlainLinear
