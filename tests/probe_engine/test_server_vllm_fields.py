"""What vLLM's clients send beyond OpenAI's fields: honoured, harmless, or refused by name."""

import asyncio
import time

import httpx
import pytest

from probe_engine.model.tokenizer import byte_tokenizer
from probe_engine.sched import SchedulerConfig
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded

CONFIG = SchedulerConfig(
    num_blocks=200,
    block_size=4,
    max_num_batched_tokens=64,
    max_num_seqs=1,
    max_model_len=200,
    policy="priority",
    priority_ageing_s=1e6,
)
GREEDY = {"prompt": "abc", "temperature": 0, "max_tokens": 8, "ignore_eos": True}


def answered(engine_of, *bodies, **headers):
    """The answers to ``bodies``, all sent at once in this order, and the ids in the order in which they ended."""

    async def main():
        engine, runner = engine_of(CONFIG)
        runner.scripts[tuple(b"abc")] = b"vwxyzvwxyz"
        deployment = Deployment("tiny", engine.metrics, version="1")
        deployment.serve(Loaded(engine, byte_tokenizer(), "float32", "cpu"))
        ended = []

        def all_are_here():
            while deployment.served.engine.serving < len(bodies) and not ended:
                time.sleep(0.001)

        runner.before_step = all_are_here

        async def ask(client, at, body):
            answer = await client.post("/v1/completions", json=GREEDY | body, headers=headers)
            ended.append(at)
            return answer

        try:
            transport = httpx.ASGITransport(create_app(deployment))
            async with httpx.AsyncClient(transport=transport, base_url="http://e") as client:
                return await asyncio.gather(*(ask(client, at, body) for at, body in enumerate(bodies))), ended
        finally:
            await deployment.stop()

    return asyncio.run(asyncio.wait_for(main(), 60))


def only(engine_of, body, **headers):
    (answer,), _ = answered(engine_of, body, **headers)
    return answer


def test_a_stop_token_ends_the_output_and_is_no_part_of_its_text(engine_of):
    (choice,) = only(engine_of, {"stop_token_ids": [ord("y"), ord("q")]}).json()["choices"]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("vwx", "stop", ord("y"))


def test_no_stop_token_ends_an_output_before_min_tokens(engine_of):
    answer = only(engine_of, {"stop_token_ids": [ord("w")], "min_tokens": 4}).json()
    assert (answer["choices"][0]["text"], answer["usage"]["completion_tokens"]) == ("vwxyzv", 7)


def test_a_class_in_the_body_goes_before_the_header(engine_of):
    bodies = [{"prompt": "first"}, {"prompt": "patient", "priority": 9}, {"prompt": "urgent", "priority": 0}]
    answers, ended = answered(engine_of, *bodies, **{"x-loadline-priority": "5"})
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert ended.index(2) < ended.index(1)


@pytest.mark.parametrize(
    "body",
    [
        {"skip_special_tokens": True, "spaces_between_special_tokens": True},
        {"include_stop_str_in_output": False, "return_token_ids": False},
        {"prompt_logprobs": None, "guided_json": None, "truncate_prompt_tokens": None},
        {"add_special_tokens": True, "request_id": "abc", "kv_transfer_params": None},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"min_tokens": 2, "stop_token_ids": [], "priority": 0},
    ],
)
def test_what_changes_nothing_is_taken(engine_of, body):
    assert only(engine_of, body).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"skip_special_tokens": False}, "skip_special_tokens"),
        ({"return_token_ids": True}, "return_token_ids"),
        ({"include_stop_str_in_output": True}, "include_stop_str_in_output"),
        ({"allowed_token_ids": [1]}, "allowed_token_ids"),
        ({"priority": -1}, "priority"),
        ({"priority": 10}, "priority"),
        ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(engine_of, body, field):
    answer = only(engine_of, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
