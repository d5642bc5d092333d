"""The server that a trace is played against: what it serves, how long its context is, which token ids it knows."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from planner.errors import ReplayError
from planner.prompts import WordPool
from planner.prompts.words import of_server, of_tokenizer
from planner.replay.exchange import PATHS, Endpoint, body_of, error_message

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


async def word_pool(session: aiohttp.ClientSession, target: Target, tokenizer: Path | None) -> WordPool:
    """Words of one token each, by a ``tokenizer.json`` or by asking the server's ``/tokenize``. Raises ReplayError."""
    if tokenizer is not None:
        return await asyncio.to_thread(of_tokenizer, tokenizer)
    loop = asyncio.get_running_loop()
    url = f"{target.url}/tokenize"

    async def ask(text: str) -> list[int]:
        asked = {"model": target.model, "prompt": text, "add_special_tokens": False}
        try:
            async with session.post(url, json=asked) as response:
                answer = await response.json(content_type=None) if response.status == 200 else None
                if isinstance(answer, dict) and isinstance(answer.get("tokens"), list):
                    return list(answer["tokens"])
                reason = f"HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
        raise ReplayError(f"{url}: {reason}; prompts as text need it, or --tokenizer tokenizer.json")

    def encode(text: str) -> list[int]:
        return asyncio.run_coroutine_threadsafe(ask(text), loop).result()

    return await asyncio.to_thread(of_server, encode, target.url)


async def tokens_around(session: aiohttp.ClientSession, target: Target, endpoint: Endpoint, word: str) -> int:
    """How many tokens the server puts around a text of one token, as it counts them; 0 where it does not count.

    Raises ReplayError when it does not answer a request as the replay will send them.
    """
    url = target.url + PATHS[endpoint]
    body = orjson.loads(body_of(endpoint, target.model, word, 1, ignore_eos=False))
    del body["stream_options"]
    try:
        async with session.post(url, json={**body, "stream": False}) as response:
            answer = await response.read()
            if response.status != 200:
                raise ReplayError(f"{url}: HTTP {response.status}: {error_message(answer)}")
            usage = orjson.loads(answer).get("usage") or {}
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ReplayError(f"{url}: {str(error) or type(error).__name__}") from error
    return max(int(usage.get("prompt_tokens", 1)) - 1, 0)


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
