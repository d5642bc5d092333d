"""Every request that cannot be served gets OpenAI's error shape, a status and a message that says why."""

import asyncio
import json
import threading

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe_engine.model.tokenizer import byte_tokenizer
from probe_engine.sched import SchedulerConfig
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded

CONFIG = SchedulerConfig(num_blocks=400, block_size=4, max_num_batched_tokens=64, max_num_seqs=2, max_model_len=200)
CHAT = {"messages": [{"role": "user", "content": "x"}]}


def asking(engine_of, ask, *, ready: bool = True, **options):
    app_options = {name: options.pop(name) for name in ("token", "max_body_bytes") if name in options}

    async def main():
        engine, runner = engine_of(CONFIG)
        deployment = Deployment("tiny", engine.metrics, version="1", **options)
        if ready:
            deployment.serve(Loaded(engine, byte_tokenizer(), "float32", "cpu"))
        transport = httpx.ASGITransport(create_app(deployment, **app_options))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
                return await ask(client, runner)
        finally:
            await deployment.stop()

    return asyncio.run(asyncio.wait_for(main(), 60))


def refusal(engine_of, path: str, body, *, headers: dict[str, str] | None = None, **options):
    """Status and error of one POST."""

    async def ask(client, runner):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post(path, content=content, headers={"content-type": "application/json", **(headers or {})})

    answer = asking(engine_of, ask, **options)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer, error


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "prompt", "field required"),
        ({"prompt": 5}, "prompt", "must be a string, a list of strings"),
        ({"prompt": ["a", 5]}, "prompt", "must be a string, a list of strings"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": []}, "prompt", "empty"),
        ({"prompt": ["a", ""]}, "prompt[1]", "empty"),
        ({"prompt": [[1], []]}, "prompt[1]", "empty"),
        ({"prompt": [1, 999]}, "prompt[1]", "token 999 is not in the vocabulary of 258"),
        ({"prompt": "x", "max_tokens": "5"}, "max_tokens", "valid integer, not '5'"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"prompt": "x", "temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"prompt": "x", "top_p": 0}, "top_p", "greater than 0"),
        ({"prompt": "x", "top_k": -2}, "top_k", "greater than or equal to -1"),
        ({"prompt": "x", "stop": 5}, "stop", "must be a non-empty string or a list"),
        ({"prompt": "x", "stop": [""]}, "stop", "must be a non-empty string or a list"),
        ({"prompt": "x", "stream": "yes"}, "stream", "valid boolean"),
        ({"prompt": "x", "stream_options": {"include_usage": 3}}, "stream_options.include_usage", "valid boolean"),
        ({"prompt": "x", "n": 0}, "n", "greater than or equal to 1"),
        ({"prompt": "x", "echo": True}, "echo", "supports only False"),
        ({"prompt": "x", "logprobs": 21}, "logprobs", ""),
        ({"prompt": "x", "logit_bias": {"a": 1}}, "logit_bias.a.[key]", "pattern"),
        ({"prompt": "x", "logit_bias": {"258": 1}}, "logit_bias", "token 258 is not in the vocabulary of 258"),
        ({"prompt": "x", "best_of": 3}, "best_of", "supports only 1"),
        ({"prompt": "x", "presence_penalty": 2.5}, "presence_penalty", "less than or equal to 2"),
        ({"prompt": "x", "max_tokens": 200}, "prompt", "max_tokens 200 make 201; max_model_len is 200"),
        ({"prompt": "x" * 300}, "prompt", "max_model_len is 200"),
    ],
)
def test_a_completion_that_cannot_be_served_says_which_field_and_why(engine_of, body, param: str, message: str):
    answer, error = refusal(engine_of, "/v1/completions", body)
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert message in error["message"]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "messages", "field required"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "field required"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "must be a string or a list of text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content",
            "must be a string or a list of text parts",
        ),
        ({**CHAT, "logprobs": 1}, "logprobs", "valid boolean"),
        ({**CHAT, "top_logprobs": 2}, "top_logprobs", "needs logprobs to be true"),
        ({**CHAT, "tools": [{}]}, "tools", "supports only []"),
        ({**CHAT, "response_format": {"type": "json_object"}}, "response_format", "supports only"),
        ({**CHAT, "max_completion_tokens": 1000}, "prompt", "max_model_len is 200"),
    ],
)
def test_a_chat_that_cannot_be_served_says_which_field_and_why(engine_of, body, param: str, message: str):
    answer, error = refusal(engine_of, "/v1/chat/completions", body)
    assert answer.status_code == 400
    assert error["param"].startswith(param)
    assert message in error["message"]


def test_an_unknown_model_is_404(engine_of):
    bodies = {"/v1/completions": {"prompt": "x"}, "/v1/chat/completions": CHAT, "/tokenize": {"prompt": ""}}
    for path, body in bodies.items():
        answer, error = refusal(engine_of, path, {"model": "gpt-4", **body})
        assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert error["message"] == "the model 'gpt-4' does not exist; this server has 'tiny'"


@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b'"x"', b"null", b"\xff\xfe", b'{"prompt": "\\ud800"}'])
def test_a_body_that_is_no_json_object_is_400(engine_of, body: bytes):
    answer, error = refusal(engine_of, "/v1/completions", body)
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")


