"""How well a model predicts a text: what rounding its weights costs."""

import math
from collections.abc import Sequence

import torch

from probe_engine.model.attention import ChunkSpan, StepBatch
from probe_engine.model.loading import LoadedModel

BLOCK_SIZE = 16


def perplexity(loaded: LoadedModel, ids: Sequence[int], window_tokens: int = 512) -> float:
    """e to the mean surprise (nats) over the tokens of ``ids``, in windows of ``window_tokens``.

    The first token of each window is given, not predicted.
    """
    surprise, predicted = 0.0, 0
    window = min(window_tokens, loaded.config.max_tokens)
    for first in range(0, len(ids) - 1, window):
        part = list(ids[first : first + window])
        if len(part) < 2:
            continue
        logits = _all_logits(loaded, part)[:-1].float()
        targets = torch.tensor(part[1:], device=logits.device)
        surprise += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        predicted += len(targets)
    return math.exp(surprise / predicted)


def _all_logits(loaded: LoadedModel, ids: Sequence[int]) -> torch.Tensor:
    """Logits (tokens, vocabulary) after each token, computed as one chunk."""
    model, tokens = loaded.model, len(ids)
    blocks = -(-tokens // BLOCK_SIZE)
    places = torch.arange(tokens, device=model.device)
    batch = StepBatch(
        token_ids=torch.tensor(ids, device=model.device),
        positions=places,
        slots=places,
        contexts=places[:0],
        tables=torch.zeros((0, 0), dtype=torch.int64, device=model.device),
        chunks=(ChunkSpan(0, tokens, 0, torch.arange(blocks, device=model.device)),),
        sampled_rows=places,
    )
    return model.forward(batch, model.new_cache(blocks, BLOCK_SIZE))
