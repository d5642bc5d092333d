"""The server that a trace is played against: what it serves, how long its context is, which token ids it knows."""

from dataclasses import dataclass
from typing import Any

import aiohttp

from planner.errors import ReplayError

FALLBACK_IDS = (1_000, 30_000)
"""Token ids that every current tokenizer of a chat model has; used where the server names no vocabulary."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server as it described itself; None where it did not say. ``scheduler`` is the engine's own configuration."""

    url: str
    model: str
    max_model_len: int | None
    token_ids: tuple[int, int]
    scheduler: dict[str, Any] | None


async def discover(session: aiohttp.ClientSession, url: str, model: str | None) -> Target:
    """Ask ``/v1/models`` and, where there is one, ``/metadata``.

    Raises ReplayError when the server cannot be reached, is not OpenAI-compatible, or does not serve ``model``.
    """
    models = (await _json(session, f"{url}/v1/models", needed=True)).get("data") or []
    served = [entry for entry in models if model is None or entry.get("id") == model]
    if not served:
        names = ", ".join(str(entry.get("id")) for entry in models) or "nothing"
        raise ReplayError(f"{url}: does not serve {model!r}; it serves {names}")
    metadata = await _json(session, f"{url}/metadata", needed=False)
    vocabulary = metadata.get("vocab_size") or metadata.get("model", {}).get("vocab_size")
    return Target(
        url=url,
        model=str(served[0]["id"]),
        max_model_len=served[0].get("max_model_len"),
        token_ids=(0, int(vocabulary)) if vocabulary else FALLBACK_IDS,
        scheduler=metadata.get("scheduler"),
    )


async def _json(session: aiohttp.ClientSession, url: str, *, needed: bool) -> dict[str, Any]:
    try:
        async with session.get(url) as response:
            if response.status == 200:
                answer = await response.json(content_type=None)
                if isinstance(answer, dict):
                    return answer
            reason = f"HTTP {response.status}"
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or type(error).__name__
    if needed:
        raise ReplayError(f"{url}: {reason}; a replay needs an OpenAI-compatible server")
    return {}
