"""Change how long prompts and answers are: by a factor, or drawn from another trace."""

from dataclasses import replace

import numpy as np

from planner.errors import WorkloadError
from planner.traces.trace import Flag, IntArray, Trace


def scale_tokens(trace: Trace, factor: float) -> Trace:
    """Multiply both lengths of every request by ``factor``, rounded up, at least 1.

    A row of zero tokens becomes one token and is flagged ``clamped``. Raises WorkloadError for a trace with prefix
    hashes: their blocks would no longer match the prompts.
    """
    if not (factor > 0 and np.isfinite(factor)):
        raise WorkloadError(f"token scale {factor:g}: must be a number above 0")
    if trace.column("prefix_hashes") is not None and factor != 1:
        raise WorkloadError(f"token scale {factor:g}: {trace.header.source} has prefix hashes, which fix its lengths")
    scaled = trace.take_rows(np.arange(len(trace)), name="scale_tokens", factor=factor)
    zero = (trace.input_tokens == 0) | (trace.output_tokens == 0)
    return replace(
        scaled,
        input_tokens=_scaled(trace.input_tokens, factor),
        output_tokens=_scaled(trace.output_tokens, factor),
        flags=np.where(zero, scaled.flags | np.uint32(Flag.CLAMPED), scaled.flags),
    )


def _scaled(tokens: IntArray, factor: float) -> IntArray:
    # A product such as 100 * 0.07 = 7.000000000000001 is 7, not 8: what floats add is taken off before rounding up.
    return np.maximum(np.ceil(tokens * factor - 1e-9 * np.maximum(tokens, 1)), 1).astype(np.int64)


def lengths_from(trace: Trace, other: Trace, seed: int = 0) -> Trace:
    """The arrivals of ``trace`` with prompt and answer lengths drawn from ``other``, both of one request together.

    What was known of prompts (hashes, tokens, messages) no longer fits and is left out. Raises WorkloadError when
    ``other`` has no lengths.
    """
    if lacks := [what for what in other.absent if "lengths" in what]:
        raise WorkloadError(f"lengths from {other.header.source}: it has no {' and no '.join(lacks)}")
    row = np.random.default_rng([seed, 0x1E46]).integers(0, len(other), len(trace))
    drawn = trace.take_rows(np.arange(len(trace)), name="lengths_from", source=other.header.source, seed=seed)
    gone = {"prefix_hashes", "block_tokens", "output_hashes", "input_token_ids", "messages", "prompt_ref"}
    gone |= {"cached_input_tokens"}
    return replace(
        drawn,
        input_tokens=other.input_tokens[row],
        output_tokens=other.output_tokens[row],
        flags=drawn.flags & ~np.uint32(Flag.ZERO_INPUT | Flag.ZERO_OUTPUT | Flag.HASH_SHORT),
        columns={name: column for name, column in drawn.columns.items() if name not in gone},
        missing={
            n: m for n, m in drawn.missing.items() if n not in gone and n not in ("input_tokens", "output_tokens")
        },
    )
