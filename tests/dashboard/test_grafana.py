"""The pages as Grafana dashboards: PromQL that a server answers, in the model that Grafana documents."""

import re
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from collector.promql import Engine, parse
from collector.signals import detect
from dashboard.cli import app
from dashboard.exporting import spoken
from dashboard.grafana import SCHEMA_VERSION, STAND_IN, dashboards
from dashboard.pages import throughput
from dashboard.registry import load_groups, pages_of
from dashboard.site import Site
from planner.slo import Slo

VARIABLES = {"$pool", "$instance", "$tenant", "$__rate_interval", "$1"}
"""``$1`` belongs to label_replace; Grafana leaves what is none of its variables."""
PANEL_KEYS = {"id", "type", "title", "datasource", "gridPos", "fieldConfig", "options", "targets"}
UNITS = {"s", "short", "percentunit", "reqps", "Bps", "ops"}


def filled(expr: str) -> str:
    """PromQL as Grafana sends it with nothing chosen."""
    assert set(re.findall(r"\$\w+", expr)) <= VARIABLES
    return re.sub(r"\$(pool|instance|tenant)", ".*", expr.replace("$__rate_interval", "1m"))


@pytest.fixture
def exported(source, fleet):
    return list(dashboards(detect(fleet.names()), Site(source, Slo())))


@pytest.mark.parametrize("engine", ["loadline", "vllm", "sglang", "trtllm", "tgi"])
def test_every_query_parses_whatever_the_engine(source, engine):
    for one in dashboards(spoken((engine,)), Site(source, Slo())):
        for panel in one.model["panels"]:
            assert panel["targets"]
            for target in panel["targets"]:
                assert STAND_IN not in target["expr"]
                parse(filled(target["expr"]))


def test_the_queries_are_answered_by_a_source_that_holds_the_metrics(exported, fleet):
    asked = answered = 0
    for one in exported:
        for panel in one.model["panels"]:
            for target in panel["targets"]:
                asked += 1
                answered += bool(Engine().instant(fleet, filled(target["expr"]), fleet.now_s * 1000).series)
    assert asked > 50
    assert answered >= 0.9 * asked


def test_a_chart_of_the_page_is_a_panel_of_the_dashboard_and_nothing_else_is(exported):
    model = next(one for one in exported if one.name == "throughput").model
    left = next(one for one in exported if one.name == "throughput").left_out
    titles = [panel["title"] for panel in model["panels"]]
    assert set(titles) <= {part.panel.title for part in throughput.BOARD.parts}
    assert len(titles) + len(left) == len(throughput.BOARD.parts)


def test_every_page_with_charts_over_time_is_there(exported):
    pages = {page.path.strip("/") or "overview" for page in pages_of(load_groups())}
    names = {one.name for one in exported}
    assert {"overview", "latency", "throughput", "kv-cache", "fleet", "targets"} <= names <= pages


def test_the_model_is_as_grafana_documents_it(exported):
    uids = [one.model["uid"] for one in exported]
    assert len(set(uids)) == len(uids)
    for one in exported:
        model = one.model
        assert model["schemaVersion"] == SCHEMA_VERSION
        assert len(model["uid"]) <= 40
        listed = model["templating"]["list"]
        assert [variable["name"] for variable in listed] == ["datasource", "pool", "instance", "tenant"]
        assert listed[0]["type"] == "datasource"
        for panel in model["panels"]:
            assert set(panel) == PANEL_KEYS
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs)
            unit = panel["fieldConfig"]["defaults"]["unit"]
            assert unit in UNITS or unit.startswith("suffix: ")


def test_panels_lie_beside_each_other_without_overlap(exported):
    for one in exported:
        taken: set[tuple[int, int]] = set()
        for panel in one.model["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells


def test_the_promise_is_the_threshold(source, fleet):
    made = {one.name: one.model for one in dashboards(detect(fleet.names()), Site(source, Slo(ttft_p95_s=0.5)))}
    panel = next(panel for panel in made["latency"]["panels"] if panel["title"] == "TTFT")
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1] == {"color": "red", "value": 0.5}
    assert panel["fieldConfig"]["defaults"]["unit"] == "s"


def test_the_command_writes_one_file_a_page(tmp_path):
    ran = CliRunner().invoke(app, ["export", "--grafana", "--out", str(tmp_path), "--dialect", "vllm"])
    assert ran.exit_code == 0, ran.output
    files = sorted(Path(tmp_path).glob("*.json"))
    assert len(files) >= 6
    query = orjson.loads((tmp_path / "loadline-throughput.json").read_bytes())["templating"]["list"][1]["definition"]
    assert query == 'label_values({__name__=~"vllm:num_requests_running"}, model_name)'


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--grafana"),
        (["--grafana", "--dialect", "nosuch"], "--dialect nosuch: must be one of"),
        (["--grafana", "--source", "http://127.0.0.1:1"], "cannot be reached"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(arguments, told, tmp_path):
    ran = CliRunner().invoke(app, ["export", "--out", str(tmp_path / "x"), *arguments])
    assert ran.exit_code == 2
    assert told in ran.output
