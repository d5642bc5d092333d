"""Matrix products with weights prepared once.

On the CPU, oneDNN keeps a weight in the order in which its kernels read it; torch's own ``linear`` reorders at each
call. The operations for it are private to torch, so they are tried before they are trusted.
"""

import logging
from collections.abc import Callable

import torch
from torch.nn.functional import linear

Linear = Callable[[torch.Tensor], torch.Tensor]  # (rows, in) to (rows, out)
Prepare = Callable[[torch.Tensor], Linear]  # weight (out, in)

TYPICAL_ROWS = 64  # oneDNN chooses the order for about so many rows; it stays good from 1 to 2,048
PACKED_DTYPES = (torch.float32, torch.bfloat16)

logger = logging.getLogger(__name__)


def plain(weight: torch.Tensor) -> Linear:
    """The product with ``weight`` as it is."""
    return lambda rows: linear(rows, weight)


def packed(weight: torch.Tensor) -> Linear:
    """The product with a reordered copy of ``weight``; float32 and bfloat16 on the CPU."""
    reordered = torch.ops.mkldnn._reorder_linear_weight.default(weight, TYPICAL_ROWS)
    product = torch.ops.mkldnn._linear_pointwise.default

    def multiply(rows: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = product(rows, reordered, None, "none", [], "")
        return answer

    return multiply


def pick_linear(like: torch.Tensor) -> Prepare:
    """``packed`` where it works for the dtype and device of ``like``, else ``plain``."""
    if like.device.type != "cpu" or like.dtype not in PACKED_DTYPES:
        return plain
    weight, rows = torch.eye(32, dtype=like.dtype), torch.arange(64, dtype=like.dtype).view(2, 32)
    try:
        right = torch.equal(packed(weight)(rows), rows)
    except (AttributeError, RuntimeError) as error:
        logger.info("weights stay unpacked: %s", error)
        return plain
    return packed if right else plain
