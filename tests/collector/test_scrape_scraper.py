"""One target from page to store: a real store, an in-memory HTTP server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from collector.model.matchers import Matcher
from collector.model.series import is_stale
from collector.scrape.loop import every, next_step_s
from collector.scrape.relabel import Rule
from collector.scrape.scraper import Scraper
from collector.scrape.target import ScrapeLimits, Target, make_target
from collector.store import Store

PAGE = b'# HELP a What.\n# TYPE a gauge\na{x="1"} 1\nb 2\n'


class Exporter:
    """A metrics server inside the process."""

    def __init__(self) -> None:
        self.body, self.status, self.delay_s, self.content_type = PAGE, 200, 0.0, "text/plain"

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self.delay_s)
        if self.status == 0:
            raise httpx.ConnectError("connection refused", request=request)
        return httpx.Response(self.status, content=self.parts(), headers={"content-type": self.content_type})

    async def parts(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), 10):
            yield self.body[start : start + 10]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


def scrape(
    store: Store,
    target: Target,
    pages: list[tuple[int, bytes]],
    status: list[int] | None = None,
    content_type: str = "text/plain",
) -> Scraper:
    """Scrape one page after the other, each at its time in ms."""
    exporter = Exporter()
    exporter.content_type = content_type

    async def run() -> Scraper:
        async with httpx.AsyncClient(transport=httpx.MockTransport(exporter)) as http:
            scraper = Scraper(target, store, http)
            for place, (timestamp_ms, body) in enumerate(pages):
                exporter.body = body
                exporter.status = status[place] if status else 200
                await scraper.scrape(timestamp_ms)
            return scraper

    return asyncio.run(run())


def values(store: Store, name: str) -> list[tuple[int, float]]:
    found = []
    for group in store.select([Matcher("__name__", "=", name)], 0, 1 << 50):
        for column in range(len(group.labels)):
            stale = is_stale(group.values[:, column])
            found += [
                (int(time), float(value))
                for time, value, gone in zip(group.timestamps_ms, group.values[:, column], stale, strict=True)
                if not gone
            ]
    return found


TARGET = make_target("http://a:1/metrics", "engine")


def test_a_page_is_stored_with_its_targets_labels_and_reports(store: Store) -> None:
    scraper = scrape(store, TARGET, [(1000, PAGE), (6000, PAGE)])
    assert values(store, "a") == [(1000, 1.0), (6000, 1.0)]
    assert values(store, "up") == [(1000, 1.0), (6000, 1.0)]
    assert values(store, "scrape_samples_scraped") == [(1000, 2.0), (6000, 2.0)]
    assert len(values(store, "scrape_duration_seconds")) == 2
    (labels,) = store.series([Matcher("__name__", "=", "a")], 0, 10_000)
    assert dict(labels) == {"__name__": "a", "x": "1", "job": "engine", "instance": "a:1"}
    assert store.metadata()["a"].help == "What."
    assert (scraper.scrapes, scraper.failures, scraper.samples, scraper.failure) == (2, 0, 4, "")


def test_a_failing_target_is_down_and_its_series_are_stale(store: Store) -> None:
    scraper = scrape(store, TARGET, [(1000, PAGE), (6000, PAGE), (11_000, PAGE)], [200, 503, 200])
    assert values(store, "up") == [(1000, 1.0), (6000, 0.0), (11_000, 1.0)]
    assert values(store, "b") == [(1000, 2.0), (11_000, 2.0)]
    (group,) = store.select([Matcher("__name__", "=", "b")], 0, 20_000)
    assert is_stale(group.values[:, 0]).tolist() == [False, True, False]
    assert (scraper.scrapes, scraper.failures) == (3, 1)


def test_a_failure_is_said_when_it_begins_and_when_it_ends(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        scrape(store, TARGET, [(time * 1000, PAGE) for time in range(1, 7)], [200, 500, 500, 0, 200, 200])
    said = [(record.levelname, record.getMessage()) for record in caplog.records if "target" in record.getMessage()]
    assert said == [
        ("WARNING", "target http://a:1/metrics (job engine): answered 500 Internal Server Error"),
        ("INFO", "target http://a:1/metrics (job engine): answers again"),
    ]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ([0, 200, 200], []),
        ([0, 0, 0, 200], ["WARNING", "INFO"]),
        ([200, 0, 200], ["WARNING", "INFO"]),
    ],
)
def test_a_target_that_starts_a_moment_later_is_not_complained_of(
    store: Store, caplog: pytest.LogCaptureFixture, status: list[int], told: list[str]
) -> None:
    with caplog.at_level(logging.INFO):
        scrape(store, TARGET, [(time * 1000, PAGE) for time in range(1, len(status) + 1)], status)
    assert [record.levelname for record in caplog.records if "target" in record.getMessage()] == told
    assert [value for _, value in values(store, "up")] == [float(one == 200) for one in status]


def test_an_unreachable_target_says_why(store: Store) -> None:
    scraper = scrape(store, TARGET, [(1000, PAGE)], [0])
    assert scraper.failure == "cannot be reached: connection refused"
    assert values(store, "up") == [(1000, 0.0)]


def test_bad_lines_are_said_once_and_the_rest_is_stored(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        scraper = scrape(store, TARGET, [(1000, b"a 1\nb two\n"), (2000, b"a 3\nb two\n")])
    assert values(store, "a") == [(1000, 1.0), (2000, 3.0)]
    assert scraper.bad_lines == 2
    (record,) = caplog.records
    assert "1 lines cannot be read, the first: line 2" in record.getMessage()


def test_a_page_beyond_the_limits_is_refused_and_the_limit_named(store: Store) -> None:
    labels = TARGET.labels
    long = scrape(store, Target("http://a:1/metrics", labels, limits=ScrapeLimits(body_bytes=20)), [(1000, PAGE)])
    assert long.failure == "the page is longer than 20 bytes (body_size_limit)"
    many = scrape(store, Target("http://b:1/metrics", labels, limits=ScrapeLimits(samples=1)), [(1000, PAGE)])
    assert many.failure == "the page has 2 samples after relabelling; at most 1 are taken (sample_limit)"


def test_a_slow_target_is_given_up_after_its_timeout(store: Store) -> None:
    exporter = Exporter()
    exporter.delay_s = 30.0
    target = Target("http://a:1/metrics", TARGET.labels, timeout_s=0.01)

    async def run() -> Scraper:
        async with httpx.AsyncClient(transport=httpx.MockTransport(exporter)) as http:
            scraper = Scraper(target, store, http)
            await scraper.scrape(1000)
            return scraper

    assert asyncio.run(run()).failure == "no answer within 0.01 s"


def test_a_clock_that_jumps_back_is_said_and_nothing_breaks(store: Store) -> None:
    scraper = scrape(store, TARGET, [(5000, PAGE), (4000, PAGE)])
    assert "was scraped but not stored" in scraper.failure
    assert values(store, "a") == [(5000, 1.0)]


STAMPED = b"old 1 500\nnew 2\n"


def test_a_sample_with_a_time_of_its_own_keeps_it(store: Store) -> None:
    scrape(store, TARGET, [(1000, STAMPED), (6000, b"old 3 5500\nnew 4\n"), (11_000, b"new 5\n")])
    assert values(store, "old") == [(500, 1.0), (5500, 3.0)]
    assert values(store, "new") == [(1000, 2.0), (6000, 4.0), (11_000, 5.0)]
    assert values(store, "scrape_samples_scraped") == [(1000, 2.0), (6000, 2.0), (11_000, 1.0)]


def test_without_honor_timestamps_it_belongs_to_the_scrape(store: Store) -> None:
    scrape(store, replace(TARGET, honor_timestamps=False), [(1000, STAMPED)])
    assert values(store, "old") == [(1000, 1.0)]


def test_new_series_are_counted(store: Store) -> None:
    pages = [(1000, b"a 1\nb 1\n"), (2000, b"a 1\nb 1\n"), (3000, b"a 1\nc 1\n"), (4000, b""), (5000, b"a 1\nb 1\n")]
    scrape(store, TARGET, pages, [200, 200, 200, 500, 200])
    added = [value for _, value in values(store, "scrape_series_added")]
    assert added == [2, 0, 1, 0, 1]


def test_relabelling_drops_and_renames_series(store: Store) -> None:
    rules = (
        Rule(source_labels=("__name__",), regex="noise.*", action="drop"),
        Rule(source_labels=("__name__",), regex="old_(.*)", target_label="__name__", replacement="new_$1"),
        Rule(regex="secret", action="labeldrop"),
    )
    page = b'noise_a 1\nold_b{secret="x"} 2\nnoise_c 3\nd 4\n'
    scraper = scrape(store, replace(TARGET, metric_relabel=rules), [(1000, page), (2000, page)])
    assert values(store, "new_b") == [(1000, 2.0), (2000, 2.0)]
    assert values(store, "noise_a") == []
    assert values(store, "scrape_samples_scraped") == [(1000, 4.0), (2000, 4.0)]
    assert values(store, "scrape_samples_post_metric_relabeling") == [(1000, 2.0), (2000, 2.0)]
    assert scraper.samples == 4


def test_dropped_series_that_change_all_the_time_take_no_memory(store: Store) -> None:
    rules = (Rule(source_labels=("__name__",), regex="noise", action="drop"),)
    pages = [(time, b'a 1\nnoise{id="%d"} 1\nnoise{id="%d"} 1\n' % (time, -time)) for time in range(1, 1500)]
    scraper = scrape(store, replace(TARGET, metric_relabel=rules), pages)
    assert len(scraper._parser._ids) < 1100


@pytest.mark.parametrize(
    ("limits", "failure"),
    [
        (ScrapeLimits(labels=3), "metric a has 4 labels; at most 3 are taken (label_limit)"),
        (ScrapeLimits(label_name_length=7), "metric a: label name __name__ has 8 characters; at most 7 are taken"),
        (ScrapeLimits(label_value_length=5), "metric a: label job has 6 characters; at most 5 are taken"),
        (ScrapeLimits(samples=1), "the page has 2 samples after relabelling; at most 1 are taken (sample_limit)"),
    ],
)
def test_a_page_beyond_a_limit_is_refused_whole(store: Store, limits: ScrapeLimits, failure: str) -> None:
    scraper = scrape(store, replace(TARGET, limits=limits), [(1000, PAGE)])
    assert scraper.failure.startswith(failure)
    assert values(store, "a") == []
    assert values(store, "up") == [(1000, 0.0)]


def test_a_refused_target_is_not_asked(store: Store) -> None:
    scraper = scrape(store, replace(TARGET, refusal="too many targets"), [(1000, PAGE)])
    assert scraper.failure == "too many targets"
    assert values(store, "up") == [(1000, 0.0)]


def test_an_empty_label_of_a_page_keeps_the_targets_away_where_it_is_honoured(store: Store) -> None:
    page = b'a{instance="",job="own"} 1\n'
    scrape(store, replace(TARGET, honor_labels=True), [(1000, page)])
    assert store.series([Matcher("__name__", "=", "a")], 0, 10_000) == ((("__name__", "a"), ("job", "own")),)


def test_the_next_step_is_after_now_and_on_the_grid() -> None:
    assert next_step_s(100.0, 5.0, 1.0) == 101.0
    assert next_step_s(101.0, 5.0, 1.0) == 106.0


def test_the_loop_acts_at_rising_times_until_stopped() -> None:
    times: list[int] = []

    async def run() -> None:
        stop = asyncio.Event()

        async def action(timestamp_ms: int) -> None:
            times.append(timestamp_ms)
            if len(times) == 3:
                stop.set()

        await every(0.01, 0.0, action, stop)

    asyncio.run(run())
    assert times == sorted(set(times))
    assert len(times) == 3


def test_a_kept_connection_that_the_target_gives_up_is_asked_once_more(store: Store) -> None:
    connections: list[asyncio.Event] = []

    async def forgetful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers once on a connection, then hangs up when asked again."""
        connections.append(closed := asyncio.Event())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\na 1\n")
        await reader.read(1)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async def run() -> Scraper:
        server = await asyncio.start_server(forgetful, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            async with httpx.AsyncClient() as http:
                scraper = Scraper(make_target(f"http://127.0.0.1:{port}/metrics", "j"), store, http)
                await scraper.scrape(1000)
                await scraper.scrape(2000)
            for closed in connections:
                await closed.wait()
        return scraper

    scraper = asyncio.run(run())
    assert scraper.failure == ""
    assert (scraper.failures, len(connections)) == (0, 2)


def test_an_exemplar_is_stored_once_for_as_long_as_the_page_shows_it(store: Store) -> None:
    def page(trace: str, stamp: str = "") -> bytes:
        return f'd_bucket{{le="1"}} 3 # {{trace_id="{trace}"}} 0.5{stamp}\n# EOF\n'.encode()

    pages = [(1000, page("a")), (2000, page("a")), (3000, page("b")), (4000, page("b", " 3.5"))]
    scrape(store, TARGET, pages, content_type="application/openmetrics-text")
    found = store.exemplars([Matcher("__name__", "=", "d_bucket")], 0, 10_000)
    assert [(one.timestamp_ms, dict(one.labels), one.value) for one in found] == [
        (1000, {"trace_id": "a"}, 0.5),
        (3000, {"trace_id": "b"}, 0.5),
        (3500, {"trace_id": "b"}, 0.5),
    ]
    assert dict(found[0].series)["instance"] == "a:1"
