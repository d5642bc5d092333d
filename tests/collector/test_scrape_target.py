"""What a target is called, when it is scraped and which labels its series get."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.errors import ConfigError
from collector.model.labels import from_mapping
from collector.scrape.target import make_target, parse_target


def parse(text: str):
    return parse_target(text, interval_s=5.0, timeout_s=3.0)


def test_a_flag_names_address_job_and_labels() -> None:
    target = parse("http://vllm:8000/metrics,job=engine,pool=a")
    assert target.url == "http://vllm:8000/metrics"
    assert target.job == "engine"
    assert target.labels == (("instance", "vllm:8000"), ("job", "engine"), ("pool", "a"))
    assert (target.interval_s, target.timeout_s) == (5.0, 3.0)


@pytest.mark.parametrize(
    ("text", "url", "instance"),
    [
        ("vllm:8000", "http://vllm:8000/metrics", "vllm:8000"),
        ("http://vllm", "http://vllm/metrics", "vllm:80"),
        ("https://vllm/", "https://vllm/metrics", "vllm:443"),
        ("http://[::1]:9/prom", "http://[::1]:9/prom", "[::1]:9"),
    ],
)
def test_what_an_address_leaves_out_is_filled_in(text: str, url: str, instance: str) -> None:
    target = parse(text)
    assert (target.url, dict(target.labels)["instance"]) == (url, instance)


@pytest.mark.parametrize("text", ["ftp://x/metrics", "http://:80/", "http://x:99999/", "http://x,job"])
def test_an_unusable_target_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_a_series_own_label_is_kept_under_another_name() -> None:
    target = make_target("http://a:1/metrics", "engine")
    labels = from_mapping({"__name__": "x", "job": "own", "exported_job": "older"})
    assert dict(target.finish(labels)) == {
        "__name__": "x",
        "job": "engine",
        "exported_exported_job": "own",
        "exported_job": "older",
        "instance": "a:1",
    }


def test_with_honor_labels_a_series_own_label_wins() -> None:
    target = make_target("http://a:1/metrics", "engine", honor_labels=True)
    finished = dict(target.finish(from_mapping({"__name__": "x", "job": "own"})))
    assert finished == {"__name__": "x", "job": "own", "instance": "a:1"}


def test_targets_are_spread_over_the_interval() -> None:
    offsets = [make_target(f"http://h{number}:80/metrics", "x").offset_s for number in range(200)]
    assert all(0 <= offset < 5 for offset in offsets)
    assert 2.0 < sum(offsets) / len(offsets) < 3.0


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_a_config_error(text: str) -> None:
    try:
        parse(text)
    except ConfigError as error:
        assert "scrape" in str(error)
