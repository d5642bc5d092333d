"""The OpenAI API over ASGI, on the recalling runner and on the real tiny model."""

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest

from probe_engine.model.tokenizer import byte_tokenizer
from probe_engine.runtime.build import build_engine
from probe_engine.sched import SchedulerConfig
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded
from probe_engine.settings import EngineSettings
from probe_engine.telemetry.metrics import EngineMetrics

CONFIG = SchedulerConfig(num_blocks=400, block_size=4, max_num_batched_tokens=64, max_num_seqs=16, max_model_len=200)


@asynccontextmanager
async def served(engine, **options):
    """A client of an app that serves ``engine``, and its deployment."""
    token = options.pop("token", None)
    deployment = Deployment("tiny", engine.metrics, version="1.2.3", **options)
    deployment.serve(Loaded(engine, byte_tokenizer(), "float32", "cpu"))
    app = create_app(deployment, token=token)
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
            yield client, deployment, app
    finally:
        await deployment.stop()
    assert engine.scheduler.free_blocks == engine.scheduler.num_blocks


def asking(engine_of, ask: Callable[[httpx.AsyncClient], Any], scripts: dict[str, bytes] | None = None, **options):
    """What ``ask(client)`` returns, on a fresh engine."""

    async def main():
        engine, runner = engine_of(CONFIG)
        runner.scripts = {tuple(prompt.encode()): script for prompt, script in (scripts or {}).items()}
        async with served(engine, **options) as (client, _, _):
            return await ask(client)

    return asyncio.run(asyncio.wait_for(main(), 60))


def posted(engine_of, path: str, body: dict[str, Any], scripts: dict[str, bytes] | None = None, **headers: str):
    async def ask(client):
        return await client.post(path, json=body, headers=headers)

    return asking(engine_of, ask, scripts)


def events(response: httpx.Response) -> list[Any]:
    """Decoded events; the last is the string ``[DONE]``."""
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("\n\n")
    lines = response.text.rstrip("\n").split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def test_a_completion_has_text_reason_and_usage(engine_of):
    answer = posted(engine_of, "/v1/completions", {"model": "tiny", "prompt": "x", "max_tokens": 2}, {"x": b"hi!"})
    body = answer.json()
    assert answer.status_code == 200
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "hi", "logprobs": None, "finish_reason": "length", "stop_reason": None}
    ]
    assert body["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_a_completion_without_max_tokens_has_sixteen(engine_of):
    body = posted(engine_of, "/v1/completions", {"prompt": "x"}).json()
    assert body["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("x", ["one"]),
        (["x", "y"], ["one", "two"]),
        ([120], ["one"]),
        ([[121], [120]], ["two", "one"]),
    ],
)
def test_prompts_may_be_text_or_token_ids_one_or_several(engine_of, prompt, texts: list[str]):
    body = posted(engine_of, "/v1/completions", {"prompt": prompt, "max_tokens": 3}, {"x": b"one", "y": b"two"}).json()
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == list(enumerate(texts))
    assert body["usage"]["total_tokens"] == 4 * len(texts)


def test_a_stream_has_a_chunk_per_token_then_usage_then_done(engine_of):
    got = events(
        posted(
            engine_of,
            "/v1/completions",
            {"prompt": "x", "max_tokens": 3, "stream": True, "stream_options": {"include_usage": True}},
            {"x": b"abc"},
        )
    )
    assert [chunk["choices"][0]["text"] for chunk in got[:3]] == ["a", "b", "c"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in got[:3]] == [None, None, "length"]
    assert (got[3]["choices"], got[3]["usage"]["total_tokens"], got[4]) == ([], 4, "[DONE]")
    assert len({chunk["id"] for chunk in got[:4]}) == 1


def test_a_stream_has_no_usage_unless_asked(engine_of):
    got = events(posted(engine_of, "/v1/completions", {"prompt": "x", "max_tokens": 1, "stream": True}))
    assert [chunk if chunk == "[DONE]" else chunk.get("usage") for chunk in got] == [None, "[DONE]"]


def test_usage_may_come_with_every_chunk(engine_of):
    options = {"include_usage": True, "continuous_usage_stats": True}
    got = events(
        posted(
            engine_of, "/v1/completions", {"prompt": "x", "max_tokens": 2, "stream": True, "stream_options": options}
        )
    )
    assert [chunk["usage"]["completion_tokens"] for chunk in got[:-1]] == [1, 2, 2]


def test_several_prompts_stream_with_their_index(engine_of):
    got = events(
        posted(
            engine_of,
            "/v1/completions",
            {"prompt": ["x", "y"], "max_tokens": 2, "stream": True},
            {"x": b"ab", "y": b"cd"},
        )
    )
    texts = ["", ""]
    for chunk in got[:-1]:
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["text"]
    assert texts == ["ab", "cd"]


