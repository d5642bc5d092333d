"""The scraping part of prometheus.yml, and where its faults are."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from collector.forward.settings import PROMETHEUS_KEYS, REMOTE_WRITE_KEYS
from collector.model.errors import ConfigError
from collector.scrape.configuration import GLOBAL_KEYS, JOB_KEYS, TOP_KEYS, parse_configuration, read_configuration
from collector.scrape.target import ScrapeLimits, Target

GOOD = """\
global:
  scrape_interval: 10s
  scrape_timeout: 4s
scrape_configs:
  - job_name: engines
    scrape_interval: 1m
    metrics_path: /prom
    scheme: https
    honor_labels: true
    static_configs:
      - targets: ["a:8000", b]
        labels: {pool: large}
  - job_name: node
    static_configs: [{targets: [localhost:9100]}]
"""


def parse_prometheus_yml(text: str, name: str) -> tuple[Target, ...]:
    return parse_configuration(text, name, Path("/etc/prometheus")).targets()


def test_jobs_become_targets() -> None:
    first, second, third = parse_prometheus_yml(GOOD, "prometheus.yml")
    assert (first.url, first.interval_s, first.timeout_s) == ("https://a:8000/prom", 60.0, 4.0)
    assert first.labels == (("instance", "a:8000"), ("job", "engines"), ("pool", "large"))
    assert first.honor_labels
    assert dict(second.labels)["instance"] == "b"
    assert (third.url, third.interval_s, third.timeout_s) == ("http://localhost:9100/metrics", 10.0, 4.0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "f.yml:1:5: not YAML"),
        ("[]", "f.yml:1:1: the file: a list; it is a mapping of global"),
        ("globals: {}", 'f.yml:1:1: the file: "globals" is not understood'),
        ("global: {scrape_interval: 5 mins}", 'f.yml:1:27: scrape_interval: "5 mins"; a duration looks like'),
        ("scrape_configs: {}", "f.yml:1:17: scrape_configs: a mapping; it is a list"),
        ("scrape_configs:\n- static_configs: []", "f.yml:2:3: job_name: is absent"),
        ("scrape_configs:\n- job_name: a\n- job_name: a", 'f.yml:3:13: job_name: "a"; it is already on line 2'),
        (
            "scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: []",
            'f.yml:3:3: scrape_configs: "kubernetes_sd_configs"',
        ),
        ("scrape_configs:\n- job_name: a\n  scheme: ftp", 'f.yml:3:11: scheme: "ftp"; it may be http or https'),
        (
            "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['http://x:1/']",
            'f.yml:4:15: targets: "http://x:1/"; a target is HOST:PORT',
        ),
        (
            "scrape_configs:\n- {job_name: a, scrape_interval: 5s, scrape_timeout: 6s}",
            "f.yml:2:54: scrape_timeout: 6 s; at most the interval, 5 s",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_prometheus_yml(text, "f.yml")
    assert fault in str(caught.value)


def test_every_fault_of_a_file_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_prometheus_yml("global: {a: 1, b: 2}\nremote_read: []\n", "f.yml")
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yml: cannot be read"):
        read_configuration(tmp_path / "none.yml")


@pytest.mark.peer
def test_what_we_take_promtool_takes_too(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not installed")
        pytest.skip("promtool is not installed")
    path = tmp_path / "prometheus.yml"
    path.write_text(GOOD)
    subprocess.run([promtool, "check", "config", path], check=True, capture_output=True)


KEYS = [*TOP_KEYS, *GLOBAL_KEYS, *JOB_KEYS, "files", "url", "targets", "labels", "action", "regex", "target_label", "a"]
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["5s", "replace", "a:1", "1MB"])
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
)


def parsed_or_refused(text: str) -> None:
    try:
        configuration = parse_configuration(text, "f.yml", Path("/nowhere"))
    except ConfigError as error:
        assert "f.yml" in str(error)
    else:
        assert all(target.url for target in configuration.targets())


@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    parsed_or_refused(text)


@given(st.dictionaries(st.sampled_from(TOP_KEYS), DOCUMENTS, min_size=1))
def test_any_document_is_a_configuration_or_a_config_error(document: object) -> None:
    parsed_or_refused(yaml.safe_dump(document))


@given(st.dictionaries(st.sampled_from(JOB_KEYS), DOCUMENTS, min_size=1))
def test_any_job_is_read_or_refused(job: dict[str, object]) -> None:
    parsed_or_refused(yaml.safe_dump({"scrape_configs": [{"job_name": "a", **job}]}))


@given(st.dictionaries(st.sampled_from((*REMOTE_WRITE_KEYS, *PROMETHEUS_KEYS)), DOCUMENTS, min_size=1))
def test_any_destination_is_read_or_refused(destination: dict[str, object]) -> None:
    parsed_or_refused(yaml.safe_dump({"remote_write": [{"url": "http://a", **destination}]}))


def test_secrets_are_not_shown_but_what_stands_beside_them_is() -> None:
    text = "scrape_configs: [{job_name: a, basic_auth: {username: u, password: hidden}, params: {x: ['1']}}]"
    shown = parse_configuration(text, "f.yml", Path()).text
    assert "hidden" not in shown
    assert "password: <secret>" in shown
    assert "username: u" in shown


def test_every_key_of_a_job_reaches_its_targets() -> None:
    text = """
scrape_configs:
- job_name: a
  params: {q: [x, y]}
  honor_timestamps: false
  sample_limit: 7
  label_limit: 8
  label_name_length_limit: 9
  label_value_length_limit: 10
  body_size_limit: 2MB
  follow_redirects: false
  relabel_configs: [{target_label: b, replacement: c}]
  metric_relabel_configs: [{action: labeldrop, regex: d}]
  static_configs: [{targets: ["e:1"]}]
"""
    (target,) = parse_prometheus_yml(text, "f.yml")
    assert target.url == "http://e:1/metrics?q=x&q=y"
    assert dict(target.labels) == {"job": "a", "instance": "e:1", "b": "c"}
    assert target.limits == ScrapeLimits(2 << 20, 7, 8, 9, 10)
    assert (target.honor_timestamps, target.access.follow_redirects) == (False, False)
    assert [rule.action for rule in target.metric_relabel] == ["labeldrop"]
    assert dict(target.discovered)["__param_q"] == "x"