def test_an_unknown_path_and_method_have_the_same_shape(engine_of):
    async def ask(client, runner):
        return await client.get("/nope"), await client.get("/v1/completions")

    missing, method = asking(engine_of, ask)
    assert (missing.status_code, method.status_code) == (404, 405)
    assert "/nope" in missing.json()["error"]["message"]
    assert method.json()["error"]["type"] == "invalid_request_error"


def test_before_the_model_is_loaded_requests_get_503_and_health_200(engine_of):
    async def ask(client, runner):
        return (
            await client.post("/v1/completions", json={"prompt": "x"}),
            await client.get("/ready"),
            await client.get("/health"),
            await client.get("/metrics"),
        )

    completion, ready, health, metrics = asking(engine_of, ask, ready=False)
    assert [completion.status_code, ready.status_code, health.status_code, metrics.status_code] == [503, 503, 200, 200]
    assert completion.headers["retry-after"] == "2"
    assert completion.json()["error"]["code"] == "not_ready"


def test_a_full_queue_is_429_with_retry_after(engine_of):
    async def ask(client, runner):
        reached, go = threading.Event(), threading.Event()

        def hold():
            reached.set()
            assert go.wait(20)

        runner.before_step = hold
        running = asyncio.create_task(client.post("/v1/completions", json={"prompt": "x"}))
        await asyncio.to_thread(reached.wait, 20)
        waiting = asyncio.create_task(client.post("/v1/completions", json={"prompt": "x"}))
        while not waiting.done() and (await client.get("/metrics")).text.count('waiting{model_name="tiny"} 1.0') == 0:
            await asyncio.sleep(0)
        refused = await client.post("/v1/completions", json={"prompt": "x"})
        go.set()
        return refused, await running, await waiting, (await client.get("/metrics")).text

    refused, running, waiting, metrics = asking(engine_of, ask, max_queue=1)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert (running.status_code, waiting.status_code) == (200, 200)
    assert 'loadline_requests_rejected_total{model_name="tiny",reason="queue_full"} 1.0' in metrics


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_step_is_told_to_its_requests(engine_of, stream: bool):
    async def ask(client, runner):
        runner.failing = {"cmpl-bad"}
        return await client.post(
            "/v1/completions", json={"prompt": "x", "stream": stream}, headers={"x-request-id": "bad"}
        )

    answer = asking(engine_of, ask)
    if stream:
        first, done = answer.text.strip().split("\n\n")
        assert (answer.status_code, done) == (200, "data: [DONE]")
        error = json.loads(first.removeprefix("data: "))["error"]
    else:
        assert answer.status_code == 500
        error = answer.json()["error"]
    assert (error["type"], error["message"]) == ("server_error", "the engine's step failed: out of memory")


def test_a_token_is_asked_of_all_but_the_probes(engine_of):
    async def ask(client, runner):
        statuses = []
        for authorization in (None, "Bearer wrong", "Bearer s3cret"):
            headers = {} if authorization is None else {"authorization": authorization}
            for path in ("/v1/models", "/metrics", "/health", "/ready"):
                statuses.append((await client.get(path, headers=headers)).status_code)
        return statuses

    assert asking(engine_of, ask, token="s3cret") == [401, 401, 200, 200] * 2 + [200] * 4


def test_a_body_over_the_limit_is_413_with_or_without_its_length_told(engine_of):
    async def ask(client, runner):
        async def pieces():
            for _ in range(3):
                yield b" " * 50

        long = b'{"prompt": "' + b"x" * 100 + b'"}'
        return await client.post("/v1/completions", content=long), await client.post(
            "/v1/completions", content=pieces(), headers={"content-type": "application/json"}
        )

    told, untold = asking(engine_of, ask, max_body_bytes=100)
    assert (told.status_code, untold.status_code) == (413, 413)
    assert "100 bytes" in told.json()["error"]["message"]
    assert "100 bytes" in untold.json()["error"]["message"]


@pytest.mark.parametrize("request_id", ["has space", "x" * 200])
def test_a_request_id_that_cannot_be_one_is_400(engine_of, request_id: str):
    answer, error = refusal(engine_of, "/v1/completions", {"prompt": "x"}, headers={"x-request-id": request_id})
    assert answer.status_code == 400
    assert "x-request-id" in error["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    *("prompt", "messages", "model", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "stream"),
    *("stream_options", "ignore_eos", "n", "echo", "logprobs", "tools", "max_completion_tokens"),
    *("top_logprobs", "logit_bias", "min_p", "presence_penalty", "repetition_penalty"),
    *("priority", "stop_token_ids", "min_tokens", "prompt_logprobs", "skip_special_tokens", "return_token_ids"),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6), min_size=8, max_size=8))
def test_whatever_a_body_holds_the_answer_is_no_server_error(engine_of, bodies):
    async def ask(client, runner):
        answers = []
        for body in bodies:
            for path in ("/v1/completions", "/v1/chat/completions", "/tokenize"):
                answers.append(await client.post(path, content=json.dumps({"prompt": "x", **CHAT, **body})))
        return answers

    for answer in asking(engine_of, ask):
        assert answer.status_code in {200, 400, 404}
        if answer.status_code != 200:
            assert answer.json()["error"]["message"]
