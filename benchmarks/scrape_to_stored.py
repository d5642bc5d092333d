"""How many samples per second go from a page's bytes into the store, on one core, against prometheus_client's parser.

    python -m benchmarks.scrape_to_stored [--page FILE] [--scrapes 2000]

Times are CPU seconds of this process. Every page differs from the one before in all its values, as a busy target's
does. The store is a real one in a temporary directory; its upkeep is not called.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from collector.model.exposition import ScrapeParser
from collector.scrape.target import make_target
from collector.store import Store

VALUE = re.compile(rb"(?m)^([^#\n].*) [^ \n]+$")


def synthetic_page(series: int) -> bytes:
    """A page of counters, gauges and histogram buckets, about 100 bytes a line."""
    lines = ["# HELP loadline_tokens_total Tokens.", "# TYPE loadline_tokens_total counter"]
    for number in range(series):
        labels = f'model_name="llama-3.1-8b-instruct",instance_id="{number % 10}",le="{number * 0.001:.3f}"'
        lines.append(f"loadline_time_to_first_token_seconds_bucket{{{labels}}} {number}")
    return ("\n".join(lines) + "\n").encode()


def variants(page: bytes, count: int) -> list[bytes]:
    """The page with other values each time."""

    def variant(seed: int) -> bytes:
        return VALUE.sub(lambda line: b"%b %d.5" % (line[1], seed * 7919 + line.start()), page)

    return [variant(seed) for seed in range(count)]


def rate(work: Callable[[bytes], object], pages: Sequence[bytes], samples: int, scrapes: int) -> float:
    """Median samples per CPU second over rounds of one pass through ``pages``."""
    rates = []
    for _ in range(max(1, scrapes // len(pages))):
        began = time.process_time()
        for page in pages:
            work(page)
        rates.append(samples * len(pages) / (time.process_time() - began))
    return statistics.median(rates)


def measure(page: bytes, scrapes: int) -> dict[str, float]:
    """Samples per CPU second of each way."""
    pages = variants(page, 50)
    parser = ScrapeParser(make_target("http://127.0.0.1:8000/metrics", "engine").finish)
    samples = len(parser.parse(page).layout)
    figures = {"samples_per_page": float(samples), "bytes_per_page": float(len(page))}
    figures["parse_per_s"] = rate(parser.parse, pages, samples, scrapes)
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
        clock = iter(range(1_700_000_000_000, 1 << 53, 5000))

        def scrape(body: bytes) -> None:
            read = parser.parse(body)
            store.append_scrape("bench", read.layout, next(clock), read.values)

        figures["parse_and_store_per_s"] = rate(scrape, pages, samples, scrapes)

    def reference(body: bytes) -> None:
        for _ in text_string_to_metric_families(body.decode()):
            pass

    figures["prometheus_client_per_s"] = rate(reference, pages[:5], samples, 5)
    figures["ratio"] = figures["parse_and_store_per_s"] / figures["prometheus_client_per_s"]
    return figures


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--page", type=Path, help="A metrics page; a synthetic one of 1,000 series otherwise.")
    options.add_argument("--scrapes", type=int, default=2000)
    given = options.parse_args()
    figures = measure(given.page.read_bytes() if given.page else synthetic_page(1000), given.scrapes)
    for name, value in figures.items():
        print(f"{name:<26}{value:>14,.0f}")
    row = {
        "what": "scraped body to stored, samples per CPU second (peer only parses)",
        "ours": figures["parse_and_store_per_s"],
        "peer": figures["prometheus_client_per_s"],
        "peer_name": "prometheus_client",
        "unit": "samples/s",
    }
    print(json.dumps({"benchmark": "scrape_to_stored", "rows": [row]}))


if __name__ == "__main__":
    main()
