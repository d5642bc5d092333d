"""Who of a request's tokens takes an engine's time: uncached input, cached input, output.

A bill is for time, so it is divided as the modelled time is. A decode step's fixed part (weights are read once for the
whole batch) belongs to the output of all who decode in it.
"""

from dataclasses import dataclass

from planner.steps.latency import LinearModel


@dataclass(frozen=True, slots=True)
class Request:
    """Tokens of a mean request; ``cached`` are prompt tokens found in the prefix cache, beside ``input``."""

    input: float
    cached: float
    output: float


@dataclass(frozen=True, slots=True)
class Prices:
    """$ per million tokens of each kind; None where there are none."""

    input: float | None
    cached: float | None
    output: float | None


def seconds_of(model: LinearModel, request: Request, batch: float) -> tuple[float, float, float]:
    """Engine seconds of a request's (input, cached, output) tokens when ``batch`` requests decode at once.

    Cached tokens are not computed: they cost the attention of the new prompt tokens to them, and their part of the KV
    that every output token reads.
    """
    fresh, cached, output = request.input, request.cached, request.output
    prefill = model.prefill_token_s * fresh + model.prefill_attention_s * fresh * (fresh + 1) / 2
    reused = model.prefill_attention_s * fresh * cached + model.decode_kv_token_s * cached * output
    read = model.decode_kv_token_s * output * (fresh + output / 2)
    return prefill, reused, output * (model.decode_seq_s + model.step_s / max(batch, 1.0)) + read


def effective_prices(usd: float, requests: float, request: Request, seconds: tuple[float, float, float]) -> Prices:
    """What a bill of ``usd`` for ``requests`` comes to per million tokens of each kind.

    Idle time is paid in proportion: the prices times the tokens are the bill again.
    """
    whole = sum(seconds)
    tokens = (request.input, request.cached, request.output)

    def price(part_s: float, count: float) -> float | None:
        return usd * part_s / whole / (count * requests) * 1e6 if count > 0 and requests > 0 and whole > 0 else None

    return Prices(*(price(part_s, count) for part_s, count in zip(seconds, tokens, strict=True)))
