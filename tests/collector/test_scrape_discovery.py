"""Targets from files and addresses: what is found, what stays while a source is broken."""

import asyncio
import json
import logging
import os
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.errors import ConfigError
from collector.scrape.access import Access, Credentials, Secret
from collector.scrape.discovery import FileFinder, FileSource, HttpFinder, HttpSource, parse_groups, read_target_file


def addresses(finder: FileFinder) -> list[str]:
    return [target for group in finder.read() for target in group.targets]


def write(path: Path, *targets: str) -> None:
    """A target file whose change shows, however coarse the file system's clock is."""
    path.write_text(json.dumps([{"targets": targets}]))
    moment = (path.stat().st_mtime_ns or 0) + 1_000_000 * len(targets)
    os.utime(path, ns=(moment, moment))


def test_files_that_appear_change_and_vanish_are_followed(tmp_path: Path) -> None:
    finder = FileFinder(FileSource((tmp_path / "*.json", tmp_path / "one.yml")))
    assert addresses(finder) == []
    write(tmp_path / "a.json", "a:1")
    (tmp_path / "one.yml").write_text("- targets: [b:1, 'c:2']\n  labels: {pool: x}\n")
    assert addresses(finder) == ["a:1", "b:1", "c:2"]
    write(tmp_path / "a.json", "a:1", "a:2")
    assert addresses(finder) == ["a:1", "a:2", "b:1", "c:2"]
    (tmp_path / "a.json").unlink()
    (group,) = finder.read()
    assert dict(group.labels) == {"__meta_filepath": str(tmp_path / "one.yml"), "pool": "x"}


def test_a_broken_file_keeps_its_last_targets_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.json"
    finder = FileFinder(FileSource((path,)))
    write(path, "a:1")
    assert addresses(finder) == ["a:1"]
    path.write_text('[{"targets": "a:1"}]')
    with caplog.at_level(logging.WARNING):
        assert addresses(finder) == ["a:1"]
        assert addresses(finder) == ["a:1"]
    (record,) = caplog.records
    assert "a.json[0].targets: it is a list of texts; its last targets stay" in record.getMessage()


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.json", "[", "a.json:1:2: not JSON"),
        ("a.json", "{}", "a.json: is no list of target groups"),
        ("a.json", "[1]", "a.json[0]: is no mapping"),
        ("a.json", '[{"target": []}]', 'a.json[0]: "target" is not understood; allowed: targets, labels'),
        ("a.json", '[{"targets": ["a"], "labels": {"x": 1}}]', "a.json[0].labels: it is a mapping"),
        ("a.yml", "a: b", "a.yml:1:1: groups"),
        ("a.yml", "- targets: [a]\n  label: {}", 'a.yml:2:3: target group: "label" is not understood'),
        ("a.yml", "- [a]", "a.yml:1:3: target group: a list; it is a mapping"),
    ],
)
def test_a_fault_of_a_target_file_has_its_place(tmp_path: Path, name: str, text: str, fault: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_target_file(tmp_path / name)
    assert fault in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["targets", "labels", "x"]), inner),
    )
)
def test_any_json_is_groups_or_a_config_error(value: object) -> None:
    try:
        groups = parse_groups(json.dumps(value).encode(), "s", {})
    except ConfigError:
        return
    assert all(isinstance(target, str) for group in groups for target in group.targets)


def test_an_address_is_asked_with_credentials_and_keeps_its_last_answer(caplog: pytest.LogCaptureFixture) -> None:
    answers = [
        httpx.Response(200, json=[{"targets": ["a:1"], "labels": {"pool": "x"}}]),
        httpx.Response(503),
        httpx.Response(200, text="[]"),
        httpx.Response(200, json=[]),
    ]
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return answers[len(seen) - 1]

    async def ask() -> list[list[str]]:
        access = Access(Credentials("Bearer", Secret("s3cret")))
        finder = HttpFinder(
            HttpSource("http://sd/targets", access), httpx.AsyncClient(transport=httpx.MockTransport(answer))
        )
        found = [[target for group in await finder.find() for target in group.targets] for _ in answers]
        await finder.aclose()
        return found

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(ask()) == [["a:1"], ["a:1"], ["a:1"], []]
    assert seen == ["Bearer s3cret"] * 4
    told = [record.getMessage() for record in caplog.records]
    assert ["answered 503" in told[0], "not application/json" in told[1]] == [True, True]
