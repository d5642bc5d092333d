"""Destinations change under a running collector: by prometheus.yml, without losing what waits."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from collector.forward.forwarding import Forwarding, file_of
from collector.forward.remote_write import Describing
from collector.forward.retry import RETRIED, Patience
from collector.forward.settings import Destination, ForwardSettings
from collector.forward.tee import Tee
from collector.model.errors import ConfigError, StoreError
from collector.model.remote_write import WriteReader
from collector.scrape.access import OPEN, Credentials, Tls
from collector.scrape.configuration import parse_configuration
from collector.store import Store

NOW_MS = 1_700_000_000_000
LAYOUT = ((("__name__", "a"), ("job", "x")),)
A, B = Destination("http://a/write"), Destination("http://b/write")


class Receivers:
    """Any address takes any request; what came is kept as (host, value, labels)."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []
        self.labels: set[tuple[tuple[str, str], ...]] = set()
        self.down: set[str] = set()
        self.opened = 0

    def open(self, access: object) -> httpx.AsyncClient:
        self.opened += 1
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host in self.down:
            return httpx.Response(503)
        for one in WriteReader().read(request.content).series:
            self.labels.add(one.labels)
            self.taken += [(request.url.host, value) for value in one.values.tolist()]
        return httpx.Response(204)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20.0):
        while not holds():
            await asyncio.sleep(0.005)


def running(folder: Path, use: Callable[[Forwarding, Receivers, Callable[[float], None]], object]) -> Receivers:
    """Run a forwarding over a store, with a way to append a value to it."""
    receivers = Receivers()

    async def run() -> None:
        stop = asyncio.Event()
        with (
            Store.open(folder / "store") as store,
            Forwarding(folder / "forward", receivers.open, flush_s=0.005) as forwarding,
        ):
            tee = forwarding.tee(store)
            task = asyncio.create_task(forwarding.run(stop))
            await asyncio.sleep(0)
            await use(forwarding, receivers, appender(tee))  # type: ignore[misc]
            stop.set()
            await task

    asyncio.run(run())
    return receivers


def appender(tee: Tee) -> Callable[[float], None]:
    moments = iter(range(NOW_MS, NOW_MS + 1_000_000, 1000))
    return lambda value: tee.append_scrape("g", LAYOUT, next(moments), np.array([value]))


def test_a_destination_is_added_changed_and_taken_away_while_samples_come(tmp_path: Path) -> None:
    async def use(forwarding: Forwarding, receivers: Receivers, append: Callable[[float], None]) -> None:
        forwarding.apply(ForwardSettings((A,)))
        append(1.0)
        await until(lambda: ("a", 1.0) in receivers.taken)
        forwarding.apply(ForwardSettings((A, B)))
        append(2.0)
        await until(lambda: {("a", 2.0), ("b", 2.0)} <= set(receivers.taken))
        assert receivers.opened == 2
        forwarding.apply(ForwardSettings((B,)), (("cluster", "east"),))
        append(3.0)
        await until(lambda: ("b", 3.0) in receivers.taken)
        assert [sender.name for sender in forwarding.senders] == ["http://b/write"]

    receivers = running(tmp_path, use)
    assert ("a", 3.0) not in receivers.taken
    assert len(receivers.taken) == len(set(receivers.taken)) == 4
    assert (("__name__", "a"), ("cluster", "east"), ("job", "x")) in receivers.labels


def test_what_waits_survives_a_change_of_its_destinations_settings_and_its_absence(tmp_path: Path) -> None:
    async def use(forwarding: Forwarding, receivers: Receivers, append: Callable[[float], None]) -> None:
        receivers.down.add("a")
        forwarding.apply(ForwardSettings((A,)))
        append(1.0)
        await until(lambda: forwarding.senders[0].trouble)
        forwarding.apply(ForwardSettings((Destination("http://a/write", max_samples=7),)))
        forwarding.apply(ForwardSettings())
        append(2.0)
        await asyncio.sleep(0)
        receivers.down.clear()
        forwarding.apply(ForwardSettings((A,)))
        append(3.0)
        await until(lambda: ("a", 3.0) in receivers.taken)

    assert running(tmp_path, use).taken == [("a", 1.0), ("a", 3.0)]


