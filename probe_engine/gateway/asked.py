"""What the gateway needs to know of a request's body: model, size, prefix, and whether its answer can be kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from probe_engine.gateway.errors import Refused

BYTES_PER_TOKEN = 4  # of English text; the true count comes with the answer
DEFAULT_OUTPUT_TOKENS = {"/v1/completions": 16}
CHAT_OUTPUT_TOKENS = 256  # reserved for a chat that names no limit


@dataclass(frozen=True, slots=True)
class Asked:
    """prompt_tokens: estimated for text. tokens: those and the most output. prefix: first characters of the prompt.
    cache_key: None where the answer may differ next time or is streamed.
    """

    model: str
    prompt_tokens: int
    tokens: int
    prefix: str
    stream: bool
    cache_key: bytes | None


def read_asked(path: str, body: bytes, prefix_characters: int) -> Asked:
    """Read a completion's or chat's body; ``Refused`` (400) when it is no JSON object. The replica judges the rest."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _invalid("the body must be a JSON object")
    prompt, prompt_tokens = _prompt(fields)
    output = _count(fields.get("max_completion_tokens")) or _count(fields.get("max_tokens"))
    most = output or DEFAULT_OUTPUT_TOKENS.get(path, CHAT_OUTPUT_TOKENS)
    copies = max(1, _count(fields.get("n")) or 1)
    stream = fields.get("stream") is True
    greedy = fields.get("temperature") == 0 and copies == 1 and not isinstance(fields.get("temperature"), bool)
    model = fields.get("model")
    return Asked(
        model if isinstance(model, str) else "",
        prompt_tokens,
        prompt_tokens + most * copies,
        prompt[:prefix_characters],
        stream,
        _cache_key(path, fields) if greedy and not stream else None,
    )


def _prompt(fields: Mapping[str, Any]) -> tuple[str, int]:
    """Text that prefixes can be compared by, and tokens (estimated for text)."""
    messages = fields.get("messages")
    if isinstance(messages, list):
        text = "\n".join(_message(message) for message in messages if isinstance(message, dict))
        return text, _estimate(text)
    prompt = fields.get("prompt")
    if isinstance(prompt, str):
        return prompt, _estimate(prompt)
    if isinstance(prompt, list):
        if all(isinstance(part, str) for part in prompt):
            return "\n".join(prompt), sum(map(_estimate, prompt))
        if all(isinstance(part, int) for part in prompt):
            return ",".join(map(str, prompt)), len(prompt)
        lists = [part for part in prompt if isinstance(part, list)]
        return ";".join(",".join(map(str, part)) for part in lists), sum(map(len, lists))
    return "", 0


def _message(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return f"{message.get('role')}: {content}"


def _estimate(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _cache_key(path: str, fields: Mapping[str, Any]) -> bytes:
    plain = {name: value for name, value in fields.items() if name not in {"user", "stream", "stream_options"}}
    return blake2b(path.encode() + orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _invalid(message: str) -> Refused:
    return Refused(400, message, kind="invalid_request_error", code="invalid_body", reason="invalid")
