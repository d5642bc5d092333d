"""Choose next tokens from logits: greedy and random requests mixed in one batch.

Random choice is by inverse CDF from one uniform number per request and token, so a request with a
seed draws the same tokens in whatever batch it is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from probe_engine.errors import ModelError

NUCLEUS_CANDIDATES = 1024  # most nuclei fit in so many tokens; those that don't are sorted whole


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request's tokens are chosen.

    ``temperature`` 0 is greedy. ``top_k`` is applied first, then ``top_p`` on what is left, as transformers does.
    ``seed`` None draws from the runner's generator. Raises ``ModelError`` for a value out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ModelError(f"temperature is {self.temperature}; it must be a number from 0 up")
        if not 0.0 < self.top_p <= 1.0:
            raise ModelError(f"top_p is {self.top_p}; it must be over 0 and at most 1")
        if self.top_k is not None and self.top_k < 1:
            raise ModelError(f"top_k is {self.top_k}; it must be at least 1, or absent")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0.0


def sample(
    logits: torch.Tensor, params: Sequence[SamplingParams], generators: Sequence[torch.Generator | None]
) -> list[int]:
    """One token id per row of ``logits`` (batch, vocabulary).

    ``generators`` holds one CPU generator per row; greedy rows don't use theirs.
    """
    random_rows = [row for row, wanted in enumerate(params) if not wanted.greedy]
    if not random_rows:
        return greedy(logits)
    tokens = greedy(logits) if len(random_rows) < len(params) else [0] * len(params)
    rows = logits if len(random_rows) == len(params) else logits[torch.tensor(random_rows, device=logits.device)]
    drawn = _draw(rows, [params[row] for row in random_rows], [_uniform(generators[row]) for row in random_rows])
    for row, token in zip(random_rows, drawn, strict=True):
        tokens[row] = token
    return tokens


def greedy(logits: torch.Tensor) -> list[int]:
    """The likeliest token of each row, the first where several are equal."""
    if logits.device.type == "cpu":  # NumPy's float32 argmax is 3 to 20 times as fast as torch's
        chosen: list[int] = logits.float().numpy().argmax(axis=-1).tolist()
        return chosen
    on_device: list[int] = logits.argmax(dim=-1).tolist()
    return on_device


def _uniform(generator: torch.Generator | None) -> float:
    return torch.rand((), generator=generator, dtype=torch.float64).item()


def _draw(logits: torch.Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]) -> list[int]:
    device = logits.device
    temperature = torch.tensor([wanted.temperature for wanted in params], device=device)
    scaled = logits.float() / temperature.unsqueeze(1)
    dice = torch.tensor(uniforms, dtype=torch.float64, device=device).unsqueeze(1)
    if all(wanted.top_k is None and wanted.top_p >= 1.0 for wanted in params):
        return _invert(torch.softmax(scaled, dim=-1), dice).tolist()
    return _draw_from_candidates(scaled, params, dice)


def _draw_from_candidates(scaled: torch.Tensor, params: Sequence[SamplingParams], dice: torch.Tensor) -> list[int]:
    vocabulary = scaled.shape[1]
    top_k = [vocabulary if wanted.top_k is None else min(wanted.top_k, vocabulary) for wanted in params]
    widest = max((k for k in top_k if k < vocabulary), default=0)
    count = min(vocabulary, max(widest, NUCLEUS_CANDIDATES))
    tokens, covered = _nucleus(scaled, params, top_k, dice, count)
    if all(covered):
        return tokens
    wide = [row for row, done in enumerate(covered) if not done]
    index = torch.tensor(wide, device=scaled.device)
    again, _ = _nucleus(
        scaled[index], [params[row] for row in wide], [top_k[row] for row in wide], dice[index], vocabulary
    )
    for row, token in zip(wide, again, strict=True):
        tokens[row] = token
    return tokens


def _nucleus(
    scaled: torch.Tensor, params: Sequence[SamplingParams], top_k: Sequence[int], dice: torch.Tensor, count: int
) -> tuple[list[int], list[bool]]:
    """Tokens drawn from each row's ``count`` likeliest, and whether these held all that the row may choose from."""
    device, vocabulary = scaled.device, scaled.shape[1]
    values, candidates = scaled.topk(count, dim=-1)
    limit = torch.tensor(top_k, device=device).unsqueeze(1)
    values = values.masked_fill(torch.arange(count, device=device).unsqueeze(0) >= limit, float("-inf"))
    total = torch.where(limit < vocabulary, values.logsumexp(-1, keepdim=True), scaled.logsumexp(-1, keepdim=True))
    probabilities = (values - total).exp()
    before = probabilities.cumsum(-1) - probabilities
    top_p = torch.tensor([wanted.top_p for wanted in params], device=device).unsqueeze(1)
    kept = probabilities.masked_fill(before >= top_p, 0.0)
    covered = (limit <= count) | ((before[:, -1:] + probabilities[:, -1:]) >= top_p) | (count == vocabulary)
    chosen = candidates.gather(1, _invert(kept, dice).unsqueeze(1)).squeeze(1)
    return chosen.tolist(), covered.squeeze(1).tolist()


def _invert(weights: torch.Tensor, dice: torch.Tensor) -> torch.Tensor:
    """Index per row at which the running sum of ``weights`` passes ``dice`` (0 ≤ dice < 1) times their total."""
    running = weights.cumsum(-1, dtype=torch.float64)
    last = (weights > 0).cumsum(-1).argmax(-1)  # the last index that has any weight
    passed = torch.searchsorted(running, dice * running[:, -1:], right=True).squeeze(1)
    return torch.minimum(passed, last)
