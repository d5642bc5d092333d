"""What an operator changes in an engine that serves: how many requests may run at once."""

import asyncio

import httpx
import pytest

from probe_engine.model.tokenizer import byte_tokenizer
from probe_engine.sched import ConfigError, Request, Scheduler, SchedulerConfig
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded

CONFIG = SchedulerConfig(num_blocks=200, block_size=4, max_num_batched_tokens=64, max_num_seqs=8, max_model_len=200)


def asked(engine, *bodies, token="op", shown="op"):
    async def main():
        deployment = Deployment("tiny", engine.metrics, version="1")
        deployment.serve(Loaded(engine, byte_tokenizer(), "float32", "cpu"))
        headers = {"authorization": f"Bearer {shown}"}
        try:
            transport = httpx.ASGITransport(create_app(deployment, token=token))
            async with httpx.AsyncClient(transport=transport, base_url="http://e", headers=headers) as client:
                return [await client.post("/admin/limits", json=body) for body in bodies]
        finally:
            await deployment.stop()

    return asyncio.run(main())


def test_a_limit_is_set_told_and_taken_off_again(engine_of):
    engine, _ = engine_of(CONFIG)
    held, again, freed = asked(engine, {"max_num_seqs": 2}, {"max_num_seqs": 2}, {"max_num_seqs": None})
    assert held.json() == again.json() == {"max_num_seqs": 2, "configured_max_num_seqs": 8}
    assert freed.json()["max_num_seqs"] == 8


@pytest.mark.parametrize("body", [{"max_num_seqs": 9}, {"max_num_seqs": 0}, {"max_num_seqs": True}, {}, {"other": 1}])
def test_a_limit_that_cannot_be_is_a_400_and_changes_nothing(engine_of, body):
    engine, _ = engine_of(CONFIG)
    (answer,) = asked(engine, body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert engine.scheduler.batch_limit == 8


def test_it_is_closed_without_a_token_and_to_a_wrong_one(engine_of):
    engine, _ = engine_of(CONFIG)
    (open_server,) = asked(engine, {"max_num_seqs": 2}, token=None)
    (wrong,) = asked(engine, {"max_num_seqs": 2}, shown="no")
    assert (open_server.status_code, wrong.status_code, engine.scheduler.batch_limit) == (403, 401, 8)


def test_what_runs_goes_on_and_nobody_joins_until_there_is_room():
    scheduler = Scheduler(CONFIG)
    for at in range(6):
        scheduler.add(Request(f"r{at}", 4, 3 if at < 4 else 2, 0.0))
    output = scheduler.schedule(0.0)
    scheduler.hold_to(2)
    running, now = [], 0.0
    while output is not None:
        running.append(len(output.requests))
        now += 1
        scheduler.update(output, {}, now)
        output = scheduler.schedule(now)
    assert running[0] == 6

    scheduler = Scheduler(CONFIG)
    scheduler.hold_to(2)
    for at in range(6):
        scheduler.add(Request(f"s{at}", 4, 3, 0.0))
    most = 0
    while (output := scheduler.schedule(now)) is not None:
        most = max(most, scheduler.num_running)
        scheduler.update(output, {}, now)
    assert most == 2


@pytest.mark.parametrize("most", [0, -1, 9])
def test_the_scheduler_refuses_what_the_engine_was_not_made_for(most):
    with pytest.raises(ConfigError, match="it must be 1 to 8"):
        Scheduler(CONFIG).hold_to(most)