def test_a_chat_stream_opens_with_the_role(engine_of):
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "stream": True}
    got = events(posted(engine_of, "/v1/chat/completions", body))
    assert got[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [list(chunk["choices"][0]["delta"]) for chunk in got[1:-1]] == [["content"], ["content"]]
    assert got[-2]["choices"][0]["finish_reason"] == "length"
    assert {chunk["object"] for chunk in got[:-1]} == {"chat.completion.chunk"}


def test_a_chat_takes_text_parts_and_max_completion_tokens(engine_of):
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    as_parts = {"messages": [{"role": "user", "content": parts}], "max_completion_tokens": 4}
    as_text = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    one, other = (posted(engine_of, "/v1/chat/completions", body).json() for body in (as_parts, as_text))
    assert one["choices"] == other["choices"]
    assert one["choices"][0]["message"]["role"] == "assistant"
    assert (one["object"], one["usage"]["completion_tokens"]) == ("chat.completion", 4)


def test_a_chat_without_limit_may_fill_the_context(engine_of):
    body = posted(engine_of, "/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}).json()
    assert body["usage"]["total_tokens"] == 200


def test_a_stop_text_that_straddles_chunks_ends_the_stream_before_it(engine_of):
    got = events(
        posted(
            engine_of,
            "/v1/completions",
            {"prompt": "x", "max_tokens": 30, "stream": True, "stop": ["END"]},
            {"x": b"go on EN to the END and more"},
        )
    )
    assert "".join(chunk["choices"][0]["text"] for chunk in got[:-1]) == "go on EN to the "
    assert (got[-2]["choices"][0]["finish_reason"], got[-2]["choices"][0]["stop_reason"]) == ("stop", "END")


def test_cached_prompt_tokens_are_told_in_the_usage(engine_of):
    async def ask(client):
        return [(await client.post("/v1/completions", json={"prompt": "a long prompt"})).json() for _ in range(2)]

    first, second = asking(engine_of, ask)
    assert second["usage"]["prompt_tokens_details"] == {"cached_tokens": 12}
    assert first["choices"] == second["choices"]


def test_fields_of_other_clients_that_change_nothing_are_accepted(engine_of):
    body = {
        "prompt": "x",
        "max_tokens": 1,
        "n": 1,
        "echo": False,
        "user": "me",
        "presence_penalty": 0.0,
        "logit_bias": {},
        "skip_special_tokens": True,
        "ignore_eos": True,
        "top_k": -1,
        "whatever": [1],
    }
    assert posted(engine_of, "/v1/completions", body).status_code == 200


def test_the_callers_request_id_comes_back(engine_of):
    answer = posted(engine_of, "/v1/completions", {"prompt": "x"}, **{"x-request-id": "mine-7"})
    assert answer.headers["x-request-id"] == "mine-7"
    assert answer.json()["id"] == "cmpl-mine-7"


def test_two_requests_of_one_id_at_once_are_both_served(engine_of):
    async def ask(client):
        post = [
            client.post("/v1/completions", json={"prompt": "x", "max_tokens": 50}, headers={"x-request-id": "same"})
            for _ in range(3)
        ]
        return await asyncio.gather(*post)

    answers = asking(engine_of, ask)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.json()["id"] for answer in answers}) == 3


def test_models_tokenize_version_and_health(engine_of):
    async def ask(client):
        return [
            (await client.get("/v1/models")).json()["data"][0],
            (await client.get("/v1/models/tiny")).json()["id"],
            (await client.post("/tokenize", json={"prompt": "hi"})).json(),
            (await client.post("/tokenize", json={"messages": [{"role": "user", "content": "hi"}]})).json()["count"],
            (await client.get("/version")).json(),
            (await client.get("/health")).status_code,
            (await client.get("/ready")).status_code,
        ]

    model, name, tokens, chat, version, *statuses = asking(engine_of, ask)
    assert (model["id"], model["max_model_len"], name) == ("tiny", 200, "tiny")
    assert tokens == {"count": 2, "max_model_len": 200, "tokens": [104, 105]}
    assert chat > 2
    assert (version, statuses) == ({"version": "1.2.3"}, [200, 200])


