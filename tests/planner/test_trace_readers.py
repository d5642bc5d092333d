"""Each format of request traces: what is read of it, what is flagged, what is said to be missing."""

import json
from pathlib import Path

import pytest

from planner.errors import TraceError
from planner.readers import FORMATS, open_trace, read_trace
from planner.traces.trace import Flag, Quality, Ragged, TraceRead


def read(tmp_path: Path, text: str, **options: object) -> TraceRead:
    path = tmp_path / "trace.txt"
    path.write_text(text)
    return read_trace(path, **options)  # type: ignore[arg-type]


def lines(*objects: object) -> str:
    return "\n".join(json.dumps(one) for one in objects)


def column(found: TraceRead, name: str) -> list[object]:
    values = found.trace.column(name)
    assert values is not None and not isinstance(values, Ragged)
    missing = found.trace.missing.get(name)
    return [None if missing is not None and missing[row] else value for row, value in enumerate(values.tolist())]


def test_burstgpt_is_read_by_name_so_that_a_session_is_not_taken_for_a_model(tmp_path: Path) -> None:
    names = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    six = names + "5,ChatGPT,472,18,490,Conversation log\n"
    eight = (
        f"Session ID,Elapsed time,{names}"
        "s-1,2.5,5.25,ChatGPT,472,18,490,Conversation log\n"
        ",,45,GPT-4,0,0,0,API log\n"
        "s-1,1,46,GPT-4,10,5,16,API log\n"
    )
    old, new = read(tmp_path, six), read(tmp_path, eight)
    assert (column(old, "model"), old.trace.arrival_ns.tolist()) == (["ChatGPT"], [5_000_000_000])
    assert new.trace.arrival_ns.tolist() == [5_250_000_000, 45_000_000_000]
    assert column(new, "session_id") == ["s-1", None]
    assert column(new, "model") == ["ChatGPT", "GPT-4"]
    assert column(new, "status") == ["ok", "error"]
    assert column(new, "rec_e2e_ms") == [2500.0, None]
    assert Flag(int(new.trace.flags[1])) == Flag.ZERO_INPUT | Flag.ZERO_OUTPUT
    assert [row.reason for row in new.quarantine] == ["total_is_not_the_sum"]


def test_bailian_turns_form_sessions_and_their_prompts_are_whole(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        lines(
            {"chat_id": 7, "parent_chat_id": -1, "timestamp": 0.1, "input_length": 30, "output_length": 4,
             "type": "text", "turn": 1, "hash_ids": [1, 2]},
            {"chat_id": 9, "parent_chat_id": 7, "timestamp": 61.123, "input_length": 50, "output_length": 4,
             "type": "search", "turn": 2, "hash_ids": [1, 2, 3, 4]},
            {"chat_id": 11, "parent_chat_id": 9, "timestamp": 70, "input_length": 50, "output_length": 4,
             "type": "text", "turn": 3, "hash_ids": [1, 2, 3, 4, 5]},
            {"chat_id": 12, "parent_chat_id": 11, "timestamp": 71, "input_length": 20, "output_length": 4,
             "type": "text", "turn": 4, "hash_ids": [1]},
        ),
    )  # fmt: skip
    assert found.trace.arrival_ns.tolist() == [100_000_000, 61_123_000_000, 71_000_000_000]
    assert column(found, "session_id") == ["7", "7", "11"]
    assert column(found, "parent_request_id") == [None, "7", "11"]
    assert column(found, "context_mode") == ["full"] * 3
    assert column(found, "block_tokens") == [16] * 3
    assert [row.reason for row in found.quarantine] == ["too_many_hash_ids"]
    assert Flag(int(found.trace.flags[2])) == Flag.HASH_SHORT


def test_an_agents_session_is_one_line_of_several_requests(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        lines(
            {"session_id": "a", "arrival_time_ns": 5, "sub_requests": [
                {"input_toks": 10, "output_toks": 2, "tool_duration_ns": 3_000_000},
                {"input_toks": -1, "output_toks": 2},
                {"input_toks": 20, "output_toks": 2, "input_tok_ids": [4, 5]},
            ]},
            {"session_id": "b", "arrival_time_ns": 6, "sub_requests": []},
        ),
    )  # fmt: skip
    counts = found.counts
    assert (counts.lines, counts.accepted, counts.quarantined) == (2, 1, 1)
    assert (counts.requests, counts.parts_quarantined) == (2, 1)
    assert [row.reason for row in found.quarantine] == ["negative_input_toks", "no_request"]
    assert column(found, "turn") == [0, 2]
    assert column(found, "after_ms") == [None, 3.0]