def test_a_queue_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    async def use(forwarding: Forwarding, receivers: Receivers, append: Callable[[float], None]) -> None:
        forwarding.apply(ForwardSettings((A,)))
        bad = Destination("http://c/write")
        (tmp_path / "forward" / file_of(bad.url)).mkdir()
        with pytest.raises(StoreError, match="cannot be opened"):
            forwarding.apply(ForwardSettings((bad, B)))
        append(1.0)
        await until(lambda: receivers.taken)

    assert running(tmp_path, use).taken == [("a", 1.0)]


REMOTE_WRITE = """
global: {external_labels: {cluster: east}}
remote_write:
- url: https://user:hidden@mimir/api/v1/push
  name: mimir
  remote_timeout: 7s
  headers: {X-Scope-OrgID: team}
  basic_auth: {username: u, password: hidden}
  tls_config: {ca_file: ca.pem}
  proxy_url: http://proxy:3128
  queue_config: {max_samples_per_send: 500, batch_send_deadline: 3s, capacity: 10000, max_shards: 3,
                 min_backoff: 30ms, max_backoff: 5s, retry_on_http_429: false}
  send_exemplars: true
  write_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}]
  metadata_config: {send: true, send_interval: 2m, max_samples_per_send: 9}
"""


def test_remote_write_of_prometheus_yml_is_read_with_prometheus_s_keys() -> None:
    read = parse_configuration(REMOTE_WRITE, "f.yml", Path("/etc/p"))
    (to,) = read.remote_write
    assert (to.url, to.name, to.timeout_s, to.flush_s, to.max_samples) == (
        "https://user:hidden@mimir/api/v1/push",
        "mimir",
        7.0,
        3.0,
        500,
    )
    assert to.headers == (("X-Scope-OrgID", "team"),)
    assert to.access.tls == Tls(ca_file=Path("/etc/p/ca.pem"))
    assert to.access.proxy_url == "http://proxy:3128"
    assert isinstance(to.access.credentials, Credentials)
    assert [rule.action for rule in to.rules] == ["drop"]
    assert (to.exemplars, to.metadata) == (True, Describing(True, 120.0, 9))
    assert to.patience == Patience(0.03, 5.0, RETRIED - {429})
    assert read.remarks == (
        "f.yml:11: queue_config: capacity does nothing; one sender takes from disk",
        "f.yml:11: queue_config: max_shards does nothing; one sender takes from disk",
    )
    assert "hidden" not in read.text
    assert parse_configuration("", "f.yml", Path()).remote_write == ()
    assert Destination("http://a").access == OPEN


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{}", "f.yml:2:3: url: is absent; it is where to send"),
        ("{url: 'x'}", 'f.yml:2:9: url: "x"; an address looks like'),
        (
            "{url: 'http://a', send_native_histograms: true}",
            "send_native_histograms: true; native histograms are not kept, so none are passed on",
        ),
        (
            "{url: 'http://a', queue_config: {min_backoff: 3s, max_backoff: 2s}}",
            "max_backoff: 2 s; at least min_backoff, 3 s",
        ),
        ("{url: 'http://a', metadata_config: {interval: 1m}}", 'metadata_config: "interval" is not understood'),
        (
            "{url: 'http://a', queue_config: {shards: 1}}",
            'queue_config: "shards" is not understood; allowed: max_samples',
        ),
        ("{url: 'http://a', sigv4: {}}", '"sigv4" is not understood; allowed: url'),
        (
            "{url: 'http://a', protobuf_message: io.prometheus.write.v3.Request}",
            'protobuf_message: "io.prometheus.write.v3.Request"; it may be prometheus.WriteRequest or io',
        ),
    ],
)
def test_remote_write_that_cannot_be_followed_is_named_with_its_place(line: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_configuration(f"remote_write:\n- {line}\n", "f.yml", Path())
    assert fault in str(caught.value)
