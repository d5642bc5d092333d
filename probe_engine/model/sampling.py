"""Choose next tokens from logits: greedy and random requests mixed in one batch.

Random choice is by inverse CDF from one uniform number per request and token, so a request with a
seed draws the same tokens in whatever batch it is served.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from probe_engine.errors import ModelError

GREEDY_BELOW = 1e-5  # divided by less, logits of a float32 model overflow
MAX_LOGPROBS = 20
NUCLEUS_CANDIDATES = 1024  # most nuclei fit in so many tokens; those that don't are sorted whole


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request's tokens are chosen.

    ``temperature`` below ``GREEDY_BELOW`` is greedy. ``top_k`` is applied first, then ``top_p`` on what is left, as
    transformers does; ``min_p`` (least share of the likeliest token's probability) before both, as vLLM does. ``seed``
    None draws from the runner's generator. The penalties, ``logit_bias`` (token id, added to its logit) and
    ``min_tokens`` (before so many, no token that ends the text) are ``adjust``'s. ``logprobs``: how many rivals of
    each chosen token to tell; None tells nothing. Raises ``ModelError`` for a value out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int | None = None
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name in ("presence_penalty", "frequency_penalty"):
            if not -2.0 <= getattr(self, name) <= 2.0:
                raise ModelError(f"{name} is {getattr(self, name)}; it must be from -2 to 2")
        if not 0.0 < self.repetition_penalty < float("inf"):
            raise ModelError(f"repetition_penalty is {self.repetition_penalty}; it must be a number over 0")
        if not 0.0 <= self.min_p <= 1.0:
            raise ModelError(f"min_p is {self.min_p}; it must be from 0 to 1")
        for token, bias in self.logit_bias:
            if not -100.0 <= bias <= 100.0:
                raise ModelError(f"logit_bias of token {token} is {bias}; it must be from -100 to 100")
        if self.min_tokens < 0:
            raise ModelError(f"min_tokens is {self.min_tokens}; it must be at least 0")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise ModelError(f"logprobs is {self.logprobs}; it must be from 0 to {MAX_LOGPROBS}, or absent")
        if not 0.0 <= self.temperature < float("inf"):
            raise ModelError(f"temperature is {self.temperature}; it must be a number from 0 up")
        if not 0.0 < self.top_p <= 1.0:
            raise ModelError(f"top_p is {self.top_p}; it must be over 0 and at most 1")
        if self.top_k is not None and self.top_k < 1:
            raise ModelError(f"top_k is {self.top_k}; it must be at least 1, or absent")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature < GREEDY_BELOW

    @property
    def adjusts(self) -> bool:
        """Whether logits are changed before a token is chosen."""
        penalised = self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0
        return bool(penalised or self.logit_bias or self.min_tokens)


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """The likeliest token (int64) of each row, the first where several are equal."""
    if logits.device.type == "cpu":  # NumPy's float32 argmax is 3 to 20 times as fast as torch's
        return torch.from_numpy(logits.float().numpy().argmax(axis=-1))
    return logits.argmax(dim=-1)


def sample(
    logits: torch.Tensor,
    params: Sequence[SamplingParams],
    generators: Sequence[torch.Generator | None],
    likeliest: Callable[[torch.Tensor], torch.Tensor] = greedy,
) -> torch.Tensor:
    """One token id (int64) per row of ``logits`` (batch, vocabulary), on their device; on a GPU nothing waits for it.

    ``generators`` holds one CPU generator per row; greedy rows don't use theirs. ``likeliest`` does what ``greedy``
    does.
    """

    def take_likeliest(
        logits: torch.Tensor, params: Sequence[SamplingParams], generators: Sequence[torch.Generator | None]
    ) -> torch.Tensor:
        return likeliest(logits)

    tokens = torch.zeros(len(params), dtype=torch.int64, device=logits.device)
    for choose, wanted in ((take_likeliest, _is_greedy), (_draw_freely, _is_free), (_draw_limited, _is_limited)):
        rows = [row for row, one in enumerate(params) if wanted(one)]
        if not rows:
            continue
        if len(rows) == len(params):
            return choose(logits, params, generators)
        index = torch.tensor(rows, device=logits.device)
        tokens[index] = choose(logits[index], [params[row] for row in rows], [generators[row] for row in rows])
    return tokens


def _is_greedy(params: SamplingParams) -> bool:
    return params.greedy


def _is_free(params: SamplingParams) -> bool:
    return not params.greedy and params.top_k is None and params.top_p >= 1.0 and not params.min_p


def _is_limited(params: SamplingParams) -> bool:
    return not params.greedy and not _is_free(params)


def _draw_freely(
    logits: torch.Tensor, params: Sequence[SamplingParams], generators: Sequence[torch.Generator | None]
) -> torch.Tensor:
    """Tokens drawn from the whole vocabulary."""
    return _invert(torch.softmax(_tempered(logits, params), dim=-1), _dice(generators, logits))


def _draw_limited(
    logits: torch.Tensor, params: Sequence[SamplingParams], generators: Sequence[torch.Generator | None]
) -> torch.Tensor:
    """Tokens drawn from what top-k and top-p leave: from a few candidates where these hold it all, else from all.

    A GPU is not asked whether they do, which would be to wait for it: where top-p alone limits, all are candidates.
    """
    scaled, dice = _tempered(logits, params), _dice(generators, logits)
    if any(wanted.min_p for wanted in params):
        least = torch.tensor([[wanted.min_p] for wanted in params], device=scaled.device).log()
        scaled = scaled.masked_fill(scaled < scaled.amax(-1, keepdim=True) + least, float("-inf"))
    vocabulary = scaled.shape[1]
    top_k = [vocabulary if wanted.top_k is None else min(wanted.top_k, vocabulary) for wanted in params]
    widest = max((k for k in top_k if k < vocabulary), default=0)
    count = min(vocabulary, max(widest, NUCLEUS_CANDIDATES))
    if scaled.device.type != "cpu":
        return _nucleus(scaled, params, top_k, dice, count if max(top_k) < vocabulary else vocabulary)[0]
    tokens, covered = _nucleus(scaled, params, top_k, dice, count)
    wide = (~covered).nonzero().squeeze(1)
    if len(wide):
        rows = wide.tolist()
        wide_params, wide_k = [params[row] for row in rows], [top_k[row] for row in rows]
        tokens[wide], _ = _nucleus(scaled[wide], wide_params, wide_k, dice[wide], vocabulary)
    return tokens


def _tempered(logits: torch.Tensor, params: Sequence[SamplingParams]) -> torch.Tensor:
    return logits.float() / torch.tensor([[wanted.temperature] for wanted in params], device=logits.device)


def _dice(generators: Sequence[torch.Generator | None], logits: torch.Tensor) -> torch.Tensor:
    """One uniform number in [0, 1) per row, (rows, 1) float64, each from the row's own generator."""
    drawn = [torch.rand((1,), generator=generator, dtype=torch.float64) for generator in generators]
    return torch.stack(drawn).to(logits.device)


def _nucleus(
    scaled: torch.Tensor, params: Sequence[SamplingParams], top_k: Sequence[int], dice: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
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
    covered = (
        (limit <= count)
        | (values[:, -1:] == float("-inf"))
        | ((before[:, -1:] + probabilities[:, -1:]) >= top_p)
        | (count == vocabulary)
    )
    chosen = candidates.gather(1, _invert(kept, dice).unsqueeze(1)).squeeze(1)
    return chosen, covered.squeeze(1)


def _invert(weights: torch.Tensor, dice: torch.Tensor) -> torch.Tensor:
    """Index per row at which the running sum of ``weights`` passes ``dice`` (0 ≤ dice < 1) times their total."""
    running = weights.cumsum(-1, dtype=torch.float64)
    last = (weights > 0).cumsum(-1).argmax(-1)  # the last index that has any weight
    passed = torch.searchsorted(running, dice * running[:, -1:], right=True).squeeze(1)
    return torch.minimum(passed, last)
