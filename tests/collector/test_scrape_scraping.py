"""Scraping as a whole: what begins, ends and goes on when discovery or the configuration changes."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from collector.model.errors import ConfigError
from collector.model.matchers import Matcher
from collector.model.series import is_stale
from collector.scrape.access import Access, Clients
from collector.scrape.configuration import read_configuration, with_fixed
from collector.scrape.live import LiveConfiguration
from collector.scrape.scraping import Scraping
from collector.scrape.target import make_target
from collector.store import Store

CONFIGURATION = """\
global: {scrape_interval: 50ms, scrape_timeout: 50ms}
scrape_configs:
  - job_name: files
    file_sd_configs: [{files: [targets.json], refresh_interval: 10ms}]
  - job_name: static
    static_configs: [{targets: ["s:1"]}]
"""


class FakeClients(Clients):
    """Clients to targets inside the process: each page counts how often it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, int] = {}

    def open(self, access: Access) -> httpx.AsyncClient:
        self.check(access)
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked = self.asked[request.url.host] = self.asked.get(request.url.host, 0) + 1
        return httpx.Response(200, text=f"a {asked}\n")


class Running:
    """A running Scraping over a folder with a configuration."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store, self.clients = folder, store, FakeClients()
        self.scraping = Scraping(store, self.clients)
        self.live = LiveConfiguration(lambda: read_configuration(folder / "prometheus.yml"), self.scraping.apply)

    def name_targets(self, *targets: str) -> None:
        (self.folder / "new").write_text(json.dumps([{"targets": targets}]))
        (self.folder / "new").replace(self.folder / "targets.json")

    def urls(self) -> list[str]:
        return [one.target.url for pool in self.scraping.pools.values() for one in pool.scrapers.values()]

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(20.0):
            while not holds():
                await asyncio.sleep(0.005)

    def ends_stale(self, instance: str) -> bool:
        groups = self.store.select([Matcher("__name__", "=", "up"), Matcher("instance", "=", instance)], 0, 1 << 50)
        return bool(groups) and bool(is_stale(groups[0].values[-1])[0])


@pytest.fixture
def running(tmp_path: Path):
    """Runs a scenario within a running Scraping."""

    def run(scenario: Callable[[Running], Awaitable[None]], text: str = CONFIGURATION) -> Running:
        async def within(world: Running) -> None:
            stop = asyncio.Event()
            await world.live.load()
            task = asyncio.create_task(world.scraping.run(stop))
            try:
                await scenario(world)
            finally:
                stop.set()
                await task

        (tmp_path / "prometheus.yml").write_text(text)
        with Store.open(tmp_path / "store") as store:
            world = Running(tmp_path, store)
            world.name_targets("f:1")
            asyncio.run(within(world))
            return world

    return run


def test_targets_come_and_go_with_their_file_and_leave_stale_series(running) -> None:
    async def scenario(world: Running) -> None:
        await world.until(lambda: world.clients.asked.keys() == {"f", "s"})
        world.name_targets("g:1", "h:1")
        await world.until(lambda: {"g", "h"} <= world.clients.asked.keys() and world.ends_stale("f:1"))
        assert not world.ends_stale("s:1")
        before = world.clients.asked["f"]
        await world.until(lambda: world.clients.asked["g"] > 3)
        assert world.clients.asked["f"] == before
        world.name_targets("f:1", "g:1")
        await world.until(lambda: world.clients.asked["f"] > before and world.ends_stale("h:1"))
        await world.until(lambda: not world.ends_stale("f:1"))

    running(scenario)


def test_what_does_not_change_is_not_disturbed_by_a_reload(running) -> None:
    async def scenario(world: Running) -> None:
        await world.until(lambda: world.clients.asked.keys() == {"f", "s"})
        (kept,) = world.scraping.pools["static"].scrapers.values()
        (file,) = world.scraping.pools["files"].scrapers.values()
        more = "  - job_name: more\n    static_configs: [{targets: ['m:1']}]\n"
        (world.folder / "prometheus.yml").write_text(CONFIGURATION + more)
        await world.live.reload()
        await world.until(lambda: "m" in world.clients.asked)
        assert list(world.scraping.pools["static"].scrapers.values()) == [kept]
        assert list(world.scraping.pools["files"].scrapers.values()) == [file]
        text = (CONFIGURATION + more).replace("job_name: static", "job_name: static\n    honor_labels: true")
        (world.folder / "prometheus.yml").write_text(text)
        await world.live.reload()
        (new,) = world.scraping.pools["static"].scrapers.values()
        assert new is not kept
        assert new.target.key == kept.target.key
        await world.until(lambda: new.scrapes > 1)
        assert not world.ends_stale("s:1")
        (world.folder / "prometheus.yml").write_text("scrape_configs: []")
        await world.live.reload()
        await world.until(lambda: all(map(world.ends_stale, ("s:1", "m:1", "f:1"))))
        assert world.urls() == []

    running(scenario)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("scrape_configs: 5", "prometheus.yml:1:17: scrape_configs"),
        ("scrape_configs: [{job_name: a, tls_config: {ca_file: none.pem}}]", "none.pem: cannot be used"),
    ],
)
def test_a_bad_file_keeps_the_old_configuration_and_says_why(
    running, caplog: pytest.LogCaptureFixture, text: str, fault: str
) -> None:
    async def scenario(world: Running) -> None:
        await world.until(lambda: world.clients.asked.keys() == {"f", "s"})
        loaded_s = world.live.loaded_s
        (world.folder / "prometheus.yml").write_text(text)
        with caplog.at_level(logging.ERROR), pytest.raises(ConfigError, match=fault):
            await world.live.reload()
        assert fault in world.live.failure
        assert "the one before stays in force" in caplog.text
        before = dict(world.clients.asked)
        await world.until(lambda: all(world.clients.asked[host] > before[host] for host in "fs"))
        assert world.live.loaded_s == loaded_s
        (world.folder / "prometheus.yml").write_text(CONFIGURATION)
        await world.live.reload()
        assert world.live.failure == ""

    running(scenario)


def test_remarks_tell_whose_the_other_keys_are(running, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(world: Running) -> None:
        await world.until(world.urls)

    with caplog.at_level(logging.INFO):
        running(scenario, "rule_files: [a.yml]\n" + CONFIGURATION)
    assert "prometheus.yml:1: rule_files: left alone; rules are evaluated by `loadline alerts serve`" in caplog.text


def test_a_label_set_that_makes_no_target_is_told_and_the_others_are_scraped(
    running, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(world: Running) -> None:
        world.name_targets("not/one", "f:1")
        await world.until(lambda: world.scraping.pools["files"].faults)
        assert world.urls() == ["http://f:1/metrics", "http://s:1/metrics"]

    with caplog.at_level(logging.WARNING):
        running(scenario)
    assert '__address__ is "not/one"; a target is HOST:PORT' in caplog.text


def test_targets_of_the_command_line_join_the_jobs_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(CONFIGURATION)
    made = (make_target("http://x:1/metrics", "static"), make_target("http://y:1/metrics", "own"))
    configuration = with_fixed(read_configuration(tmp_path / "prometheus.yml"), made)
    assert [job.name for job in configuration.jobs] == ["files", "static", "own"]
    assert sorted(target.url for target in configuration.targets()) == [
        "http://s:1/metrics",
        "http://x:1/metrics",
        "http://y:1/metrics",
    ]
