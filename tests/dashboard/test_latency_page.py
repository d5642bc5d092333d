def test_each_definition_has_its_fan_of_the_worst_pool(latency, read):
    boxes = latency.ask()
    for key in ("la-ttft", "la-itl", "la-e2e_latency", "la-tpot"):
        assert {trace.get("name") for trace in boxes[f"{key}-graph"]["figure"]["data"]} - {None, "a request"} == {
            "p50",
            "p95",
            "p99",
        }
        assert "llama-70b" in read(boxes[f"{key}-sub"]["children"])


def test_latencies_below_a_second_are_drawn_in_milliseconds(latency):
    axis = latency.ask()["la-itl-graph"]["figure"]["layout"]["yaxis"]
    assert axis["ticksuffix"] == " ms"


def test_the_heat_map_holds_the_requests_of_one_pool(latency):
    trace = latency.ask("?pool=qwen-32b")["la-heat-graph"]["figure"]["data"][0]
    per_s = sum(row[-1] or 0 for row in trace["z"])
    assert 50 < per_s < 80
    assert len(trace["meta"]) == len(trace["z"])


def test_time_is_stacked_by_phase(latency, read):
    boxes = latency.ask()
    traces = boxes["la-stack-graph"]["figure"]["data"]
    assert [trace["name"] for trace in traces] == ["queue", "prefill", "decode", "other"]
    assert {trace["stackgroup"] for trace in traces} == {"parts"}


def test_every_pool_stands_beside_the_others_with_the_slo(latency, read):
    boxes = latency.ask()
    figure = boxes["la-pool-ttft-graph"]["figure"]
    assert len(figure["data"]) == 3
    assert any(shape["type"] == "line" and shape["y0"] == 0.8 for shape in figure["layout"]["shapes"])
    assert read(boxes["la-pool-ttft-sub"]["children"]) == "SLO 800 ms"


def test_a_signal_that_the_engine_lacks_says_so_in_its_panel(made_fleet, over, page_of, read):
    fleet = made_fleet(engine="vllm")
    groups = [
        type(group)(group.labels[: len(group.labels)], group.timestamps_ms, group.values)
        for group in fleet.fleet.groups
    ]
    fleet.fleet.groups = [without(group, "vllm:inter_token_latency") for group in groups]
    fleet.fleet.groups = [without(group, "vllm:time_per_output_token") for group in fleet.fleet.groups]
    note = read(page_of(over(fleet), "la-stamp").ask()["la-itl-note"]["children"])
    assert "vllm:inter_token_latency_seconds" in note
    assert "this source holds no such series" in note


def without(group, prefix):
    kept = [index for index, labels in enumerate(group.labels) if not dict(labels)["__name__"].startswith(prefix)]
    return type(group)(tuple(group.labels[index] for index in kept), group.timestamps_ms, group.values[:, kept])
