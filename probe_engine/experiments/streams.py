"""Many streams at once against a server, some of which hang up on purpose."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import aiohttp

from probe_engine.experiments.trace import TraceRequest

Ending = Literal["complete", "hung up", "refused", "failed"]
EVENT = b"data: {"
DONE = b"data: [DONE]"
ANSWER_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Job:
    """One stream to ask for. hang_up_after: tokens after which the client leaves; None: it stays."""

    prompt: list[int]
    output_tokens: int
    hang_up_after: int | None = None


@dataclass(frozen=True, slots=True)
class Streamed:
    """How one stream went. Complete is: every token that was asked for, and the end. Times in s from sending."""

    ending: Ending
    tokens: int
    ttft_s: float | None = None
    e2e_s: float | None = None
    why: str = ""


def jobs_of(
    trace: Sequence[TraceRequest], count: int, *, longest: tuple[int, int], leaving: float, seed: int
) -> list[Job]:
    """``count`` jobs of the trace's lengths, from its start again at its end, none above ``longest`` (prompt, output).

    leaving: share of clients that hang up, at a token drawn with the seed. Prompts are bytes drawn with it.
    """
    rng = random.Random(seed)
    most_prompt, most_output = longest
    jobs = []
    for at in range(count):
        row = trace[at % len(trace)]
        output = min(row.output_tokens, most_output)
        prompt = [rng.randrange(32, 127) for _ in range(min(row.prompt_tokens, most_prompt))]
        jobs.append(Job(prompt, output, rng.randrange(output) if rng.random() < leaving else None))
    return jobs


async def run_streams(url: str, jobs: Sequence[Job], *, at_once: int) -> list[Streamed]:
    """Ask for every job, ``at_once`` of them at a time."""
    gate = asyncio.Semaphore(at_once)
    timeout = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(job: Job) -> Streamed:
            async with gate:
                return await _stream(session, url, job)

        return list(await asyncio.gather(*map(one, jobs)))


async def _stream(session: aiohttp.ClientSession, url: str, job: Job) -> Streamed:
    body = {
        "prompt": job.prompt,
        "max_tokens": job.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    began_s = time.perf_counter()
    tokens, first_s, tail = 0, None, b""
    try:
        async with session.post(f"{url}/v1/completions", json=body) as answer:
            if answer.status == 429:
                return Streamed("refused", 0)
            if answer.status != 200:
                return Streamed("failed", 0, why=f"status {answer.status}")
            async for chunk in answer.content.iter_any():
                if job.hang_up_after is not None and tokens >= job.hang_up_after:
                    answer.close()
                    return Streamed("hung up", tokens)
                tokens += (tail[-len(EVENT) + 1 :] + chunk).count(EVENT)
                tail = (tail + chunk)[-64:]
                first_s = first_s or time.perf_counter() - began_s
    except (aiohttp.ClientError, TimeoutError) as error:
        return Streamed("failed", tokens, why=repr(error))
    if tokens != job.output_tokens or DONE not in tail:
        return Streamed("failed", tokens, why=f"{tokens} of {job.output_tokens} tokens")
    return Streamed("complete", tokens, first_s, time.perf_counter() - began_s)