def test_measured_times_are_differences_on_their_own_clock(shared_data: Path) -> None:
    path = shared_data / "traces/llmservingsim/bench/examples/RTX4090/Llama-3.1-8B/vllm/requests.jsonl"
    found = read_trace(path)
    assert found.trace.header.origin_ns == 1_787_267_980_082_740_300
    assert column(found, "rec_ttft_ms")[0] == pytest.approx(689.434886)


def test_a_litellm_call_log_is_said_to_be_written_at_the_end(shared_data: Path) -> None:
    found = read_trace(shared_data / "traces/litellm/0e1f2eca/agent/trace.jsonl")
    assert set(found.trace.arrival_quality) == {Quality.COMPLETION_DERIVED}
    assert any("later than the truth" in remark for remark in found.account.remarks)
    assert json.loads(str(column(found, "messages")[0])) == [{"role": "user", "content": "hi"}]


def test_a_litellm_spend_log_is_read_as_one_array(tmp_path: Path) -> None:
    entry = {"request_id": "r1", "call_type": "acompletion", "startTime": "2025-01-01 10:00:00.500", "model": "m",
             "endTime": "2025-01-01T10:00:02Z", "completionStartTime": 1735725601.25, "prompt_tokens": 5,
             "completion_tokens": 7, "team_id": "red", "status": "failure"}  # fmt: skip
    found = read(tmp_path, json.dumps([entry, {**entry, "prompt_tokens": "5"}], indent=1))
    assert found.trace.header.reader == "litellm"
    assert (found.counts.lines, found.counts.accepted, found.counts.quarantined) == (2, 1, 1)
    assert (column(found, "rec_ttft_ms"), column(found, "rec_e2e_ms")) == ([750.0], [1500.0])
    assert (column(found, "tenant"), column(found, "status")) == (["red"], ["error"])


def span(name: str, start: int, **attributes: object) -> dict[str, object]:
    def value(found: object) -> dict[str, object]:
        if isinstance(found, int):
            return {"intValue": str(found)}
        return {"doubleValue": found} if isinstance(found, float) else {"stringValue": found}

    told = [{"key": key.replace("__", "."), "value": value(found)} for key, found in attributes.items()]
    return {
        "name": name,
        "spanId": f"{start:x}",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 10**9),
        "attributes": told,
    }


def exported(*spans: dict[str, object]) -> dict[str, object]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def test_spans_of_our_engine_are_requests_and_their_stages_are_not(tmp_path: Path) -> None:
    request = span(
        "chat tiny", 1_700_000_000_123_456_789, gen_ai__usage__input_tokens=10, gen_ai__usage__output_tokens=3,
        gen_ai__response__id="req-1", gen_ai__request__model="tiny", gen_ai__usage__cache_read__input_tokens=4,
        gen_ai__latency__time_to_first_token=0.25,
    )  # fmt: skip
    broken = span("chat tiny", 1_700_000_001_000_000_000, gen_ai__usage__input_tokens=-10)
    found = read(tmp_path, lines(exported(request, span("queue", 1_700_000_000_123_456_789), broken), exported(broken)))
    assert found.trace.header.origin_ns == 1_700_000_000_123_456_789
    assert (column(found, "request_id"), column(found, "cached_input_tokens")) == (["req-1"], [4])
    assert (column(found, "rec_ttft_ms"), column(found, "rec_e2e_ms")) == ([250.0], [1000.0])
    counts = found.counts
    assert (counts.lines, counts.accepted, counts.quarantined, counts.parts_quarantined) == (2, 1, 1, 1)
    assert found.account.remarks == {"spans that are no requests are left out": 1}


def test_spans_in_one_indented_document_are_read(tmp_path: Path) -> None:
    one = span("llm_request", 5, gen_ai__usage__prompt_tokens=10, gen_ai__usage__completion_tokens=3)
    found = read(tmp_path, json.dumps(exported(one, {**one, "spanId": "x"}), indent=2))
    assert (found.counts.lines, found.counts.requests) == (1, 2)


def test_spans_keep_the_servers_times(shared_data: Path) -> None:
    found = read_trace(shared_data / "traces/vllm_otel/jan20-codellama-prefill-1/traces.json")
    assert found.trace.header.origin_ns == 1_768_918_269_342_362_112
    assert column(found, "rec_ttft_ms")[0] == pytest.approx(1320.268154144287)


def test_rounds_of_an_agent_arrive_with_the_last_of_their_inputs(shared_data: Path) -> None:
    found = read_trace(shared_data / "traces/tracelab/sanitized/round_trace.jsonl")
    sessions = column(found, "session_id")
    first = sessions.index("claude:92ee5b8a-429c-e80b-5db6-5381512f4697")
    assert column(found, "rec_ttft_ms")[first] == pytest.approx(9269.0)
    cached = sum(int(str(value)) for value in column(found, "cached_input_tokens"))
    assert cached / int(found.trace.input_tokens.sum()) == pytest.approx(0.921, abs=5e-4)


UVICORN = 'INFO:     127.0.0.1:48542 - "POST /v1/completions HTTP/1.1" 200 OK'
NGINX = (
    '10.0.0.7 - - [20/Jan/2026:06:11:09 +0100] "POST /v1/chat/completions HTTP/1.1" 200 512 "-" "curl" rt=2.500\n'
    '10.0.0.8 - - [20/Jan/2026:06:11:10 +0100] "GET /healthz HTTP/1.1" 200 2 "-" "kube-probe"\n'
    '10.0.0.9 - - [20/Jan/2026:06:11:11 +0100] "POST /v1/chat/completions HTTP/1.1" 429 12 "-" "curl" rt=0.100\n'
)


def test_an_nginx_log_gives_arrivals_and_says_that_lengths_are_missing(tmp_path: Path) -> None:
    found = read(tmp_path, NGINX)
    assert found.trace.header.origin_ns == 1_768_885_866_500_000_000
    assert found.trace.arrival_ns.tolist() == [0, 4_400_000_000]
    assert found.trace.absent == ("prompt lengths", "answer lengths")
    assert (column(found, "status"), column(found, "tenant")) == (["ok", "error"], ["10.0.0.7", "10.0.0.9"])
    assert set(found.trace.arrival_quality) == {Quality.QUANTISED}
    assert [row.reason for row in found.quarantine] == ["not_a_generating_route"]


def test_a_uvicorn_log_without_times_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no row can be used; 2 were set aside \(2 no_timestamp\)"):
        read(tmp_path, UVICORN + "\n" + UVICORN)


def test_a_vllm_log_names_its_requests(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "INFO 01-20 14:11:09 [logger.py:39] Received request cmpl-1: prompt: 'a', params: SamplingParams(max_tokens=5)"
        ", prompt_token_ids: [1, 15043, 29892], lora_request: None.\n"
        "INFO 01-20 14:11:10 [loggers.py:1] Engine 000: Avg prompt throughput: 1.0 tokens/s\n",
    )
    assert (column(found, "request_id"), found.trace.input_tokens.tolist()) == (["cmpl-1"], [3])
    assert found.trace.absent == ("answer lengths",)
    assert any("year" in remark for remark in found.account.remarks)
    assert [row.reason for row in found.quarantine] == ["not_a_received_request"]


def test_json_lines_of_a_gateway_give_lengths_where_they_tell_usage(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        lines(
            {"time": "2026-01-20T06:11:09.5Z", "path": "/v1/chat/completions", "status": 200, "duration_ms": 500,
             "usage": {"prompt_tokens": 9, "completion_tokens": 2}, "model": "m"},
            {"time": "2026-01-20T06:11:10Z", "path": "/metrics", "status": 200},
        ),
    )  # fmt: skip
    assert found.trace.header.origin_ns == 1_768_889_469_000_000_000
    assert (found.trace.input_tokens.tolist(), found.trace.output_tokens.tolist()) == ([9], [2])
    assert [row.reason for row in found.quarantine] == ["not_a_generating_route"]


CHAT = {
    "id": "c1",
    "conversations": [
        {"from": "human", "value": "one two"},
        {"from": "gpt", "value": "three"},
        {"from": "human", "value": "four"},
        {"from": "gpt", "value": "five six"},
    ],
}


def test_conversations_are_counted_by_a_tokenizer_turn_by_turn(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    text = json.dumps([CHAT, {"id": "c2", "conversations": [{"from": "alien", "value": "x"}]}])
    found = read(tmp_path, text, tokenizer=tmp_path / "tokenizer.json")
    assert found.trace.input_tokens.tolist() == [2, 4]
    assert found.trace.output_tokens.tolist() == [1, 2]
    assert (column(found, "session_id"), column(found, "turn")) == (["c1", "c1"], [0, 1])
    assert found.trace.absent == ("arrival times",)
    assert [row.reason for row in found.quarantine] == ["unknown_role"]


def test_conversations_without_a_tokenizer_are_refused_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="text, without token counts; name a tokenizer"):
        read(tmp_path, json.dumps([CHAT]))


