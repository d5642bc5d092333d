import json
import re
from pathlib import Path

import pytest

from planner.answers.inputs import extrapolated
from planner.report import Chart, Mark, Report, Series, StepError, Table, shown, to_html, to_markdown
from planner.schemas.__main__ import schemas, text_of

REPORT = Report(
    kind="capacity",
    title="Capacity for a<b>.csv",
    findings=("2 replicas carry 10 requests/s",),
    inputs={"trace": "</script><script>alert(1)</script>", "rate_per_s": 4.25, "slo": {"ttft_p95_s": 0.8}},
    seed=3,
    model_error=StepError(mean=0.05, p90=0.1, bias=-0.01, observations=40, held_out=True, outside_hull_ratio=0.02),
    tables=(Table(title="Needs", columns=("month", "kept"), rows=((0, True), (1, None)), note="read it so"),),
    charts=(
        Chart(
            title="Curve",
            x_title="requests/s",
            y_title="s",
            series=(Series(name="</script>", x=(1.0, 2.0), y=(1.0, None), low=(0.5, 0.5), high=(2.0, 2.0)),),
            marks=(Mark(axis="x", at=10.0, text="limit"), Mark(axis="y", at=1.0, text="slo")),
            x_log=True,
        ),
    ),
    notes=("a note",),
)


def test_markdown_says_everything_but_the_charts() -> None:
    text = to_markdown(REPORT)
    for part in (
        "# Capacity",
        "- 2 replicas carry",
        "| month | kept |",
        "| 0 |",
        "read it so",
        "- seed: 3",
        "- a note",
    ):
        assert part in text.replace("     ", " ").replace("    ", " ")
    assert "mean 5.0%, p90 10.0%, bias -1.0% on 40 held-out observations" in text


def test_html_is_one_page_that_fetches_nothing_and_has_plotly_once() -> None:
    page = to_html(REPORT)
    assert page.count("Plotly.newPlot('c'+i") == 1
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(src|href)=", outside)
    assert len(re.findall(r"<script>", page)) == len(re.findall(r"</script>", page)) == 2


def test_text_from_outside_cannot_become_markup() -> None:
    page = to_html(REPORT)
    assert "alert(1)</script>" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    assert "Capacity for a&lt;b&gt;.csv" in page


def test_a_report_without_charts_needs_no_plotly() -> None:
    page = to_html(REPORT.model_copy(update={"charts": ()}))
    assert "Plotly" not in page
    assert len(page) < 10_000


def test_json_reads_back_the_same() -> None:
    assert Report.model_validate_json(REPORT.to_json()) == REPORT


@pytest.mark.parametrize("name", ["model", "report", "run"])
def test_published_schemas_are_those_of_the_models(name: str) -> None:
    published = Path(__file__).parents[2] / "planner" / "schemas" / f"{name}.json"
    assert published.read_text("utf-8") == text_of(schemas()[name]), "run python -m planner.schemas"
    json.loads(published.read_text("utf-8"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (3, "3"),
        (1234567, "1,234,567"),
        (0.012345, "0.01235"),
        (1428.571, "1,428.57"),
        (250000.4, "250,000"),
        (5.0, "5"),
        (1e-7, "1.000e-07"),
        ({"a": 1, "b": None}, "a 1, b –"),
        ((1, 2.5), "1, 2.5"),
    ],
)
def test_values_are_shown_for_people(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_headline_tells_how_much_of_it_is_extrapolated() -> None:
    assert extrapolated(0.004) == ""
    assert extrapolated(0.37) == " (extrapolated: 37% of the steps are larger than any that the model was fitted on)"


def test_inputs_are_rows_of_figures_in_words_and_never_a_dumped_structure() -> None:
    text = to_markdown(REPORT.model_copy(update={"inputs": {
        "slo": {"ttft_p95_s": 0.8, "goodput_ratio": 0.95}, "shaping": [{"kind": "cut", "start_s": 3.0}], "none": None,
    }}))  # fmt: skip
    asked = text.split("## Inputs")[1].split("## Notes")[0].strip().splitlines()
    assert asked[:4] == ["- slo: ttft p95 (s): 0.8", "- slo: goodput (share): 0.95", "- shaping 1: kind: cut",
                         "- shaping 1: start (s): 3"]  # fmt: skip


def test_a_page_has_a_style_for_print() -> None:
    assert "@media print" in to_html(REPORT)
