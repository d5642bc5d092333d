"""Reports are values with three faces; charts are plain SVG."""

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from probe_engine.cli import app
from probe_engine.experiments.figure import Bars, Lines, short, ticks
from probe_engine.experiments.page import to_html
from probe_engine.experiments.registry import EXPERIMENTS, sample
from probe_engine.experiments.report import Claim, Report
from probe_engine.experiments.trace import read_trace

BARS = Bars("A <title>", ("one & two", "three"), (("x", (1.0, float("nan"))), ("y", (2.0, 3.0))), "%")
LINES = Lines("growth", "requests", "MB", (("a", (0.0, 10.0), (1.0, 2.0)),))
REPORT = Report(
    name="kv",
    title="Title <b>",
    question="Why?",
    setup={"trace": "t.csv", "seed": 0},
    rows=[{"what": "a|b", "ms": 1.23456, "yes": True, "gone": None}, {"what": "c", "ms": float("nan")}],
    figures=(BARS, LINES),
    claims=(Claim("ratio", "2 to 4", "a paper", 3.0, "times", "because"), Claim("other", "9", "b", None, "", "no")),
    notes=("careful",),
    holds=True,
    answer="Yes.",
)


class Strict(HTMLParser):
    """Counts what is opened and closed, and what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.fetched = []

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "rect", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_is_closed_loads_nothing_and_escapes_what_it_shows():
    page = to_html(REPORT)
    parser = Strict()
    parser.feed(page)
    assert (parser.open, parser.fetched, "<script" in page, "<b>" in page.split("<ul>")[0]) == ([], [], False, False)


@pytest.mark.parametrize("figure", [BARS, LINES, Bars("empty", (), ()), Lines("empty", "x", "y", ())])
def test_a_chart_is_well_formed(figure):
    ElementTree.fromstring(figure.svg())


def test_a_report_becomes_json_without_nan():
    found = json.loads(json.dumps(REPORT.to_json(), allow_nan=False))
    assert found["rows"][1]["ms"] is None
    assert found["schema"] == "loadline-experiment/1"


def test_a_report_becomes_a_table_whose_bars_are_escaped():
    text = REPORT.to_markdown()
    assert "| a\\|b | 1.23 | yes | – |" in text
    assert "| ratio | 2 to 4 | 3 times | a paper |" in text
    assert "not measured" in text


@pytest.mark.parametrize(
    ("value", "shown"), [(1234.5, "1,234"), (0.25, "0.25"), (12.34, "12.3"), (1e-9, "1.00e-09"), (0.0, "0")]
)
def test_numbers_are_shown_with_three_digits(value, shown):
    assert short(value) == shown


def test_ticks_are_round_and_reach_nearly_to_the_end():
    assert ticks(1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(2 <= len(ticks(10**at)) <= 7 for at in range(-6, 7))


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_every_experiment_can_be_imported_and_has_a_sample_trace(experiment):
    assert callable(experiment.run)
    assert len(read_trace(sample(experiment))) > 1000


def test_an_experiment_writes_its_report_in_three_forms(tmp_path):
    ran = CliRunner().invoke(
        app, ["experiment", "kv", "--quick", "--requests", "32", "--json", "--output", str(tmp_path)]
    )
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["name"] == "kv"
    assert {path.name for path in tmp_path.iterdir()} == {"kv.html", "kv.json", "kv.md"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "'nothing' is no experiment; there are kv, "),
        (["kv", "--trace", "/nowhere.csv"], "/nowhere.csv: the trace cannot be read"),
        (["kv", "--requests", "0"], "--requests is 0"),
        (["prefix-routing", "--trace", "{azure}"], "tells of no shared prefixes"),
        (["kv", "--quick", "--requests", "8", "--output", "/proc/nowhere"], "--output is /proc/nowhere"),
        (["kv", "--model", "/no/such/model"], "/no/such/model"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(arguments, told):
    azure = str(sample(EXPERIMENTS["kv"]))
    ran = CliRunner().invoke(app, ["experiment", *(word.replace("{azure}", azure) for word in arguments)])
    assert ran.exit_code == 2
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr
