"""A burst of streaming completions over HTTP, timed by the one who reads them."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import orjson

FIRST_TOKEN_ID = 300  # below it are specials and single bytes
READY_POLL_S = 0.25
LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Burst:
    """Equal requests, all sent at once: prompts of seeded random token ids, outputs of exactly so many tokens."""

    requests: int = 64
    prompt_tokens: int = 128
    output_tokens: int = 64
    vocabulary: int = 32_000

    def prompts(self, seed: int) -> list[list[int]]:
        """The prompts of one repetition."""
        rng = random.Random(seed)
        return [
            [rng.randrange(FIRST_TOKEN_ID, self.vocabulary) for _ in range(self.prompt_tokens)]
            for _ in range(self.requests)
        ]


@dataclass(frozen=True, slots=True)
class Measured:
    """One burst as its reader saw it; ``chunks`` are stream events with a choice."""

    wall_s: float
    output_tokens: int
    chunks: int
    first_token_p50_s: float
    per_token_p50_s: float

    @property
    def output_tokens_per_s(self) -> float:
        """Output tokens over the time from the first request sent to the last answer's end."""
        return self.output_tokens / self.wall_s


async def run_burst(base_url: str, model: str, burst: Burst, seed: int) -> Measured:
    """Send ``burst`` to an OpenAI-compatible server; RuntimeError where an answer is refused or too short."""
    go = asyncio.Event()
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(LIMIT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        url = f"{base_url}/v1/completions"
        tasks = [
            asyncio.create_task(_one(session, url, _body(model, prompt, burst), go)) for prompt in burst.prompts(seed)
        ]
        await asyncio.sleep(0)  # every task waits for the event now
        started = time.perf_counter()
        go.set()
        answers = await asyncio.gather(*tasks)
        wall_s = time.perf_counter() - started
    short = [tokens for _, _, tokens in answers if tokens != burst.output_tokens]
    if short:
        raise RuntimeError(f"{len(short)} answers of {short[0]} tokens; {burst.output_tokens} were asked for")
    return Measured(
        wall_s=wall_s,
        output_tokens=sum(tokens for _, _, tokens in answers),
        chunks=sum(len(times) for _, times, _ in answers),
        first_token_p50_s=_median([times[0] - sent for sent, times, _ in answers]),
        per_token_p50_s=_median([(times[-1] - times[0]) / (tokens - 1) for _, times, tokens in answers]),
    )


async def until_ready(url: str, limit_s: float = LIMIT_S) -> None:
    """Wait until ``url`` answers 200; TimeoutError after ``limit_s``."""
    async with asyncio.timeout(limit_s), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass  # not listening yet
            await asyncio.sleep(READY_POLL_S)


def _body(model: str, prompt: list[int], burst: Burst) -> dict[str, object]:
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": burst.output_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _one(
    session: aiohttp.ClientSession, url: str, body: dict[str, object], go: asyncio.Event
) -> tuple[float, list[float], int]:
    """When it was sent, when each event came, and how many tokens the server counts."""
    await go.wait()
    sent, times, tokens = time.perf_counter(), [], 0
    async with session.post(url, json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{url}: {answer.status} {await answer.text()}"[:300])
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            now, event = time.perf_counter(), orjson.loads(line[6:])
            if event.get("usage") and not event["choices"]:
                tokens = event["usage"]["completion_tokens"]
            elif event["choices"]:
                times.append(now)
    return sent, times, tokens


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
