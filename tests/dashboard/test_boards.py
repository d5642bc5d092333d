"""Pages made of panels: Throughput, KV cache, GPU, Fleet, Targets."""

import numpy as np
import pytest

from collector.model.labels import from_mapping
from collector.model.series import SeriesGroup
from dashboard.board import Plot
from dashboard.pages import fleet as fleet_page
from dashboard.pages import gpu, kv_cache, targets, throughput

BOARDS = {"th": throughput.BOARD, "kv": kv_cache.BOARD, "gp": gpu.BOARD, "fl": fleet_page.BOARD, "ta": targets.BOARD}


def read_queries(box):
    return box["children"]["props"]["texts"]


@pytest.fixture
def board_of(source, page_of):
    return lambda key, over=source: page_of(over, f"{key}-stamp")


@pytest.mark.parametrize("key", BOARDS)
def test_every_panel_has_data_or_says_why_not(board_of, read, key):
    boxes = board_of(key).ask()
    for part in BOARDS[key].parts:
        if isinstance(part, Plot):
            drawn = boxes[f"{part.panel.key}-graph"]["figure"]["data"]
            assert drawn or read(boxes[f"{part.panel.key}-note"]["children"]), part.panel.key
        else:
            assert read(boxes[part.key]["children"]), part.key


@pytest.mark.parametrize("key", BOARDS)
def test_a_source_that_never_answered_is_told_once_and_in_every_panel(prometheus, over, board_of, read, key):
    prometheus.dead = True
    boxes = board_of(key, over(prometheus)).ask()
    assert "The source does not answer" in read(boxes[f"{key}-note"]["children"])
    plots = [part for part in BOARDS[key].parts if isinstance(part, Plot)]
    assert all("connection refused" in read(boxes[f"{one.panel.key}-note"]["children"]) for one in plots)


@pytest.mark.parametrize("key", BOARDS)
def test_keys_are_unique_on_their_page(key):
    keys = [part.panel.key if isinstance(part, Plot) else part.key for part in BOARDS[key].parts]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("key", ["th-decoded", "th-waiting", "kv-usage", "th-rate", "kv-capacity"])
def test_a_panel_shows_what_the_api_answers(board_of, source, key):
    boxes = board_of(key[:2]).ask()
    figure = boxes[f"{key}-graph"]["figure"]
    text = read_queries(boxes[f"{key}-queries"])[0]
    for trace in figure["data"]:
        start_s, step_s = trace["x0"] / 1000, trace["dx"] / 1000
        end_s = start_s + step_s * (len(trace["y"]) - 1)
        series = source.client.query_range(text, start_s, end_s, step_s)
        asked = next(one for one in series if dict(one.labels)["pool"] == trace["name"])
        np.testing.assert_allclose(np.array(trace["y"], dtype=float), asked.values, rtol=1e-4)


def test_prefill_and_decode_add_up_over_pools(board_of):
    traces = board_of("th").ask()["th-tokens-graph"]["figure"]["data"]
    assert [trace["name"] for trace in traces] == ["decode", "prefill"]
    assert {trace["stackgroup"] for trace in traces} == {"parts"}
    assert 35_000 < traces[0]["y"][-1] < 60_000


def test_errors_and_rejections_are_told_apart_by_reason(board_of):
    traces = board_of("th").ask()["th-failed-graph"]["figure"]["data"]
    assert [trace["name"] for trace in traces] == ["error engine"]


def test_a_signal_that_is_not_exposed_says_so(board_of, read):
    note = read(board_of("kv").ask()["kv-lifetime-note"]["children"])
    assert "not exposed" in note
    assert "does not sample the life of KV blocks" in note


def without(server, prefix, **renamed):
    """The server, less the metrics that begin with ``prefix``, or with them under another name."""

    def kept(group):
        columns, labels = [], []
        for index, one in enumerate(group.labels):
            name = dict(one)["__name__"]
            if name.startswith(prefix) and not renamed:
                continue
            columns.append(index)
            labels.append(from_mapping(dict(one) | {"__name__": name.replace(prefix, renamed.get("to", prefix))}))
        return SeriesGroup(tuple(labels), group.timestamps_ms, group.values[:, columns])

    server.fleet.groups = [kept(group) for group in server.fleet.groups]
    return server


def test_a_metric_that_was_renamed_is_suspected(made_fleet, over, board_of, read):
    server = without(made_fleet(), "loadline_kv_cache_usage_ratio", to="loadline_kv_cache_used_ratio")
    note = read(board_of("kv", over(server)).ask()["kv-usage-note"]["children"])
    assert note.endswith("was it renamed? The source holds loadline_kv_cache_used_ratio, which is not known")


def test_no_samples_while_a_target_is_down_names_it(made_fleet, over, board_of, read):
    server = made_fleet(down=("qwen-32b-1:8000",))
    note = read(board_of("kv", over(server)).ask("?replica=gone:1")["kv-usage-note"]["children"])
    assert note == 'no series with replica="gone:1" in this time: qwen-32b-1:8000 is down (connection refused)'


def test_the_engines_are_listed_with_their_configuration(board_of, read):
    table = read(board_of("kv").ask("?pool=qwen-32b")["kv-config"]["children"])
    assert table.startswith("Replica Capacity, tokens device max_model_len")
    assert "qwen-32b-0:8000 128k cuda 8192 2048 256 qwen-32b v0.14.1" in table
    assert "llama" not in table


# GPU


def with_gpus(server, **values):
    """The server, whose host counts two GPUs or none, with these gauges of each."""
    times = server.fleet.times_s
    host = {"job": "loadline-host", "instance": "node-1"}
    labels = [from_mapping({"__name__": "loadline_gpu_devices", **host})]
    columns = [np.full(len(times), float(len(values) > 0) * 2)]
    for name, value in values.items():
        for device in "01":
            labels.append(from_mapping({"__name__": name, **host, "gpu": device}))
            columns.append(np.full(len(times), value * (1 + int(device) / 10)))
    server.fleet.groups.append(SeriesGroup(tuple(labels), times * 1000, np.stack(columns, axis=1)))
    return server


def test_a_host_without_a_gpu_says_so_in_every_panel(made_fleet, over, board_of, read):
    boxes = board_of("gp", over(with_gpus(made_fleet()))).ask()
    assert "No GPU on this host: the collector looked through NVML on node-1" in read(boxes["gp-devices"]["children"])
    assert read(boxes["gp-use-note"]["children"]) == "no GPU on this host"
    assert read(boxes["gp-throttled-note"]["children"]) == "no GPU on this host"


def test_a_source_without_gpu_metrics_says_what_is_missing(board_of, read):
    said = read(board_of("gp").ask()["gp-devices"]["children"])
    assert said.startswith("No GPU is measured: http://prometheus.test holds no metric of a GPU.")


def test_each_device_has_its_line(made_fleet, over, board_of):
    found = {
        "loadline_gpu_utilization_ratio": 0.5, "loadline_gpu_memory_used_bytes": 40e9,
        "loadline_gpu_memory_total_bytes": 80e9, "loadline_gpu_temperature_celsius": 60,
    }  # fmt: skip
    boxes = board_of("gp", over(with_gpus(made_fleet(), **found))).ask()
    use = boxes["gp-use-graph"]["figure"]
    assert [(trace["name"], trace["y"][-1]) for trace in use["data"]] == [("node-1 0", 0.5), ("node-1 1", 0.55)]
    assert boxes["gp-memory-graph"]["figure"]["data"][0]["y"][-1] == 0.5
    shapes = boxes["gp-temperature-graph"]["figure"]["layout"]["shapes"]
    assert 85 in [shape["y0"] for shape in shapes]


# Fleet


def test_a_replica_apart_from_its_pool_leads_the_table(made_fleet, over, board_of, read):
    boxes = board_of("fl", over(made_fleet(lame="qwen-32b-3:8000"))).ask()
    rows = boxes["fl-table"]["children"]["props"]["children"]["props"]["children"][1]["props"]["children"]
    assert read(rows[0]).startswith(("TTFT p95 qwen-32b-3:8000", "Queue, mean qwen-32b-3:8000"))
    assert "1 outlier" in read(boxes["fl-table-sub"]["children"])
    assert all(read(row).startswith("In line") for row in rows[1:])


def test_a_replica_alone_in_its_pool_has_nothing_to_stand_apart_from(calm, over, board_of, read):
    boxes = board_of("fl", over(calm)).ask()
    assert "No peers llama-8b-0:8000" in read(boxes["fl-table"]["children"])


def test_a_value_in_the_table_is_the_apis(board_of, read, source):
    boxes = board_of("fl").ask("?replica=qwen-32b-1:8000")
    kv = source.client.query('loadline_kv_cache_usage_ratio{instance="qwen-32b-1:8000"}', 1_795_210_200)[0].value
    assert f"{kv * 100:.0f} %" in read(boxes["fl-table"]["children"])


# Targets


def test_targets_are_listed_those_that_are_down_first(made_fleet, over, board_of, read):
    boxes = board_of("ta", over(made_fleet(down=("qwen-32b-1:8000",)))).ask()
    rows = boxes["ta-list"]["children"]["props"]["children"]["props"]["children"][1]["props"]["children"]
    assert "Down http://qwen-32b-1:8000/metrics engines qwen-32b-1:8000" in read(rows[0])
    assert "connection refused" in read(rows[0])
    assert read(boxes["ta-list-sub"]["children"]) == "16 targets, 1 down"


def test_targets_that_expose_the_same_share_a_column(board_of, read):
    boxes = board_of("ta").ask()
    table = read(boxes["ta-signals"]["children"])
    assert table.startswith("Signal Loadline engine 16 targets")
    assert "ttft s present" in table
    assert "kv_block_lifetime s not exposed" in table


def test_a_signal_behind_a_flag_names_the_flag(made_fleet, over, board_of, read):
    boxes = board_of("ta", over(made_fleet(engine="vllm", pools=made_fleet().fleet.pools[1:2]))).ask()
    assert "kv_block_lifetime s switched off: --kv-cache-metrics" in read(boxes["ta-signals"]["children"])