def test_servegen_windows_become_requests_at_their_rates(shared_data: Path) -> None:
    path = shared_data / "traces/servegen/data/reason/deepseek-r1/chunk-17-trace.csv"
    found, other = read_trace(path, seed=1), read_trace(path, seed=2)
    rates = [float(line.split(",")[1]) for line in path.read_text().splitlines()]
    assert found.counts.accepted == 144
    assert len(found.trace) == pytest.approx(sum(rates) * 600, rel=0.05)
    assert found.trace.sha256() == read_trace(path, seed=1).trace.sha256() != other.trace.sha256()
    assert set(found.trace.arrival_quality) == {Quality.SYNTHETIC}
    loud = max(range(144), key=rates.__getitem__)
    inside = ((found.trace.arrival_ns // (600 * 10**9)) == loud).sum()
    assert inside == pytest.approx(rates[loud] * 600, rel=0.3)


def test_a_servegen_client_at_a_low_rate_loses_no_arrivals(tmp_path: Path) -> None:
    text = "\n".join(f"{600 * n},0.005,1.0,Gamma,1.0,200" for n in range(2000))
    assert len(read(tmp_path, text).trace) == pytest.approx(6000, rel=0.04)


def test_aibrix_lines_hold_several_requests(tmp_path: Path) -> None:
    one = {"Prompt Length": 5, "Output Length": 2, "prompt": "hi"}
    found = read(tmp_path, lines({"timestamp": 12, "requests": [one, one]}, {"timestamp": 13, "requests": [{}]}))
    assert (found.counts.requests, found.counts.accepted, found.counts.quarantined) == (2, 1, 1)
    assert found.trace.arrival_ns.tolist() == [12_000_000, 12_000_000]


def test_a_guidellm_report_gives_the_requests_that_it_sent(shared_data: Path) -> None:
    found = read_trace(shared_data / "traces/vllm_otel/jan20-codellama-prefill-1/guidellm-results.json")
    spans = read_trace(shared_data / "traces/vllm_otel/jan20-codellama-prefill-1/traces.json")
    assert {f"{one}-0" for one in column(found, "request_id")} == set(column(spans, "request_id"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (
            "timestamp,prompt_throughput,num_running\n1,2,3\n",
            "telemetry of an engine by time",
        ),
        ("2026-01-20 06:08:47,625 INFO vllm.platforms: x\n", "vLLM log without request lines"),
        ('{"0": {"input_tokens": "{}", "output_tokens": "{}"}}', "lengths of a ServeGen client: name the -trace.csv"),
        ("a,b\n1,2\n", "with the columns a, b; known: "),
        ('{"x": 1}\n', "with the fields x; known: "),
        ("TIMESTAMP,ContextTokens\n1,2\n", "nearest is Azure .*, for which it lacks GeneratedTokens; known: "),
    ],
)
def test_a_file_that_is_no_trace_is_told_what_it_is(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TraceError, match="trace.txt: .*" + message):
        read(tmp_path, text)


def test_a_forced_format_is_taken_and_what_does_not_fit_it_set_aside(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no row can be used; 1 were set aside"):
        read(tmp_path, '{"x": 1}', kind="mooncake")
    with pytest.raises(TraceError, match="format 'none' is not one of " + ", ".join(FORMATS)):
        read(tmp_path, '{"x": 1}', kind="none")


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_a_trace_of_another_version_is_refused(tmp_path: Path, version: object) -> None:
    with pytest.raises(TraceError, match="this reader knows 1"):
        read(tmp_path, lines({"format": "loadline-trace", "version": version}, {"arrival_ns": 1}))


def test_no_more_rows_are_held_back_than_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    rows = (f'{{"timestamp": {ms}, "input_length": {ms % 4000}, "output_length": 10}}\n' for ms in range(80_000))
    path.write_text("".join(rows))
    stream, given, held = open_trace(path), 0, []
    for piece in stream.pieces(held_rows=1000):
        given += len(piece)
        held.append(stream.source.ledger.requests - given)
    assert given == 80_000
    assert held[:-1] == [1000] * (len(held) - 1)
    assert len(held) >= 4
