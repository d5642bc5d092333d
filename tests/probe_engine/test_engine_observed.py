"""What the engine tells beside its metrics: a record per iteration, exemplars, timing, start-up, log lines."""

import asyncio
import io
import json
import logging
from contextlib import asynccontextmanager

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from probe_engine.model.sampling import SamplingParams
from probe_engine.model.tokenizer import byte_tokenizer
from probe_engine.runtime.generation import Generation
from probe_engine.sched import SchedulerConfig
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded
from probe_engine.telemetry.logs import JsonLines, TextLines
from probe_engine.telemetry.steps import forward_pass
from probe_engine.telemetry.tracing import RequestTracer

CONFIG = SchedulerConfig(num_blocks=64, block_size=4, max_num_batched_tokens=12, max_num_seqs=2, max_model_len=64)
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
PHASES_S = {"base": 2.0, "weights": 0.5, "warm_up": 0.25}


@asynccontextmanager
async def serving(engine, listener=None):
    deployment = Deployment("tiny", engine.metrics, version="1", listener=listener)
    deployment.serve(Loaded(engine, byte_tokenizer(), "float32", "cpu", phases_s=PHASES_S))
    transport = httpx.ASGITransport(create_app(deployment))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        yield client
    await deployment.stop()


def test_a_record_has_the_fields_of_dynamos_forward_pass_metrics(engine_of):
    engine, _ = engine_of(CONFIG)
    for name, length in (("a", 8), ("b", 10), ("c", 5), ("d", 9)):
        engine.add(Generation(name, [65] * length, 4, 0.0, SamplingParams(temperature=0.0)))
    engine.step()  # a whole, and four tokens of b
    engine.step()  # a decodes, the rest of b
    engine.step()
    first, second, third = (forward_pass(record, "tiny") for record in engine.steps.since(0))
    assert first["scheduled_requests"] == {
        "num_prefill_requests": 2,
        "sum_prefill_tokens": 12,
        "var_prefill_length": 1.0,
        "sum_prefill_kv_tokens": 0,
        "num_decode_requests": 0,
        "sum_decode_kv_tokens": 0,
        "var_decode_kv_tokens": 0.0,
    }
    assert first["queued_requests"] == {
        "num_prefill_requests": 2,
        "sum_prefill_tokens": 14,
        "var_prefill_length": 4.0,
        "num_decode_requests": 0,
        "sum_decode_kv_tokens": 0,
        "var_decode_kv_tokens": 0.0,
    }
    assert (
        second["scheduled_requests"] | {"sum_decode_kv_tokens": 9, "sum_prefill_kv_tokens": 4}
        == (second["scheduled_requests"])
    )
    assert third["scheduled_requests"]["sum_decode_kv_tokens"] == 10 + 11
    assert third["scheduled_requests"]["var_decode_kv_tokens"] == 0.25
    assert [one["counter_id"] for one in (first, second, third)] == [0, 1, 2]
    assert (first["version"], first["worker_id"], first["dp_rank"]) == (1, "tiny", 0)
    assert first["wall_time"] > 0


def test_records_are_served_as_json_lines(engine_of):
    async def main():
        async with serving(engine_of(CONFIG)[0]) as client:
            await client.post("/v1/completions", json={"prompt": "abc", "max_tokens": 3})
            whole = await client.get("/forward_passes")
            return whole, await client.get("/forward_passes", params={"since": 2})

    whole, rest = asyncio.run(main())
    assert whole.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["counter_id"] for line in whole.text.splitlines()] == [0, 1, 2]
    assert rest.text == whole.text.splitlines()[2] + "\n"


def test_latencies_name_the_trace_that_they_belong_to_and_the_start_is_a_trace_too(engine_of):
    memory = InMemorySpanExporter()
    tracer = RequestTracer("tiny", memory)

    async def main():
        async with serving(engine_of(CONFIG)[0], tracer) as client:
            await client.post("/v1/completions", json={"prompt": "abc", "max_tokens": 3})
            return (await client.get("/metrics", headers=OPENMETRICS)).text, (await client.get("/metrics")).text

    openmetrics, plain = asyncio.run(main())
    spans = {span.name: span for span in memory.get_finished_spans()}
    trace_id = f'trace_id="{spans["text_completion tiny"].context.trace_id:032x}"'
    told = [line for line in openmetrics.splitlines() if trace_id in line]
    assert sorted(line.split("_bucket")[0] for line in told) == [
        "loadline_e2e_request_latency_seconds",
        "loadline_time_to_first_token_seconds",
    ]
    assert trace_id not in plain
    start = spans["start tiny"]
    lengths = {name: (spans[name].end_time - spans[name].start_time) / 1e9 for name in PHASES_S}
    assert lengths == pytest.approx(PHASES_S)
    assert (start.end_time - start.start_time) / 1e9 == pytest.approx(2.75)
    assert {spans[name].parent.span_id for name in PHASES_S} == {start.context.span_id}
    assert spans["weights"].start_time == spans["base"].end_time


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_tells_its_stages_when_asked(engine_of, stream: bool):
    async def main():
        async with serving(engine_of(CONFIG)[0]) as client:
            body = {"prompt": "abc", "max_tokens": 3, "stream": stream}
            asked = await client.post("/v1/completions", json=body, headers={"x-loadline-timing": "true"})
            plain = await client.post("/v1/completions", json=body)
            wrong = await client.post("/v1/completions", json=body, headers={"x-loadline-timing": "yes"})
            metadata = await client.get("/metadata")
            return asked.text, plain.text, wrong, metadata.json()

    asked, plain, wrong, metadata = asyncio.run(main())
    last = json.loads(asked.split("\n\n")[2].removeprefix("data: ")) if stream else json.loads(asked)
    timing = last["choices"][0]["timing"]
    assert timing["queue_s"] + timing["prefill_s"] == pytest.approx(timing["ttft_s"])
    assert timing["ttft_s"] + timing["decode_s"] == pytest.approx(timing["e2e_s"])
    assert (timing["cached_tokens"], timing["preemptions"]) == (0, 0)
    assert "timing" not in plain
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "x-loadline-timing"
    assert metadata["cold_start_seconds"] == 2.75


def test_a_server_is_not_ready_before_its_model_is(engine_of):
    engine, _ = engine_of(CONFIG)
    deployment = Deployment("tiny", engine.metrics, version="1")

    async def main():
        transport = httpx.ASGITransport(create_app(deployment))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            before = await client.get("/ready"), await client.post("/v1/completions", json={"prompt": "a"})
            await deployment.load(lambda: Loaded(engine, byte_tokenizer(), "float32", "cpu", phases_s=PHASES_S))
            after = await client.get("/ready")
        await deployment.stop()
        return [*before, after]

    waiting, refused, ready = asyncio.run(main())
    assert (waiting.status_code, refused.status_code, ready.status_code) == (503, 503, 200)
    assert "retry-after" in refused.headers


def test_log_lines_carry_their_time_as_text_and_as_json():
    sink = io.StringIO()
    record = logging.LogRecord("probe_engine.runtime", logging.WARNING, "x.py", 1, "%d outputs", (3,), None)
    record.created = 1_700_000_000.5
    assert TextLines().format(record) == "2023-11-14T22:13:20.500Z WARNING probe_engine.runtime: 3 outputs"
    logger = logging.Logger("engine")
    handler = logging.StreamHandler(sink)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("a step failed")
    line = json.loads(sink.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "engine", "a step failed")
    assert line["error"].endswith("ValueError: broken")
    assert json.loads(JsonLines().format(record))["time"] == "2023-11-14T22:13:20.500Z"
