"""Every request with its body, encoded before the clock starts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.prompts import WordPool, prompt_lengths, text_prompts, token_prompts
from planner.replay.exchange import Endpoint, Planned, body_of
from planner.replay.target import Target
from planner.trace import IntArray, Trace


@dataclass(frozen=True, slots=True)
class Wording:
    """How prompts are written: as ids in a range, or as words of ``pool`` with ``spare`` tokens left to the server."""

    endpoint: Endpoint = "completions"
    pool: WordPool | None = None
    spare: int = 0
    ignore_eos: bool = True


def lay_out(
    trace: Trace, target: Target, seed: int, run_id: str, wording: Wording | None = None, only: IntArray | None = None
) -> list[Planned]:
    """The requests at the places ``only`` of the trace (all by default); at least one token is asked for."""
    wording = wording or Wording()
    rows = np.arange(len(trace)) if only is None else only
    lengths = prompt_lengths(trace)
    prompts: Iterator[IntArray | str] = _prompts(trace, target, seed, wording, rows)
    return [
        Planned(
            row_id=int(trace.row_id[row]),
            due_s=float(trace.arrival_ns[row]) / 1e9,
            input_tokens=int(lengths[row]),
            output_tokens=int(trace.output_tokens[row]),
            request_id=f"{run_id}-{int(trace.row_id[row])}",
            body=body_of(
                wording.endpoint,
                target.model,
                prompt,
                max(int(trace.output_tokens[row]), 1),
                ignore_eos=wording.ignore_eos,
            ),
        )
        for row, prompt in zip(rows.tolist(), prompts, strict=True)
    ]


def _prompts(trace: Trace, target: Target, seed: int, wording: Wording, rows: IntArray) -> Iterator[IntArray | str]:
    if wording.pool is None:
        return token_prompts(trace, *target.token_ids, seed=seed, only=rows)
    return text_prompts(trace, wording.pool, seed, wording.spare, rows)
