"""Requests of a trace with their bodies, written one by one as they are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.prompts import WordPool, text_prompts, token_prompts
from planner.replay.exchange import Endpoint, Message, Planned, body_of
from planner.replay.target import Target
from planner.traces.trace import IntArray, Trace


@dataclass(frozen=True, slots=True)
class Wording:
    """How prompts are written: as ids in a range, or as words of ``pool`` with ``spare`` tokens left to the server."""

    endpoint: Endpoint = "completions"
    pool: WordPool | None = None
    spare: int = 0
    ignore_eos: bool = True


@dataclass(frozen=True, slots=True)
class Layout:
    """What turns rows of a trace into requests. Ids of requests begin with ``run_id``."""

    trace: Trace
    target: Target
    seed: int
    run_id: str
    wording: Wording = Wording()

    def requests(self, rows: IntArray | None = None) -> Iterator[Planned]:
        """The requests at the places ``rows`` of the trace (all by default), each when it is due by the trace."""
        rows = np.arange(len(self.trace)) if rows is None else rows
        for row, prompt in zip(rows.tolist(), self.prompts(rows), strict=True):
            yield self.request(row, float(self.trace.arrival_ns[row]) / 1e9, prompt)

    def prompts(self, rows: IntArray) -> Iterator[IntArray | str]:
        """The prompts at the places ``rows``."""
        if self.wording.pool is None:
            return token_prompts(self.trace, *self.target.token_ids, seed=self.seed, only=rows)
        return text_prompts(self.trace, self.wording.pool, self.seed, self.wording.spare, rows)

    def request(self, row: int, due_s: float, prompt: IntArray | str | list[Message]) -> Planned:
        """One request; at least one token is asked for."""
        asked, row_id = int(self.trace.output_tokens[row]), int(self.trace.row_id[row])
        wording = self.wording
        body = body_of(wording.endpoint, self.target.model, prompt, max(asked, 1), ignore_eos=wording.ignore_eos)
        return Planned(row_id, due_s, f"{self.run_id}-{row_id}", body)
