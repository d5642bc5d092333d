"""OpenAI's two shapes of log probabilities: lists side by side for completions, an object per token for chat."""

from collections.abc import Callable, Sequence
from typing import Any

from probe_engine.model.logprobs import TokenLogprobs

TextOf = Callable[[int], str]  # a token's own text; of half a character, the replacement character


def completion_logprobs(told: Sequence[TokenLogprobs], text_of: TextOf, offset: int) -> dict[str, Any]:
    """Of some tokens in a row. ``offset``: characters of the choice's text before the first of them."""
    tokens = [text_of(one.token_id) for one in told]
    offsets = []
    for text in tokens:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": tokens,
        "token_logprobs": [one.logprob for one in told],
        "top_logprobs": [_named(one, text_of) for one in told],
        "text_offset": offsets,
    }


def chat_logprobs(told: Sequence[TokenLogprobs], text_of: TextOf) -> dict[str, Any]:
    """Of some tokens in a row."""
    return {
        "content": [
            _entry(one.token_id, one.logprob, text_of)
            | {"top_logprobs": [_entry(token, logprob, text_of) for token, logprob in one.top]}
            for one in told
        ],
        "refusal": None,
    }


def _named(one: TokenLogprobs, text_of: TextOf) -> dict[str, float]:
    """Likeliest first, the chosen token always among them; of several tokens with one text the likeliest counts."""
    named: dict[str, float] = {}
    for token, logprob in (*one.top, (one.token_id, one.logprob)):
        named.setdefault(text_of(token), logprob)
    return named


def _entry(token: int, logprob: float, text_of: TextOf) -> dict[str, Any]:
    text = text_of(token)
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