def test_metadata_and_steps_tell_what_runs_and_ran(engine_of):
    async def ask(client):
        await client.post("/v1/completions", json={"prompt": "abc", "max_tokens": 3})
        metadata, steps = (await client.get("/metadata")).json(), (await client.get("/steps")).json()
        return metadata, steps, (await client.get("/steps", params={"since": steps["next"]})).json()

    metadata, steps, later = asking(engine_of, ask)
    assert metadata["scheduler"]["max_num_seqs"] == 16
    assert metadata["kv_blocks"] == {"total": 400, "free": 400}
    assert [step["step"] for step in steps["steps"]] == [0, 1, 2]
    assert set(steps["steps"][0]) == {
        *("step", "start_s", "wall_s", "prefill_tokens", "prefill_attention"),
        *("decode_seqs", "decode_kv_tokens", "preempted", "waiting", "prefill_requests", "prefill_length_variance"),
        *("prefill_kv_tokens", "decode_kv_variance", "queued_requests", "queued_tokens", "queued_length_variance"),
        *("put_back_requests", "put_back_kv_tokens", "put_back_kv_variance"),
    }
    assert later == {"steps": [], "next": 3}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_blocks(engine_of, stream: bool):
    """Drives ASGI by hand: the client goes when its second step has begun."""
    body = json.dumps({"prompt": "x", "max_tokens": 150, "stream": stream}).encode()

    async def main():
        engine, runner = engine_of(CONFIG)
        begun, go = threading.Event(), threading.Event()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        def second_step_waits():
            if runner.computed:
                begun.set()
                assert go.wait(20)

        async def receive():
            if messages:
                return messages.pop()
            await asyncio.to_thread(begun.wait, 20)
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        runner.before_step = second_step_waits
        async with served(engine) as (_, deployment, app):
            await app(http_scope("/v1/completions", len(body)), receive, send)
            assert engine.scheduler.num_running == 1
            go.set()
            while deployment.served.engine.serving:
                await asyncio.sleep(0)
            assert (engine.scheduler.free_blocks, runner.ids) == (400, {})
            return generate_latest(engine.metrics.registry()).decode()

    metrics = asyncio.run(asyncio.wait_for(main(), 60))
    assert 'loadline_request_success_total{finished_reason="abort",model_name="tiny"} 1.0' in metrics


def http_scope(path: str, length: int) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(length).encode())],
        "server": ("engine", 80),
        "client": ("127.0.0.1", 1),
        "state": {},
    }


TINY = EngineSettings(num_blocks=64, max_model_len=256, max_num_batched_tokens=128, max_num_seqs=32)
GREEDY = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}


def tiny_answers(bodies: list[dict[str, Any]], *, at_once: bool, settings: EngineSettings = TINY) -> list[Any]:
    """Texts of ``bodies`` from the real tiny model, and the engine's preemptions."""

    async def main():
        _, engine, _ = build_engine(settings, EngineMetrics("tiny"))
        async with served(engine) as (client, _, _):
            if at_once:
                answers = await asyncio.gather(*(client.post("/v1/completions", json=body) for body in bodies))
            else:
                answers = [await client.post("/v1/completions", json=body) for body in bodies]
        return [answer.json()["choices"][0]["text"] for answer in answers], engine.scheduler.preemptions

    return asyncio.run(asyncio.wait_for(main(), 100))


BODIES = [{"prompt": f"request {index}: " + "lorem ipsum " * (index % 4), **GREEDY} for index in range(8)]


def test_the_tiny_model_answers_the_same_in_a_batch_as_one_by_one():
    together, _ = tiny_answers(BODIES, at_once=True)
    alone, _ = tiny_answers(BODIES, at_once=False)
    assert together == alone


def test_the_tiny_model_answers_the_same_when_preempted():
    small = TINY.model_copy(update={"num_blocks": 20})
    cramped, preemptions = tiny_answers(BODIES, at_once=True, settings=small)
    roomy, none = tiny_answers(BODIES, at_once=False)
    assert (preemptions > 0, none) == (True, 0)
    assert cramped == roomy


def test_the_tiny_model_answers_the_same_from_the_prefix_cache():
    body = {"prompt": "the same long prompt again and again", **GREEDY}
    (cold, warm), _ = tiny_answers([body, body], at_once=False)
    assert cold == warm


def test_a_seed_gives_the_same_sample_in_whatever_company():
    body = {"prompt": "sample", "max_tokens": 12, "seed": 7, "temperature": 0.9, "ignore_eos": True}
    (alone,), _ = tiny_answers([body], at_once=False)
    (among, *_), _ = tiny_answers([body, *BODIES], at_once=True)
    assert alone == among


def test_the_api_describes_itself(engine_of):
    async def ask(client):
        return (await client.get("/openapi.json")).json(), (await client.get("/docs")).status_code

    document, docs = asking(engine_of, ask)
    assert {"/v1/completions", "/v1/chat/completions", "/v1/models", "/metrics", "/steps"} <= set(document["paths"])
    assert docs == 404  # the usual page loads its scripts from another host
