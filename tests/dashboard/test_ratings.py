"""What people and judges said of answers, on the Throughput page."""

from dataclasses import replace

import numpy as np
import pytest

from collector.model.labels import from_mapping
from collector.model.series import SeriesGroup
from dashboard.pages import throughput

PANELS = ("th-good", "th-made-up", "th-retried", "th-truncated")
TOLD = {
    ("loadline_feedback_total", "up"): 30.0, ("loadline_feedback_total", "down"): 10.0,
    ("loadline_feedback_hallucination_score_sum", ""): 6.0, ("loadline_feedback_hallucination_score_count", ""): 40.0,
    ("loadline_feedback_retried_total", ""): 4.0, ("loadline_feedback_truncated_total", ""): 2.0,
}  # fmt: skip
"""How many were told in every scrape interval, by metric and rating."""


def rated(fleet, ratings=("up", "down")):
    """The fleet, two of whose pools were rated evenly all the time, by two tenants."""
    steps = np.arange(1.0, len(fleet.times_s) + 1)
    for pool, tenant in (("llama-70b", "acme"), ("qwen-32b", "globex")):
        rows = {
            from_mapping({"__name__": name, "model_name": pool, "tenant": tenant} | ({"rating": one} if one else {})): n
            for (name, one), n in TOLD.items()
            if not one or one in ratings
        }
        values = np.stack([n * steps for n in rows.values()], axis=1)
        fleet.groups.append(SeriesGroup(tuple(rows), fleet.times_s * 1000, values))


def drawn(boxes, key):
    return {trace["name"]: trace["y"][-1] for trace in boxes[f"{key}-graph"]["figure"]["data"]}


@pytest.fixture
def asked(made_fleet, fleet, over, page_of):
    """Asks the page over a small fleet that was rated: ``asked(search, ratings)``."""
    pools = [replace(pool, replicas=1) for pool in fleet.pools if pool.name in ("llama-70b", "qwen-32b")]

    def ask(search="", ratings=("up", "down")):
        server = made_fleet(pools=pools)
        rated(server.fleet, ratings)
        return page_of(over(server), "th-stamp").ask(search)

    return ask


def test_shares_scores_and_counts_by_the_hour_are_those_that_were_told(asked):
    boxes = asked()
    assert drawn(boxes, "th-good") == pytest.approx({"llama-70b": 0.75, "qwen-32b": 0.75})
    assert drawn(boxes, "th-made-up") == pytest.approx({"llama-70b": 0.15, "qwen-32b": 0.15})
    an_hour = 3600 / 5
    assert drawn(boxes, "th-retried") == pytest.approx({"llama-70b": 4 * an_hour, "qwen-32b": 4 * an_hour})
    assert drawn(boxes, "th-truncated") == pytest.approx({"llama-70b": 2 * an_hour, "qwen-32b": 2 * an_hour})


def test_a_pool_with_nothing_but_bad_ratings_has_no_good_ones(asked):
    assert drawn(asked(ratings=("down",)), "th-good") == {"llama-70b": 0.0, "qwen-32b": 0.0}


@pytest.mark.parametrize("search", ["?pool=qwen-32b", "?tenant=globex", "?pool=qwen-32b&replica=qwen-32b-1:8000"])
def test_pools_and_tenants_that_are_chosen_apply_and_replicas_do_not(asked, search):
    assert [list(drawn(asked(search), key)) for key in PANELS] == [["qwen-32b"]] * 4


def test_without_feedback_each_says_so(source, page_of, read):
    boxes = page_of(source, "th-stamp").ask()
    assert {part.panel.key for part in throughput.BOARD.parts} >= set(PANELS)
    for key in PANELS:
        assert read(boxes[f"{key}-note"]["children"]).startswith("nobody has rated an answer yet: loadline_feedback_")
