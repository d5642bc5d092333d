"""The front door: every part is told where the others are, whatever the settings file says."""

import os
from pathlib import Path

import loadline


def environments(text: str, tmp_path: Path, **options: bool) -> dict[str, dict[str, str]]:
    config = tmp_path / "loadline.toml"
    config.write_text(text)
    processes = loadline.fleet(loadline.read_config(config), config, **{"traffic": True, **options})
    return {process.name: dict(process.environment) for process in processes}


def test_the_parts_find_each_other_on_the_ports_of_the_file(tmp_path):
    told = environments("[engine]\nport = 8001\n[collector]\nport = 9191\n", tmp_path)
    assert told["collector"]["LOADLINE_COLLECTOR_SCRAPE"].split()[0] == "http://127.0.0.1:8001/metrics,job=engine"
    assert told["alerts"]["LOADLINE_ALERTS_SOURCE"] == "http://127.0.0.1:9191"
    assert told["dashboard"]["LOADLINE_DASHBOARD_SOURCE"] == "http://127.0.0.1:9191"
    assert told["engine"]["LOADLINE_ENGINE_OTLP_ENDPOINT"] == "http://127.0.0.1:9191"
    assert told["traffic"]["LOADLINE_REPLAY_TARGET"] == "http://127.0.0.1:8001"
    assert told["dashboard"]["LOADLINE_DASHBOARD_REPLAY_TARGETS"] == "http://127.0.0.1:8001"


def test_further_targets_are_scraped_beside_the_fleets_own(tmp_path):
    told = environments('[collector]\nscrape = ["http://vllm:8000/metrics"]\n', tmp_path)
    assert told["collector"]["LOADLINE_COLLECTOR_SCRAPE"].split()[-1] == "http://vllm:8000/metrics"


def test_a_promise_in_the_file_reaches_the_dashboard(tmp_path):
    assert "LOADLINE_DASHBOARD_SLO" not in environments("", tmp_path)["dashboard"]
    told = environments("[slo]\nttft_p95_s = 0.3\n", tmp_path)
    assert told["dashboard"]["LOADLINE_DASHBOARD_SLO"] == str(tmp_path / "loadline.toml")


def test_the_collectors_token_reaches_those_who_ask_it(tmp_path):
    told = environments('[collector]\nauth_token_file = "secret"\n', tmp_path)
    assert told["alerts"]["LOADLINE_ALERTS_SOURCE_TOKEN_FILE"] == "secret"
    assert told["dashboard"]["LOADLINE_DASHBOARD_SOURCE_TOKEN_FILE"] == "secret"


def test_without_traffic_nothing_is_replayed(tmp_path):
    assert "traffic" not in environments("", tmp_path, traffic=False)


def test_the_planner_writes_the_headroom_of_the_same_promise_back_to_the_collector(tmp_path):
    told = environments('[collector]\nport = 9191\n[plan]\ninterval = "30s"\n[slo]\nttft_p95_s = 0.3\n', tmp_path)
    assert told["plan"] == {
        "LOADLINE_PLAN_SOURCE": "http://127.0.0.1:9191",
        "LOADLINE_PLAN_SLO": str(tmp_path / "loadline.toml"),
        "LOADLINE_PLAN_INTERVAL": "30s",
        "LOADLINE_PLAN_LOOK_BACK": "15m",
    }
    assert "plan" not in environments("[plan]\nheadroom = false\n", tmp_path)


def test_alerts_are_remembered_beside_the_collectors_data(tmp_path):
    assert environments("", tmp_path)["alerts"]["LOADLINE_ALERTS_STATE"] == "data/alerts.db"


def test_prices_are_recorded_beside_the_packs_unless_the_file_names_rules(tmp_path):
    rules = environments("", tmp_path)["alerts"]["LOADLINE_ALERTS_RULES"].split(os.pathsep)
    assert [Path(one).name for one in rules][-3:] == ["quality.yml", "service.yml", "cost.yml"]
    assert len(rules) == 9
    told = environments('[alerts]\nrules = ["my own.yml", "b.yml"]\n', tmp_path)
    assert told["alerts"]["LOADLINE_ALERTS_RULES"] == f"my own.yml{os.pathsep}b.yml"


def test_a_gateway_stands_between_the_traffic_and_the_engine_when_it_is_wanted(tmp_path):
    text = '[engine]\nport = 8001\n[gateway]\nport = 8009\nrouting = "prefix"\nuser_tokens_per_min = 100\n'
    assert "gateway" not in environments(text, tmp_path)
    told = environments(text, tmp_path, gateway=True)
    assert told["gateway"]["LOADLINE_GATEWAY_UPSTREAM"] == "http://127.0.0.1:8001"
    assert told["gateway"]["LOADLINE_GATEWAY_ROUTING"] == "prefix"
    assert told["traffic"]["LOADLINE_REPLAY_TARGET"] == "http://127.0.0.1:8009"
    assert "http://127.0.0.1:8009/metrics,job=gateway" in told["collector"]["LOADLINE_COLLECTOR_SCRAPE"]
    assert told["dashboard"]["LOADLINE_DASHBOARD_REPLAY_TARGETS"] == "http://127.0.0.1:8009"
    assert "LOADLINE_GATEWAY_ENABLED" not in told["gateway"]


def test_the_file_can_want_a_gateway_and_the_command_line_has_the_last_word(tmp_path):
    text = '[engine]\nauth_token_file = "secret"\n[gateway]\nenabled = true\nupstream = ["http://vllm:8000,weight=2"]\n'
    told = environments(text, tmp_path)
    assert told["gateway"]["LOADLINE_GATEWAY_UPSTREAM"] == "http://vllm:8000,weight=2"
    assert told["gateway"]["LOADLINE_GATEWAY_UPSTREAM_TOKEN_FILE"] == "secret"
    assert "gateway" not in environments(text, tmp_path, gateway=False)
