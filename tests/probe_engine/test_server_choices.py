"""Several choices, log probabilities and penalties through the official openai client, on the real tiny model."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import openai
import pytest

from probe_engine.runtime.build import build_engine
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded
from probe_engine.settings import EngineSettings
from probe_engine.telemetry.metrics import EngineMetrics

PROMPT = "The quick brown fox jumps over the lazy dog, twice."
SETTINGS = EngineSettings(threads=1, num_blocks=64, device="cpu")


def asked(ask: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Any:
    """What ``ask(client)`` returns, on a fresh engine that must hold no block afterwards."""

    async def main() -> Any:
        metrics = EngineMetrics("tiny")
        loaded, engine, _ = build_engine(SETTINGS, metrics)
        deployment = Deployment("tiny", metrics, version="1")
        deployment.serve(Loaded(engine, loaded.tokenizer, "float32", "cpu"))
        transport = httpx.ASGITransport(create_app(deployment, token=None))
        try:
            async with openai.AsyncOpenAI(
                base_url="http://engine/v1",
                api_key="none",
                max_retries=0,
                http_client=httpx.AsyncClient(transport=transport),
            ) as client:
                answer = await ask(client)
        finally:
            await deployment.stop()
        assert engine.scheduler.free_blocks == engine.scheduler.num_blocks
        return answer

    return asyncio.run(asyncio.wait_for(main(), 60))


def test_choices_of_one_prompt_share_its_blocks_and_differ_by_seed() -> None:
    async def ask(client: openai.AsyncOpenAI) -> Any:
        one = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=6, seed=5)
        many = await client.completions.create(model="tiny", prompt=[PROMPT, "x"], max_tokens=6, seed=5, n=3)
        metrics = await client.get("http://engine/metrics", cast_to=httpx.Response)
        return one, many, metrics.text

    one, many, metrics = asked(ask)
    assert [choice.index for choice in many.choices] == list(range(6))
    assert many.choices[0].text == one.choices[0].text
    assert len({choice.text for choice in many.choices[:3]}) == 3
    assert many.usage.completion_tokens == 36
    assert many.usage.prompt_tokens == 52  # each prompt counts once
    assert many.usage.prompt_tokens_details.cached_tokens == 48
    # the first prompt is computed once; its two other choices and the later request find three blocks of it each
    assert 'loadline_prefix_cache_hits_total{model_name="tiny"} 144.0' in metrics


def test_choices_of_a_prompt_nobody_asked_before_compute_it_once() -> None:
    async def ask(client: openai.AsyncOpenAI) -> Any:
        many = await client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": PROMPT}], max_tokens=4, n=3, temperature=0
        )
        return many, (await client.get("http://engine/metrics", cast_to=httpx.Response)).text

    many, metrics = asked(ask)
    assert len({choice.message.content for choice in many.choices}) == 1
    assert many.usage.prompt_tokens_details.cached_tokens == 0
    hits = 2 * (many.usage.prompt_tokens // 16) * 16
    assert f'loadline_prefix_cache_hits_total{{model_name="tiny"}} {hits}.0' in metrics


def test_log_probabilities_of_a_completion_and_of_its_stream_are_the_same() -> None:
    wanted: dict[str, Any] = {
        "model": "tiny",
        "prompt": PROMPT,
        "max_tokens": 5,
        "temperature": 0,
        "logprobs": 2,
        "extra_body": {"ignore_eos": True},
    }

    async def ask(client: openai.AsyncOpenAI) -> Any:
        whole = (await client.completions.create(**wanted)).choices[0].logprobs
        stream = await client.completions.create(**wanted, stream=True)
        return whole, [chunk.choices[0].logprobs async for chunk in stream if chunk.choices]

    whole, parts = asked(ask)
    assert len(whole.tokens) == len(whole.token_logprobs) == len(whole.text_offset) == 5
    assert whole.text_offset[0] == 0
    for text, logprob, top in zip(whole.tokens, whole.token_logprobs, whole.top_logprobs, strict=True):
        assert top[text] == max(top.values()) == logprob < 0
    for field in ("tokens", "text_offset"):
        assert [one for part in parts for one in getattr(part, field)] == getattr(whole, field)
    streamed = [one for part in parts for one in part.token_logprobs]
    assert streamed == pytest.approx(whole.token_logprobs, abs=1e-4)


def test_log_probabilities_of_a_chat_name_bytes_and_rivals() -> None:
    async def ask(client: openai.AsyncOpenAI) -> Any:
        wanted: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
        told = await client.chat.completions.create(**wanted, logprobs=True, top_logprobs=4, temperature=0)
        stream = await client.chat.completions.create(**wanted, logprobs=True, temperature=0, stream=True)
        return told, [chunk async for chunk in stream]

    told, chunks = asked(ask)
    content = told.choices[0].logprobs.content
    assert 1 <= len(content) <= 3
    for one in content:
        assert [rival.logprob for rival in one.top_logprobs] == sorted(
            (rival.logprob for rival in one.top_logprobs), reverse=True
        )
        assert one.top_logprobs[0].token == one.token
        assert bytes(one.bytes).decode() == one.token
    tokens = [
        one.token for chunk in chunks for choice in chunk.choices if choice.logprobs for one in choice.logprobs.content
    ]
    assert tokens == [one.token for one in content]


def test_biases_and_penalties_reach_the_model() -> None:
    async def ask(client: openai.AsyncOpenAI) -> Any:
        wanted: dict[str, Any] = {"model": "tiny", "prompt": "x", "max_tokens": 6, "temperature": 0}
        bias = {"97": 100, "98": 99}
        forced = await client.completions.create(**wanted, logit_bias=bias)
        varied = await client.completions.create(**wanted, logit_bias=bias, presence_penalty=2, frequency_penalty=2)
        nucleus = await client.completions.create(**(wanted | {"temperature": 5}), extra_body={"min_p": 1.0})
        likeliest = await client.completions.create(**wanted)
        return [answer.choices[0].text for answer in (forced, varied, nucleus, likeliest)]

    forced, varied, nucleus, likeliest = asked(ask)
    assert forced == "aaaaaa"
    assert set(varied) == {"a", "b"}
    assert nucleus == likeliest


def test_a_choice_whose_reader_leaves_before_its_prompt_is_computed_holds_nothing() -> None:
    async def ask(client: openai.AsyncOpenAI) -> Any:
        task = asyncio.create_task(
            client.completions.create(model="tiny", prompt=PROMPT * 10, max_tokens=200, n=8, temperature=0)
        )
        await asyncio.sleep(0)
        await client.models.list()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await client.completions.create(model="tiny", prompt="y", max_tokens=2)

    assert asked(ask).usage.completion_tokens == 2
