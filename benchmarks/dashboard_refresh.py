"""What the dashboard costs: server CPU per refresh and viewers per core, a browser's refresh, first page and heap.

Twelve panels of 6 series x 240 points over a source that holds them: `python -m benchmarks.dashboard_refresh`. The
server runs in a process of its own, whose CPU time is read from /proc; times of the browser are wall times, so they
are told beside the load average.
"""

import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.request import Request, urlopen

import httpx
import numpy as np
import orjson

from benchmarks._servers import free_port, running
from collector.client import Client
from dashboard import board, plots
from dashboard.answers import CALLBACKS
from dashboard.app import create_app
from dashboard.board import Board
from dashboard.parts.panel import Panel
from dashboard.registry import Group
from dashboard.security import CSRF_COOKIE, CSRF_HEADER
from dashboard.server import SHARE_S
from dashboard.source import Source
from planner.slo import Slo

PANELS, SERIES = 12, 6
REFRESHES = 150
BROWSER_REFRESHES = 40
HOUR_OF_REFRESHES = 360
PERIOD_S, BUSY = 10.0, 0.6
PAUSE_MS = 100
"""Between refreshes, as no viewer asks in the very frame of the last answer."""

CHROMIUM = "/usr/bin/chromium"
METRIC = "loadline_num_requests_running"


class SixPools(httpx.BaseTransport):
    """A Prometheus that holds one gauge of six pools, and answers any range on its grid."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        form = dict(httpx.QueryParams(request.content.decode())) if request.method == "POST" else {}
        asked = {**dict(request.url.params), **form}
        data: object = []
        if request.url.path == "/api/v1/query_range":
            start, end, step = (float(asked[name]) for name in ("start", "end", "step"))
            data = {"resultType": "matrix", "result": [series(pool, start, end, step) for pool in range(SERIES)]}
        elif request.url.path == "/api/v1/query":
            value = [time.time(), str(time.time())]
            data = {"resultType": "vector", "result": [{"metric": {"pool": f"pool-{SERIES}"}, "value": value}]}
        elif request.url.path == "/api/v1/label/__name__/values":
            data = [METRIC, "up"]
        elif request.url.path == "/api/v1/targets":
            data = {"activeTargets": []}
        return httpx.Response(200, content=orjson.dumps({"status": "success", "data": data}))


def series(pool: int, start: float, end: float, step: float) -> dict[str, object]:
    """One pool's line, which moves on with the clock."""
    times = np.arange(start, end + step / 2, step)
    values = 50 + 8 * pool + 10 * np.sin(times / 600 + pool) + 3 * np.sin(times / 7 * (pool + 1))
    pairs = [[at, repr(value)] for at, value in zip(times.tolist(), values.tolist(), strict=True)]
    return {"metric": {"pool": f"pool-{pool + 1}"}, "values": pairs}


def twelve() -> tuple[Group, ...]:
    """One page of twelve panels."""
    parts = [
        plots.lines(Panel(f"be-{index}", f"Panel {index + 1}"), _build(index), floor_top=4) for index in range(PANELS)
    ]
    made = board.page(Board(key="be", title="Twelve panels", parts=parts), path="/", icon="gauge", key="o")
    return (Group("Benchmark", (made,)),)


def _build(index: int) -> plots.Build:
    return lambda ask: f"{ask.vocabulary.gauge('running_requests')} + {index}"


def serve(port: int, share_s: float) -> None:
    """The dashboard under measurement."""
    from waitress import serve as wait_and_serve

    source = Source(Client("http://prometheus.test", transport=SixPools()), lambda slo, at_s: ())
    app = create_app(source, Slo(), groups=twelve(), share_s=share_s)
    wait_and_serve(app.server, host="127.0.0.1", port=port, threads=8, _quiet=True)


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Viewer:
    """Asks for a refresh as a browser does."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address, headers={"Accept-Encoding": "gzip"})
        self.http.get("/")
        dependencies = self.http.get("/_dash-dependencies").json()
        self.output = next(one["output"] for one in dependencies if "be-stamp.data" in one["output"])
        names = self.output.strip(".").split("...")
        self.outputs = [dict(zip(("id", "property"), name.rsplit(".", 1), strict=True)) for name in names]

    def refresh(self, search: str) -> int:
        """Bytes on the wire."""
        tick = {"n": 1, "search": search, "offset_s": 0}
        inputs = [{"id": "tick", "property": "data", "value": tick}]
        body = {"output": self.output, "outputs": self.outputs, "inputs": inputs, "changedPropIds": ["tick.data"]}
        token = self.http.cookies[CSRF_COOKIE]
        answer = self.http.post(CALLBACKS, json=body, headers={CSRF_HEADER: token})
        answer.raise_for_status()
        return answer.num_bytes_downloaded


def server_cpu(address: str, pid: int) -> list[dict[str, Any]]:
    """Milliseconds of the server's CPU per refresh, of viewers of one address and of viewers of as many addresses."""
    viewer, rows = Viewer(address), []
    viewer.refresh("?range=1h")
    for what, address_of in (("one address", _same), ("an address each", _own)):
        before, began = cpu_s(pid), time.monotonic()
        for turn in range(REFRESHES):
            sent = viewer.refresh(address_of(turn))
        each_ms = (cpu_s(pid) - before) / REFRESHES * 1e3
        taken_s = time.monotonic() - began
        _say(f"{what}: {each_ms:.2f} ms CPU, {sent} bytes, {taken_s:.1f} s for {REFRESHES}")
        viewers = BUSY * PERIOD_S / (each_ms / 1e3)
        rows += [
            _row(f"server CPU per refresh, viewers of {what}", round(each_ms, 2), "ms"),
            _row(f"viewers per core at 10 s and 60 % load, of {what}", round(viewers), "viewers", lower=False),
        ]
    return rows


