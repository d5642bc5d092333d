"""How likely the chosen token and its rivals were, by the model's own logits: before temperature and penalties."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural logarithms. ``top``: the likeliest tokens with theirs, likeliest first; the chosen one may be absent."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def token_logprobs(logits: torch.Tensor, tokens: Sequence[int], counts: Sequence[int]) -> list[TokenLogprobs]:
    """For each row of ``logits`` (rows, vocabulary): of the chosen token, and of the ``counts`` likeliest."""
    logarithms = logits.float().log_softmax(-1)
    chosen = logarithms.gather(1, torch.tensor(tokens, device=logits.device).unsqueeze(1)).squeeze(1).tolist()
    values, ids = logarithms.topk(min(max(counts), logits.shape[1]), dim=-1)
    rows = zip(tokens, chosen, counts, ids.tolist(), values.tolist(), strict=True)
    return [
        TokenLogprobs(token, logprob, tuple(zip(top_ids[:count], top_values[:count], strict=True)))
        for token, logprob, count, top_ids, top_values in rows
    ]
