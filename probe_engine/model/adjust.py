"""What a request asks to be done to its logits before a token is chosen: penalties, biases, bans.

In this order, vectorised over the rows: repetition penalty (of prompt and output, as transformers does), frequency and
presence penalty (of the output alone, as OpenAI does), ``logit_bias``, and the ban on ending before ``min_tokens``.
"""

from collections.abc import Collection, Sequence

import torch

from probe_engine.model.sampling import SamplingParams

NEVER = float("-inf")


class History:
    """Which tokens one request has had, on its model's device: ``counts`` in the output, ``seen`` anywhere."""

    __slots__ = ("counts", "seen", "taken")

    def __init__(self, prompt_ids: Sequence[int], vocab_size: int, device: torch.device) -> None:
        self.counts = torch.zeros(vocab_size, device=device)
        self.seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        self.seen[torch.tensor(prompt_ids, device=device)] = True
        self.taken = 0

    def take(self, token: torch.Tensor) -> None:
        """Remember a token of the output, (1,) int64 on the device."""
        self.counts[token] += 1
        self.seen[token] = True
        self.taken += 1


def adjust(
    logits: torch.Tensor, params: Sequence[SamplingParams], histories: Sequence[History], eos_ids: Collection[int]
) -> torch.Tensor:
    """``logits`` (rows, vocabulary) as each row's request wants them; float32, a copy."""
    device = logits.device
    changed = logits.float() if logits.dtype != torch.float32 else logits.clone()

    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, device=device).unsqueeze(1)

    if any(one.repetition_penalty != 1.0 for one in params):
        factor = column([one.repetition_penalty for one in params])
        repeated = torch.where(changed > 0, changed / factor, changed * factor)
        changed = torch.where(torch.stack([history.seen for history in histories]), repeated, changed)
    if any(one.frequency_penalty or one.presence_penalty for one in params):
        counts = torch.stack([history.counts for history in histories])
        changed -= counts * column([one.frequency_penalty for one in params])
        changed -= (counts > 0) * column([one.presence_penalty for one in params])
    for row, (one, history) in enumerate(zip(params, histories, strict=True)):
        if one.logit_bias:
            ids, biases = zip(*one.logit_bias, strict=True)
            changed[row, torch.tensor(ids, device=device)] += torch.tensor(biases, device=device)
        if history.taken < one.min_tokens and eos_ids:
            changed[row, torch.tensor(sorted(eos_ids), device=device)] = NEVER
    return changed