def _same(turn: int) -> str:
    return "?range=1h"


def _own(turn: int) -> str:
    return f"?range=1h&mine={turn}"


def in_browser(address: str) -> list[dict[str, Any]]:
    """First page cold, refreshes, and the heap after an hour's worth of them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as kit:
        browser = kit.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB")
        page.add_init_script("try { localStorage.setItem('loadline-refresh', '0'); } catch (e) { /* none */ }")
        wire = page.context.new_cdp_session(page)
        wire.send("Network.enable")
        received: list[float] = []
        wire.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
        began = time.monotonic()
        page.goto(address)
        page.locator(f".js-line >> nth={PANELS * SERIES - 1}").wait_for(state="attached")
        cold_ms, weight_kb = (time.monotonic() - began) * 1e3, sum(received) / 1e3
        _say(f"cold: {cold_ms:.0f} ms, {weight_kb:.0f} kB")
        took = [refresh_ms(page) for _ in range(BROWSER_REFRESHES)]
        slope_kb = heap_slope(page, wire)
        browser.close()
    ordered = sorted(took)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    return [
        _row("first page, cold", round(cold_ms), "ms"),
        _row("first page, transferred", round(weight_kb), "kB"),
        _row("refresh of 12 panels, p50", round(statistics.median(took)), "ms"),
        _row("refresh of 12 panels, p95", round(p95), "ms"),
        _row("heap growth over an hour of refreshes", round(slope_kb * HOUR_OF_REFRESHES), "kB"),
    ]


ONE_REFRESH = """() => new Promise(done => {
  const began = performance.now();
  document.addEventListener('loadline:stamped', () => requestAnimationFrame(() => setTimeout(
    () => done(performance.now() - began))), { once: true });
  dash_clientside.set_props('tick', { data: { n: began, search: location.search, offset_s: 0 } });
})"""


def refresh_ms(page: Any) -> float:
    """From the asking to the first frame after the answer was drawn."""
    page.wait_for_timeout(PAUSE_MS)
    taken: float = page.evaluate(ONE_REFRESH)
    return taken


def heap_slope(page: Any, wire: Any) -> float:
    """Kilobytes of heap per refresh: a line through what is left after forced collections, without the first fifth."""
    counts, heaps = [], []
    for turn in range(HOUR_OF_REFRESHES):
        refresh_ms(page)
        if turn % 20 == 19:
            wire.send("HeapProfiler.collectGarbage")
            counts.append(turn)
            heaps.append(wire.send("Runtime.getHeapUsage")["usedSize"] / 1e3)
            _say(f"after {turn + 1} refreshes: {heaps[-1]:.0f} kB")
    settled = len(counts) // 5
    return float(np.polyfit(counts[settled:], heaps[settled:], 1)[0])


def _row(what: str, ours: float, unit: str, *, lower: bool = True) -> dict[str, Any]:
    return {"what": what, "ours": ours, "unit": unit, "lower_is_better": lower}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def until(holds: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait for what is on its way. Raises TimeoutError."""
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not ready within {limit_s:g} s")
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        with urlopen(Request(f"{address}/healthz"), timeout=2) as answer:
            ready: bool = answer.status == 200
            return ready
    except OSError:
        return False


def served(share_s: float, measure: Callable[[str, int], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """``measure`` over the address and process id of a server of its own."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.dashboard_refresh", "serve", str(port), str(share_s)]
    with running(command) as process:
        until(lambda: _answers(address))
        return measure(address, process.pid)


def main(arguments: Sequence[str]) -> None:
    """Measure, or serve what is measured (``serve PORT SHARE_S``)."""
    if arguments[:1] == ["serve"]:
        serve(int(arguments[1]), float(arguments[2]))
        return
    rows = [*served(SHARE_S, server_cpu), *served(0.0, lambda address, _pid: in_browser(address))]
    load = re.split(r"\s", open("/proc/loadavg").read())[0]  # noqa: PTH123, SIM115
    rows.append(_row("load average meanwhile (an idle machine: 0)", float(load), "processes"))
    print(json.dumps({"benchmark": "dashboard_refresh", "rows": rows}))


if __name__ == "__main__":
    main(sys.argv[1:])
